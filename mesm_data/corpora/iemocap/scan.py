"""IEMOCAP: the folder IEMOCAP_full_release as rows of utterances.

IEMOCAP_full_release/Session{1..5}/
    dialog/EmoEvaluation/<dialog>.txt                 labels and times; its sub-folders hold single raters' files
    dialog/transcriptions/<dialog>.txt                text
    dialog/avi/DivX/<dialog>.avi                      both actors side by side
    dialog/wav/<dialog>.wav                           stereo, an actor each
    sentences/wav/<dialog>/<utterance>.wav            the speaker alone
    sentences/ForcedAlignment/<dialog>/<utterance>.wdseg
"""

import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from mesm_data.corpora.dai2021 import scan as processed
from mesm_data.corpora.iemocap.annotations import (
    Line,
    Parsed,
    Turn,
    labels_record,
    parse_evaluation,
    parse_transcription,
    parse_wdseg,
)
from mesm_data.corpora.iemocap.ids import UTTERANCE, dialog_named, dialog_of, is_left, session_of, speaker_of
from mesm_data.corpora.iemocap.media_files import AUDIO, DIALOG_AUDIO, VIDEO, only_heard, sound_of, video_of
from mesm_data.corpora.iemocap.release_check import differences
from mesm_data.corpora.release_check import lacking_text
from mesm_data.corpora.source_tree import Tree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.recordings import SYNTHETIC, Corpus, Picture, Recording, Utterance, Word

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))

_EVALUATION = "dialog/EmoEvaluation"
_TRANSCRIPTION = "dialog/transcriptions"
_ALIGNMENT = "sentences/ForcedAlignment"

# The authors of the paper cut a centre square of 224 px from each 360x480 half (MESM, src/datasets.py).
_SQUARE = 224 / 480
# The transcription repeats the evaluation's times; what differs by more than rounding is a sign of an edited copy.
_SAME_TIME = 0.001 + 1e-9

# (status, reason) of an utterance of which only the sound is there: its times and its label stood in the texts.
NO_TEXT = ("failed", "its wav is there, but neither the evaluation nor the transcription of its dialog names it")

Row = TypeVar("Row", Turn, Line)
Found = dict[str, tuple[str, Row]]  # utterance id -> (the file it stands in, the record)


def scan(root: Path) -> Corpus:
    """Every utterance under `root`: the release, whatever its name, or the folder that holds it alone.

    An utterance is a turn of the evaluation, or a line of the transcription without one (flag `no_evaluation`, label
    None), or a sentence wav that neither names: that one has failed. The other flags are `no_transcript` (text "") and
    `no_alignment` (words None). Of an id that occurs twice the first record counts. Sessions may be missing; if none
    is, the notes say how this differs from the release. What could not be used is in the notes.

    Raises InputError if there is no IEMOCAP release here, or nothing in it can be read.
    """
    if release := processed.find("iemocap", Path(root)):
        return processed.scan("iemocap", release)
    root = _release(Path(root))
    tree = Tree(root)
    sessions = [session for session in SESSIONS if tree.has_folder(session)]
    turns: Found[Turn] = _collect(tree, sessions, _EVALUATION, parse_evaluation)
    lines: Found[Line] = _collect(tree, sessions, _TRANSCRIPTION, parse_transcription)
    _note_missing(tree, sessions)
    dialogs: dict[str, list[str]] = {}
    for id_ in turns | lines:
        dialogs.setdefault(dialog_of(id_), []).append(id_)
    if not dialogs:
        raise InputError(
            f"{root}: no utterance could be read from Session*/{_EVALUATION}/*.txt or Session*/{_TRANSCRIPTION}/*.txt"
            + "".join(f"\n  {note}" for note in tree.notes.sentences()[:5])
        )
    for dialog, ids in only_heard(tree, sessions, dialogs).items():
        dialogs.setdefault(dialog, []).extend(ids)
    recordings = tuple(_recording(tree, dialog, dialogs[dialog], turns, lines) for dialog in sorted(dialogs))
    corpus = Corpus(schema=built_in_schema("iemocap"), root=root, recordings=recordings, notes=())
    # First, because only the first notes are shown.
    first = lacking_text(corpus.utterances())
    if len(sessions) == len(SESSIONS) and SYNTHETIC not in tree.files("."):
        first = [*differences(corpus.utterances()), *first]
    return replace(corpus, notes=(*first, *tree.notes.sentences()))


