"""A table of utterances -> a Corpus. Media files are looked for, none is opened.

Columns, all text: a path (`path`, `video` or `audio`) and, as far as there are, `id`, `start`, `end`, `duration`,
`speaker`, `session`, `dialog`, `text`, `split`, `channel`, `flags`, `failed`, `excluded`, and one for each label.
"""

import math
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mesm_data.corpora.base import AudioSource, Corpus, Picture, Recording, Utterance, key_of
from mesm_data.corpora.files import LFS_POINTER_BYTES, is_lfs_pointer
from mesm_data.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from mesm_data.schema.corpus import CorpusSchema
    from mesm_data.schema.labels import LabelScheme

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mkv", ".avi", ".mov", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".3gp", ".ogv")
)
AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".oga", ".opus", ".aac", ".wma", ".aif", ".aiff", ".au")
)
PARTS = {"train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
         "development": "valid", "test": "test", "testing": "test"}  # fmt: skip
STRUCTURE = frozenset(
    (*("id", "path", "video", "audio", "start", "end", "duration", "speaker", "session", "dialog", "text", "split"),
     *("channel", "flags", "failed", "excluded"))
)  # fmt: skip
MAX_SHOWN = 20
MAX_SECONDS = 1e7  # of a recording: 115 days

Row = Mapping[str, str]


@dataclass(slots=True)
class Problems:
    """What is wrong with a table, collected row by row, so that all of it is reported at once."""

    where: str
    messages: list[str] = field(default_factory=list)

    def add(self, row: int, column: str, message: str) -> None:
        """`row` counts from 1, the header not counted."""
        self.messages.append(f"row {row}, column {column}: {message}")

    def raise_if_any(self) -> None:
        """Raises InputError that lists the problems."""
        if self.messages:
            more = len(self.messages) - MAX_SHOWN
            lines = [*self.messages[:MAX_SHOWN], *([f"and {more} more"] if more > 0 else [])]
            raise InputError(
                f"{self.where}: {len(self.messages)} problems, nothing was built:\n  " + "\n  ".join(lines)
            )


def corpus_from_table(
    frame: "pd.DataFrame", schema: "CorpusSchema", root: Path, *, where: str, notes: tuple[str, ...] = (),
    ratings: Mapping[str, list[dict[str, Any]]] | None = None, file: Path | None = None,
    table_sha256: str | None = None,
) -> Corpus:  # fmt: skip
    """The corpus of a table's rows.

    Args:
        frame: text cells under canonical column names (see `table_file.read_table`); labels under their own names.
        schema: what the labels are. Its columns must be there.
        root: the folder that paths are relative to.
        where: the table's name, for messages.
        ratings: id -> what its raters said, for `labels["raters"]`.
        file, table_sha256: the file that the user named, for `retry`, and the digest of the table (and its ratings).

    Raises:
        InputError: names every bad row and column, or a column that is missing, or counts the media files that are
            Git LFS pointers.
    """
    _check_columns(frame, schema, where)
    problems = Problems(where)
    rows = [dict(zip(frame.columns, cells, strict=True)) for cells in frame.itertuples(index=False, name=None)]
    ids = _ids(rows)
    utterances: dict[str, list[Utterance]] = {}
    first_row: dict[str, int] = {}
    read_labels = _label_reader(schema, problems)
    files = MediaFiles(root)
    for number, (row, id_) in enumerate(zip(rows, ids, strict=True), 1):
        media = _media(row, root, number, problems)
        if media is None:
            continue
        labels = read_labels(number, row)
        labels["raters"] = (ratings or {}).get(id_, [])
        utterance = _utterance(number, row, id_, media, labels, files.exists, problems)
        earlier = first_row.setdefault(utterance.key, number)
        if earlier != number:
            problems.add(number, "id", f"{id_!r} stands also in row {earlier}; an id may stand once")
        utterances.setdefault(media.recording or id_, []).append(utterance)
    files.refuse_lfs_pointers()
    problems.raise_if_any()
    return Corpus(
        schema=schema, root=root, recordings=_recordings(utterances, files.exists), notes=notes, file=file,
        table_sha256=table_sha256,
    )  # fmt: skip


def _check_columns(frame: "pd.DataFrame", schema: "CorpusSchema", where: str) -> None:
    there = set(frame.columns)
    if not there & {"path", "video", "audio"}:
        raise InputError(
            f"{where} has no column with a media file: name it path, video or audio, or give its header under "
            f"[columns] in a corpus.toml. There are {', '.join(map(str, frame.columns))}"
        )
    for name, scheme in schema.labels.items():
        for column in scheme.columns or (scheme.column or name,):
            if column not in there:
                names = ", ".join(map(str, frame.columns))
                raise InputError(f"{where} has no column {column!r} for the label {name}; there are {names}")


