"""What is known of each corpus, as data."""

import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

if not TYPE_CHECKING:
    from mesm_data import lazy_exports

    __getattr__, __dir__ = lazy_exports(__name__, {})

__version__: str


def names() -> list[str]:
    """The corpora that there is a manifest of."""
    return sorted(_known())


def load(corpus: str) -> dict[str, Any]:
    """The manifest of a corpus ("iemocap", "mosei"). Raises ValueError, naming those there are, for another name."""
    known = _known()
    if corpus not in known:
        raise ValueError(f"no manifest of a corpus {corpus!r}; there are {', '.join(sorted(known))}")
    return tomllib.loads(known[corpus].read_text(encoding="utf-8"))


def _known() -> dict[str, Traversable]:
    entries = [entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry for entry in entries}
