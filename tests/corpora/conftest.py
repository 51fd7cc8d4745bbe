"""Complete copies of the open corpora, written and scanned once per session."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from open_trees import WRITERS

from mesm_data.corpora.registry import find_scan
from mesm_data.schema.recordings import Corpus


@pytest.fixture(scope="session")
def complete_copy(once: Callable[[str, Callable[[Path], None]], Path]) -> Callable[[str], Corpus]:
    """complete_copy("meld"): the scan of a tree with the layout, names and counts of the release; media are empty."""

    @cache
    def scan(name: str) -> Corpus:
        return find_scan(name)(once(f"complete-{name}", WRITERS[name]))

    return scan
