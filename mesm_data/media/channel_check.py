"""Is the stereo channel that is taken for a speaker really his? Asked where an utterance has a wav of its own too."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.audio import AudioReader
from mesm_data.schema.recordings import AudioSource

# The middle second, and offsets of up to 2.5 ms: 1 ms of CPU an utterance. The channel that a wav was cut from explains
# all of it, and labels give times to 0.1 ms, so more would say no more.
COMPARED_SECONDS, OFFSET_FRACTION = 1, 400  # seconds of sound; offsets of up to 1/400 s
CHUNK = 8000  # a BLAS takes several threads for longer products, which costs more than it gives here


def check_channel(reader: AudioReader, sources: Sequence[AudioSource], own: NDArray[np.int16]) -> str | None:
    """Which channel of the stereo recording fits an utterance's own wav `own` (int16, n): "own", "other" or "unclear".

    `own` was read from the first of `sources`; another of them must name a channel of a stereo file. None: there is
    nothing to compare. A channel fits clearly better if the other leaves more than twice as much of the wav's energy
    unexplained.
    """
    whole = next((source for source in sources[1:] if source.channel is not None and source.span), None)
    if whole is None or whole.channel is None or not sources or sources[0].span or not own.any():
        return None
    try:
        stereo = reader.channels(whole).samples
    except MesmError:
        return None
    if stereo.shape[1] != 2:
        return None
    mine, other = (
        residual_energy(own, stereo[:, channel], reader.rate) for channel in (whole.channel, 1 - whole.channel)
    )
    # Fractions of whole numbers, compared crosswise.
    left, right = mine[0] * other[1], other[0] * mine[1]
    return "own" if 2 * left < right else "other" if 2 * right < left else "unclear"


def residual_energy(own: NDArray[np.int16], channel: NDArray[np.int16], rate: int) -> tuple[int, int]:
    """The share of the energy of `own` that no multiple of `channel` explains, at the best offset: 1 - r^2.

    Both are at `rate` Hz.

    A fraction (numerator, denominator) of whole numbers, exact: sums of products stay below 2**53, so float64 holds
    them whatever the order of summation.
    """
    lags = rate // OFFSET_FRACTION
    length = min(len(own), len(channel), COMPARED_SECONDS * rate + 2 * lags)
    if length <= 2 * lags:
        return 1, 1
    first, second = (_middle(sound, length).astype(np.float64) for sound in (own[: len(channel)], channel[: len(own)]))
    kernel = first[lags:-lags]
    dots = np.zeros(2 * lags + 1)
    for at in range(0, len(kernel), CHUNK):
        dots += np.correlate(second[at : at + CHUNK + 2 * lags], kernel[at : at + CHUNK], "valid")
    lag = int(np.abs(dots).argmax())
    part = second[lag : lag + len(kernel)]
    dot, energy, power = int(dots[lag]), int(kernel @ kernel), int(part @ part)
    if not energy or not power:
        return 1, 1
    return energy * power - dot * dot, energy * power


def _middle(sound: NDArray[np.int16], length: int) -> NDArray[np.int16]:
    start = (len(sound) - length) // 2
    return sound[start : start + length]
