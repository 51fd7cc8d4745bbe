"""Check which stereo channel contains the speaker, for utterances that also have a wav file of their own."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.audio import AudioReader
from mesm_data.schema.recordings import AudioSource

# The middle second, with offsets of up to 2.5 ms: 1 ms of CPU per utterance. The channel that a wav was cut from leaves
# no residual, and labels give times to 0.1 ms, so more sound or larger offsets would not change the result.
COMPARED_SECONDS, OFFSET_FRACTION = 1, 400  # offsets of up to 1/400 s
CHUNK = 8000  # for longer products a BLAS uses several threads, which is slower here


def check_channel(reader: AudioReader, sources: Sequence[AudioSource], own: NDArray[np.int16]) -> str | None:
    """Compare an utterance's own wav with the two channels of the stereo recording.

    A channel fits clearly better if the residual energy of the other channel is more than twice as large.

    Args:
        reader: Reads the stereo recording.
        sources: The utterance's sources: its own wav, then the stereo recording with a channel and a span.
        own: The samples of the wav, int16 (n,).

    Returns:
        "own" if the channel that the corpus' rule names fits, "other" if the other one does, "unclear" if none fits
        clearly better; None if there is nothing to compare.
    """
    recording = next((source for source in sources[1:] if source.channel is not None and source.span), None)
    if recording is None or recording.channel is None or not sources or sources[0].span or not own.any():
        return None
    try:
        stereo = reader.read_channels(recording).samples
    except MesmError:
        return None
    if stereo.shape[1] != 2:
        return None
    mine, other = (
        residual_energy(own, stereo[:, channel], reader.rate) for channel in (recording.channel, 1 - recording.channel)
    )
    # The ratios are compared by cross-multiplication, in whole numbers.
    left, right = mine[0] * other[1], other[0] * mine[1]
    return "own" if 2 * left < right else "other" if 2 * right < left else "unclear"


def residual_energy(own: NDArray[np.int16], channel: NDArray[np.int16], rate: int) -> tuple[int, int]:
    """The share of the energy of `own` that no multiple of `channel` explains, at the best offset: 1 - r^2.

    Args:
        own: int16 (n,).
        channel: int16 (m,).
        rate: The sample rate of both in Hz.

    Returns:
        Numerator and denominator, exact whole numbers: sums of products stay below 2**53, so float64 represents them
        exactly in any order of summation.
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
