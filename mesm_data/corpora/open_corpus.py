"""What lies on disk, as rows of utterances. No media is decoded here."""

import os
from pathlib import Path

from mesm_data.errors import InputError
from mesm_data.schema.recordings import Corpus


def open_corpus(name: str, source: Path | None) -> Corpus:
    """The corpus that a user names: one of the registry, with its folder, or a table or corpus.toml, with its media.

    Without `source` the folder in $MESM_<NAME> is taken. Raises InputError if there is no such corpus or folder.
    """
    from mesm_data.corpora.registry import find_scan
    from mesm_data.corpora.table.corpus_file import is_corpus_file, read_corpus_file

    if is_corpus_file(name):
        return read_corpus_file(Path(name), source)
    find_scan(name)
    return scan(name, source or _source_from_environment(name))


def _source_from_environment(name: str) -> Path:
    variable = f"MESM_{name.upper().replace('-', '_')}"
    if not os.environ.get(variable):
        raise InputError(f"no source: give --source, or set {variable} to the folder that holds the corpus")
    return Path(os.environ[variable])


def scan(name: str, root: Path) -> Corpus:
    """Scan the corpus `name` of the registry at `root`. Raises InputError if there is no such corpus, or not there."""
    from mesm_data.corpora.registry import find_scan

    return find_scan(name)(root)
