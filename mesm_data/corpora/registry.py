"""Which corpora there are: those built in, those that other packages add, and tables.

A built-in corpus NAME is a function `scan(root) -> Corpus` in mesm_data.corpora, and a file of facts NAME.toml in
mesm_manifests. A package adds one by an entry point in the group `mesm.corpora` that names such a function.
"""

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_names
from mesm_data.schema.recordings import Corpus

ENTRY_POINTS = "mesm.corpora"

Scan = Callable[[Path], Corpus]

PACKAGES = ("iemocap", "mosei")  # corpora with a folder of modules; the others are one module each


def corpus_names() -> list[str]:
    """The names of all corpora that can be built from their raw files."""
    return sorted({*built_in_names(), *(point.name for point in entry_points(group=ENTRY_POINTS))})


def find_scan(name: str) -> Scan:
    """The function that scans the corpus `name`. Raises InputError, naming the nearest and all, if there is none."""
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            added: Scan = point.load()
            return added
    if name not in built_in_names():
        near = get_close_matches(name, corpus_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"there is no corpus {name!r}: {hint}There are {', '.join(corpus_names())}; or give a table (clips.csv) "
            "or a corpus.toml"
        )
    module = f"mesm_data.corpora.{name.replace('-', '_')}"
    built_in: Scan = import_module(f"{module}.scan" if name in PACKAGES else module).scan
    return built_in
