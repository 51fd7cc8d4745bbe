""".build/source.json: the folder, the files and the utterances of a build's source, to see later what changed."""

import os
from pathlib import Path
from types import NoneType
from typing import NamedTuple
from urllib.parse import unquote_to_bytes, urlsplit

from mesm_data.corpora.inventory import (
    SourceSizes,
    SourceTimes,
    UtteranceDigests,
    source_sizes,
    source_times,
    utterance_digests,
)
from mesm_data.schema.recordings import Corpus
from mesm_data.storage.json_files import write_compact_json
from mesm_data.storage.json_shapes import MapOf, read_checked_json


class SourceIndex(NamedTuple):
    """The source of a build: its folder, the sizes and times of its files, and its utterances."""

    root: Path
    files: SourceSizes
    times: SourceTimes
    utterances: UtteranceDigests

    def touched_since(self, before: "SourceIndex") -> set[str]:
        """The files and image folders that were written since: another file of the same size, or only a copy."""
        return {name for name, time in self.times.items() if before.times.get(name) != time}


def index_source(corpus: Corpus) -> SourceIndex:
    """The source of a corpus as it is now."""
    return SourceIndex(corpus.root, source_sizes(corpus), source_times(corpus), utterance_digests(corpus))


def save_source_index(out: Path, corpus: Corpus, index: SourceIndex) -> None:
    """Save where the source is, and which files and utterances it has. dataset.json has no paths.

    Paths are written as URIs, which escape bytes that are not UTF-8: a name may have them, JSON may not.
    """
    file = corpus.file.resolve().as_uri() if corpus.file else None
    content = {**index._asdict(), "root": corpus.root.resolve().as_uri(), "file": file}
    write_compact_json(out / ".build" / "source.json", content)


def load_corpus_file(out: Path) -> Path | None:
    """The table or corpus.toml that the dataset `out` was built from; None for a corpus of the registry."""
    path = out / ".build" / "source.json"
    index = read_checked_json(path, {"file?": (str, NoneType)}) if path.exists() else {}
    return _from_uri(index["file"]) if index.get("file") else None


def load_source_index(out: Path) -> SourceIndex | None:
    """The source of a dataset; None if the dataset was not built here, so that it has no .build/."""
    path = out / ".build" / "source.json"
    if not path.exists():
        return None
    shape = {"root": str, "files": MapOf(int), "times?": MapOf(int), "utterances": MapOf(str)}
    index = read_checked_json(path, shape)
    return SourceIndex(_from_uri(index["root"]), index["files"], index.get("times", {}), index["utterances"])


def _from_uri(uri: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))
