"""Reads a table of utterances from CSV, TSV, Parquet or JSON, as text cells under canonical column names.

Common headers are recognised: MMSA's label.csv, EmoBox and SpeechBrain manifests, lhotse
supervisions, audformat tables, Hugging Face metadata, and the usual names of paths, times, speakers and texts.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mesm_data.corpora.table.cells import SPLIT_PARTS
from mesm_data.corpora.table.table_formats import decode_table, numbered_lines, parse_json, read_plain_table
from mesm_data.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Canonical column -> its aliases, in lower case without "_", "-", "." and spaces, in order of preference.
# Sources: the manifests of nkululeko, EmoBox, SpeechBrain, lhotse, audformat, Hugging Face datasets, MMSA.
ALIASES: dict[str, tuple[str, ...]] = {
    "id": ("id", "key", "uttid", "utteranceid", "segmentid"),
    "path": ("path", "file", "filename", "filepath", "audiofilepath", "media", "name"),
    "video": ("video", "videopath", "videofile", "videofilename"),
    "audio": ("audio", "wav", "audiopath", "audiofile", "audiofilename"),
    "start": ("start", "begin", "offset", "starttime"),
    "end": ("end", "stop", "endtime"),
    "duration": ("duration", "length"),
    "speaker": ("speaker", "speakerid", "spk", "spkid", "spkrid", "actor", "actorid"),
    "session": ("session", "sessionid"),
    "dialog": ("dialog", "dialogue", "dialogid", "dialogueid", "conversation"),
    "text": ("text", "transcript", "transcription", "utterance", "sentence", "rawtext", "wrd", "english"),
    "split": ("split", "splitset", "mode", "partition", "fold", "subset", "dset"),
    "channel": ("channel",),
    "region_left": ("regionleft",),
    "region_right": ("regionright",),
}


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> "pd.DataFrame":
    """Read a table: every cell as text ("" if empty), canonical columns renamed, all others under their own headers.

    Args:
        path: a file in one of the formats of `table_formats`.
        columns: canonical name -> header of this table, for headers without an alias.

    Raises:
        InputError: the file cannot be read or is not a table, or `columns` has a header that the table lacks.
    """
    return _canonical(path, read_plain_table(path), columns or {})


def read_rows(path: Path, headers: Sequence[str]) -> dict[int, dict[str, str]]:
    """Read a corpus' own table: number of the row, from 1 -> text cells under its own headers.

    Raises InputError if the file cannot be read, is not a table, or lacks one of `headers`.
    """
    frame = read_plain_table(path)
    if missing := [header for header in headers if header not in frame]:
        raise InputError(f"{path} has no column {missing[0]!r}; there are {', '.join(map(str, frame.columns))}")
    rows = ({str(name): str(cell) for name, cell in row.items()} for row in frame.to_dict("records"))
    return dict(zip((int(number) + 1 for number in frame.index), rows, strict=True))


def _canonical(path: Path, frame: "pd.DataFrame", columns: Mapping[str, str]) -> "pd.DataFrame":
    """Rename the columns to canonical names: those in `columns`, then those with an alias."""
    names = {header: _normalize(header) for header in frame.columns}
    for canonical, header in columns.items():
        if header not in names:
            raise InputError(f"{path} has no column {header!r} (for {canonical}); there are {', '.join(names)}")
    taken = dict(columns)
    if {"recordingid", "start", "duration"} <= set(names.values()):
        frame = _with_recordings(path, frame, {normal: header for header, normal in names.items()}["recordingid"])
        names = {header: _normalize(header) for header in frame.columns}
    if {"id", "wav", "start", "stop"} <= set(names.values()) and "start" not in columns:
        raise InputError(
            f"{path}: start and stop of a SpeechBrain manifest are sample indices: divide them by the sample rate "
            "and name the columns start and end"
        )
    if "videoid" in names.values() and "clipid" in names.values():
        return _mmsa(frame, names, taken)
    for canonical, aliases in ALIASES.items():
        free = {normal: header for header, normal in names.items() if header not in taken.values()}
        known = (free[alias] for alias in aliases if alias in free)
        recognised = next((header for header in known if canonical != "split" or _has_parts(frame, header)), None)
        if canonical not in taken and recognised is not None:
            taken[canonical] = recognised
    return frame.rename(columns={header: canonical for canonical, header in taken.items()})


def _has_parts(frame: "pd.DataFrame", header: str) -> bool:
    """Whether a column assigns rows to parts: a `mode` may also be speech or song, a `fold` a number."""
    return bool(header == "split" or frame[header].str.strip().str.lower().isin(SPLIT_PARTS).any())


def _mmsa(frame: "pd.DataFrame", names: Mapping[str, str], taken: Mapping[str, str]) -> "pd.DataFrame":
    """Convert MMSA's label.csv, whose media are Raw/<video_id>/<clip_id>.mp4.

    video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
    """
    header = {normal: name for name, normal in names.items()}
    video, clip = frame[header["videoid"]].str.strip(), frame[header["clipid"]].str.strip()
    table = frame.rename(columns={header[name]: name for name in ("text", "mode") if name in header})
    table = table.rename(columns={"mode": "split"}).drop(columns=[header["videoid"], header["clipid"]])
    table = table.rename(columns={name: canonical for canonical, name in taken.items()})
    return table.assign(id=video + "_" + clip, video="Raw/" + video + "/" + clip + ".mp4", dialog=video)


def _with_recordings(path: Path, frame: "pd.DataFrame", column: str) -> "pd.DataFrame":
    """Add to lhotse's supervisions the file of each recording, from the manifest of recordings in the same folder.

    supervisions.jsonl  {"id": "a1", "recording_id": "a", "start": 0.5, "duration": 2.0, "channel": 0, "text": "Hello."}
    recordings.jsonl    {"id": "a", "sources": [{"type": "file", "channels": [0], "source": "audio/a.wav"}], …}
    """
    manifest = path.with_name(path.name.replace("supervisions", "recordings"))
    if manifest == path or not manifest.is_file():
        raise InputError(f"{path} names recordings of lhotse: add their manifest, recordings.jsonl, to the folder")
    sources = {}
    for number, line in numbered_lines(decode_table(manifest, manifest.read_bytes())):
        record = parse_json(manifest, number, line)
        try:
            sources[str(record["id"])] = str(record["sources"][0]["source"])
        except (KeyError, IndexError, TypeError):
            raise InputError(f"{manifest}:{number} is not a recording of lhotse: it has no id or no source") from None
    table = frame.assign(path=frame[column].map(sources).fillna("")).drop(columns=[column])
    if "channel" in table.columns:  # lhotse counts from 0 and may have a list
        channels = (
            table["channel"].str.partition(";")[0].where(lambda cells: cells.str.fullmatch(r"\d+"), "-1").astype(int)
        )
        table = table.assign(channel=(channels + 1).astype(str).where(channels >= 0, ""))
    return table


def _normalize(header: str) -> str:
    return re.sub(r"[\s_.\-]+", "", header).lower()
