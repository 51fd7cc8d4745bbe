"""Scan of a table of utterances. Media files are only checked for existence.

Columns, all strings: a path (`path`, `video` or `audio`), and optionally `id`, `start`, `end`, `duration`,
`speaker`, `session`, `dialog`, `text`, `split`, `channel`, `region_left`, `region_right`, `flags`, `failed`,
`excluded`, and one for each label.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mesm_data.corpora.table.cells import (
    Problems,
    Row,
    label_reader,
    read_channel,
    read_flags,
    read_part,
    read_region,
    read_times,
)
from mesm_data.corpora.table.media_files import (
    VIDEO_SUFFIXES,
    MediaFiles,
    RowMedia,
    find_media,
    without_media_suffix,
)
from mesm_data.errors import InputError
from mesm_data.schema.recordings import AudioSource, Corpus, Exclusion, Recording, Utterance, sample_key

if TYPE_CHECKING:
    import pandas as pd

    from mesm_data.schema.corpus import CorpusSchema

STRUCTURE = frozenset(
    (*("id", "path", "video", "audio", "start", "end", "duration", "speaker", "session", "dialog", "text", "split"),
     *("channel", "region_left", "region_right", "flags", "failed", "excluded"))
)  # fmt: skip


def corpus_from_table(
    frame: "pd.DataFrame", schema: "CorpusSchema", root: Path, *, where: str, notes: tuple[str, ...] = (),
    ratings: Mapping[str, list[dict[str, Any]]] | None = None, file: Path | None = None,
    places: Sequence[str] | None = None,
) -> Corpus:  # fmt: skip
    """Build a corpus from the rows of a table.

    Args:
        frame: text cells under canonical column names (see `table_file.read_table`); labels under their own names.
            Its index, if of integers, is the number of each row, from 0.
        schema: the labels; their columns must exist.
        root: the folder to which paths are relative.
        where: the table's name, for messages.
        notes: notes of the scan so far.
        ratings: id -> entries of `labels["raters"]`.
        file: the table or corpus.toml, for `retry`.
        places: the name of each row in messages, by default "row 1" and so on, without the header.

    Raises:
        InputError: lists every invalid cell, a missing column, or the number of media files that are Git LFS
            pointers.
    """
    _check_columns(frame, schema, where)
    numbers = list(frame.index) if frame.index.dtype.kind == "i" else range(len(frame))
    places = places or [f"row {number + 1}" for number in numbers]
    problems = Problems(where, places)
    rows = [dict(zip(frame.columns, cells, strict=True)) for cells in frame.itertuples(index=False, name=None)]
    ids = _ids(rows, numbers)
    utterances: dict[str, list[Utterance]] = {}
    first_row: dict[str, int] = {}
    missing_audio: list[str] = []  # of rows that have a video
    read_labels = label_reader(schema, problems)
    files = MediaFiles(root)
    for number, (row, id_) in enumerate(zip(rows, ids, strict=True)):
        media = find_media(row, files, number, problems)
        if media is None:
            continue
        labels = read_labels(number, row)
        labels["raters"] = (ratings or {}).get(id_, [])
        utterance = _utterance(number, row, id_, media, labels, files, problems)
        earlier = first_row.setdefault(utterance.key, number)
        if earlier != number:
            problems.add(number, "id", f"{id_!r} occurs also in {places[earlier]}; an id may occur once")
        utterances.setdefault(media.recording or id_, []).append(utterance)
        if media.audio and utterance.exclusion is None and not files.exists(media.audio):
            missing_audio.append(media.audio)
    files.refuse_lfs_pointers()
    problems.raise_if_any()
    if unknown := sorted((ratings or {}).keys() - set(ids)):
        notes += (f"ratings of {len(unknown)} ids that the table lacks, such as {unknown[0]!r:.60}, are not used",)
    if missing_audio:
        notes += (
            f"{len(missing_audio)} rows name a sound file that is missing, such as {min(missing_audio)}: the sound of "
            "their videos is read",
        )
    notes += _note_repeated_files(utterances)
    return Corpus(
        schema=schema, root=root, recordings=_recordings(utterances, files), notes=notes, file=file
    )  # fmt: skip


def _note_repeated_files(utterances: Mapping[str, list[Utterance]]) -> tuple[str, ...]:
    """Note the rows without times that share a file: each is the whole file, although its label may be of a part."""
    whole = Counter(
        (path, one.audio[0].channel)
        for path, group in utterances.items()
        for one in group
        if one.start == 0 and math.isinf(one.end) and one.audio
    )
    repeated = [key for key, number in whole.items() if number > 1]
    if not repeated:
        return ()
    return (
        f"{sum(whole[key] for key in repeated)} rows without times share files with other rows, such as "
        f"{min(path for path, _ in repeated)}: each is the whole file. If they are parts of it, name the columns of "
        "their times start and end (seconds)",
    )


def _check_columns(frame: "pd.DataFrame", schema: "CorpusSchema", where: str) -> None:
    columns = set(frame.columns)
    if not columns & {"path", "video", "audio"}:
        raise InputError(
            f"{where} has no column with a media file: name it path, video or audio, or set its header under "
            f"[columns] in a corpus.toml. There are {', '.join(map(str, frame.columns))}"
        )
    for name, scheme in schema.labels.items():
        for column in scheme.columns or (scheme.column or name,):
            if column not in columns:
                names = ", ".join(map(str, frame.columns))
                raise InputError(f"{where} has no column {column!r} for the label {name}; there are {names}")


def _ids(rows: list[dict[str, str]], numbers: Iterable[int]) -> list[str]:
    """Return the ids: the column, else the file name, with a running number if several rows share a file.

    For an empty cell of the column it is the row's number, from 1.
    """
    if rows and "id" in rows[0]:
        return [row["id"].strip() or str(number + 1) for number, row in zip(numbers, rows, strict=True)]
    paths = [without_media_suffix(_first_path(row)) for row in rows]
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


def _utterance(
    number: int, row: Row, id_: str, media: RowMedia, labels: dict[str, Any], files: MediaFiles,
    problems: Problems,
) -> Utterance:  # fmt: skip
    start, end = read_times(number, row, problems)
    is_whole_file = start == 0.0 and math.isinf(end)
    channel = read_channel(number, row, problems)
    audio_files = [path for path in (media.audio, media.video) if path and files.exists(path)]
    named = media.audio or media.video  # the file whose channel the row names
    text = row.get("text", "").strip()
    return Utterance(
        id=id_,
        dialog=row.get("dialog", "").strip() or sample_key((media.recording or id_).rsplit(".", 1)[0]),
        recording=sample_key(media.recording or id_),
        speaker=row.get("speaker", "").strip() or None,
        session=row.get("session", "").strip() or None,
        split=read_part(row.get("split", "")),
        start=start,
        end=end,
        text=text,
        words=None,
        labels=labels,
        audio=tuple(
            AudioSource(
                path=path,
                channel=channel if path == named else None,
                span=None if is_whole_file else (start, end),
            )
            for path in audio_files
        ),
        region=read_region(number, row, problems),
        annotation_files=(),
        flags=read_flags(row, text),
        exclusion=_exclusion(row, media, files),
    )


def _exclusion(row: Row, media: RowMedia, files: MediaFiles) -> Exclusion | None:
    for status in ("excluded", "failed"):
        if reason := row.get(status, "").strip():
            return Exclusion(status, reason)
    if not any(path and files.exists(path) for path in (media.video, media.audio)):
        return Exclusion("failed", files.problem((media.video, media.audio)))
    return None


def _recordings(utterances: Mapping[str, list[Utterance]], files: MediaFiles) -> tuple[Recording, ...]:
    """Return one recording per file, sorted by id, with its utterances sorted by time."""
    recordings = []
    for path, group in utterances.items():
        is_video = PurePosixPath(path).suffix.lower() in VIDEO_SUFFIXES
        recordings.append(
            Recording(
                id=sample_key(path),
                video=path if is_video and files.exists(path) else None,
                utterances=tuple(sorted(group, key=lambda u: (u.start, u.end, u.id))),
                missing_video=files.problem((path,)) if is_video and not files.exists(path) else None,
            )
        )
    return tuple(sorted(recordings, key=lambda recording: recording.id))
