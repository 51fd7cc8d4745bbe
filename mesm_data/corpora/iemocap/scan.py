"""Scan of IEMOCAP: from the folder IEMOCAP_full_release to utterances.

IEMOCAP_full_release/Session{1..5}/
    dialog/EmoEvaluation/<dialog>.txt                 labels and times; subfolders contain files of single raters
    dialog/transcriptions/<dialog>.txt                text
    dialog/avi/DivX/<dialog>.avi                      both actors side by side
    dialog/wav/<dialog>.wav                           stereo, one actor per channel
    sentences/wav/<dialog>/<utterance>.wav            the speaker only
    sentences/ForcedAlignment/<dialog>/<utterance>.wdseg
"""

from dataclasses import replace
from pathlib import Path

from mesm_data.corpora.dai2021.release_files import find_release
from mesm_data.corpora.dai2021.scan import scan_release
from mesm_data.corpora.iemocap.annotations import (
    TranscriptLine,
    Turn,
    iemocap_labels,
    parse_evaluation,
    parse_transcription,
)
from mesm_data.corpora.iemocap.ids import (
    dialog_of,
    is_left_speaker,
    speaker_of,
)
from mesm_data.corpora.iemocap.layout import (
    EVALUATION,
    FALLBACK_SQUARE,
    SESSIONS,
    TRANSCRIPTION,
    find_root,
    note_missing_folders,
    shorten,
)
from mesm_data.corpora.iemocap.media_files import find_audio, find_unlisted_wavs, find_video
from mesm_data.corpora.iemocap.records import Located, Records, read_records, read_words
from mesm_data.corpora.iemocap.release_check import compare_with_release, missing_data_notes
from mesm_data.corpora.release_check import missing_text_notes
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.recordings import (
    SYNTHETIC_MARKER,
    Corpus,
    Exclusion,
    Recording,
    Utterance,
    VideoRegion,
)

# The transcription repeats the evaluation's times; a difference larger than rounding indicates an edited copy.
_TIME_TOLERANCE = 0.001 + 1e-9

# Without a text file, the times and the label of an utterance are unknown.
NO_TEXT = Exclusion(
    "failed", "its wav is there, but neither the evaluation nor the transcription of its dialog names it"
)


def scan(root: Path) -> Corpus:
    """Scan every utterance under `root`: the release, under any name, or a folder that contains exactly one.

    An utterance is a turn of the evaluation, a line of the transcription without such a turn (flag `no_evaluation`,
    label None), or a sentence wav in neither of them, which has failed. Further flags: `no_transcript` (text ""),
    `no_alignment` (words None) and `negative_start` (start is set to 0). If an id occurs twice, the first record is
    used. Sessions may be missing; if all five are there, the notes compare the copy with the release. The notes also
    list what could not be used.

    Raises InputError if there is no IEMOCAP release, or nothing in it can be read.
    """
    if release := find_release("iemocap", Path(root)):
        return scan_release("iemocap", release)
    root = find_root(Path(root))
    tree = SourceTree(root)
    sessions = [session for session in SESSIONS if tree.has_folder(session)]
    turns: Records[Turn] = read_records(tree, sessions, EVALUATION, parse_evaluation)
    lines: Records[TranscriptLine] = read_records(tree, sessions, TRANSCRIPTION, parse_transcription)
    note_missing_folders(tree, sessions)
    dialogs: dict[str, list[str]] = {}
    for id_ in turns | lines:
        dialogs.setdefault(dialog_of(id_), []).append(id_)
    if not dialogs:
        raise InputError(
            f"{root}: no utterance could be read from Session*/{EVALUATION}/*.txt or Session*/{TRANSCRIPTION}/*.txt"
            + "".join(f"\n  {note}" for note in tree.notes.sentences()[:5])
        )
    for dialog, ids in find_unlisted_wavs(tree, sessions, dialogs).items():
        dialogs.setdefault(dialog, []).extend(ids)
    recordings = tuple(_recording(tree, dialog, dialogs[dialog], turns, lines) for dialog in sorted(dialogs))
    corpus = Corpus(schema=built_in_schema("iemocap"), root=root, recordings=recordings, notes=())
    # These come first because only the first notes are shown.
    first = [*missing_text_notes(corpus.utterances()), *missing_data_notes(recordings)]
    if len(sessions) == len(SESSIONS) and SYNTHETIC_MARKER not in tree.files("."):
        first = [*compare_with_release(corpus.utterances()), *first]
    return replace(corpus, notes=(*first, *tree.notes.sentences()))


