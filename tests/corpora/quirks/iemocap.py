"""The oddities of the real IEMOCAP's texts and names, planted in a synthetic one. See bed.py."""

from pathlib import Path
from typing import Any

from quirks.bed import NO_MEDIUM, Bed, copy_file, hide_junk
from quirks.iemocap_bed import (  # fmt: skip
    alignment,
    avi,
    clone,
    dialogs,
    evaluation,
    read,
    session,
    transcription,
)
from quirks.iemocap_media import DIALOGS, SENTENCES


def plant(root: Path) -> dict[str, Any]:
    """Plant all quirks in the corpus at `root`; returns the oracle, which is also written there.

    Raises ValueError if the corpus has too few utterances, or all of IEMOCAP's dialogs.
    """
    bed = read(root)
    # Dialogs for quirks are made of what nothing has touched; files are changed as a whole when their lines are done.
    for quirk in (*DIALOGS, known_without_alignment, *TEXTS, *SENTENCES, *FILES, hide_junk):
        quirk(bed)
    (root / "._IEMOCAP_full_release").write_bytes((root / "._README.txt").read_bytes())
    bed.planted("irregular_names", *(avi(name) for name in dialogs(bed) if name[-1] in "ab"))
    return bed.save()


def _says(bed: Bed, name: str, raw: str | bytes, text: str) -> str:
    """Replace an utterance's text by `raw`, which reads as `text`."""
    id_ = bed.take()
    path = transcription(id_[:-5])
    lines = (bed.root / path).read_bytes().splitlines(keepends=True)
    place = next(index for index, line in enumerate(lines) if line.startswith(id_.encode()))
    head = lines[place].split(b"]:")[0]
    lines[place] = head + b"]: " + (raw if isinstance(raw, bytes) else raw.encode()) + b"\r\n"
    (bed.root / path).write_bytes(b"".join(lines))
    bed.expect(id_, text=text)
    bed.planted(name, path)
    return id_


def latin1_text(bed: Bed) -> None:
    """A text with a letter of Latin-1."""
    _says(bed, "latin1_text", "We met in the café.".encode("latin-1"), "We met in the café.")


def cp1252_text(bed: Bed) -> None:
    """A text with the apostrophe of Windows-1252."""
    _says(bed, "cp1252_text", "I’m not sure.".encode("cp1252"), "I’m not sure.")


def colons_and_brackets(bed: Bed) -> None:
    """A text that holds what separates the fields."""
    raw = "Well: let me see [pause]: at 10:30, isn't it?"
    _says(bed, "colons_and_brackets", raw, raw)


def only_a_sound(bed: Bed) -> None:
    """A text that is a token and no words."""
    _says(bed, "only_a_sound", "[BREATHING]", "[BREATHING]")


def _rated(bed: Bed, name: str, line: str, rater: dict[str, Any]) -> None:
    """Put a rater's line after an utterance's others, and expect `rater` among its raters."""
    id_ = bed.take()
    path = evaluation(id_[:-5])
    blocks = (bed.root / path).read_text(encoding="latin-1").split("\n\n")
    place = next(index for index, block in enumerate(blocks) if f"\t{id_}\t" in block)
    blocks[place] = blocks[place].rstrip("\n") + "\n" + line
    (bed.root / path).write_text("\n\n".join(blocks), encoding="latin-1", newline="")
    bed.utterances[id_]["labels"]["raters"] = [rater]
    bed.planted(name, path)


def empty_category(bed: Bed) -> None:
    """A rater who named a category and nothing."""
    _rated(bed, "empty_category", "C-F9:\tOther; ;\t()", {"rater": "C-F9", "emotion": ["Other"], "comment": None})


def missing_dominance(bed: Bed) -> None:
    """A rater who gave no dominance, with the blanks that stand for it."""
    _rated(
        bed, "missing_dominance", "A-E9:\tval 3; act 2; dom  ;\t()",
        {"rater": "A-E9", "valence": 3.0, "activation": 2.0, "dominance": None},
    )  # fmt: skip


def fractional_dimensions(bed: Bed) -> None:
    """A rater who was asked for whole numbers."""
    _rated(
        bed, "fractional_dimensions", "A-E9:\tval 2.5; act 3; dom  1.5;\t()",
        {"rater": "A-E9", "valence": 2.5, "activation": 3.0, "dominance": 1.5},
    )  # fmt: skip


