"""Convolutions of pictures of few channels as products of patches, in Triton: the first layer of a stack.

card_patches.py starts them. The card's library pads few channels to what its tensor cores take: on an H200 the first
layers of the faces' and the sound's stack were 3.8 of the 19.6 ms that a step of FE2E's streams kept the card busy (64
utterances, bfloat16). Here one line of a patch, SIDE sites with all channels, is SPAN numbers side by side in memory;
it is multiplied where it is loaded and never written. Pictures have a frame of zeros, SIDE // 2 wide, so nothing is
looked at beyond an edge.
"""

import triton
import triton.language as tl


@triton.jit
def corners(row, H: tl.constexpr, W: tl.constexpr, CIN: tl.constexpr, SIDE: tl.constexpr):
    """Where the patch of a site begins in the framed pictures (B, H + SIDE - 1, W + SIDE - 1, CIN)."""
    picture = row // (H * W)
    line = picture * (H + SIDE - 1) + row % (H * W) // W
    return (line.to(tl.int64) * (W + SIDE - 1) + row % W) * CIN


@triton.jit(do_not_specialize=["rows"])
def patch_conv_kernel(
    x, weight, y, rows,
    H: tl.constexpr, W: tl.constexpr, CIN: tl.constexpr, SIDE: tl.constexpr, SPAN: tl.constexpr, N: tl.constexpr,
    TILE: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """y[row, n] = sum over lines and j of x[corner of row + line, j] * weight[line, j, n]; weight: (SIDE, SPAN, N)."""
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, SPAN)
    inside = (row < rows)[:, None] & (j < SIDE * CIN)[None, :]
    corner = corners(row, H, W, CIN, SIDE)
    sums = tl.zeros((TILE, BLOCK_N), tl.float32)
    for line in tl.static_range(SIDE):
        a = tl.load(x + corner[:, None] + (line * (W + SIDE - 1) * CIN + j)[None, :], mask=inside, other=0.0)
        b = tl.load(weight + (line * SPAN + j)[:, None] * N + n[None, :], mask=(n < N)[None, :], other=0.0)
        sums = tl.dot(a, b, sums)
    places = row.to(tl.int64)[:, None] * N + n[None, :]
    tl.store(y + places, sums.to(y.dtype.element_ty), mask=(row < rows)[:, None] & (n < N)[None, :])


@triton.jit(do_not_specialize=["rows", "share"])
def patch_weight_kernel(
    x, dy, parts, rows, share,
    H: tl.constexpr, W: tl.constexpr, CIN: tl.constexpr, SIDE: tl.constexpr, SPAN: tl.constexpr, N: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """parts[p, line, n, j] = sum of dy[row, n] * x[corner of row + line, j] over the p-th `share` rows."""
    part = tl.program_id(0)
    line = tl.program_id(1)
    n = tl.program_id(2) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.arange(0, SPAN)
    last = tl.minimum((part + 1) * share, rows)
    sums = tl.zeros((BLOCK_N, SPAN), tl.float32)
    for start in range(part * share, last, BLOCK_R):
        row = start + tl.arange(0, BLOCK_R)
        corner = corners(row, H, W, CIN, SIDE) + line * (W + SIDE - 1) * CIN
        inside = (row < last)[:, None] & (j < SIDE * CIN)[None, :]
        b = tl.load(x + corner[:, None] + j[None, :], mask=inside, other=0.0)
        places = row.to(tl.int64)[None, :] * N + n[:, None]
        a = tl.load(dy + places, mask=(row < last)[None, :] & (n < N)[:, None], other=0.0)
        sums = tl.dot(a, b, sums)
    places = ((part * SIDE + line) * N + n[:, None]) * SPAN + j[None, :]
    tl.store(parts + places, sums, mask=(n < N)[:, None])
