"""Which corpora there are: those built in, those that other packages add, and tables.

A built-in corpus NAME is a module mesm_data.corpora.NAME with a function `scan(root) -> Corpus`, and a file of
facts NAME.toml in mesm_manifests. A package adds one by an entry point in the group `mesm.corpora` that names such a
function.
"""

from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import mesm_manifests

from mesm_data.corpora.base import Corpus
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema

ENTRY_POINTS = "mesm.corpora"

Scan = Callable[[Path], Corpus]


def corpus_names() -> list[str]:
    """The names of all corpora that can be built from their raw files."""
    return sorted({*mesm_manifests.names(), *(point.name for point in entry_points(group=ENTRY_POINTS))})


@cache
def built_in_schema(name: str) -> CorpusSchema:
    """The schema in a built-in corpus' file of facts. Raises InputError for another name."""
    return CorpusSchema.parse(schema_entries(built_in_facts(name)), f"{name}.toml")


def built_in_facts(name: str) -> dict[str, Any]:
    """Everything in a built-in corpus' file of facts. Raises InputError for another name."""
    try:
        return mesm_manifests.load(name)
    except ValueError as error:
        raise InputError(str(error)) from None


def schema_entries(facts: dict[str, Any]) -> dict[str, Any]:
    """The entries of a TOML file that are its schema; the others are facts for the scanner."""
    return {key: value for key, value in facts.items() if key in CorpusSchema.model_fields}


def find_scan(name: str) -> Scan:
    """The function that scans the corpus `name`. Raises InputError, naming the nearest and all, if there is none."""
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            scan: Scan = point.load()
            return scan
    if name not in mesm_manifests.names():
        near = get_close_matches(name, corpus_names(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(
            f"there is no corpus {name!r}: {hint}There are {', '.join(corpus_names())}; or give a table "
            "(clips.csv) or a corpus.toml"
        )
    module = import_module(f"mesm_data.corpora.{name.replace('-', '_')}")
    scan = module.scan
    return scan