def odd_comment(bed: Bed) -> None:
    """A comment with all that separates fields."""
    comment = "tired; polite, a [little] (very) annoyed: val 3"
    _rated(
        bed, "odd_comment", f"C-E9:\tNeutral; Sadness;\t({comment})",
        {"rater": "C-E9", "emotion": ["Neutral", "Sadness"], "comment": comment},
    )  # fmt: skip


def open_comment(bed: Bed) -> None:
    """A comment whose last bracket is missing."""
    rater = {"rater": "C-E9", "emotion": ["Anger"], "comment": "loud (at first"}
    _rated(bed, "open_comment", "C-E9:\tAnger;\t(loud (at first", rater)


def no_evaluation(bed: Bed) -> None:
    """An utterance that the evaluation lacks, with its raters."""
    id_ = bed.take()
    path = evaluation(id_[:-5])
    blocks = (bed.root / path).read_text(encoding="latin-1").split("\n\n")
    kept = [block for block in blocks if f"\t{id_}\t" not in block]
    (bed.root / path).write_text("\n\n".join(kept), encoding="latin-1", newline="")
    bed.expect(id_, labels={"emotion": None})
    bed.flag(id_, "no_evaluation")
    bed.planted("no_evaluation", path)


def no_transcript(bed: Bed) -> None:
    """An utterance that the transcription lacks."""
    id_ = bed.take()
    path = transcription(id_[:-5])
    lines = (bed.root / path).read_bytes().splitlines(keepends=True)
    (bed.root / path).write_bytes(b"".join(line for line in lines if not line.startswith(id_.encode())))
    bed.expect(id_, text="")
    bed.flag(id_, "no_transcript")
    bed.planted("no_transcript", path)


def no_alignment(bed: Bed) -> None:
    """An utterance without the files of the aligner."""
    _unaligned(bed, "no_alignment", bed.take())


def known_without_alignment(bed: Bed) -> None:
    """The two utterances for which the real corpus has none."""
    for id_ in ("Ses03F_impro07_M030", "Ses03M_impro03_M001"):
        if id_[:-5] not in dialogs(bed):
            clone(bed, id_[:-5], first={"M": int(id_[-3:])})
        if id_ in bed.utterances:
            bed.free = [free for free in bed.free if free != id_]
            _unaligned(bed, "known_without_alignment", id_)


def _unaligned(bed: Bed, name: str, id_: str) -> None:
    path = bed.root / alignment(id_)
    for suffix in (".wdseg", ".phseg", ".syseg"):
        path.with_suffix(suffix).unlink(missing_ok=True)
    bed.expect(id_, words=None)
    bed.flag(id_, "no_alignment")
    bed.planted(name, alignment(id_))


def odd_alignment(bed: Bed) -> None:
    """Fillers, a word's second pronunciation, silences."""
    id_ = bed.take()
    rows = ((0, 19, "<s>"), (20, 44, "++GARBAGE++"), (45, 51, "<sil>"), (52, 80, "A(2)"), (81, 99, "</s>"))
    lines = [f"\t{start:5d} {end:5d} {-250_144:10d} {word}" for start, end, word in rows]
    head = f"\t{'SFrm':>5} {'EFrm':>5} {'SegAScr':>10} Word"
    (bed.root / alignment(id_)).write_text("\n".join([head, *lines, " Total score:    -1250720", ""]))
    bed.expect(id_, words=[["++GARBAGE++", 0.2, 0.45], ["A", 0.52, 0.81]])
    bed.planted("odd_alignment", alignment(id_))


def lines_that_are_no_utterances(bed: Bed) -> None:
    """Turns that were not cut, lines without an id, a remark."""
    dialog = dialogs(bed)[0]
    path = bed.root / transcription(dialog)
    odd = (f"{dialog}_FXX0 [001.0000-001.5000]: Yeah.", f"{dialog}_MXX1 [002.0000-002.5000]: Mm.", "M: Right.",
           "F: (coughs)", "", "[END]")  # fmt: skip
    path.write_bytes(path.read_bytes() + "".join(f"{line}\r\n" for line in odd).encode())
    bed.notes += [["transcriptions", "XX id"], ["transcriptions", "without an id"], [transcription(dialog), "[END]"]]
    bed.planted("lines_that_are_no_utterances", transcription(dialog))


