"""Read IEMOCAP's texts: every turn of the evaluations, line of the transcriptions, and aligned word, with its place."""

from collections import Counter
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from mesm_data.corpora.iemocap.annotations import Parsed, TranscriptLine, Turn, parse_wdseg
from mesm_data.corpora.iemocap.ids import UTTERANCE, dialog_of, parse_dialog_id, session_of
from mesm_data.corpora.iemocap.layout import ALIGNMENT, shorten
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.schema.recordings import Word

Row = TypeVar("Row", Turn, TranscriptLine)


class Located(NamedTuple, Generic[Row]):
    """A record and the file that contains it."""

    path: str
    row: Row


Records = dict[str, Located[Row]]  # by utterance id


def read_records(
    tree: SourceTree, sessions: list[str], folder: str, parse: Callable[[str], Parsed[Row]]
) -> Records[Row]:
    """Read every <dialog>.txt directly in Session*/`folder`; notes list all irregularities."""
    records: Records[Row] = {}
    skipped: Counter[str] = Counter()
    for session in sessions:
        for name, path in tree.files(f"{session}/{folder}").items():
            if not name.endswith(".txt"):
                continue
            dialog = parse_dialog_id(name.removesuffix(".txt"))
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
                _add_record(tree, records, path, row, dialog)
    for kind, count in sorted(skipped.items()):
        tree.notes.add("kinds of lines that are no utterances", f"{folder}: {count} lines {kind} are no utterances")
    return records


def read_words(tree: SourceTree, id_: str) -> tuple[tuple[Word, ...] | None, str | None]:
    """Read the forced alignment and return it with the path of its file; (None, None) if there is none."""
    dialog = dialog_of(id_)
    path = tree.file(f"{session_of(dialog)}/{ALIGNMENT}/{dialog}", f"{id_}.wdseg")
    text = tree.text(path) if path else None
    if path is None or text is None:
        return None, None
    parsed = parse_wdseg(text)
    _note_problems(tree, "odd lines of alignments", path, parsed)
    if not parsed.records and not parsed.skipped:
        tree.notes.add("alignments without segments", f"{path}: contains no segments; taken as missing")
        return None, None
    return tuple(parsed.records), path


def _note_problems(tree: SourceTree, kind: str, path: str, parsed: Parsed[Any]) -> None:
    for line, message in parsed.problems:
        tree.notes.add(kind, f"{path}:{line}: {message}")


def _add_record(tree: SourceTree, records: Records[Row], path: str, row: Row, dialog: str) -> None:
    where = f"{path}:{row.line}"
    if not UTTERANCE.fullmatch(row.id):
        sentence = f"{where}: {shorten(row.id)!r} is not an utterance id; skipped"
        tree.notes.add("lines without an utterance's id", sentence)
        return
    if row.id in records:
        first = records[row.id]
        sentence = f"{where}: {row.id} occurs a second time; the first counts ({first.path}:{first.row.line})"
        tree.notes.add("utterances that occur twice", sentence)
        return
    if dialog_of(row.id) != dialog:
        sentence = f"{where}: {row.id} is in the file of another dialog; taken as {dialog_of(row.id)}"
        tree.notes.add("utterances in files of other dialogs", sentence)
    if row.end <= row.start:
        sentence = f"{where}: {row.id} ends at {row.end} s, not after its start at {row.start} s"
        tree.notes.add("utterances that end before they begin", sentence)
    records[row.id] = Located(path, row)
