"""Small convolutional networks in fixed point: identical results on every processor, at the speed of the BLAS.

Floating-point networks differ between machines because a sum of products is rounded after each step, and each BLAS,
instruction set, number of threads and batch size takes the steps in another order. Here no sum is rounded. Activations
are integers (16 bits after the point), and the weights of a layer are multiples of 2**-bits, so each product and each
partial sum is a multiple of 2**-bits too. As long as the absolute values of the terms of a sum add up to less than
2**(53 - bits), each partial sum fits into the 53 bits of a float64 and is exact in any order, with or without fused
multiply-add. `FixedPointNetwork` asserts, with a factor of 2 to spare, that no image can exceed that: interval
arithmetic from layer to layer bounds the sums by the weights and the range of the input. That leaves 17 bits in O-net's
head, where the bound is loosest, and 19 to 32 elsewhere.

All other operations are comparisons, `rint`, and single additions and multiplications, which IEEE 754 defines to the
last bit.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ACTIVATION_BITS = 16  # an activation a is the integer rint(a * 2**16), 8 bits finer than the grey levels of the input
GREY_SCALE = 2.0 ** (ACTIVATION_BITS - 7)  # the input of the networks is (grey - 127.5) / 128
MAX_INPUT = 255 * GREY_SCALE


class Convolution:
    """A convolution without padding, PReLU, and max pooling with stride 2 (windows at the edge are cut, not dropped).

    Arrays are (channels, height, width, batch): with the batch innermost, copies and maxima run over long rows. The
    convolution is one matrix product whose columns are the windows. Winograd's F(2,3) would be exact with one bit less
    and saves a third of the products, but its additions take as long: 10 % slower to 10 % faster, by layer.

    Args:
        kernel: (size, size, in, out).
        bias: (out,), in units of the activations.
        slope: (out,) of the PReLU, ascending; None for a head, which is not rounded.
        pool: The side of the pooling windows; 0 for no pooling.
        paired: Whether to compute two neighbouring columns at a time, with a kernel one column wider. Pooling then
            compares whole arrays: for 3 input channels that takes half of the time; for more, the extra products cost
            as much as they save.
    """

    def __init__(
        self, kernel: Array, bias: Array, slope: Array | None = None, *, pool: int = 0, paired: bool = False
    ) -> None:
        self.size, self.out = len(kernel), len(bias)
        self.slope, self.pool, self.paired = slope, pool, paired
        kernels = [kernel]
        if paired:
            zeros = np.zeros_like(kernel[:, :1])
            kernels = [np.concatenate([kernel, zeros], axis=1), np.concatenate([zeros, kernel], axis=1)]
        rows = [np.concatenate([k.reshape(-1, self.out), bias[None]]) for k in kernels]
        self.matrix = np.ascontiguousarray(np.concatenate(rows, axis=1).T)
        self.convex = 0 if slope is None else int(np.count_nonzero(slope < 0))

    def __call__(self, x: Array) -> Array:
        """Map (in, height, width, batch) to (out, height', width', batch)."""
        y: Array = self._columns(x, 2 if self.paired else 1)
        activations: Array = y[0]
        if self.slope is None:
            return activations
        first = 0
        if self.pool:
            # A PReLU with a slope >= 0 is monotone, so it may follow the pooling, which leaves a quarter of the work.
            first = self.convex
            prelu(y[:, :first], self.slope[:first])
            if self.paired:
                activations = max_pool(self._pool_pairs(y, x.shape[2] - self.size + 1), 1, self.pool)
            else:
                activations = max_pool(max_pool(activations, 1, self.pool), 2, self.pool)
        prelu(activations[first:], self.slope[first:])
        np.rint(activations, out=activations)
        return activations

    def _columns(self, x: Array, step: int) -> Array:
        """The convolution, column i * step + s at [s, :, :, i]: (step, out, height', ceil(width' / step), batch)."""
        channels, height, width, batch = x.shape
        height -= self.size - 1
        count = -(-(width - self.size + 1) // step)
        windows = np.empty((len(self.matrix[0]), height, count, batch))
        at = 0
        for i in range(self.size):
            for j in range(self.size + step - 1):
                source = x[:, i : i + height, j::step][:, :, :count]
                windows[at : at + channels, :, : source.shape[2]] = source
                windows[at : at + channels, :, source.shape[2] :] = 0
                at += channels
        windows[at] = 1  # multiplied by the bias
        sums: Array = self.matrix @ windows.reshape(at + 1, -1)
        return sums.reshape(step, self.out, height, count, batch)

    def _pool_pairs(self, y: Array, width: int) -> Array:
        """Max pooling along the width, for even and odd columns in separate arrays."""
        even, odd = y
        if width % 2:
            odd[:, :, -1] = even[:, :, -1]
        pooled: Array = np.maximum(even, odd)
        if self.pool == 3:
            np.maximum(pooled[:, :, :-1], even[:, :, 1:], out=pooled[:, :, :-1])
        return pooled


def prelu(y: Array, slope: Array) -> None:
    """Apply y if y > 0 else slope * y in place, by channel (the fourth axis from the end). `slope` is ascending."""
    gentle = int(np.searchsorted(slope, 1.0))
    other = y * slope[:, None, None, None]
    for side, channels in ((np.maximum, slice(gentle)), (np.minimum, slice(gentle, None))):
        side(y[..., channels, :, :, :], other[..., channels, :, :, :], out=y[..., channels, :, :, :])


def max_pool(y: Array, axis: int, size: int) -> Array:
    """Max pooling over windows of `size` (2 or 3) with stride 2 along an axis; the last window may be shorter."""
    ahead = (slice(None),) * axis
    count = -(-(y.shape[axis] - size) // 2) + 1
    pooled = y[(*ahead, slice(0, None, 2))][(*ahead, slice(count))].copy()
    for offset in range(1, size):
        other = y[(*ahead, slice(offset, None, 2))][(*ahead, slice(count))]
        part = pooled[(*ahead, slice(other.shape[axis]))]
        np.maximum(part, other, out=part)
    return pooled


class FixedPointNetwork:
    """A sequence of convolutions whose results are proved to be exact.

    Args:
        arrays: The result of `load_weights`.
        pools: The pooling of each layer before the heads.
        bits: The bits after the point of the weights of each layer, the heads last: as many as `_add` accepts.
        heads: The positions in `arrays` of the kernels of the heads, the two-class head last. Their outputs are
            concatenated; the two classes become one number, face minus no face: the logit of the probability.

    Raises:
        AssertionError: A sum could leave the exact range of float64.
    """

    def __init__(
        self, arrays: list[NDArray[np.float32]], pools: tuple[int, ...], bits: tuple[int, ...], heads: list[int]
    ) -> None:
        self.layers: list[Convolution] = []
        self._range = (np.zeros(3), np.full(3, MAX_INPUT))
        self._order = np.arange(3)
        for at, side in enumerate(pools):
            kernel, bias, slope = (array.astype(np.float64) for array in arrays[3 * at : 3 * at + 3])
            self._add(kernel, bias, slope.reshape(-1), side, bits[at])
        kernels = [arrays[head].astype(np.float64).reshape(-1, arrays[head].shape[-1]) for head in heads]
        biases = [arrays[head + 1].astype(np.float64) for head in heads]
        kernels[-1], biases[-1] = np.diff(kernels[-1]), np.diff(biases[-1])
        self._add(np.concatenate(kernels, axis=1), np.concatenate(biases), None, 0, bits[-1])

    @property
    def out(self) -> int:
        """The number of outputs of all heads at one position."""
        return self.layers[-1].out

    def __call__(self, x: Array) -> Array:
        """Map grey levels * 512, rounded, (3, height, width, batch), to the heads (out, height', width', batch)."""
        for layer in self.layers:
            x = layer(x)
        return x * 2.0**-ACTIVATION_BITS

    def _add(self, kernel: Array, bias: Array, slope: Array | None, side: int, bits: int) -> None:
        """Add a layer, with its channels sorted and its weights rounded, and check its bound.

        A dense layer (in, out) becomes a convolution over the whole remaining image.
        """
        channels = len(self._order)
        if kernel.ndim == 2:
            # Its input is an image read column by column, channels innermost (as facenet-pytorch flattens it).
            size = round((len(kernel) / channels) ** 0.5)
            kernel = kernel.reshape(size, size, channels, -1).transpose(1, 0, 2, 3)
        order = np.arange(len(bias)) if slope is None else np.argsort(slope, kind="stable")
        kernel, bias = kernel[:, :, self._order][..., order], bias[order] * 2**ACTIVATION_BITS
        slope = None if slope is None else slope[order]
        first = not self.layers
        kernel, bias = (np.rint(values * 2.0**bits) * 2.0**-bits for values in (kernel, bias))
        if first:
            bias = bias - 127.5 * GREY_SCALE * kernel.sum(axis=(0, 1, 2))  # a multiple of 2**-bits, so exact
        # Half of the range of float64, since this sum itself is rounded.
        assert self._largest_sum(kernel, bias) < 2.0 ** (52 - bits), (
            "a sum of the network could leave the exact range of float64"
        )
        if slope is not None:
            self._range = self._activation_bounds(kernel, bias, slope)
        self._order = order
        self.layers.append(Convolution(kernel, bias, slope, pool=side, paired=first))

    def _largest_sum(self, kernel: Array, bias: Array) -> float:
        """A bound for the sum of the absolute values of the terms of any sum."""
        largest = np.maximum(np.abs(self._range[0]), np.abs(self._range[1]))
        return float((np.abs(kernel).sum(axis=(0, 1)).T @ largest + np.abs(bias)).max())

    def _activation_bounds(self, kernel: Array, bias: Array, slope: Array) -> tuple[Array, Array]:
        """The lowest and highest activation of each channel, by interval arithmetic, plus 1 for rounding."""
        low, high = self._range
        above, below = np.maximum(kernel, 0).sum(axis=(0, 1)).T, np.minimum(kernel, 0).sum(axis=(0, 1)).T
        ends = np.stack([above @ low + below @ high + bias, np.zeros(len(bias)), above @ high + below @ low + bias])
        ends = np.where(ends > 0, ends, slope * ends)
        return ends.min(axis=0) - 1, ends.max(axis=0) + 1