def _release(given: Path) -> Path:
    """The release itself, where `given` is it or holds it. Raises InputError, naming the right folder if it is near."""
    wanted = "the folder IEMOCAP_full_release, with Session1 .. Session5 that hold dialog/ and sentences/"
    try:
        is_folder = stat.S_ISDIR(given.stat().st_mode)
    except OSError as error:
        raise InputError(f"{given}: {error.strerror}; expected {wanted}") from None
    if not is_folder:
        raise InputError(f"{given}: is a file; expected {wanted} (unpack the archive first)")
    if _is_release(given):
        return given
    tree = Tree(given)
    inside = tree.folders(".")
    releases = [name for name in inside if _is_release(given / name)]
    if len(releases) == 1:
        return given / releases[0]
    if releases:
        raise InputError(f"{given}: holds several releases ({', '.join(releases)}); name one of them")
    for parent in given.resolve().parents:
        if _is_release(parent):
            raise InputError(f"{given}: is a part of a release; give {parent} instead")
    seen = ", ".join([f"{name}/" for name in inside] + [*tree.files(".")]) or "nothing"
    why = "".join(f" ({note})" for note in tree.notes.sentences()[:1])
    raise InputError(f"{given}: is not IEMOCAP; expected {wanted}, found {_shorten(seen)}{why}")


def _is_release(folder: Path) -> bool:
    tree = Tree(folder)
    return any(tree.has_folder(f"{session}/dialog") for session in SESSIONS if tree.has_folder(session))


