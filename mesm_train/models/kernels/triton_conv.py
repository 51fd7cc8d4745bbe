"""Submanifold 3x3 convolutions as implicit GEMMs over tiles of rows that have the same neighbours: Triton's functions.

card_kernels.py starts them. A loop step multiplies the neighbours of a tile by one tap, BLOCK_R channels of them, with
that part of the weight: patches are never written to memory. Taps that no row of the tile has are left out of the loop
beforehand, so it has no branch and Triton loads ahead across taps.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "tiles"])
def sort_neighbours_kernel(near, order, sources, masks, rows, tiles, TILE: tl.constexpr):
    """sources[k, slot]: the k-th neighbour of the row order[slot]; masks[tile]: the taps that any row of it has."""
    tile = tl.program_id(0)
    slot = tile * TILE + tl.arange(0, TILE)
    row = tl.load(order + slot, mask=slot < rows, other=0)
    mask = 0
    for k in tl.static_range(9):
        source = tl.load(near + row * 9 + k, mask=slot < rows, other=-1)
        tl.store(sources + k * (tiles.to(tl.int64) * TILE) + slot, source)
        mask |= (tl.max(source, 0) >= 0).to(tl.int32) << k
    tl.store(masks + tile, mask)


@triton.jit(do_not_specialize=["tiles"])
def list_tiles_kernel(masks, lists, counts, tiles, BLOCK: tl.constexpr):
    """lists[k, :counts[k]]: the tiles that have the tap k, ascending. One program for each tap."""
    k = tl.program_id(0)
    count = 0
    for start in range(0, tiles, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        active = (tl.load(masks + tile, mask=tile < tiles, other=0) >> k) & 1
        tl.store(lists + k * tiles + count + tl.cumsum(active, 0) - 1, tile, mask=active > 0)
        count += tl.sum(active, 0)
    tl.store(counts + k, count)


@triton.jit(do_not_specialize=["rows", "tiles"])
def conv_kernel(
    x, weight, sources, order, masks, y, rows, tiles,
    R: tl.constexpr, N: tl.constexpr, MIRROR: tl.constexpr, R_LAST: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[order[slot], n] = sum over taps k and r of x[sources[k, slot], r] * W[k][r, n], a tile by BLOCK_N columns.

    W[k][r, n] is weight[k, r, n], or weight[k, n, r] with R_LAST; with MIRROR of tap 8 - k.
    """
    tile = tl.program_id(0) // tl.cdiv(N, BLOCK_N)  # those who read the same rows run side by side
    n = tl.program_id(0) % tl.cdiv(N, BLOCK_N) * BLOCK_N + tl.arange(0, BLOCK_N)
    slot = tile * TILE + tl.arange(0, TILE)
    mask = tl.load(masks + tile)
    taps = tl.zeros((), tl.int64)  # four bits for each tap of the tile
    count = 0
    for tap in tl.static_range(9):
        active = (mask >> tap) & 1
        taps |= (active * tap).to(tl.int64) << (4 * count)
        count += active
    chunks: tl.constexpr = (R + BLOCK_R - 1) // BLOCK_R
    sums = tl.zeros((TILE, BLOCK_N), tl.float32)
    for step in range(0, count * chunks):
        k = ((taps >> (4 * (step // chunks))) & 15).to(tl.int32)
        r = step % chunks * BLOCK_R + tl.arange(0, BLOCK_R)
        source = tl.load(sources + k * (tiles.to(tl.int64) * TILE) + slot).to(tl.int64)
        inside = (source >= 0)[:, None] & (r < R)[None, :]
        a = tl.load(x + source[:, None] * R + r[None, :], mask=inside, other=0.0)
        plane = 8 - k if MIRROR else k
        if R_LAST:
            places = plane * (R * N) + n[None, :] * R + r[:, None]
        else:
            places = plane * (R * N) + r[:, None] * N + n[None, :]
        b = tl.load(weight + places, mask=(r < R)[:, None] & (n < N)[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    row = tl.load(order + slot, mask=slot < rows, other=0)
    tl.store(
        y + row[:, None] * N + n[None, :],
        sums.to(y.dtype.element_ty),
        mask=(slot < rows)[:, None] & (n < N)[None, :],
    )


@triton.jit(do_not_specialize=["rows", "tiles"])
def conv_weight_kernel(
    x, dy, sources, order, lists, counts, parts, rows, tiles,
    CIN: tl.constexpr, COUT: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """parts[p, k, i, o] = sum of x[sources[k, slot], i] * dy[order[slot], o].

    It goes over the slots of the p-th part of the tiles that have the tap k.
    """
    across: tl.constexpr = (COUT + BLOCK_O - 1) // BLOCK_O
    down: tl.constexpr = (CIN + BLOCK_I - 1) // BLOCK_I
    o = tl.program_id(0) % across * BLOCK_O + tl.arange(0, BLOCK_O)
    i = tl.program_id(0) // across % down * BLOCK_I + tl.arange(0, BLOCK_I)
    k = tl.program_id(0) // (across * down)
    part = tl.program_id(1)
    share = tl.cdiv(tl.load(counts + k), tl.num_programs(1))
    first, last = part * share, tl.minimum((part + 1) * share, tl.load(counts + k))
    pieces: tl.constexpr = TILE // BLOCK_R
    sums = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
    for step in range(first * pieces, last * pieces):
        tile = tl.load(lists + k * tiles + step // pieces)
        slot = tile * TILE + step % pieces * BLOCK_R + tl.arange(0, BLOCK_R)
        source = tl.load(sources + k * (tiles.to(tl.int64) * TILE) + slot).to(tl.int64)
        row = tl.load(order + slot, mask=slot < rows, other=0)
        a = tl.load(x + source[None, :] * CIN + i[:, None], mask=(source >= 0)[None, :] & (i < CIN)[:, None], other=0.0)
        b = tl.load(dy + row[:, None] * COUT + o[None, :], mask=(slot < rows)[:, None] & (o < COUT)[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    places = ((part * 9 + k) * CIN + i[:, None]).to(tl.int64) * COUT + o[None, :]
    tl.store(parts + places, sums, mask=(i < CIN)[:, None] & (o < COUT)[None, :])