def _ids(rows: list[dict[str, str]]) -> list[str]:
    """The ids: the column, else the file's name, with a running number where several rows are of one file."""
    if rows and "id" in rows[0]:
        return [row["id"].strip() or str(number) for number, row in enumerate(rows, 1)]
    paths = [_first_path(row).rsplit(".", 1)[0] for row in rows]
    totals: dict[str, int] = {}
    for path in paths:
        totals[path] = totals.get(path, 0) + 1
    seen: dict[str, int] = {}
    ids = []
    for path in paths:
        seen[path] = seen.get(path, 0) + 1
        ids.append(path if totals[path] == 1 else f"{path}_{seen[path]}")
    return ids


def _first_path(row: Row) -> str:
    return next((row[name].strip() for name in ("path", "video", "audio") if row.get(name, "").strip()), "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Media:
    video: str | None
    audio: str | None

    @property
    def recording(self) -> str:
        """The file whose clock `start` and `end` are of."""
        return self.video or self.audio or ""


def _media(row: Row, root: Path, number: int, problems: Problems) -> _Media | None:
    found: dict[str, str] = {}
    for column in ("path", "video", "audio"):
        if not (cell := row.get(column, "").strip()):
            continue
        path = _relative(cell, root)
        if path is None:
            problems.add(number, column, f"{cell!r:.120} does not lie below {root}")
            return None
        suffix = PurePosixPath(path).suffix.lower()
        kind = "audio" if suffix in AUDIO_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None
        if kind is None:
            problems.add(number, column, f"{cell!r:.120} has no ending of a video or audio file")
            return None
        # A sound file in a column named video would be built without picture and without a word.
        if column == "video" and kind == "audio":
            problems.add(number, column, f"{cell!r:.120} is an audio file")
            return None
        found.setdefault(kind if column != "audio" else "audio", path)
    if not found and not any(row.get(status, "").strip() for status in ("failed", "excluded")):
        problems.add(number, "path", "no media file is named")
        return None
    return _Media(video=found.get("video"), audio=found.get("audio"))


def _relative(cell: str, root: Path) -> str | None:
    """The path below `root` with forward slashes; None if it leads elsewhere. A leading $data_folder is the root."""
    text = re.sub(r"^(\$\w+|\{\w+\})/", "", cell.replace("\\", "/"))
    if text.startswith("/"):
        try:
            text = Path(text).relative_to(root.absolute()).as_posix()
        except ValueError:
            return None
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return "/".join(parts) if parts and ".." not in parts and "\0" not in text else None


class MediaFiles:
    """Which media files there are below a root. Each is looked at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, bool] = {}
        self._lfs_pointers: list[str] = []

    def exists(self, path: str) -> bool:
        """Whether there is a file of this path."""
        if path not in self._known:
            self._known[path] = self._look(path)
        return self._known[path]

    def _look(self, path: str) -> bool:
        file = self._root / path
        try:
            status = file.stat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        if 0 < status.st_size < LFS_POINTER_BYTES and is_lfs_pointer(file):
            self._lfs_pointers.append(path)
        return True

    def refuse_lfs_pointers(self) -> None:
        """Raises InputError if files that were looked at are pointers: nothing could be built of them."""
        if self._lfs_pointers:
            raise InputError(
                f"{self._root}: {len(self._lfs_pointers)} media files, {min(self._lfs_pointers)} among them, are Git "
                "LFS pointers, which hold no media: fetch the files with `git lfs pull` in a clone (a zip download "
                "never holds them)"
            )


def _utterance(
    number: int, row: Row, id_: str, media: _Media, labels: dict[str, Any], exists: Callable[[str], bool],
    problems: Problems,
) -> Utterance:  # fmt: skip
    start, end = _times(number, row, problems)
    whole = start == 0.0 and math.isinf(end)
    channel = _channel(number, row, problems)
    sounds = [path for path in (media.audio, media.video) if path and exists(path)]
    text = row.get("text", "").strip()
    return Utterance(
        id=id_,
        dialog=row.get("dialog", "").strip() or key_of(media.recording.rsplit(".", 1)[0]),
        recording=key_of(media.recording),
        speaker=row.get("speaker", "").strip() or None,
        session=row.get("session", "").strip() or None,
        split=_part(row.get("split", "")),
        start=start,
        end=end,
        text=text,
        words=None,
        labels=labels,
        audio=tuple(
            AudioSource(
                path=path, channel=channel if path == media.audio else None, span=None if whole else (start, end)
            )
            for path in sounds
        ),
        picture=Picture(),
        texts=(),
        flags=_flags(row, text),
        unbuilt=_unbuilt(row, media, exists),
    )


def _unbuilt(row: Row, media: _Media, exists: Callable[[str], bool]) -> tuple[str, str] | None:
    for status in ("excluded", "failed"):
        if reason := row.get(status, "").strip():
            return status, reason
    paths = [path for path in (media.video, media.audio) if path]
    if not any(exists(path) for path in paths):
        return "failed", f"{' and '.join(dict.fromkeys(paths))} not found"
    return None


def _flags(row: Row, text: str) -> tuple[str, ...]:
    flags = [part for part in re.split(r"[;,\s]+", row.get("flags", "")) if part]
    return tuple(dict.fromkeys([*flags, *([] if text else ["no_transcript"])]))


def _part(cell: str) -> str | None:
    text = cell.strip()
    return PARTS.get(text.lower(), text) or None


def _channel(number: int, row: Row, problems: Problems) -> int | None:
    """A channel from 1 in the table, from 0 here; `[0]` as lhotse writes it is a list from 0."""
    cell = row.get("channel", "").strip()
    if not cell:
        return None
    if not re.fullmatch(r"\d{1,2}", cell) or cell == "0":
        problems.add(number, "channel", f"{cell!r:.20} is not a channel's number: they count from 1")
        return None
    return int(cell) - 1


def _times(number: int, row: Row, problems: Problems) -> tuple[float, float]:
    """Start and end in seconds; an infinite end where the table gives none."""
    times: dict[str, float | None] = {}
    for column in ("start", "end", "duration"):
        cell = row.get(column, "").strip()
        try:
            times[column] = parse_seconds(cell)
        except InputError as error:
            problems.add(number, column, str(error))
            return 0.0, math.inf
    start, end = times["start"] or 0.0, math.inf
    if times["end"] is not None:
        end = times["end"]
    elif times["start"] is not None and times["duration"] is not None:
        end = start + times["duration"]
    if end <= start:
        problems.add(number, "end", f"ends at {end} s, before it starts ({start} s)")
    return start, end


def parse_seconds(cell: str) -> float | None:
    """Seconds from 12.5, 00:01:02.500, 0:36:59,425 or "0 days 00:00:09.907641513"; None for an empty cell or NaT."""
    text = cell.strip()
    if text.lower() in ("", "nat", "nan", "none"):
        return None
    if re.fullmatch(r"-?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?", text, re.ASCII) and abs(float(text)) < MAX_SECONDS:
        return max(0.0, float(text))
    parts = re.fullmatch(r"(?:(\d+) days?\s*)?(?:(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,]\d{1,9})?))?", text, re.ASCII)
    if parts is None:
        raise InputError(f"{text!r:.40} is not a time: expected seconds (12.5) or 00:01:02.500")
    days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in parts.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _label_reader(schema: "CorpusSchema", problems: Problems) -> Callable[[int, Row], dict[str, Any]]:
    """A function from a row's number and cells to its labels, by scheme; equal cells are parsed once."""
    known: dict[tuple[str, str], Any] = {}

    def parsed(name: str, scheme: "LabelScheme", row: Row) -> Any:
        if scheme.columns:
            flags = {value: row[column].strip() for value, column in zip(scheme.values, scheme.columns, strict=True)}
            if not any(flags.values()):
                return None
            return [value for value, cell in flags.items() if cell not in ("", "0", "0.0", "False", "false")]
        cell = row[scheme.column or name]
        if (name, cell) not in known:
            known[name, cell] = scheme.parse(cell)
        return known[name, cell]

    def read(number: int, row: Row) -> dict[str, Any]:
        labels: dict[str, Any] = {}
        for name, scheme in schema.labels.items():
            try:
                labels[name] = parsed(name, scheme, row)
            except InputError as error:
                problems.add(number, scheme.column or name, str(error))
        return labels

    return read


def _recordings(utterances: Mapping[str, list[Utterance]], exists: Callable[[str], bool]) -> tuple[Recording, ...]:
    """One recording a file, sorted by id, with its utterances in the order of time."""
    recordings = [
        Recording(
            id=key_of(path),
            video=path if PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES and exists(path) else None,
            utterances=tuple(sorted(some, key=lambda u: (u.start, u.end, u.id))),
        )
        for path, some in utterances.items()
    ]
    return tuple(sorted(recordings, key=lambda recording: recording.id))