def _shorten(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[:length] + " ..."


def _note_missing(tree: Tree, sessions: list[str]) -> None:
    """Say which sessions, and which of the six folders of a session, are not there."""
    absent = [session for session in SESSIONS if session not in sessions]
    if absent:
        tree.notes.add("missing sessions", f"{len(sessions)} of 5 sessions are there; without {', '.join(absent)}")
    for session in sessions:
        for folder in (_EVALUATION, _TRANSCRIPTION, VIDEO, DIALOG_AUDIO, AUDIO, _ALIGNMENT):
            if not tree.has_folder(f"{session}/{folder}"):
                tree.notes.add("missing folders", f"{session}/{folder}/: is not there")


def _collect(tree: Tree, sessions: list[str], folder: str, parse: Callable[[str], Parsed[Row]]) -> Found[Row]:
    """The records of every <dialog>.txt directly in Session*/`folder`, all that is odd in the notes."""
    found: Found[Row] = {}
    skipped: Counter[str] = Counter()
    for session in sessions:
        for name, path in tree.files(f"{session}/{folder}").items():
            if not name.endswith(".txt"):
                continue
            dialog = dialog_named(name.removesuffix(".txt"))
            if dialog is None:
                sentence = f"{path}: is not named after a dialog (such as Ses01F_impro01.txt); not read"
                tree.notes.add("files that are not named after a dialog", sentence)
                continue
            text = tree.text(path)
            if text is None:
                continue
            parsed = parse(text)
            skipped += parsed.skipped
            _note_problems(tree, f"odd lines in {folder}", path, parsed)
            for row in parsed.records:
                _add(tree, found, path, row, dialog)
    for kind, count in sorted(skipped.items()):
        tree.notes.add("kinds of lines that are no utterances", f"{folder}: {count} lines {kind} are no utterances")
    return found


def _note_problems(tree: Tree, kind: str, path: str, parsed: Parsed[Any]) -> None:
    for line, message in parsed.problems:
        tree.notes.add(kind, f"{path}:{line}: {message}")


def _add(tree: Tree, found: Found[Row], path: str, row: Row, dialog: str) -> None:
    where = f"{path}:{row.line}"
    if not UTTERANCE.fullmatch(row.id):
        tree.notes.add(
            "lines without an utterance's id", f"{where}: {_shorten(row.id)!r} is not an utterance id; left out"
        )
        return
    if row.id in found:
        first = found[row.id]
        sentence = f"{where}: {row.id} occurs a second time; the first counts ({first[0]}:{first[1].line})"
        tree.notes.add("utterances that occur twice", sentence)
        return
    if dialog_of(row.id) != dialog:
        sentence = f"{where}: {row.id} stands in the file of another dialog; taken as {dialog_of(row.id)}"
        tree.notes.add("utterances in files of other dialogs", sentence)
    if row.end <= row.start:
        sentence = f"{where}: {row.id} ends at {row.end} s, not after its start at {row.start} s"
        tree.notes.add("utterances that end before they begin", sentence)
    found[row.id] = (path, row)


def _recording(tree: Tree, dialog: str, ids: list[str], turns: Found[Turn], lines: Found[Line]) -> Recording:
    utterances = [_utterance(tree, id_, turns.get(id_), lines.get(id_)) for id_ in ids]
    return Recording(
        id=dialog,
        video=video_of(tree, dialog),
        utterances=tuple(sorted(utterances, key=lambda utterance: (utterance.start, utterance.end, utterance.id))),
    )


def _utterance(tree: Tree, id_: str, turn: tuple[str, Turn] | None, line: tuple[str, Line] | None) -> Utterance:
    """One row from the records of an id and the files of its name; without a record it has failed."""
    dialog, left = dialog_of(id_), is_left(id_)
    timed = turn or line
    start, end = (timed[1].start, timed[1].end) if timed else (0.0, 0.0)
    if turn and line and max(abs(line[1].start - start), abs(line[1].end - end)) > _SAME_TIME:
        tree.notes.add(
            "utterances with two times",
            f"{line[0]}:{line[1].line}: {id_} is at {line[1].start}-{line[1].end} s here, "
            f"at {start}-{end} s in the evaluation, which counts",
        )
    words, alignment = _words(tree, id_) if timed else (None, None)
    text = line[1].text if line else ""
    return Utterance(
        id=id_,
        dialog=dialog,
        speaker=speaker_of(id_),
        start=start,
        end=end,
        text=text,
        words=words,
        labels=labels_record(
            turn[1].label if turn else None,
            turn[1].vad if turn else None,
            [rating.as_label() for rating in turn[1].ratings] if turn else [],
        ),
        session=dialog[4],
        audio=sound_of(tree, id_, channel=0 if left else 1, span=(start, end)) if timed else (),
        # The wearer of the markers sits in the left half of the picture (MESM and three other code bases agree).
        picture=Picture(left=0.0 if left else 0.5, right=0.5 if left else 1.0, square=_SQUARE),
        texts=tuple(path for path in (turn and turn[0], line and line[0], alignment) if path),
        flags=tuple(
            flag
            for flag, missing in (
                ("no_evaluation", turn is None),
                ("no_transcript", not text),
                ("no_times", timed is None),
                ("no_alignment", words is None),
            )
            if missing
        ),
        unbuilt=None if timed else NO_TEXT,
    )


def _words(tree: Tree, id_: str) -> tuple[tuple[Word, ...] | None, str | None]:
    """The forced alignment and the file that it is from, or (None, None)."""
    dialog = dialog_of(id_)
    path = tree.file(f"{session_of(dialog)}/{_ALIGNMENT}/{dialog}", f"{id_}.wdseg")
    text = tree.text(path) if path else None
    if path is None or text is None:
        return None, None
    parsed = parse_wdseg(text)
    _note_problems(tree, "odd lines of alignments", path, parsed)
    if not parsed.records and not parsed.skipped:
        tree.notes.add("alignments without segments", f"{path}: holds no segments; taken as missing")
        return None, None
    return tuple(parsed.records), path
