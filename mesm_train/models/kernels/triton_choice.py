"""Attention over sites, their choice and the tables of their neighbours: Triton's functions.

card_choice.py starts them. In PyTorch the same takes 72 launches for a first block (scores 7, choice 32, tables 33, as
tests/models/launches.py counts them), here three and a running sum. But for the scores a program has a picture, all
sites of which are in its registers.
"""

import triton
import triton.language as tl


@triton.jit
def attend(
    x, projection, bias, guide, row, picture, c, rows,
    R: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """tanh(x[row] . projection[c] + bias[c] + guide[picture, c]), (TILE, BLOCK_C)."""
    sums = tl.zeros((TILE, BLOCK_C), tl.float32)
    for start in range(0, R, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        inside = (row < rows)[:, None] & (r < R)[None, :]
        a = tl.load(x + row.to(tl.int64)[:, None] * R + r[None, :], mask=inside, other=0.0).to(tl.float32)
        b = tl.load(projection + c[None, :] * R + r[:, None], mask=(c < C)[None, :] & (r < R)[:, None], other=0.0)
        sums = tl.dot(a, b, sums, input_precision=PRECISION)
    guided = (row < rows)[:, None] & (c < C)[None, :]
    sums += tl.load(bias + c, mask=c < C, other=0.0)[None, :]
    sums += tl.load(guide + picture[:, None] * C + c[None, :], mask=guided, other=0.0)
    return 1 - 2 / (tl.exp(2 * sums) + 1)  # -1 and 1 where the exponential is 0 or infinite


@triton.jit(do_not_specialize=["rows", "sites"])
def scores_kernel(
    x, projection, bias, guide, score, offset, places, scores, rows, sites,
    R: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """scores[places[row]] = offset + sum over c of score[c] * tanh(x[row] . projection[c] + bias[c] + guide[c]).

    The guide is that of the row's picture.
    """
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    place = tl.load(places + row, mask=row < rows, other=0)
    total = tl.zeros((TILE,), tl.float32)
    for first in range(0, C, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        tanh = attend(x, projection, bias, guide, row, place // sites, c, rows, R, C, PRECISION, TILE, BLOCK_R, BLOCK_C)
        total += tl.sum(tanh * tl.load(score + c, mask=c < C, other=0.0)[None, :], 1)
    tl.store(scores + place, total + tl.load(offset), mask=row < rows)


@triton.jit(do_not_specialize=["rows", "sites"])
def scores_gradient_kernel(
    x, projection, bias, guide, score, places, dscores, dsums, parts, rows, sites,
    R: tl.constexpr, C: tl.constexpr, PRECISION: tl.constexpr,
    TILE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dsums[row, c]: the gradient of the sum of which `attend` takes the tanh, from those of the scores.

    parts[program, :C] and [program, C]: what the program's rows add to the gradients of `score` and of the offset.
    """
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    place = tl.load(places + row, mask=row < rows, other=0)
    dy = tl.load(dscores + place, mask=row < rows, other=0.0)
    own = parts + tl.program_id(0) * (C + 1)
    for first in range(0, C, BLOCK_C):
        c = first + tl.arange(0, BLOCK_C)
        tanh = attend(x, projection, bias, guide, row, place // sites, c, rows, R, C, PRECISION, TILE, BLOCK_R, BLOCK_C)
        scaled = dy[:, None] * tl.load(score + c, mask=c < C, other=0.0)[None, :]
        inside = (row < rows)[:, None] & (c < C)[None, :]
        tl.store(dsums + row.to(tl.int64)[:, None] * C + c[None, :], (1 - tanh * tanh) * scaled, mask=inside)
        tl.store(own + c, tl.sum(dy[:, None] * tanh, 0), mask=c < C)
    tl.store(own + C, tl.sum(dy, 0))


@triton.jit(do_not_specialize=["p_bits", "pictures", "height", "width"])
def choose_kernel(
    scores, active, weights, kept, chosen, counts, p_bits, pictures, height, width,
    SIDE: tl.constexpr, TILES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Softmax over the tiles of a picture, SIDE x SIDE sites each, and the fewest, heaviest first, that reach p.

    weights, kept: of each site. chosen[b, tile]: scratch, unless SIDE is 1: a weight, negative (maybe -0) if kept.
    counts[0..2, b]: kept sites, windows that have any, and tiles with a weight that is not finite.

    A key is the weight, as an integer whose order is the opposite one, before the tile: sorted, equal weights keep the
    order of their tiles. `p_bits` is p, float64, as an integer: Triton would pass float32.
    """
    across = tl.cdiv(width, SIDE)
    tiles = tl.cdiv(height, SIDE) * across
    sites = height * width
    picture = tl.program_id(0).to(tl.int64)
    tile = tl.arange(0, TILES)
    usable = tile < tiles
    if SIDE == 1:
        usable = usable & (tl.load(active + picture * sites + tile, mask=usable, other=0).to(tl.int32) != 0)
    score = tl.load(scores + picture * tiles + tile, mask=usable, other=float("-inf"))
    size = tl.minimum(SIDE, height - tile // across * SIDE) * tl.minimum(SIDE, width - tile % across * SIDE)
    exponential = tl.where(usable, tl.exp(score - tl.max(score, 0)) * size, 0.0)
    weight = exponential / tl.sum(exponential, 0) / size
    weight = tl.where(usable, weight, 0.0)
    keys = ((0x7FFFFFFF - weight.to(tl.int32, bitcast=True)).to(tl.int64) << 32) | tile.to(tl.int64)
    keys = tl.where(usable, keys, 0x7FFFFFFFFFFFFFFF)
    ordered = tl.sort(keys)
    place = (ordered & 0xFFFFFFFF).to(tl.int32)
    heaviest = (0x7FFFFFFF - (ordered >> 32)).to(tl.int32).to(tl.float32, bitcast=True)
    there = ordered != 0x7FFFFFFFFFFFFFFF
    places = tl.minimum(SIDE, height - place // across * SIDE) * tl.minimum(SIDE, width - place % across * SIDE)
    mass = tl.where(there, heaviest * places, 0.0).to(tl.float64)
    heavier = tl.cumsum(mass, 0) - mass
    reached = heavier >= p_bits.to(tl.float64, bitcast=True)
    last = tl.max(tl.where(there & (reached == 0), ordered, -1), 0)
    keep = usable & (keys <= last)
    count = tl.sum(tl.where(keep, size, 0), 0)
    tl.store(counts + picture, count)
    tl.store(counts + 2 * pictures + picture, tl.sum((usable & ((weight - weight) != 0)).to(tl.int32), 0))
    own = kept + picture * sites
    if SIDE == 1:
        tl.store(weights + picture * sites + tile, weight, mask=tile < sites)
        tl.store(own + tile, keep.to(tl.int8), mask=tile < sites)
        tl.debug_barrier()  # what other threads of the program stored is loaded below
        pooled = tl.arange(0, BLOCK // 4)
        corner = pooled // (width // 2) * (2 * width) + pooled % (width // 2) * 2
        some = tl.zeros((BLOCK // 4,), tl.int32)
        for child in tl.static_range(4):
            place = corner + (child // 2 * width + child % 2)
            some |= tl.load(own + place, mask=pooled < sites // 4, other=0).to(tl.int32)
        tl.store(counts + pictures + picture, tl.sum(some, 0))
    else:
        tl.store(chosen + picture * tiles + tile, tl.where(keep, -weight, weight), mask=tile < tiles)
        tl.debug_barrier()
        site = tl.arange(0, BLOCK)
        its = site // width // SIDE * across + site % width // SIDE
        signed = tl.load(chosen + picture * tiles + its, mask=site < sites, other=0.0)
        tl.store(weights + picture * sites + site, tl.abs(signed), mask=site < sites)
        tl.store(own + site, (signed.to(tl.int32, bitcast=True) < 0).to(tl.int8), mask=site < sites)
        tl.store(counts + pictures + picture, count // 4)


@triton.jit(do_not_specialize=["height", "width"])
def choose_gradient_kernel(dweights, weights, dscores, height, width, SIDE: tl.constexpr, TILES: tl.constexpr):
    """The gradient of a softmax: dscores[b, tile], of the sums over its SIDE x SIDE sites."""
    across = tl.cdiv(width, SIDE)
    tiles = tl.cdiv(height, SIDE) * across
    picture = tl.program_id(0).to(tl.int64)
    tile = tl.arange(0, TILES)
    products = tl.zeros((TILES,), tl.float32)
    weight = tl.zeros((TILES,), tl.float32)
    for site in tl.static_range(SIDE * SIDE):
        y = tile // across * SIDE + site // SIDE
        x = tile % across * SIDE + site % SIDE
        place = picture * (height * width) + y * width + x
        there = (tile < tiles) & (y < height) & (x < width)
        site_weight = tl.load(weights + place, mask=there, other=0.0)
        products += site_weight * tl.load(dweights + place, mask=there, other=0.0)
        weight += site_weight
    tl.store(dscores + picture * tiles + tile, products - weight * tl.sum(products, 0), mask=tile < tiles)


@triton.jit(do_not_specialize=["pictures", "height", "width"])
def tables_kernel(
    kept, ends, ranks, rank, places, sources, near, masks, pool, windows, window_rank, window_places, other_windows,
    pictures, height, width, RANKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """rank: the row of each kept site, -1 elsewhere; places[row]: the site in the flattened mask.

    near[row, k]: the rows of its 3x3 neighbours; masks[row]: which it has, by bits; pool[window]: its children.
    Of the 2x2 windows, as sites of the pooled grid: which have a child, their rows, and the places of these rows and of
    the windows without one. With RANKED sources[row] is the site's row among the active ones, whose `ranks` are given.
    """
    sites = height * width
    picture = tl.program_id(0)
    site = tl.arange(0, BLOCK)
    base = picture.to(tl.int64) * sites
    chosen = tl.load(kept + base + site, mask=site < sites, other=0).to(tl.int32)
    row = tl.load(ends + picture).to(tl.int32) - tl.sum(chosen, 0) + tl.cumsum(chosen, 0) - 1
    row = tl.where(chosen > 0, row, -1)
    tl.store(rank + base + site, row, mask=site < sites)
    tl.store(places + row, base + site, mask=chosen > 0)
    if RANKED:
        source = tl.load(ranks + base + site, mask=chosen > 0, other=0)
        tl.store(sources + row, source.to(tl.int64), mask=chosen > 0)
    tl.debug_barrier()  # what other threads of the program stored is loaded below
    y = site // width
    x = site % width
    mask = tl.zeros((BLOCK,), tl.int32)
    for k in tl.static_range(9):
        down = k // 3 - 1
        right = k % 3 - 1
        there = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width) & (chosen > 0)
        source = tl.load(rank + base + site + down * width + right, mask=there, other=-1)
        tl.store(near + row.to(tl.int64) * 9 + k, source, mask=chosen > 0)
        mask |= (source >= 0).to(tl.int32) << k
    tl.store(masks + row, mask.to(tl.int16), mask=chosen > 0)
    pooled = tl.arange(0, BLOCK // 4)
    first = base + pooled // (width // 2) * (2 * width) + pooled % (width // 2) * 2
    some = tl.zeros((BLOCK // 4,), tl.int32)
    for child in tl.static_range(4):
        source = tl.load(rank + first + (child // 2 * width + child % 2), mask=pooled < sites // 4, other=-1)
        some |= (source >= 0).to(tl.int32)
    before = tl.load(ends + pictures + picture).to(tl.int32) - tl.sum(some, 0) + tl.cumsum(some, 0)
    window = before - 1
    for child in tl.static_range(4):
        source = tl.load(rank + first + (child // 2 * width + child % 2), mask=pooled < sites // 4, other=-1)
        tl.store(pool + window.to(tl.int64) * 4 + child, source, mask=some > 0)
    place = picture.to(tl.int64) * (sites // 4) + pooled
    tl.store(windows + place, some.to(tl.int8), mask=pooled < sites // 4)
    tl.store(window_rank + place, tl.where(some > 0, window, -1), mask=pooled < sites // 4)
    tl.store(window_places + window, place, mask=some > 0)
    tl.store(other_windows + (place - before), place, mask=(some == 0) & (pooled < sites // 4))
