"""The choice of sites and the tables of their neighbours, a program for each picture: Triton's functions.

card_tables.py starts them. In PyTorch the same takes some 60 launches for a block, here four and a running sum.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["p_bits", "sites"])
def nucleus_kernel(weights, active, kept, p_bits, sites, BLOCK: tl.constexpr):
    """kept: the fewest active sites of a picture, heaviest first, whose float32 weights reach p.

    A key is the weight, as an integer whose order is the opposite one, before the site: sorted, equal weights keep the
    order of their sites. `p_bits` is p, float64, as an integer: Triton would pass float32.
    """
    site = tl.arange(0, BLOCK)
    picture = tl.program_id(0).to(tl.int64) * sites
    inside = site < sites
    bits = tl.load(weights + picture + site, mask=inside, other=0.0).to(tl.int32, bitcast=True)
    usable = inside & (tl.load(active + picture + site, mask=inside, other=0).to(tl.int32) != 0)
    keys = ((0x7FFFFFFF - bits).to(tl.int64) << 32) | site.to(tl.int64)
    keys = tl.sort(tl.where(usable, keys, 0x7FFFFFFFFFFFFFFF))
    chosen = keys != 0x7FFFFFFFFFFFFFFF
    place = (keys & 0xFFFFFFFF).to(tl.int32)
    weight = (0x7FFFFFFF - (keys >> 32)).to(tl.int32).to(tl.float32, bitcast=True)
    weight = tl.where(chosen, weight, 0.0).to(tl.float64)
    heavier = tl.cumsum(weight, 0) - weight
    reached = heavier >= p_bits.to(tl.float64, bitcast=True)
    tl.store(kept + picture + place, tl.where(reached, 0, 1).to(tl.int8), mask=chosen)
    tl.store(kept + picture + site, tl.zeros((BLOCK,), tl.int8), mask=inside & (usable == 0))


@triton.jit(do_not_specialize=["pictures", "height", "width"])
def count_kernel(kept, counts, pictures, height, width, BLOCK: tl.constexpr):
    """counts[0, b], counts[1, b]: the kept sites of picture b, and those of its pooled grid."""
    sites = height * width
    picture = tl.program_id(0)
    site = tl.arange(0, BLOCK)
    own = kept + picture.to(tl.int64) * sites
    tl.store(counts + picture, tl.sum(tl.load(own + site, mask=site < sites, other=0).to(tl.int32), 0))
    pooled = tl.arange(0, BLOCK // 4)
    first = pooled // (width // 2) * (2 * width) + pooled % (width // 2) * 2
    some = tl.zeros((BLOCK // 4,), tl.int32)
    for child in tl.static_range(4):
        place = first + child // 2 * width + child % 2
        some |= tl.load(own + place, mask=pooled < sites // 4, other=0).to(tl.int32)
    tl.store(counts + pictures + picture, tl.sum(some, 0))


@triton.jit(do_not_specialize=["height", "width"])
def rank_kernel(kept, ends, rank, places, height, width, BLOCK: tl.constexpr):
    """rank: the row of each kept site, -1 elsewhere; places[row]: the site in the flattened mask."""
    sites = height * width
    picture = tl.program_id(0)
    site = tl.arange(0, BLOCK)
    base = picture.to(tl.int64) * sites
    chosen = tl.load(kept + base + site, mask=site < sites, other=0).to(tl.int32)
    first = tl.load(ends + picture).to(tl.int32) - tl.sum(chosen, 0)
    row = first + tl.cumsum(chosen, 0) - 1
    tl.store(rank + base + site, tl.where(chosen > 0, row, -1), mask=site < sites)
    tl.store(places + row, base + site, mask=chosen > 0)


@triton.jit(do_not_specialize=["pictures", "height", "width"])
def neighbours_kernel(rank, ends, near, masks, pool, pictures, height, width, BLOCK: tl.constexpr):
    """near[row, k]: the rows of its 3x3 neighbours; masks[row]: which it has, by bits; pool[window]: its children."""
    sites = height * width
    picture = tl.program_id(0)
    site = tl.arange(0, BLOCK)
    own = rank + picture.to(tl.int64) * sites
    row = tl.load(own + site, mask=site < sites, other=-1)
    y = site // width
    x = site % width
    mask = tl.zeros((BLOCK,), tl.int32)
    for k in tl.static_range(9):
        down = k // 3 - 1
        right = k % 3 - 1
        there = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width) & (row >= 0)
        source = tl.load(own + site + down * width + right, mask=there, other=-1)
        tl.store(near + row.to(tl.int64) * 9 + k, source, mask=row >= 0)
        mask |= (source >= 0).to(tl.int32) << k
    tl.store(masks + row, mask.to(tl.int16), mask=row >= 0)
    pooled = tl.arange(0, BLOCK // 4)
    first = pooled // (width // 2) * (2 * width) + pooled % (width // 2) * 2
    some = tl.zeros((BLOCK // 4,), tl.int32)
    for child in tl.static_range(4):
        source = tl.load(own + first + (child // 2 * width + child % 2), mask=pooled < sites // 4, other=-1)
        some |= (source >= 0).to(tl.int32)
    window = tl.load(ends + pictures + picture).to(tl.int32) - tl.sum(some, 0) + tl.cumsum(some, 0) - 1
    for child in tl.static_range(4):
        source = tl.load(own + first + (child // 2 * width + child % 2), mask=pooled < sites // 4, other=-1)
        tl.store(pool + window.to(tl.int64) * 4 + child, source, mask=some > 0)
