"""Faces and sound as data URIs, and pictures of sound."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
NO_METADATA: dict[str, Any] = {"Software": None}  # or the same picture differs by the version of matplotlib

DYNAMIC_RANGE = 70.0  # dB below the loudest point of a spectrogram that are shown
WINDOW, HOP, BANDS = 400, 200, 128  # of `spectrogram`, at 16 kHz: what the acoustic stack reads
CONTACT_FACES = 16  # at most so many faces of an utterance are shown


def data_uri(content: bytes, kind: str) -> str:
    """An address that holds `content` of the media type `kind`."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def png(pixels: Pixels) -> bytes:
    """(H, W, 3) as a PNG of H x W pixels, the same bytes each time."""
    from matplotlib.image import imsave

    file = BytesIO()
    imsave(file, np.ascontiguousarray(pixels), format="png", metadata=NO_METADATA)
    return file.getvalue()


def png_uri(pixels: Pixels) -> str:
    """(H, W, 3) as an address."""
    return data_uri(png(pixels), "image/png")


def sound_uri(samples: NDArray[np.int16], rate: int) -> str | None:
    """int16 (n,) as an address of a FLAC file, which all browsers play without loss; None if there is no sample."""
    import soundfile

    if not len(samples):
        return None
    file = BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_16")
    return data_uri(file.getvalue(), "audio/flac")


def sampled(count: int, most: int) -> list[int]:
    """At most `most` of the numbers from 0 to `count` - 1, evenly spaced, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, count - 1, min(count, most))}) if count else []


def side_by_side(pictures: Sequence[Pixels] | Pixels) -> Pixels:
    """Pictures (n, H, W, 3) in a row, (H, n W, 3)."""
    return np.concatenate(list(pictures), axis=1)


def face_strip(faces: Pixels, most: int = CONTACT_FACES) -> str | None:
    """Up to `most` of the faces (n, size, size, 3), evenly spaced in time, as one address; None without a face."""
    return png_uri(side_by_side(faces[sampled(len(faces), most)])) if len(faces) else None


def viridis(values: NDArray[np.floating[Any]]) -> Pixels:
    """Numbers from 0 to 1, of any shape, as colours (..., 3); what lies outside is clipped."""
    import matplotlib

    return np.asarray(matplotlib.colormaps["viridis"](np.clip(values, 0, 1), bytes=True))[..., :3]


def spectrogram(samples: NDArray[np.int16], rate: int, *, width: int = 1200) -> Pixels:
    """A picture (128, at most `width`, 3) of the sound on a log scale, low tones below: mel bands over frames.

    The loudest point is at the end of the colour scale and 70 dB below it at its beginning. Long sounds are averaged
    over neighbouring frames.
    """
    window, hop = WINDOW * rate // 16_000, HOP * rate // 16_000
    wave = np.pad(samples.astype(np.float32) / 32768, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window), axis=1)) ** 2 @ _mel_filters(window // 2 + 1, rate)
    if len(power) > width:
        edges = np.linspace(0, len(power), width, endpoint=False).astype(int)
        power = np.add.reduceat(power, edges) / np.diff([*edges, len(power)])[:, None]
    decibels = 10 * np.log10(power.T[::-1] + 1e-10)
    return viridis((decibels - decibels.max() + DYNAMIC_RANGE) / DYNAMIC_RANGE)


def _mel_filters(bins: int, rate: int) -> NDArray[np.float64]:
    """Triangular filters on the HTK mel scale, (bins, 128)."""
    top = 2595 * np.log10(1 + rate / 1400)
    points = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, bins)[:, None]
    rise = (hertz - points[:-2]) / (points[1:-1] - points[:-2])
    fall = (points[2:] - hertz) / (points[2:] - points[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rise, fall)))


def waveform(samples: NDArray[np.int16], *, width: int = 600, height: int = 40) -> str:
    """The outline of the sound in a box of `width` x `height`, as an SVG path: lowest to highest sample of a slice."""
    if not len(samples):
        return ""
    edges = np.unique(np.linspace(0, len(samples), min(width, len(samples)), endpoint=False).astype(int))
    loudest = max(int(np.abs(samples.astype(np.int32)).max()), 1)
    middle = height / 2
    highs = middle - np.maximum.reduceat(samples, edges) * (middle / loudest)
    lows = middle - np.minimum.reduceat(samples, edges) * (middle / loudest)
    xs = edges * (width / len(samples))
    upper = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, highs, strict=True))
    lower = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs[::-1], lows[::-1], strict=True))
    return f"M{upper} L{lower}Z"