def _recording(
    tree: SourceTree, dialog: str, ids: list[str], turns: Records[Turn], lines: Records[TranscriptLine]
) -> Recording:
    utterances = [_utterance(tree, id_, turns.get(id_), lines.get(id_)) for id_ in ids]
    return Recording(
        id=dialog,
        video=find_video(tree, dialog),
        utterances=tuple(sorted(utterances, key=lambda utterance: (utterance.start, utterance.end, utterance.id))),
    )


def _utterance(
    tree: SourceTree, id_: str, turn: Located[Turn] | None, line: Located[TranscriptLine] | None
) -> Utterance:
    """Make an utterance from its records and media files; without any record it has failed."""
    dialog, is_left = dialog_of(id_), is_left_speaker(id_)
    timed = turn or line
    start, end = (max(timed.row.start, 0.0), timed.row.end) if timed else (0.0, 0.0)
    if turn and line:
        _compare_times(tree, id_, turn.row, line)
    words, alignment = read_words(tree, id_) if timed else (None, None)
    text = line.row.text if line else ""
    flags = {
        "no_evaluation": turn is None,
        "no_transcript": not text,
        "no_times": timed is None,
        "no_alignment": words is None,
        "negative_start": timed is not None and timed.row.start < 0,
    }
    return Utterance(
        id=id_,
        dialog=dialog,
        speaker=speaker_of(id_),
        start=start,
        end=end,
        text=text,
        words=words,
        labels=iemocap_labels(
            _label(tree, turn) if turn else None,
            turn.row.dimensions if turn else None,
            [rating.as_label() for rating in turn.row.ratings] if turn else [],
        ),
        session=dialog[4],
        audio=find_audio(tree, id_, channel=0 if is_left else 1, span=(start, end)) if timed else (),
        # The marker wearer sits in the left half of the frame (MESM and three other code bases agree).
        region=VideoRegion(left=0.0 if is_left else 0.5, right=0.5 if is_left else 1.0, square=FALLBACK_SQUARE),
        annotation_files=tuple(path for path in (turn and turn.path, line and line.path, alignment) if path),
        flags=tuple(flag for flag, applies in flags.items() if applies),
        exclusion=None if timed else NO_TEXT,
    )


def _label(tree: SourceTree, turn: Located[Turn]) -> str | None:
    """Return a turn's label in the release's spelling; None, with a note, if the release has no such label."""
    label, known = turn.row.label.lower(), built_in_schema("iemocap").labels["emotion"].values
    if label in known:
        return label
    where = f"{turn.path}:{turn.row.line}: {turn.row.id}"
    sentence = f"{where}: label {shorten(label)!r} is none of {', '.join(known)}; taken as null"
    tree.notes.add("labels that the release does not have", sentence)
    return None


def _compare_times(tree: SourceTree, id_: str, turn: Turn, line: Located[TranscriptLine]) -> None:
    """Note a transcription whose times are not those of the evaluation."""
    start, end = line.row.start, line.row.end
    if max(abs(start - turn.start), abs(end - turn.end)) > _TIME_TOLERANCE:
        tree.notes.add(
            "utterances with two times",
            f"{line.path}:{line.row.line}: {id_} is at {start}-{end} s here, "
            f"at {turn.start}-{turn.end} s in the evaluation, which counts",
        )
