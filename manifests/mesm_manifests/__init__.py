"""What is known of each corpus, as data."""

import tomllib
from importlib.resources import files
from typing import Any


def load(corpus: str) -> dict[str, Any]:
    """The manifest of a corpus ("iemocap", "mosei"). Raises ValueError, naming those there are, for another name."""
    known = {
        entry.name.removesuffix(".toml"): entry for entry in files(__name__).iterdir() if entry.name[-5:] == ".toml"
    }
    if corpus not in known:
        raise ValueError(f"no manifest of a corpus {corpus!r}; there are {', '.join(sorted(known))}")
    return tomllib.loads(known[corpus].read_text(encoding="utf-8"))
