"""Facts about each built-in corpus, as TOML: schema, known counts and known anomalies."""

import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING, Any

__version__: str

if not TYPE_CHECKING:  # a type checker then reports misspelt names

    def __getattr__(name: str) -> object:
        """Compute `__version__` when it is first used. mesm_data imports this package, so its helper cannot be used."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("mesm")


def names() -> list[str]:
    """Return the names of the corpora."""
    return sorted(_known())


def load(corpus: str) -> dict[str, Any]:
    """Load the facts about a corpus ("iemocap", "mosei"). Raises ValueError that lists all names if it is unknown."""
    known = _known()
    if corpus not in known:
        raise ValueError(f"no manifest of a corpus {corpus!r}; there are {', '.join(sorted(known))}")
    return tomllib.loads(known[corpus].read_text(encoding="utf-8"))


def _known() -> dict[str, Traversable]:
    entries = [entry for entry in files(__name__).iterdir() if entry.name.endswith(".toml")]
    return {entry.name.removesuffix(".toml"): entry for entry in entries}
