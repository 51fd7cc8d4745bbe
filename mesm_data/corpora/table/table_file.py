"""Reads a table of utterances from CSV, TSV, Parquet or JSON, as text cells under canonical column names.

Common headers are recognised: MMSA's label.csv, EmoBox and SpeechBrain manifests, lhotse
supervisions, audformat tables, Hugging Face metadata, and the usual names of paths, times, speakers and texts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".json")
MAX_BYTES = 2**30  # of a table on disk, and of its columns in memory
MAX_ROWS = 5_000_000

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
}


def read_table(path: Path, columns: Mapping[str, str] | None = None) -> "pd.DataFrame":
    """Read a table: every cell as text ("" if empty), canonical columns renamed, all others under their own headers.

    Args:
        columns: canonical name -> header of this table, for headers without an alias.

    Raises:
        InputError: the file cannot be read or is not a table, or `columns` has a header that the table lacks.
    """
    return _canonical(path, read_plain_table(path), columns or {})


def read_rows(path: Path, headers: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a corpus' own table as text cells under its own headers.

    Raises InputError if the file cannot be read, is not a table, or lacks one of `headers`.
    """
    frame = read_plain_table(path)
    if missing := [header for header in headers if header not in frame]:
        raise InputError(f"{path} has no column {missing[0]!r}; there are {', '.join(map(str, frame.columns))}")
    return [{str(name): str(cell) for name, cell in row.items()} for row in frame.to_dict("records")]


def read_plain_table(path: Path) -> "pd.DataFrame":
    """Read a table under its own headers: every cell as text ("" if empty).

    Raises InputError if the file cannot be read or is not a table.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is no table: expected one of {', '.join(SUFFIXES)}")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES // 2**20} MiB: no table of utterances is")
        frame = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    if frame.empty:
        raise InputError(f"{path} has no rows")
    if len(frame) > MAX_ROWS:
        raise InputError(f"{path} has {len(frame)} rows; at most {MAX_ROWS} are read")
    frame.columns = [str(name).strip() for name in frame.columns]
    if duplicated := [name for name in frame.columns if list(frame.columns).count(name) > 1]:
        raise InputError(f"{path} has two columns {duplicated[0]!r}")
    return frame


def decode_table(path: Path, data: bytes) -> str:
    """Decode by the byte order mark, else as UTF-8. Raises InputError that names the line that is not UTF-8."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line} is not {encoding} text: save the table as UTF-8") from None


def _read_text(path: Path, data: bytes) -> "pd.DataFrame":
    text = decode_table(path, data)
    if path.suffix.lower() == ".jsonl":
        return _from_records(path, [_json(path, number, line) for number, line in _lines(text)])
    if path.suffix.lower() == ".json":
        return _from_records(path, _json_records(path, text))
    separator: str | None = "\t" if path.suffix.lower() == ".tsv" else None
    if mark := re.match(r"sep=(.)\r?\n", text):  # sep=,   (Excel's first line)
        separator, text = str(mark[1]), text[mark.end() :]
    return _read_separated(path, text, separator)


def _read_separated(path: Path, text: str, separator: str | None) -> "pd.DataFrame":
    import pandas as pd

    first = text.partition("\n")[0]
    if separator is None:
        separator = max((",", ";", "\t"), key=first.count)
    try:
        # With header=None, pandas does not rename duplicate columns.
        cells = pd.read_csv(
            BytesIO(text.encode()), sep=separator, dtype=str, keep_default_na=False, na_filter=False, index_col=False,
            skipinitialspace=True, on_bad_lines="error", encoding="utf-8", header=None,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is no table ({' '.join(str(error).split())[:200]})") from None
    frame = cells.iloc[1:].reset_index(drop=True)
    frame.columns = [str(name) for name in cells.iloc[0]]
    return frame


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as file:
            metadata = pq.read_metadata(file)
            size = sum(metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups))
            if size > MAX_BYTES or metadata.num_rows > MAX_ROWS:
                raise InputError(
                    f"{path} unfolds to {metadata.num_rows} rows and {size} bytes: no table of utterances is"
                )
            table = pq.read_table(file)
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0][:200]})") from None
    if table.nbytes > MAX_BYTES:
        raise InputError(f"{path} unfolds to {table.nbytes} bytes: no table of utterances does")
    return _from_records(path, table.to_pylist())


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines: a text may contain U+2028 or U+0085, which JSON does not escape.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _json(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number} is not valid JSON ({str(error)[:100]})") from None


def _json_records(path: Path, text: str) -> list[Any]:
    """Parse a list of objects, or SpeechBrain's {"id": {"wav": …, "length": …, "emo": …}, …}."""
    data = _json(path, 1, text)
    if isinstance(data, dict):
        if not all(isinstance(value, dict) for value in data.values()):
            raise InputError(f"{path} is no table: expected a list of objects, or an object of objects by id")
        return [{"id": key, **value} for key, value in data.items()]
    return data if isinstance(data, list) else [data]


def _from_records(path: Path, records: list[Any]) -> "pd.DataFrame":
    """Convert objects to text cells; lists are joined by ";", entries of inner objects become columns."""
    import pandas as pd

    rows = []
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise InputError(f"{path}: row {number} is not an object with named values")
        inner = {key: value for value in record.values() if isinstance(value, dict) for key, value in value.items()}
        flat = inner | {key: value for key, value in record.items() if not isinstance(value, dict)}
        rows.append({str(key): _cell(value) for key, value in flat.items()})
    return pd.DataFrame(rows, dtype=str).fillna("")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(_cell(item) for item in value)
    return str(value)


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
        recognised = next((free[alias] for alias in aliases if alias in free), None)
        if canonical not in taken and recognised is not None:
            taken[canonical] = recognised
    return frame.rename(columns={header: canonical for canonical, header in taken.items()})


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
    for number, line in _lines(decode_table(manifest, manifest.read_bytes())):
        record = _json(manifest, number, line)
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
