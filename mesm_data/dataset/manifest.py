"""manifest.parquet: one row per utterance of the corpus, built or not; and the types of the record."""

import math
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.parquet_pages import memory_bound, text_columns, unfolded_bytes
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.recordings import Utterance
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import canonical_json

_VALUES = {"category": pa.string(), "number": pa.float64(), "multilabel": pa.list_(pa.string())}
# A rater may choose several categories of a label that has one.
_RATED = {**_VALUES, "category": pa.list_(pa.string())}

MAX_MEMORY = 2**29  # bytes that reading a table may take, in addition to 16 times its size
MAX_UNFOLDED = 2**26  # bytes of the table, in addition to 8 times its size; Python objects take ten times as much
MAX_LIST = 2000  # elements of a list in a Parquet footer, such as columns or row groups; a manifest has 70 and 1


def labels_type(corpus: CorpusSchema) -> pa.DataType:
    """The type of `labels`: one field per label scheme, and `raters`, the list of all ratings."""
    rated = {name: _RATED[corpus.labels[name].type] for name in corpus.ratings}
    rater = pa.struct({"rater": pa.string(), "self": pa.bool_(), "comment": pa.string(), **rated})
    values = {name: _VALUES[scheme.type] for name, scheme in corpus.labels.items()}
    return pa.struct({**values, "raters": pa.list_(rater)})


def manifest_schema(corpus: CorpusSchema) -> pa.Schema:
    """The columns of manifest.parquet for a corpus; each member has its offset, size and sha256."""
    counts = {name: pa.int64() for name in ("n_samples", "n_faces", "n_detected", "n_words")}
    members = {
        column: pa.string() if column.endswith("sha256") else pa.int64()
        for extension in EXTENSIONS
        for column in member_columns(extension)
    }
    digests = {name: pa.string() for name in ("pcm_sha256", "pixels_sha256", "text_sha256")}
    names = ("key", "id", "status", "reason", "recording", "dialog", "speaker", "session", "split")
    text = {name: pa.string() for name in names}
    return pa.schema(
        {
            **text,
            "start": pa.float64(),
            "end": pa.float64(),
            "audio": pa.string(),
            "video": pa.string(),
            "channel": pa.string(),
            **counts,
            "flags": pa.list_(pa.string()),
            "labels": labels_type(corpus),
            "shard": pa.string(),
            **members,
            **digests,
        }
    )


def record_schema(corpus: CorpusSchema) -> pa.Schema:
    """The fields of the record (the JSON member), with the types that readers such as Hugging Face `datasets` need."""
    word = pa.struct({"w": pa.string(), "t0": pa.float64(), "t1": pa.float64()})
    source = pa.struct(
        {"role": pa.string(), "path": pa.string(), "sha256": pa.string(), "span": pa.list_(pa.float64())}
    )
    faces = {
        "times": pa.list_(pa.float64()),
        "boxes": pa.list_(pa.list_(pa.int64())),
        "scores": pa.list_(pa.float64()),
        "detected": pa.list_(pa.bool_()),
        "counts": pa.list_(pa.int64()),
    }
    return pa.schema(
        {
            **{name: pa.string() for name in ("id", "corpus", "dialog", "speaker", "session", "split")},
            "start": pa.float64(),
            "end": pa.float64(),
            "text": pa.string(),
            "words": pa.list_(word),
            "labels": labels_type(corpus),
            "faces": pa.struct(faces),
            "video": pa.struct({"status": pa.string(), "fps": pa.float64(), "width": pa.int64(), "height": pa.int64()}),
            "audio": pa.struct({"status": pa.string(), "sample_rate": pa.int64()}),
            "sources": pa.list_(source),
            "flags": pa.list_(pa.string()),
        }
    )


def clip_index_schema() -> pa.Schema:
    """The columns of video/index.parquet."""
    columns = {"key": pa.string(), "shard": pa.string(), "offset": pa.int64(), "size": pa.int64()}
    return pa.schema({**columns, "sha256": pa.string()})


