"""The commands mesm-data and mesm-train: thin Typer apps around the libraries."""

from typing import TYPE_CHECKING

if not TYPE_CHECKING:
    from mesm_data import lazy_exports

    __getattr__, __dir__ = lazy_exports(__name__, {})

__version__: str
