"""Open a corpus by its name, or by the path of a table or corpus.toml."""

import os
from pathlib import Path

from mesm_data.errors import InputError
from mesm_data.schema.recordings import Corpus


def open_corpus(name: str, source: Path | None) -> Corpus:
    """Scan the corpus that a user names.

    Args:
        name: a corpus of the registry, or the path of a table or corpus.toml.
        source: the folder of the corpus, or of the table's media. Default for a corpus: the folder in $MESM_<NAME>.

    Raises:
        InputError: there is no such corpus or folder.
    """
    from mesm_data.corpora.registry import find_scan
    from mesm_data.corpora.table.corpus_file import is_corpus_file, read_corpus_file

    if is_corpus_file(name) or (Path(name).suffix and Path(name).is_file()):
        return read_corpus_file(Path(name), source)
    find_scan(name)  # an unknown name is the first problem to report
    return scan_corpus(name, source or _source_from_environment(name))


def _source_from_environment(name: str) -> Path:
    variable = f"MESM_{name.upper().replace('-', '_')}"
    if not os.environ.get(variable):
        raise InputError(f"no source: give --source, or set {variable} to the folder of the corpus")
    return Path(os.environ[variable])


def scan_corpus(name: str, root: Path) -> Corpus:
    """Scan a corpus of the registry. Raises InputError if the name is unknown or the corpus is not at `root`."""
    from mesm_data.corpora.registry import find_scan

    return find_scan(name)(root)
