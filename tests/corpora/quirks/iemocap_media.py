"""The oddities of the real IEMOCAP's recordings, planted in a synthetic one. See bed.py."""

import soundfile

from quirks.bed import NO_MEDIUM, Bed, shorten, shorten_in_place
from quirks.iemocap_bed import avi, clone, dialog_wav, sentence_wav

UNCLEAR = 0.12  # seconds around the end of a video in which nothing is expected of an utterance's edge


def no_sentence_wav(bed: Bed) -> None:
    """A sentence wav that is missing: the speaker's channel of the dialog's."""
    id_ = bed.take()
    (bed.root / sentence_wav(id_)).unlink()
    bed.expect(id_, sound=dialog_wav(id_[:-5]))
    bed.planted("no_sentence_wav", sentence_wav(id_))


def sentence_wav_is_text(bed: Bed) -> None:
    """A sentence wav that holds a text."""
    id_ = bed.take()
    (bed.root / sentence_wav(id_)).write_text(NO_MEDIUM)
    bed.expect(id_, sound=dialog_wav(id_[:-5]), reason=f"{sentence_wav(id_)}: not a sound file")
    bed.planted("sentence_wav_is_text", sentence_wav(id_))


def sentence_wav_is_empty(bed: Bed) -> None:
    """A sentence wav of no bytes, and one with a header only."""
    for name in ("sentence_wav_is_empty", "sentence_wav_without_samples"):
        id_ = bed.take()
        path = bed.root / sentence_wav(id_)
        path.write_bytes(b"")
        if name == "sentence_wav_without_samples":
            with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16"):
                pass
        bed.expect(id_, sound=dialog_wav(id_[:-5]), reason=sentence_wav(id_))
        bed.planted(name, sentence_wav(id_))


def other_headers(bed: Bed) -> None:
    """The same samples behind the extensible form of a wav's header, and behind NIST's."""
    for format_ in ("WAVEX", "NIST"):
        id_ = bed.take()
        path = bed.root / sentence_wav(id_)
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples, rate, "PCM_16", format=format_)
        bed.planted(f"{format_.lower()}_header", sentence_wav(id_))


def capital_suffix(bed: Bed) -> None:
    """A file whose suffix is in capitals."""
    id_ = bed.take()
    path = bed.root / sentence_wav(id_)
    path.rename(path.with_suffix(".WAV"))
    bed.expect(id_, sound=sentence_wav(id_).removesuffix("wav") + "WAV")
    bed.planted("capital_suffix", sentence_wav(id_))


def short_avi(bed: Bed) -> None:
    """An AVI that ends in the middle of the first turn that it can: later ones have nothing or a part."""
    ids = clone(bed)
    path = avi(ids[0][:-5])
    edges = [bed.utterances[id_][edge] for id_ in ids for edge in ("start", "end")]
    middle = bed.utterances[ids[1]]
    seconds = (middle["start"] + middle["end"]) / 2
    while any(abs(edge - seconds) <= UNCLEAR for edge in edges):
        seconds += 0.05
    shorten_in_place(bed.root / path, seconds)
    for id_ in ids:
        if bed.utterances[id_]["end"] > seconds:
            seen = "partial" if bed.utterances[id_]["start"] < seconds else "none"
            bed.expect(id_, video=seen, reason=f"{path}: ends at")
            if seen == "none":
                bed.expect(id_, picture=None)
    bed.planted("short_avi", path)


def no_avi(bed: Bed) -> None:
    """An AVI that is missing."""
    ids = clone(bed)
    path = avi(ids[0][:-5])
    (bed.root / path).unlink()
    for id_ in ids:
        bed.expect(id_, video="none", picture=None, reason="no video file")
    bed.planted("no_avi", path)


def avi_is_text(bed: Bed) -> None:
    """An AVI that holds a text."""
    ids = clone(bed)
    path = avi(ids[0][:-5])
    (bed.root / path).write_text(NO_MEDIUM)
    for id_ in ids:
        bed.expect(id_, video="none", picture=None, reason=f"{path}: ")
    bed.planted("avi_is_text", path)


def same_stem(bed: Bed) -> None:
    """A user's .mp4 and .mkv beside the AVI: the AVI counts."""
    path = avi(clone(bed)[0][:-5])
    others = [path.removesuffix("avi") + suffix for suffix in ("mkv", "mp4")]
    for other in others:
        (bed.root / other).write_text(NO_MEDIUM)
    bed.planted("same_stem", path, *others)


def only_mkv(bed: Bed) -> None:
    """A user's .mkv instead of the AVI."""
    ids = clone(bed)
    path = avi(ids[0][:-5])
    other = path.removesuffix("avi") + "mkv"
    shorten(bed.root / path, bed.root / other, 3600)
    (bed.root / path).unlink()
    for id_ in ids:
        bed.expect(id_, picture=other)
    bed.planted("only_mkv", path, other)


def mono_dialog_wav(bed: Bed) -> None:
    """A dialog's wav with one channel, where a sentence wav is missing."""
    id_, *_ = clone(bed)
    path = bed.root / dialog_wav(id_[:-5])
    samples, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, samples[:, 0], rate, "PCM_16")
    (bed.root / sentence_wav(id_)).unlink()
    bed.expect(id_, sound=dialog_wav(id_[:-5]))
    bed.flag(id_, "both_voices")
    bed.planted("mono_dialog_wav", dialog_wav(id_[:-5]), sentence_wav(id_))


def no_sound(bed: Bed) -> None:
    """A sentence wav and the dialog's are missing: there is the picture alone."""
    id_, *_ = clone(bed)
    for path in (dialog_wav(id_[:-5]), sentence_wav(id_)):
        (bed.root / path).unlink()
    bed.expect(id_, audio="none", sound=None, reason="no sound file")
    bed.planted("no_sound", dialog_wav(id_[:-5]), sentence_wav(id_))


def nothing_left(bed: Bed) -> None:
    """Neither sound nor picture."""
    id_, *others = clone(bed)
    paths = (avi(id_[:-5]), dialog_wav(id_[:-5]), sentence_wav(id_))
    for path in paths:
        (bed.root / path).unlink()
    for other in others:
        bed.expect(other, video="none", picture=None, reason="no video file")
    bed.expect(id_, status="failed", reason="no sound file; no video file")
    bed.planted("nothing_left", *paths)


DIALOGS = (short_avi, no_avi, avi_is_text, same_stem, only_mkv, mono_dialog_wav, no_sound, nothing_left)
SENTENCES = (no_sentence_wav, sentence_wav_is_text, sentence_wav_is_empty, other_headers, capital_suffix)