def member_columns(extension: str) -> tuple[str, str, str]:
    """The three columns of a member, such as faces_offset, faces_size and faces_sha256 for faces.npy."""
    stem = extension.split(".", maxsplit=1)[0]
    return f"{stem}_offset", f"{stem}_size", f"{stem}_sha256"


def write_table(path: Path, rows: Sequence[dict[str, Any]], table_schema: pa.Schema) -> str:
    """Write rows as Parquet. Returns the digest of the rows, which does not depend on the Parquet writer."""
    table = pa.Table.from_pylist(list(rows), schema=table_schema)
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="zstd")
    return rows_digest(table.to_pylist())


def read_table_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a Parquet file. Raises as `read_table`."""
    return list(read_table(path).to_pylist())


def read_table(path: Path, expected: pa.Schema | None = None) -> pa.Table:
    """Read the columns of a Parquet file with bounded memory.

    A file of 1 kB can expand to a terabyte (a text stored once in a dictionary, and a million rows that refer to it).
    So the memory for its pages is computed before they are read, and texts stay in their dictionaries until their total
    length is known. 100,000 rows are a file of 25 MB and take 0.3 GB.

    Args:
        path: The file.
        expected: The schema that the file must have.

    Raises:
        InputError: The file is missing, damaged or too large, or has another schema.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file")
    too_large = InputError(f"{path} is not a manifest: it unfolds to more memory than its size can need")
    try:
        size = path.stat().st_size
        with (
            path.open("rb") as stream,  # Arrow opens no path that is not UTF-8
            pq.ParquetFile(stream, thrift_container_size_limit=MAX_LIST) as file,
            path.open("rb") as pages,
        ):
            schema, texts = file.schema_arrow, text_columns(file.metadata)
            if expected is not None and not schema.equals(expected):
                raise InputError(f"{path} has other columns than this format's: {_schema_difference(schema, expected)}")
            if memory_bound(pages, file.metadata) > MAX_MEMORY + 16 * size:
                raise too_large
        with (
            path.open("rb") as stream,
            pq.ParquetFile(
                stream, read_dictionary=texts, pre_buffer=False, thrift_container_size_limit=MAX_LIST
            ) as file,
        ):
            table = file.read(use_threads=False)
        table.validate(full=True)
        if table.nbytes + sum(map(unfolded_bytes, table.columns)) > MAX_UNFOLDED + 8 * size:
            raise too_large
        table = table.cast(schema)
        table.validate(full=True)
        return table
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except MemoryError:
        raise InputError(f"{path} cannot be read: it takes more memory than there is") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({str(error).partition(chr(10))[0]})") from None


def _schema_difference(schema: pa.Schema, expected: pa.Schema) -> str:
    for name in expected.names:
        if schema.names.count(name) != 1:
            return f"{name} is missing or repeated"
        if schema.field(name).type != expected.field(name).type:
            return f"{name} is {schema.field(name).type}, not {expected.field(name).type}"
    return "there are more, or in another order"


def rows_digest(rows: Iterable[dict[str, Any]]) -> str:
    """sha256 over the rows as canonical JSON lines: equal tables have equal digests, whatever wrote the file."""
    total = sha256()
    for row in rows:
        total.update(canonical_json(row) + b"\n")
    return total.hexdigest()


def manifest_row(utterance: Utterance, status: str, reason: str | None) -> dict[str, Any]:
    """The manifest row of an utterance, without the columns of its members.

    Args:
        utterance: The utterance.
        status: ok, failed or excluded.
        reason: Why it failed or is excluded, or what is missing; None if nothing is.
    """
    return {
        "key": utterance.key,
        "id": utterance.id,
        "status": status,
        "reason": reason,
        "recording": utterance.recording or utterance.dialog,
        "dialog": utterance.dialog,
        "speaker": utterance.speaker,
        "session": utterance.session,
        "split": utterance.split,
        "start": utterance.start,
        "end": utterance.end if math.isfinite(utterance.end) else None,
        "flags": list(utterance.flags),
        "labels": dict(utterance.labels),
    }
