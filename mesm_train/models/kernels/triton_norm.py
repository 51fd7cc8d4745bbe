"""Batch norm, ReLU and 2x2 max pooling of rows in one pass each way: Triton's functions.

card_norm.py starts them. PyTorch reads and writes the rows 19 times for what takes 8 passes here: statistics, and then
values; backward, sums and then the gradient, each computing again what the forward pass did not store. Everything is
computed in float32, and statistics are combined in float64. Nothing is added atomically.

The constants that a function is compiled for are last. Rows have `units` times UNIT channels: with 16 a thread loads 16
bytes at a time. Sizes are no constants, and Triton does not look at their values: it would compile functions for a
number of rows that is a multiple of 16, and again for others.

With POOL a window is a row (4,) of int32, the rows of its 2x2 children, -1 where there is none. A row is in one window.
"""

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["rows", "share", "units"])
def moments_kernel(
    x, parts, rows, share, units,
    UNIT: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """parts[p, 0, c], parts[p, 1, c]: mean of the p-th `share` rows and the sum of squared distances from it.

    Distances are taken from the first of the rows, so that nothing cancels where the mean is large.
    """
    width = units * UNIT
    part = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    first = part * share
    last = tl.minimum(first + share, rows)
    pivot = tl.load(x + first.to(tl.int64) * width + c, mask=c < width, other=0.0).to(tl.float32)
    sums = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    squares = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for start in range(first, last, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        inside = (row < last)[:, None] & (c < width)[None, :]
        value = tl.load(x + row.to(tl.int64)[:, None] * width + c[None, :], mask=inside, other=0.0).to(tl.float32)
        distance = tl.where(inside, value - pivot[None, :], 0.0)
        sums += distance
        squares += distance * distance
    count = (last - first).to(tl.float32)
    total = tl.sum(sums, 0)
    tl.store(parts + part * 2 * width + c, pivot + total / count, mask=c < width)
    tl.store(parts + (part * 2 + 1) * width + c, tl.sum(squares, 0) - total * total / count, mask=c < width)


@triton.jit(do_not_specialize=["rows", "share", "count", "units"])
def statistics_kernel(
    parts, weight, bias, offset, running_mean, running_var, stats, rows, share, count, momentum, eps, units,
    TRAINING: tl.constexpr, OFFSET: tl.constexpr, UNIT: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """stats[0..3]: mean and 1 / standard deviation of the rows, scale and shift; of x without `offset`.

    `offset` is a constant that was left out of x: batch norm takes it away again. Running statistics include it.
    """
    width = units * UNIT
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < width
    left_out = tl.load(offset + c, mask=inside, other=0.0) if OFFSET else tl.zeros((BLOCK_C,), tl.float32)
    old_mean = tl.load(running_mean + c, mask=inside, other=0.0)
    old_var = tl.load(running_var + c, mask=inside, other=1.0)
    if TRAINING:
        total = tl.zeros((BLOCK_C,), tl.float64)
        for start in range(0, count, BLOCK_P):
            part = start + tl.arange(0, BLOCK_P)
            there = (part < count)[:, None] & inside[None, :]
            mean = tl.load(parts + part[:, None] * 2 * width + c[None, :], mask=there, other=0.0).to(tl.float64)
            size = tl.minimum(share, rows - part * share).to(tl.float64)
            total += tl.sum(tl.where(there, mean * size[:, None], 0.0), 0)
        mean = total / rows
        squares = tl.zeros((BLOCK_C,), tl.float64)
        for start in range(0, count, BLOCK_P):
            part = start + tl.arange(0, BLOCK_P)
            there = (part < count)[:, None] & inside[None, :]
            places = parts + part[:, None] * 2 * width + c[None, :]
            away = tl.load(places, mask=there, other=0.0).to(tl.float64) - mean[None, :]
            within = tl.load(places + width, mask=there, other=0.0).to(tl.float64)
            size = tl.minimum(share, rows - part * share).to(tl.float64)
            squares += tl.sum(tl.where(there, within + away * away * size[:, None], 0.0), 0)
        new_mean = mean.to(tl.float32)
        var = (squares / rows).to(tl.float32)
        unbiased = (squares / (rows - 1)).to(tl.float32)
        tl.store(running_mean + c, old_mean + momentum * (new_mean + left_out - old_mean), mask=inside)
        tl.store(running_var + c, old_var + momentum * (unbiased - old_var), mask=inside)
    else:
        new_mean = old_mean - left_out
        var = old_var
    deviation = 1 / tl.sqrt(var + eps)
    scale = tl.load(weight + c, mask=inside, other=0.0) * deviation
    tl.store(stats + c, new_mean, mask=inside)
    tl.store(stats + width + c, deviation, mask=inside)
    tl.store(stats + 2 * width + c, scale, mask=inside)
    tl.store(stats + 3 * width + c, tl.load(bias + c, mask=inside, other=0.0) - new_mean * scale, mask=inside)


@triton.jit(do_not_specialize=["rows", "units"])
def normalise_kernel(
    x, stats, pool, y, rows, units,
    POOL: tl.constexpr, UNIT: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """y[row] = relu(scale * x[row] + shift), or its maximum over the children of the window. NaN stays."""
    width = units * UNIT
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (row < rows)[:, None] & (c < width)[None, :]
    scale = tl.load(stats + 2 * width + c, mask=c < width, other=0.0)
    shift = tl.load(stats + 3 * width + c, mask=c < width, other=0.0)
    places = row.to(tl.int64)[:, None] * width + c[None, :]
    best = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    if POOL:
        for child in tl.static_range(4):
            source = tl.load(pool + row.to(tl.int64) * 4 + child, mask=row < rows, other=-1).to(tl.int64)
            there = (source >= 0)[:, None] & inside
            value = tl.load(x + source[:, None] * width + c[None, :], mask=there, other=0.0).to(tl.float32)
            normal = tl.where(there, value * scale[None, :] + shift[None, :], 0.0)
            best = tl.maximum(best, normal, propagate_nan=tl.PropagateNan.ALL)
    else:
        value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
        best = tl.maximum(best, value * scale[None, :] + shift[None, :], propagate_nan=tl.PropagateNan.ALL)
    tl.store(y + places, best.to(y.dtype.element_ty), mask=inside)


@triton.jit
def strongest_child(x, pool, row, c, scale, shift, inside, rows, width):
    """Of each window and channel: which child has the maximum first (-1: it is not above 0), and its value of x."""
    best = tl.zeros(inside.shape, tl.float32)
    which = tl.full(inside.shape, -1, tl.int32)
    strongest = tl.zeros(inside.shape, tl.float32)
    for child in tl.static_range(4):
        source = tl.load(pool + row.to(tl.int64) * 4 + child, mask=row < rows, other=-1).to(tl.int64)
        there = (source >= 0)[:, None] & inside
        value = tl.load(x + source[:, None] * width + c[None, :], mask=there, other=0.0).to(tl.float32)
        normal = tl.where(there, value * scale[None, :] + shift[None, :], 0.0)
        better = normal > best
        best = tl.where(better, normal, best)
        which = tl.where(better, child, which)
        strongest = tl.where(better, value, strongest)
    return which, strongest


@triton.jit(do_not_specialize=["rows", "share", "units"])
def sums_kernel(
    dy, x, stats, pool, parts, rows, share, units,
    POOL: tl.constexpr, UNIT: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """parts[p]: over the p-th `share` rows of dy the sums of g, dy past pooling and ReLU, and of g * (x - mean)."""
    width = units * UNIT
    part = tl.program_id(0)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    mean = tl.load(stats + c, mask=c < width, other=0.0)
    scale = tl.load(stats + 2 * width + c, mask=c < width, other=0.0)
    shift = tl.load(stats + 3 * width + c, mask=c < width, other=0.0)
    first = part * share
    last = tl.minimum(first + share, rows)
    plain = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    centred = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for start in range(first, last, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        inside = (row < last)[:, None] & (c < width)[None, :]
        places = row.to(tl.int64)[:, None] * width + c[None, :]
        g = tl.load(dy + places, mask=inside, other=0.0).to(tl.float32)
        if POOL:
            which, value = strongest_child(x, pool, row, c, scale, shift, inside, rows, width)
            g = tl.where(which >= 0, g, 0.0)
        else:
            value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
            g = tl.where(value * scale[None, :] + shift[None, :] > 0, g, 0.0)
        plain += g
        centred += g * (value - mean[None, :])
    tl.store(parts + part * 2 * width + c, tl.sum(plain, 0), mask=c < width)
    tl.store(parts + (part * 2 + 1) * width + c, tl.sum(centred, 0), mask=c < width)


@triton.jit(do_not_specialize=["rows", "count", "units"])
def coefficients_kernel(
    parts, stats, gradients, rows, count, units,
    TRAINING: tl.constexpr, UNIT: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """gradients[0..2]: of weight, bias and offset; [3..4]: what the gradient of x is made of, see `gradient_kernel`.

    In training the offset has no effect: x is normalised by its own mean.
    """
    width = units * UNIT
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < width
    plain = tl.zeros((BLOCK_C,), tl.float64)
    centred = tl.zeros((BLOCK_C,), tl.float64)
    for start in range(0, count, BLOCK_P):
        part = start + tl.arange(0, BLOCK_P)
        there = (part < count)[:, None] & inside[None, :]
        places = parts + part[:, None] * 2 * width + c[None, :]
        plain += tl.sum(tl.load(places, mask=there, other=0.0).to(tl.float64), 0)
        centred += tl.sum(tl.load(places + width, mask=there, other=0.0).to(tl.float64), 0)
    deviation = tl.load(stats + width + c, mask=inside, other=0.0).to(tl.float64)
    scale = tl.load(stats + 2 * width + c, mask=inside, other=0.0).to(tl.float64)
    zero = tl.zeros((BLOCK_C,), tl.float32)
    tl.store(gradients + c, (centred * deviation).to(tl.float32), mask=inside)
    tl.store(gradients + width + c, plain.to(tl.float32), mask=inside)
    if TRAINING:
        slope = (-scale * deviation * deviation * centred / rows).to(tl.float32)
        tl.store(gradients + 2 * width + c, zero, mask=inside)
        tl.store(gradients + 3 * width + c, slope, mask=inside)
        tl.store(gradients + 4 * width + c, (-scale * plain / rows).to(tl.float32), mask=inside)
    else:
        tl.store(gradients + 2 * width + c, (plain * scale).to(tl.float32), mask=inside)
        tl.store(gradients + 3 * width + c, zero, mask=inside)
        tl.store(gradients + 4 * width + c, zero, mask=inside)


@triton.jit(do_not_specialize=["rows", "units"])
def gradient_kernel(
    dy, x, stats, gradients, pool, dx, rows, units,
    POOL: tl.constexpr, UNIT: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """dx = scale * g + slope * (x - mean) + constant, with g as in `sums_kernel`; of all children of a window."""
    width = units * UNIT
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = (row < rows)[:, None] & (c < width)[None, :]
    mean = tl.load(stats + c, mask=c < width, other=0.0)
    scale = tl.load(stats + 2 * width + c, mask=c < width, other=0.0)
    shift = tl.load(stats + 3 * width + c, mask=c < width, other=0.0)
    slope = tl.load(gradients + 3 * width + c, mask=c < width, other=0.0)
    constant = tl.load(gradients + 4 * width + c, mask=c < width, other=0.0)
    places = row.to(tl.int64)[:, None] * width + c[None, :]
    g = tl.load(dy + places, mask=inside, other=0.0).to(tl.float32)
    if POOL:
        which, _ = strongest_child(x, pool, row, c, scale, shift, inside, rows, width)
        for child in tl.static_range(4):
            source = tl.load(pool + row.to(tl.int64) * 4 + child, mask=row < rows, other=-1).to(tl.int64)
            there = (source >= 0)[:, None] & inside
            children = source[:, None] * width + c[None, :]
            value = tl.load(x + children, mask=there, other=0.0).to(tl.float32)
            own = tl.where(which == child, g, 0.0)
            out = scale[None, :] * own + slope[None, :] * (value - mean[None, :]) + constant[None, :]
            tl.store(dx + children, out.to(dx.dtype.element_ty), mask=there)
    else:
        value = tl.load(x + places, mask=inside, other=0.0).to(tl.float32)
        g = tl.where(value * scale[None, :] + shift[None, :] > 0, g, 0.0)
        out = scale[None, :] * g + slope[None, :] * (value - mean[None, :]) + constant[None, :]
        tl.store(dx + places, out.to(dx.dtype.element_ty), mask=inside)
