"""Predictions as JSON lines, CSV and Parquet: one row a clip, those that failed with the reason."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write, check_writable
from mesm_data.storage.safe_text import valid_unicode
from mesm_train.inference.result import Failure, Prediction

Result = Prediction | Failure


def as_dict(result: Result) -> dict[str, Any]:
    """One object of the JSON lines: status, reason (null unless failed), and the prediction."""
    if isinstance(result, Prediction):
        values = {"status": "ok", "reason": None, **result.as_dict()}
    else:
        clip = result.clip
        end = clip.end if clip.end != float("inf") else None
        values = {
            "status": "failed", "reason": result.reason, "path": str(clip.path), "start": clip.start, "end": end,
            "speaker": clip.speaker, "text": clip.text or "",
        }  # fmt: skip
    encodable: dict[str, Any] = _encodable(values)
    return encodable


def _encodable(value: Any) -> Any:
    """JSON whose texts can be written: they may quote a file's name, which need not be UTF-8."""
    if isinstance(value, dict):
        return {name: _encodable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    return valid_unicode(value) if isinstance(value, str) else value


def as_line(result: Result) -> str:
    """One JSON line, without its end."""
    return json.dumps(as_dict(result), ensure_ascii=False, allow_nan=False)


def table(results: Sequence[Result]) -> dict[str, list[Any]]:
    """Columns of the table: the clip, status, reason, labels, then `value_` and `logit_` of each class."""
    rows = [as_dict(result) for result in results]
    classes = list(dict.fromkeys(name for row in rows for name in row.get("values", ())))
    plain = ("path", "start", "end", "speaker", "text", "status", "reason")
    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in plain}
    for name in ("labels", "notes"):
        columns[name] = ["; ".join(row.get(name, ())) for row in rows]
    columns["missing"] = ["; ".join(row.get("missing", ())) for row in rows]
    for prefix, field in (("value", "values"), ("logit", "logits")):
        for name in classes:
            columns[f"{prefix}_{name}"] = [row.get(field, {}).get(name) for row in rows]
    return columns


def _json_lines(results: Sequence[Result]) -> bytes:
    return "".join(f"{as_line(result)}\n" for result in results).encode()


def _csv(results: Sequence[Result]) -> bytes:
    columns, text = table(results), io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _parquet(results: Sequence[Result]) -> bytes:
    columns, stream = table(results), io.BytesIO()
    numbers = {name for name in columns if name in ("start", "end") or name.startswith(("value_", "logit_"))}
    fields = [(name, pa.float64() if name in numbers else pa.string()) for name in columns]
    pq.write_table(pa.table(columns, schema=pa.schema(fields)), stream)
    return stream.getvalue()


WRITERS: dict[str, Callable[[Sequence[Result]], bytes]] = {".jsonl": _json_lines, ".csv": _csv, ".parquet": _parquet}


def check_output(path: Path) -> None:
    """Raises InputError if the ending of a file is none of `WRITERS`, or a file cannot be created there."""
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"--out {path}: expected the ending {', '.join(WRITERS)}")
    check_writable(path)


def write(path: Path, results: Sequence[Result]) -> None:
    """Write a table of predictions in the format of the file's ending, whole or not at all."""
    check_output(path)
    content = WRITERS[path.suffix.lower()](results)
    with atomic_write(path) as file:
        file.write(content)
