"""Thin Typer apps: every command is one call into the library."""

from typing import TYPE_CHECKING

__version__: str

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Look up the version when it is first used."""
        if name == "__version__":
            from importlib.metadata import version

            return version("mesm")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