def unsorted(bed: Bed) -> None:
    """A transcription and an evaluation in no order."""
    dialog = dialogs(bed)[-1]
    path = bed.root / transcription(dialog)
    path.write_bytes(b"".join(reversed(path.read_bytes().splitlines(keepends=True))))
    head, *blocks = (bed.root / evaluation(dialog)).read_bytes().rstrip(b"\n").split(b"\n\n")
    (bed.root / evaluation(dialog)).write_bytes(b"\n\n".join([head, *reversed(blocks)]) + b"\n\n")
    bed.planted("unsorted", transcription(dialog), evaluation(dialog))


def line_ends(bed: Bed) -> None:
    """LF where CRLF is the rule, the other way round, and both in one file."""
    first, second, *_ = dialogs(bed) * 2
    path = bed.root / transcription(first)
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    path = bed.root / evaluation(first)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    mixed = bed.root / transcription(second)
    halves = mixed.read_bytes().splitlines(keepends=True)
    mixed.write_bytes(
        b"".join(line.replace(b"\r\n", b"\n") if index % 2 else line for index, line in enumerate(halves))
    )
    bed.planted("line_ends", transcription(first), evaluation(first), transcription(second))


def byte_order_mark(bed: Bed) -> None:
    """The mark before the first line, of texts that are otherwise ASCII."""
    plain = [
        path for dialog in dialogs(bed) for path in (evaluation(dialog), transcription(dialog))
        if (bed.root / path).read_bytes().isascii()
    ]  # fmt: skip
    for path in (plain[0], plain[-1]):
        (bed.root / path).write_bytes(b"\xef\xbb\xbf" + (bed.root / path).read_bytes())
    bed.planted("byte_order_mark", plain[0], plain[-1])


def rater_folders(bed: Bed) -> None:
    """Files of single raters that look like a dialog's, with other labels and with utterances that are none."""
    dialog = dialogs(bed)[0]
    folder = f"{session(dialog)}/dialog/EmoEvaluation"
    text = (bed.root / evaluation(dialog)).read_bytes()
    for code in (b"ang", b"sad", b"neu", b"fru", b"exc", b"xxx"):
        text = text.replace(b"\t" + code + b"\t", b"\thap\t")
    (bed.root / folder / "Categorical" / f"{dialog}.txt").write_bytes(text)
    (bed.root / folder / "Self-evaluation" / "Ses01F_impro99.txt").write_bytes(
        text.replace(dialog.encode(), b"Ses01F_impro99")
    )
    bed.planted("rater_folders", f"{folder}/Categorical/{dialog}.txt", f"{folder}/Self-evaluation/Ses01F_impro99.txt")


def concatenated_evaluation(bed: Bed) -> None:
    """All evaluations once more in the root, as in some copies."""
    texts = [(bed.root / evaluation(dialog)).read_bytes() for dialog in dialogs(bed)]
    (bed.root / "IEMOCAP_EmoEvaluation.txt").write_bytes(b"".join(texts))
    bed.planted("concatenated_evaluation", "IEMOCAP_EmoEvaluation.txt")


def stray_files(bed: Bed) -> None:
    """Backups and notes of users among the dialogs' files."""
    dialog = dialogs(bed)[0]
    backup = f"{session(dialog)}/dialog/EmoEvaluation/{dialog} (copy).txt"
    copy_file(bed.root / evaluation(dialog), bed.root / backup)
    (bed.root / session(dialog) / "sentences/wav/test.wav").write_text(NO_MEDIUM)
    bed.notes.append([backup, "not read"])
    bed.planted("stray_files", backup, f"{session(dialog)}/sentences/wav/test.wav")


TEXTS = (
    latin1_text, cp1252_text, colons_and_brackets, only_a_sound, empty_category, missing_dominance,
    fractional_dimensions, odd_comment, open_comment, no_evaluation, no_transcript, no_alignment, odd_alignment,
)  # fmt: skip
FILES = (
    lines_that_are_no_utterances, unsorted, line_ends, byte_order_mark, rater_folders, concatenated_evaluation,
    stray_files,
)  # fmt: skip
