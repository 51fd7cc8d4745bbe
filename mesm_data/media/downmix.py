"""Mix the channels of a sound down to one, in integers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mix_down(block: NDArray[np.int16], weights: Sequence[int]) -> NDArray[np.int16]:
    """The weighted mean of the channels of (n, channels), int16 (n,); in integers, halves rounded up."""
    factors, total = np.array(weights, np.int64), sum(weights)
    rounded: NDArray[np.int16] = ((2 * (block.astype(np.int64) @ factors) + total) // (2 * total)).astype(np.int16)
    return rounded


def channel_weights(names: Sequence[str]) -> tuple[int, ...]:
    """The weight of each channel in a downmix to mono.

    For a layout with a centre channel, which has the speech of a film, these are the weights of ITU-R BS.775: 1 for the
    centre, 0.7071 for left and right, 0.5 for the others, and 0 for low-frequency effects. In any other layout all
    channels have the same weight.

    Args:
        names: The names of the channels in FFmpeg: "FL", "FC", "LFE", ...
    """
    if "FC" not in names or len(names) < 3:
        return (1,) * len(names)
    return tuple({"FC": 1000, "FL": 707, "FR": 707, "LFE": 0, "LFE2": 0}.get(name, 500) for name in names)
