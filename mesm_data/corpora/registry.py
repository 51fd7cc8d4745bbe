"""The registry of corpora: the built-in ones and those that other packages add.

A built-in corpus NAME consists of a function `scan(root) -> Corpus` in mesm_data.corpora and a file NAME.toml in
mesm_manifests. Another package adds a corpus by an entry point in the group `mesm.corpora` for such a function.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from mesm_data.errors import InputError, did_you_mean
from mesm_data.schema.built_in import built_in_names
from mesm_data.schema.recordings import Corpus

ENTRY_POINTS = "mesm.corpora"

Scan = Callable[[Path], Corpus]

PACKAGES = ("iemocap", "mosei")  # corpora with a folder of modules; the others are one module each


def corpus_names() -> list[str]:
    """Return the names of all corpora that can be built from their raw files."""
    return sorted({*built_in_names(), *(point.name for point in entry_points(group=ENTRY_POINTS))})


def find_scan(name: str) -> Scan:
    """Return the scan function of a corpus. Raises InputError that lists all corpora, the closest first, if unknown."""
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            external: Scan = point.load()
            return external
    if name not in built_in_names():
        hint = did_you_mean(name, corpus_names())
        raise InputError(
            f"there is no corpus {name!r}: {hint}There are {', '.join(corpus_names())}; or give a table (clips.csv) "
            "or a corpus.toml"
        )
    module = f"mesm_data.corpora.{name.replace('-', '_')}"
    built_in: Scan = import_module(f"{module}.scan" if name in PACKAGES else module).scan
    return built_in
