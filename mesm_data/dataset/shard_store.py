"""Where a reader gets whole shards from: the interface, and a folder."""

from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol

from mesm_data.storage.files import open_regular_file


class ShardStore(Protocol):
    """Provides shards by name as files on this machine. Thread-safe."""

    def path(self, name: str) -> Path:
        """The path of the shard `name`, complete on a local disk. Raises MesmError if it cannot be fetched."""

    def stream(self, name: str) -> BufferedReader:
        """Read the shard `name` from start to end without storing it. Raises MesmError or OSError."""

    def source(self, name: str) -> str:
        """The path or URL that `stream` reads, for messages."""

    def prefetch(self, names: Sequence[str]) -> None:
        """Start to fetch `names` in this order and drop earlier requests. Local stores do nothing."""

    def release(self, name: str) -> None:
        """Allow the shard `name` to be deleted; it is fetched again when it is needed."""

    def repair_hint(self, file: str) -> str:
        """What the user can do about a damaged file, for messages. `file` is its name in the dataset's folder."""


class LocalShards:
    """Shards in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The path of the shard `name`."""
        return self.folder / name

    def stream(self, name: str) -> BufferedReader:
        """Open the file."""
        return open_regular_file(self.folder / name)

    def source(self, name: str) -> str:
        """The path."""
        return str(self.folder / name)

    def prefetch(self, names: Sequence[str]) -> None:
        """Do nothing."""

    def release(self, name: str) -> None:
        """Do nothing."""

    def repair_hint(self, file: str) -> str:
        """Verify the whole dataset."""
        return f"`mesm-data verify {self.folder.parent}` lists all that is damaged"
