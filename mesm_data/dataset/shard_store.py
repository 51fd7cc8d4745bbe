"""Where a reader gets whole shards from."""

from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from mesm_data.storage.files import open_regular_file


class ShardStore(Protocol):
    """Shards by name, as files on this machine. Safe for several threads."""

    def path(self, name: str) -> Path:
        """The shard `name`, whole and on a disk of this machine when this returns. Raises MesmError if it cannot be."""

    def stream(self, name: str) -> BufferedReader:
        """The bytes of the shard `name` from front to back, of which nothing is kept. Raises MesmError or OSError."""

    def source(self, name: str) -> str:
        """The path or URL that `stream` reads, for messages."""

    def expect(self, names: Sequence[str]) -> None:
        """Say which shards will be asked for next, in this order; what was said before is void."""

    def release(self, name: str) -> None:
        """Say that the shard `name` is not read any more: it may go, until it is asked for again."""

    def remedy(self, file: str) -> str:
        """What a person can do about a damaged file, by its name in the dataset's folder."""


class LocalShards:
    """Shards in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The shard `name`."""
        return self.folder / name

    def stream(self, name: str) -> BufferedReader:
        """The file."""
        return open_regular_file(self.folder / name)

    def source(self, name: str) -> str:
        """The path."""
        return str(self.folder / name)

    def expect(self, names: Sequence[str]) -> None:
        """Nothing has to be fetched."""

    def release(self, name: str) -> None:
        """It stays."""

    def remedy(self, file: str) -> str:
        """Look for more of them."""
        return f"`mesm-data verify {self.folder.parent}` lists all that is damaged"
