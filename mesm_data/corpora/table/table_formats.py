"""Readers of tables from CSV, TSV, Parquet and JSON, as text cells under the table's own headers."""

import json
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.errors import InputError
from mesm_data.schema.labels import MISSING_CELLS

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet", ".jsonl", ".json")
MAX_BYTES = 2**30  # of a table on disk, and of its columns in memory
MAX_ROWS = 5_000_000


def read_plain_table(path: Path) -> "pd.DataFrame":
    """Read a table under its own headers: every cell as text ("" if empty). Its index is the rows' numbers, from 0.

    Rows without any text, and columns with neither a header nor text, are left out: spreadsheets write them beside the
    others.

    Raises InputError if the file cannot be read or is not a table.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path} is no table: expected one of {', '.join(SUFFIXES)}; save a spreadsheet as CSV")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES // 2**20} MiB: no table of utterances is")
        frame = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    # file,emotion,,
    # a.wav,sad,,
    # ,,,
    has_text: pd.DataFrame = frame.apply(lambda column: column.str.strip() != "")
    used = [n for n, name in enumerate(frame.columns) if str(name).strip() or has_text.iloc[:, n].any()]
    frame = frame[has_text.any(axis=1)].iloc[:, used]
    if frame.empty:
        raise InputError(f"{path} has no rows")
    if len(frame) > MAX_ROWS:
        raise InputError(f"{path} has {len(frame)} rows; at most {MAX_ROWS} are read")
    frame.columns = [str(name).strip() for name in frame.columns]
    if duplicated := [name for name in frame.columns if list(frame.columns).count(name) > 1]:
        raise InputError(f"{path} has two columns {duplicated[0]!r}")
    return frame


def decode_table(path: Path, data: bytes) -> str:
    """Decode by the byte order mark, else as UTF-8.

    Raises InputError that names the line that is not UTF-8, or has a NUL: it would become a part of a cell, unseen.
    """
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
        if "\0" in text:
            line = text[: text.index("\0")].count("\n") + 1
            raise InputError(
                f"{path}:{line} contains NUL characters: it was damaged (an interrupted copy?), or is UTF-16 without "
                "its mark; copy it again, or save the table as UTF-8"
            )
        return text
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        name = encoding.upper().removesuffix("-SIG")
        raise InputError(
            f'{path}:{line} is not {name} text: save the table as UTF-8 (in Excel as "CSV UTF-8"), or convert it: '
            f"iconv -f WINDOWS-1252 -t UTF-8 OLD{path.suffix} > NEW{path.suffix}"
        ) from None


def _read_text(path: Path, data: bytes) -> "pd.DataFrame":
    text = decode_table(path, data)
    if path.suffix.lower() == ".jsonl":
        return _from_records(path, [parse_json(path, number, line) for number, line in numbered_lines(text)])
    if path.suffix.lower() == ".json":
        return _from_records(path, _json_records(path, text))
    separator: str | None = "\t" if path.suffix.lower() == ".tsv" else None
    if mark := re.match(r"sep=(.)\r?\n", text):  # sep=,   (Excel's first line)
        separator, text = str(mark[1]), text[mark.end() :]
    return _read_separated(path, text, separator)


def _read_separated(path: Path, text: str, separator: str | None) -> "pd.DataFrame":
    import pandas as pd

    text = text.lstrip("\r\n")
    first = text.partition("\n")[0]
    if separator is None:
        separator = max((",", ";", "\t", "|"), key=first.count)
    try:
        # With header=None, pandas does not rename duplicate columns.
        cells = pd.read_csv(
            BytesIO(text.encode()), sep=separator, dtype=str, keep_default_na=False, na_filter=False, index_col=False,
            skipinitialspace=True, on_bad_lines="error", encoding="utf-8", header=None, skip_blank_lines=False,
        )  # fmt: skip
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is no table ({' '.join(str(error).split())[:200]})") from None
    frame = cells.iloc[1:].reset_index(drop=True)
    frame.columns = [str(name) for name in cells.iloc[0]]
    return frame.apply(_with_decimal_points) if separator == ";" else frame


def _with_decimal_points(column: "pd.Series[str]") -> "pd.Series[str]":
    """Write 4.5 for 4,5 in a column of such numbers or times.

    Where the decimal sign is a comma, Excel separates the columns of a CSV file by semicolons.
    """
    cells = column.str.strip()
    if (cells.str.fullmatch(r"[+-]?[\d:]*(,\d+)?") | cells.str.lower().isin(MISSING_CELLS)).all():
        return cells.str.replace(",", ".")
    return column


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


def numbered_lines(text: str) -> list[tuple[int, str]]:
    """Return the lines that are not blank, with their numbers from 1."""
    # Not splitlines: a text may contain U+2028 or U+0085, which JSON does not escape.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def parse_json(path: Path, number: int, line: str) -> Any:
    """Parse a line of JSON. Raises InputError that names the file and line."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number} is not valid JSON ({str(error)[:100]})") from None


def _json_records(path: Path, text: str) -> list[Any]:
    """Parse a list of objects, or SpeechBrain's {"id": {"wav": …, "length": …, "emo": …}, …}."""
    data = parse_json(path, 1, text)
    if isinstance(data, dict):
        if not all(isinstance(value, dict) for value in data.values()):
            raise InputError(f"{path} is no table: expected a list of objects, or an object of objects by id")
        return [row for key, value in data.items() for row in _segments({"id": key, **value})]
    return data if isinstance(data, list) else [data]


def _segments(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row per segment of SpeechBrain's emotion diarization, and any other record as it is.

    {"a1": {"wav": …, "duration": 3.2, "emotion": [{"emo": "sad", "start": 0.0, "end": 1.5}, …]}, …}
    """
    segments = record.get("emotion")
    are_timed = isinstance(segments, list) and all(isinstance(one, dict) and "start" in one for one in segments)
    if not segments or not are_timed:
        return [record]
    rest = {key: value for key, value in record.items() if key != "emotion"}
    return [{**rest, "id": f"{record['id']}_{number}", **segment} for number, segment in enumerate(segments, 1)]


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
    if value is None or isinstance(value, bytes):  # bytes: media embedded by Hugging Face
        return ""
    if isinstance(value, list):
        return ";".join(_cell(item) for item in value)
    return str(value)
