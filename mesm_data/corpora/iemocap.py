"""IEMOCAP: the folder IEMOCAP_full_release as rows of utterances.

IEMOCAP_full_release/Session{1..5}/
    dialog/EmoEvaluation/<dialog>.txt                 labels and times; its sub-folders hold single raters' files
    dialog/transcriptions/<dialog>.txt                text
    dialog/avi/DivX/<dialog>.avi                      both actors side by side
    dialog/wav/<dialog>.wav                           stereo, an actor each
    sentences/wav/<dialog>/<utterance>.wav            the speaker alone
    sentences/ForcedAlignment/<dialog>/<utterance>.wdseg

An id such as Ses05M_script01_1b_F012 says: session 5; M, the actor who wears the motion-capture markers in this
recording (not the speaker); the scene; F, who speaks; a running number of that speaker.
"""

import re
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mesm_data.corpora.base import SYNTHETIC, AudioSource, Corpus, Picture, Recording, Utterance, Word
from mesm_data.corpora.files import Tree
from mesm_data.corpora.iemocap_known import differences
from mesm_data.corpora.iemocap_text import (
    Line,
    Parsed,
    Turn,
    labels_record,
    parse_evaluation,
    parse_transcription,
    parse_wdseg,
)
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))

_DIALOG = re.compile(r"Ses0[1-5][FM]_(impro\d{2}[ab]?|script\d{2}_\d[ab]?)", re.ASCII)
UTTERANCE = re.compile(rf"{_DIALOG.pattern}_[FM]\d{{3}}", re.ASCII)

_EVALUATION = "dialog/EmoEvaluation"
_TRANSCRIPTION = "dialog/transcriptions"
_VIDEO = "dialog/avi/DivX"
_DIALOG_AUDIO = "dialog/wav"
_AUDIO = "sentences/wav"
_ALIGNMENT = "sentences/ForcedAlignment"
_VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv")

# The authors of the paper cut a centre square of 224 px from each 360x480 half (MESM, src/datasets.py).
_SQUARE = 224 / 480
# The transcription repeats the evaluation's times; what differs by more than rounding is a sign of an edited copy.
_SAME_TIME = 0.001 + 1e-9

Row = TypeVar("Row", Turn, Line)
Found = dict[str, tuple[str, Row]]  # utterance id -> (the file it stands in, the record)


def scan(root: Path) -> Corpus:
    """Every utterance under `root`: the release, whatever its name, or the folder that holds it alone.

    An utterance is a turn of the evaluation, or a line of the transcription without one (flag `no_evaluation`, label
    None). The other flags are `no_transcript` (text "") and `no_alignment` (words None). Of an id that occurs twice
    the first record counts. Sessions may be missing; if none is, the notes say how this differs from the release. What
    could not be used is in the notes.

    Raises InputError if there is no IEMOCAP release here, or nothing in it can be read.
    """
    root = _release(Path(root))
    tree = Tree(root)
    sessions = [session for session in SESSIONS if session in tree.folders(".")]
    turns: Found[Turn] = _collect(tree, sessions, _EVALUATION, parse_evaluation)
    lines: Found[Line] = _collect(tree, sessions, _TRANSCRIPTION, parse_transcription)
    _note_missing(tree, sessions)
    dialogs: dict[str, list[str]] = {}
    for id_ in turns | lines:
        dialogs.setdefault(dialog_of(id_), []).append(id_)
    if not dialogs:
        raise InputError(
            f"{root}: no utterance could be read from Session*/{_EVALUATION}/*.txt or Session*/{_TRANSCRIPTION}/*.txt"
            + "".join(f"\n  {note}" for note in tree.notes[:5])
        )
    recordings = tuple(_recording(tree, dialog, dialogs[dialog], turns, lines) for dialog in sorted(dialogs))
    corpus = Corpus(schema=built_in_schema("iemocap"), root=root, recordings=recordings, notes=tuple(tree.notes))
    if len(sessions) < len(SESSIONS) or SYNTHETIC in tree.files("."):
        return corpus
    # First, because only the first notes are shown.
    return replace(corpus, notes=(*differences(corpus.utterances()), *corpus.notes))


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
    why = f" ({tree.notes[0]})" if tree.notes else ""
    raise InputError(f"{given}: is not IEMOCAP; expected {wanted}, found {_shorten(seen)}{why}")


def _is_release(folder: Path) -> bool:
    tree = Tree(folder)
    return any("dialog" in tree.folders(session) for session in SESSIONS if session in tree.folders("."))


