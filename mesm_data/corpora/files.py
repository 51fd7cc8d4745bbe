"""Look at a corpus folder as users really have it: junk between the files, any text encoding, some of it unreadable."""

import os
from pathlib import Path

# Besides hidden names: AppleDouble files `._*` and `.DS_Store` begin with a dot, what Windows and zip leave does not.
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


class Tree:
    """A folder that is only read. Paths are relative to `root`, with forward slashes.

    A folder is listed once, with no look at its single files. What cannot be read is a sentence in `notes` and is
    then treated as missing: no method raises for it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []
        self._listed: dict[str, tuple[dict[str, str], list[str]]] = {}

    def files(self, folder: str) -> dict[str, str]:
        """The files of one folder, sorted: the name, its suffix in lower case -> the path. Folders are not entered.

        Hidden files and junk are left out. Links are followed. A folder that is not there holds nothing.
        """
        return self._list(folder)[0]

    def folders(self, folder: str) -> list[str]:
        """The names of the folders in one folder, sorted, without hidden ones and junk."""
        return self._list(folder)[1]

    def text(self, path: str) -> str | None:
        """The text of a file (see `decode`), or None, noted, if it is unreadable or binary."""
        try:
            return decode((self.root / path).read_bytes())
        except OSError as error:
            self.notes.append(f"{path}: cannot be read ({error.strerror or error})")
        except ValueError as error:
            self.notes.append(f"{path}: {error}")
        return None

    def _list(self, folder: str) -> tuple[dict[str, str], list[str]]:
        if folder in self._listed:
            return self._listed[folder]
        files: dict[str, str] = {}
        folders: list[str] = []
        for entry in self._entries(folder):
            path = entry.name if folder == "." else f"{folder}/{entry.name}"
            try:
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    stem, dot, suffix = entry.name.rpartition(".")
                    files.setdefault(stem + dot + suffix.lower() if dot else entry.name, path)
            except OSError as error:
                self.notes.append(f"{path}: cannot be read ({error.strerror or error})")
        self._listed[folder] = (files, folders)
        return self._listed[folder]

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted((e for e in entries if not is_junk(e.name)), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self.notes.append(f"{folder}: cannot be listed ({error.strerror or error})")
        return []


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is left behind by an operating system, or hidden."""
    return name.startswith(".") or name.lower() in _JUNK


def decode(data: bytes) -> str:
    r"""Text with "\n" line ends and no byte order mark, from UTF-8 or else Windows-1252 or Latin-1.

    Raises ValueError for binary data, that is where a NUL byte occurs.
    """
    if b"\0" in data:
        raise ValueError("is not text (it holds NUL bytes)")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    else:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")
