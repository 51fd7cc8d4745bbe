""".build/source.json: the folder and the files of a build's source, for `retry`."""

import os
from pathlib import Path
from types import NoneType
from urllib.parse import unquote_to_bytes, urlsplit

from mesm_data.corpora.inventory import SourceSizes
from mesm_data.schema.recordings import Corpus
from mesm_data.storage.json_files import write_compact_json
from mesm_data.storage.json_shapes import MapOf, read_checked_json


def save_source_index(out: Path, corpus: Corpus, files: SourceSizes) -> None:
    """Save where the source is and which files it has. dataset.json has no paths.

    Paths are written as URIs, which escape bytes that are not UTF-8: a name may have them, JSON may not.
    """
    file = corpus.file.resolve().as_uri() if corpus.file else None
    write_compact_json(
        out / ".build" / "source.json", {"root": corpus.root.resolve().as_uri(), "file": file, "files": files}
    )


def load_corpus_file(out: Path) -> Path | None:
    """The table or corpus.toml that the dataset `out` was built from; None for a corpus of the registry."""
    path = out / ".build" / "source.json"
    index = read_checked_json(path, {"file?": (str, NoneType)}) if path.exists() else {}
    return _from_uri(index["file"]) if index.get("file") else None


def load_source_index(out: Path) -> tuple[Path, SourceSizes] | None:
    """The folder of the source and its files; None if the dataset was not built here, so that it has no .build/."""
    path = out / ".build" / "source.json"
    if not path.exists():
        return None
    index = read_checked_json(path, {"root": str, "files": MapOf(int)})
    return _from_uri(index["root"]), index["files"]


def _from_uri(uri: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