def _shorten(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[:length] + " ..."


def _note_missing(tree: Tree, sessions: list[str]) -> None:
    """Say which sessions, and which of the six folders of a session, are not there."""
    absent = [session for session in SESSIONS if session not in sessions]
    if absent:
        tree.notes.append(f"{len(sessions)} of 5 sessions are there; without {', '.join(absent)}")
    for session in sessions:
        for folder in (_EVALUATION, _TRANSCRIPTION, _VIDEO, _DIALOG_AUDIO, _AUDIO, _ALIGNMENT):
            above, _, name = folder.rpartition("/")
            if name not in tree.folders(f"{session}/{above}"):
                tree.notes.append(f"{session}/{folder}/: is not there")


def _collect(tree: Tree, sessions: list[str], folder: str, parse: Callable[[str], Parsed[Row]]) -> Found[Row]:
    """The records of every <dialog>.txt directly in Session*/`folder`, all that is odd in the notes."""
    found: Found[Row] = {}
    skipped: Counter[str] = Counter()
    for session in sessions:
        for name, path in tree.files(f"{session}/{folder}").items():
            if not name.endswith(".txt"):
                continue
            if not _DIALOG.fullmatch(name.removesuffix(".txt")):
                tree.notes.append(f"{path}: is not named after a dialog (such as Ses01F_impro01.txt); not read")
                continue
            text = tree.text(path)
            if text is None:
                continue
            parsed = parse(text)
            skipped += parsed.skipped
            tree.notes += [f"{path}:{line}: {message}" for line, message in parsed.problems]
            for row in parsed.records:
                _add(tree, found, path, row, name.removesuffix(".txt"))
    tree.notes += [f"{folder}: {count} lines {kind} are no utterances" for kind, count in sorted(skipped.items())]
    return found


def _add(tree: Tree, found: Found[Row], path: str, row: Row, dialog: str) -> None:
    where = f"{path}:{row.line}"
    if not UTTERANCE.fullmatch(row.id):
        tree.notes.append(f"{where}: {_shorten(row.id)!r} is not an utterance id; left out")
        return
    if row.id in found:
        first = found[row.id]
        tree.notes.append(f"{where}: {row.id} occurs a second time; the first counts ({first[0]}:{first[1].line})")
        return
    if dialog_of(row.id) != dialog:
        tree.notes.append(f"{where}: {row.id} stands in the file of another dialog; taken as {dialog_of(row.id)}")
    if row.end <= row.start:
        tree.notes.append(f"{where}: {row.id} ends at {row.end} s, not after its start at {row.start} s")
    found[row.id] = (path, row)


def _recording(tree: Tree, dialog: str, ids: list[str], turns: Found[Turn], lines: Found[Line]) -> Recording:
    videos = tree.files(f"{_session_of(dialog)}/{_VIDEO}")
    utterances = [_utterance(tree, id_, turns.get(id_), lines.get(id_)) for id_ in ids]
    return Recording(
        id=dialog,
        video=next((videos[dialog + suffix] for suffix in _VIDEO_SUFFIXES if dialog + suffix in videos), None),
        utterances=tuple(sorted(utterances, key=lambda utterance: (utterance.start, utterance.end, utterance.id))),
    )


def _utterance(tree: Tree, id_: str, turn: tuple[str, Turn] | None, line: tuple[str, Line] | None) -> Utterance:
    """One row from the two records of an id, of which at least one is there, and the files of its name."""
    dialog, left = dialog_of(id_), is_left(id_)
    timed = turn or line
    assert timed is not None
    start, end = timed[1].start, timed[1].end
    if turn and line and max(abs(line[1].start - start), abs(line[1].end - end)) > _SAME_TIME:
        tree.notes.append(
            f"{line[0]}:{line[1].line}: {id_} is at {line[1].start}-{line[1].end} s here, "
            f"at {start}-{end} s in the evaluation, which counts"
        )
    words, alignment = _words(tree, id_)
    return Utterance(
        id=id_,
        dialog=dialog,
        speaker=speaker_of(id_),
        start=start,
        end=end,
        text=line[1].text if line else "",
        words=words,
        labels=labels_record(
            turn[1].label if turn else None,
            turn[1].vad if turn else None,
            [rating.as_label() for rating in turn[1].ratings] if turn else [],
        ),
        session=dialog[4],
        audio=_audio(tree, id_, channel=0 if left else 1, span=(start, end)),
        # The wearer of the markers sits in the left half of the picture (MESM and three other code bases agree).
        picture=Picture(left=0.0 if left else 0.5, right=0.5 if left else 1.0, square=_SQUARE),
        texts=tuple(path for path in (turn and turn[0], line and line[0], alignment) if path),
        flags=tuple(
            flag
            for flag, missing in (
                ("no_evaluation", turn is None),
                ("no_transcript", line is None),
                ("no_alignment", words is None),
            )
            if missing
        ),
    )


def _words(tree: Tree, id_: str) -> tuple[tuple[Word, ...] | None, str | None]:
    """The forced alignment and the file that it is from, or (None, None)."""
    dialog = dialog_of(id_)
    path = tree.files(f"{_session_of(dialog)}/{_ALIGNMENT}/{dialog}").get(f"{id_}.wdseg")
    text = tree.text(path) if path else None
    if path is None or text is None:
        return None, None
    parsed = parse_wdseg(text)
    tree.notes += [f"{path}:{line}: {message}" for line, message in parsed.problems]
    if not parsed.records and not parsed.skipped:
        tree.notes.append(f"{path}: holds no segments; taken as missing")
        return None, None
    return tuple(parsed.records), path


def _audio(tree: Tree, id_: str, *, channel: int, span: tuple[float, float]) -> tuple[AudioSource, ...]:
    """The sentence wav; else the speaker's channel of the dialog wav, of which the left is the marker wearer's."""
    dialog = dialog_of(id_)
    session = _session_of(dialog)
    sentence = tree.files(f"{session}/{_AUDIO}/{dialog}").get(f"{id_}.wav")
    whole = tree.files(f"{session}/{_DIALOG_AUDIO}").get(f"{dialog}.wav")
    sources = []
    if sentence:
        sources.append(AudioSource(path=sentence))
    if whole:
        sources.append(AudioSource(path=whole, channel=channel, span=span, channel_per_speaker=True))
    return tuple(sources)


def dialog_of(utterance: str) -> str:
    """Ses01F_script01_2_M003 -> Ses01F_script01_2."""
    # The scene may hold an underscore, so the end is cut off, not the parts counted.
    return utterance[: -len("_M003")]


def speaker_of(utterance: str) -> str:
    """Ses01F_script01_2_M003 -> Ses01M: the letter before the running number, not the one after the session."""
    return utterance[: len("Ses01")] + utterance[-4]


def is_left(utterance: str) -> bool:
    """Whether the speaker wears the markers: he then sits on the left and is heard in the left channel."""
    return utterance[-4] == utterance[5]


def _session_of(dialog: str) -> str:
    return f"Session{dialog[4]}"
