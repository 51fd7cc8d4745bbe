"""The oddities of the real CMU-MOSEI's recordings and times, planted in a synthetic one. See bed.py."""

import os

import numpy as np
import soundfile

from quirks.bed import NO_MEDIUM, shorten
from quirks.mosei_bed import MoseiBed, clone, mp4, segment, transcript, wav


def _video(id_: str) -> str:
    return id_.rsplit("_", 1)[0]


def _at(bed: MoseiBed, id_: str, start: str, end: str) -> None:
    """Give a clip other times in its transcript."""
    video, number = id_.rsplit("_", 1)
    path = bed.root / transcript(video)
    lines = path.read_text(encoding="ascii").splitlines()
    for index, line in enumerate(lines):
        if line.startswith(f"{video}___{number}___"):
            lines[index] = "___".join([video, number, start, end, line.split("___", 4)[4]])
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="")
    bed.expect(id_, start=float(start), end=float(end))


def negative_start(bed: MoseiBed) -> None:
    """A clip that begins before its video, as far as any in the corpus."""
    id_, *_ = clone(bed)
    _at(bed, id_, "-0.4875", repr(bed.utterances[id_]["end"]))
    bed.expect(id_, start=0.0)
    bed.flag(id_, "negative_start")
    bed.planted("negative_start", transcript(_video(id_)))


def past_the_end(bed: MoseiBed) -> None:
    """A clip that ends 3 s after its video, and one that begins 3 s after; no excerpts."""
    across, after = clone(bed)
    video = _video(across)
    seconds = soundfile.info(bed.root / wav(video)).duration
    _at(bed, across, f"{seconds - 2:.3f}", f"{seconds + 3:.3f}")
    _at(bed, after, f"{seconds + 3:.3f}", f"{seconds + 5:.3f}")
    for id_ in (across, after):
        (bed.root / segment(id_)).unlink()
    bed.expect(across, video="partial", audio="partial", reason=f"{video}.mp4: ends at")
    bed.expect(after, status="failed")
    bed.planted("past_the_end", transcript(video))


def no_sound_stream(bed: MoseiBed) -> None:
    """A video without a sound stream; for the second one there is no wav either."""
    for name in ("no_sound_stream", "no_sound_at_all"):
        ids = clone(bed)
        path = bed.root / mp4(_video(ids[0]))
        loud = path.with_name("loud.mp4")
        path.rename(loud)
        shorten(loud, path, 3600, "-an")
        loud.unlink()
        if name == "no_sound_at_all":
            (bed.root / wav(_video(ids[0]))).unlink()
            for id_ in ids:
                (bed.root / segment(id_)).unlink()
                bed.expect(id_, audio="none", sound=None)
        bed.planted(name, mp4(_video(ids[0])))


def no_wav(bed: MoseiBed) -> None:
    """A wav that is missing: the video's own sound."""
    ids = clone(bed)
    (bed.root / wav(_video(ids[0]))).unlink()
    for id_ in ids:
        bed.expect(id_, sound=mp4(_video(id_)))
    bed.planted("no_wav", wav(_video(ids[0])))


def wav_is_text(bed: MoseiBed) -> None:
    """A wav that holds a text: the video's own sound."""
    ids = clone(bed)
    (bed.root / wav(_video(ids[0]))).write_text(NO_MEDIUM)
    for id_ in ids:
        bed.expect(id_, sound=mp4(_video(id_)), reason=f"{_video(id_)}.wav")
    bed.planted("wav_is_text", wav(_video(ids[0])))


def stereo_wav(bed: MoseiBed) -> None:
    """A wav with two channels."""
    id_, *_ = clone(bed)
    path = bed.root / wav(_video(id_))
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, np.stack([samples, samples // 2], axis=1), rate, "PCM_16")
    bed.planted("stereo_wav", wav(_video(id_)))


def torn_mp4(bed: MoseiBed) -> None:
    """A video whose end, with its index, is missing: the excerpts are shown."""
    ids = clone(bed)
    path = bed.root / mp4(_video(ids[0]))
    os.truncate(path, path.stat().st_size // 2)
    for id_ in ids:
        bed.expect(id_, picture=segment(id_))
    bed.planted("torn_mp4", mp4(_video(ids[0])))


def no_mp4(bed: MoseiBed) -> None:
    """A video that is missing: the excerpts are shown."""
    ids = clone(bed)
    (bed.root / mp4(_video(ids[0]))).unlink()
    for id_ in ids:
        bed.expect(id_, picture=segment(id_))
    bed.planted("no_mp4", mp4(_video(ids[0])))


def torn_segment(bed: MoseiBed) -> None:
    """An excerpt that cannot be opened, which nobody needs."""
    id_, *_ = clone(bed)
    (bed.root / segment(id_)).write_bytes(b"")
    bed.planted("torn_segment", segment(id_))


def torn_mp4_and_segment(bed: MoseiBed) -> None:
    """Neither the video nor a clip's excerpt can be opened: there is its sound alone."""
    id_, other = clone(bed)
    (bed.root / mp4(_video(id_))).write_text(NO_MEDIUM)
    (bed.root / segment(id_)).write_text(NO_MEDIUM)
    bed.expect(id_, video="none", picture=None, reason=f"{_video(id_)}.mp4")
    bed.expect(other, picture=segment(other))
    bed.planted("torn_mp4_and_segment", mp4(_video(id_)), segment(id_))


def nothing_left(bed: MoseiBed) -> None:
    """Neither sound nor picture."""
    ids = clone(bed)
    paths = (wav(_video(ids[0])), mp4(_video(ids[0])), *map(segment, ids))
    for path in paths:
        (bed.root / path).unlink()
    for id_ in ids:
        bed.expect(id_, status="failed")
    bed.planted("nothing_left", *paths)


MEDIA = (
    negative_start, past_the_end, no_sound_stream, no_wav, wav_is_text, stereo_wav, torn_mp4, no_mp4, torn_segment,
    torn_mp4_and_segment, nothing_left,
)  # fmt: skip
