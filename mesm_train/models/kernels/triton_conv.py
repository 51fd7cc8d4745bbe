"""Submanifold 3x3 convolutions as implicit GEMMs over tiles of rows that have the same neighbours: Triton's functions.

card_kernels.py starts them. A loop step multiplies the neighbours of a tile by one tap, BLOCK_R channels of them, with
that part of the weight: patches are never written to memory. Taps that no row of the tile has are left out of the loop
beforehand, so it has no branch and Triton loads ahead across taps.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "tiles"])
def sort_neighbours_kernel(near, order, sources, masks, counts, rows, tiles, TILE: tl.constexpr):
    """sources[k, slot]: the k-th neighbour of the row order[slot].

    masks[tile]: the taps that any row of it has; counts[k, tile]: how many of its rows have tap k.
    """
    tile = tl.program_id(0)
    slot = tile * TILE + tl.arange(0, TILE)
    row = tl.load(order + slot, mask=slot < rows, other=0)
    mask = 0
    for k in tl.static_range(9):
        source = tl.load(near + row * 9 + k, mask=slot < rows, other=-1)
        tl.store(sources + k * (tiles.to(tl.int64) * TILE) + slot, source)
        count = tl.sum((source >= 0).to(tl.int32), 0)
        tl.store(counts + k * tiles + tile, count)
        mask |= (count > 0).to(tl.int32) << k
    tl.store(masks + tile, mask)


@triton.jit(do_not_specialize=["rows", "tiles"])
def pairs_kernel(sources, order, pair_ends, pair_sources, pair_rows, rows, tiles, TILE: tl.constexpr):
    """pair_sources[k, :n], pair_rows[k, :n]: the rows that have tap k, in the order of slots, with that neighbour.

    pair_ends[k, tile]: how many of them the tiles up to this one have; n is the last.
    """
    tile = tl.program_id(0)
    slot = tile * TILE + tl.arange(0, TILE)
    row = tl.load(order + slot, mask=slot < rows, other=0).to(tl.int32)
    for k in tl.static_range(9):
        base = k * (tiles.to(tl.int64) * TILE)
        source = tl.load(sources + base + slot)
        has = (source >= 0).to(tl.int32)
        place = tl.load(pair_ends + k * tiles + tile) - tl.sum(has, 0) + tl.cumsum(has, 0) - 1
        tl.store(pair_sources + base + place, source, mask=has > 0)
        tl.store(pair_rows + base + place, row, mask=has > 0)


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


@triton.jit(do_not_specialize=["tiles"])
def conv_weight_kernel(
    x, dy, pair_sources, pair_rows, pair_ends, parts, tiles,
    CIN: tl.constexpr, COUT: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK_I: tl.constexpr, BLOCK_O: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """parts[p, k, i, o] = sum of x[source, i] * dy[row, o] over the p-th part of the pairs of tap k.

    Pairs lie one after another, so that a loop step needs nothing of the one before it to load its own.
    """
    across: tl.constexpr = (COUT + BLOCK_O - 1) // BLOCK_O
    down: tl.constexpr = (CIN + BLOCK_I - 1) // BLOCK_I
    o = tl.program_id(0) % across * BLOCK_O + tl.arange(0, BLOCK_O)
    i = tl.program_id(0) // across % down * BLOCK_I + tl.arange(0, BLOCK_I)
    k = tl.program_id(0) // (across * down)
    part = tl.program_id(1)
    base = k * (tiles.to(tl.int64) * TILE)
    count = tl.load(pair_ends + (k + 1) * tiles - 1)
    share = tl.cdiv(tl.cdiv(count, BLOCK_R), tl.num_programs(1)) * BLOCK_R
    last = tl.minimum((part + 1) * share, count)
    sums = tl.zeros((BLOCK_I, BLOCK_O), tl.float32)
    for first in range(part * share, last, BLOCK_R):
        pair = first + tl.arange(0, BLOCK_R)
        source = tl.load(pair_sources + base + pair, mask=pair < last, other=0).to(tl.int64)
        row = tl.load(pair_rows + base + pair, mask=pair < last, other=0).to(tl.int64)
        a = tl.load(x + source[None, :] * CIN + i[:, None], mask=(pair < last)[None, :] & (i < CIN)[:, None], other=0.0)
        b = tl.load(dy + row[:, None] * COUT + o[None, :], mask=(pair < last)[:, None] & (o < COUT)[None, :], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    places = ((part * 9 + k) * CIN + i[:, None]).to(tl.int64) * COUT + o[None, :]
    tl.store(parts + places, sums, mask=(i < CIN)[:, None] & (o < COUT)[None, :])
