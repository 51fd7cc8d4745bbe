"""Reader of custom corpora: a table of utterances, with or without a corpus.toml that describes its labels.

corpus.toml contains a schema (name, title, licence, labels, views, splits) and, for the table:

    table = "clips.csv"                 # relative to the folder of corpus.toml; default: the only table there
    media = "media"                     # the folder of the media files; default: that of the table
    [columns]
    video = "clip_file"                 # canonical name = the table's header
    [ratings]
    table = "ratings.csv"               # id, rater, label, value, self (yes or no): one row per value
    labels = ["emotion"]
"""

import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.corpora.table.infer_schema import infer_schema
from mesm_data.corpora.table.scan import corpus_from_table
from mesm_data.corpora.table.table_file import read_table
from mesm_data.corpora.table.table_formats import SUFFIXES
from mesm_data.corpora.table.toml_writer import to_toml
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.recordings import Corpus
from mesm_data.storage.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

MAX_TOML = 2**22  # bytes
TABLE_KEYS = ("table", "media", "columns")


def is_corpus_file(name: str) -> bool:
    """Whether a name is that of a table or corpus.toml, and not of a corpus."""
    return Path(name).suffix.lower() in (*SUFFIXES, ".toml")


def read_corpus_file(path: Path, root: Path | None = None) -> Corpus:
    """Read a table, whose schema is inferred, or a corpus.toml.

    Args:
        path: the table or corpus.toml.
        root: the folder to which the table's paths are relative, if the file does not define it.

    Raises:
        InputError: names the file and all of its problems.
    """
    if path.suffix.lower() == ".toml":
        return _read_toml(path, root)
    frame = read_table(path)
    schema, notes = infer_schema(frame, path)
    return _corpus(path, frame, schema, root or path.parent, notes, {}, path)


def _read_toml(path: Path, root: Path | None) -> Corpus:
    data = read_toml(path)
    table_keys = {key: data.pop(key, None) for key in TABLE_KEYS}
    ratings = data.pop("ratings", None) or {}
    if not isinstance(ratings, dict) or not set(ratings) <= {"table", "labels"}:
        raise InputError(f"{path}: ratings: expected a [ratings] table with `table` and `labels`")
    schema = CorpusSchema.parse({**data, "ratings": ratings.get("labels", [])}, str(path))
    columns = table_keys["columns"] or {}
    if not isinstance(columns, dict) or not all(isinstance(header, str) for header in columns.values()):
        raise InputError(f'{path}: columns: expected canonical name = "the table\'s header"')
    table = _table_path(path, table_keys["table"])
    frame = read_table(table, columns)
    if root is None:
        root = path.parent / _text(path, "media", table_keys["media"]) if table_keys["media"] else table.parent
    values = {}
    if ratings.get("table"):
        values = _read_ratings(path.parent / _text(path, "ratings.table", ratings["table"]), schema)
    return _corpus(path, frame, schema, root, (), values, table)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises InputError that names the file and line if it cannot be read."""
    try:
        if path.stat().st_size > MAX_TOML:
            raise InputError(f"{path} is larger than {MAX_TOML // 2**20} MiB: no corpus.toml is")
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid TOML ({str(error)[:200]})") from None


def write_corpus_toml(corpus: Corpus, path: Path) -> None:
    """Write the corpus.toml of a table's corpus; its paths are relative to the folder of `path`."""
    assert corpus.file is not None
    folder = path.parent.resolve()
    paths = {
        "table": os.path.relpath(corpus.file.resolve(), folder),
        "media": os.path.relpath(corpus.root.resolve(), folder),
    }
    schema = corpus.schema.as_mapping()
    ratings = {"ratings": {"labels": schema.pop("ratings")}} if "ratings" in schema else {}
    text = to_toml({"name": schema.pop("name"), **paths, **schema, **ratings})
    with atomic_write(path) as file:
        file.write(text.encode())


def _text(path: Path, entry: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InputError(f"{path}: {entry}: expected a path as text")
    return value


def _table_path(path: Path, name: Any) -> Path:
    if name is not None:
        return path.parent / _text(path, "table", name)
    tables = [file for file in sorted(path.parent.iterdir()) if file.suffix.lower() in SUFFIXES and file.is_file()]
    if len(tables) != 1:
        names = ", ".join(file.name for file in tables[:5]) or "none"
        raise InputError(f'{path} names no table (table = "clips.csv"), and its folder contains: {names}')
    return tables[0]


def _corpus(
    path: Path, frame: "pd.DataFrame", schema: CorpusSchema, root: Path, notes: tuple[str, ...],
    ratings: dict[str, list[dict[str, Any]]], table: Path,
) -> Corpus:  # fmt: skip
    if not root.is_dir():
        raise InputError(f"{root} is not a folder: name the folder of the media files with --source")
    return corpus_from_table(frame, schema, root, where=str(table), notes=notes, ratings=ratings, file=path)


def _read_ratings(path: Path, schema: CorpusSchema) -> dict[str, list[dict[str, Any]]]:
    """Read the ratings by id: one record per rater, in file order, with rater, self, comment and the rated labels."""
    frame = read_table(path)
    needed = ("id", "rater", "label", "value")
    if missing := [name for name in needed if name not in frame.columns]:
        raise InputError(f"{path} has no column {missing[0]!r}; ratings have {', '.join(needed)} and optionally self")
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for number, row in zip(frame.index + 1, frame.to_dict("records"), strict=True):
        label = row["label"].strip()
        if label not in schema.ratings:
            raise InputError(f"{path}: row {number}: label {label!r:.60} is none of the ratings' labels")
        scheme = schema.labels[label]
        try:
            value = scheme.parse(row["value"])
        except InputError as error:
            raise InputError(f"{path}: row {number}: {label} {error}") from None
        empty = {"rater": row["rater"], "self": False, "comment": None, **dict.fromkeys(schema.ratings)}
        record = records.setdefault(row["id"].strip(), {}).setdefault(row["rater"], empty)
        record["self"] |= str(row.get("self", "")).strip().lower() in ("1", "true", "yes")
        if value is None:
            continue
        if scheme.type == "number":
            record[label] = value
        else:
            record[label] = [*(record[label] or []), *(value if isinstance(value, list) else [value])]
    return {id_: list(raters.values()) for id_, raters in records.items()}
