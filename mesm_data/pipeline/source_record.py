""".build/source.json: where the source of a build is and which files it held, for retry."""

import os
from pathlib import Path
from types import NoneType
from urllib.parse import unquote_to_bytes, urlsplit

from mesm_data.corpora.inventory import SourceSizes
from mesm_data.schema.recordings import Corpus
from mesm_data.storage.json_files import write_compact_json
from mesm_data.storage.json_shapes import Each, read_checked_json


def remember(out: Path, corpus: Corpus, found: SourceSizes) -> None:
    """Keep where the source is and what it held, for `retry`: paths have no place in dataset.json.

    Paths are written as URIs, which escape what a name can hold and JSON cannot: bytes that are not UTF-8.
    """
    file = corpus.file.resolve().as_uri() if corpus.file else None
    write_compact_json(
        out / ".build" / "source.json", {"root": corpus.root.resolve().as_uri(), "file": file, "files": found}
    )


def remembered_file(out: Path) -> Path | None:
    """The table or corpus.toml that the dataset `out` was built from, None if it was a corpus of the registry."""
    path = out / ".build" / "source.json"
    known = read_checked_json(path, {"file?": (str, NoneType)}) if path.exists() else {}
    return _from_uri(known["file"]) if known.get("file") else None


def remembered(out: Path) -> tuple[Path, SourceSizes] | None:
    """What `remember` wrote, or None: a dataset that came from elsewhere has no .build/."""
    path = out / ".build" / "source.json"
    if not path.exists():
        return None
    known = read_checked_json(path, {"root": str, "files": Each(int)})
    return _from_uri(known["root"]), known["files"]


def _from_uri(uri: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
