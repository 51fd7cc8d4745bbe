"""Read access to a corpus folder as users have it: junk files, mixed text encodings, unreadable entries."""

import codecs
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mesm_data.corpora.parsing import WarningLog
from mesm_data.storage.machine_errors import raise_resource_error
from mesm_data.storage.safe_text import valid_unicode

# In addition to hidden names, which cover AppleDouble files `._*` and `.DS_Store`.
_JUNK = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1f]")
_MAX_LINES = 5  # that a message lists
_MAX_DEPTH = 8  # of nested folders: a link may lead back to a parent
# version https://git-lfs.github.com/spec/v1
# oid sha256:4d7a...
# size 12345
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
LFS_POINTER_BYTES = 1024  # by the specification, a pointer is shorter


@dataclass(slots=True)
class _Listing:
    """The content of the folder `path`.

    Attributes:
        files: name -> path; the suffix of the name is in lower case.
        folded: casefolded name -> path.
        folders: names.
    """

    path: str
    files: dict[str, str] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)


class SourceTree:
    """Read-only view of a folder. Paths are relative to `root`, with forward slashes.

    A folder is listed once, without a stat call per file. Entries that cannot be read are reported in `notes` and then
    treated as missing: no method raises for them. Names of folders are matched without case if there is no exact match
    (copies from CDs and memory sticks are in capitals).
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes = WarningLog()
        self._listed: dict[str, _Listing] = {}

    def files(self, folder: str) -> dict[str, str]:
        """Return the files of one folder, sorted: name, with its suffix in lower case -> path.

        Hidden files and junk are skipped, links are followed, subfolders are not entered. A missing folder is empty.
        """
        return self._list(folder).files

    def file(self, folder: str, name: str) -> str | None:
        """Return the path of the file `name`, or of one whose name differs in case only."""
        listing = self._list(folder)
        return listing.files.get(name) or listing.folded.get(name.casefold())

    def folders(self, folder: str) -> list[str]:
        """Return the names of the subfolders, sorted, without hidden ones and junk."""
        return self._list(folder).folders

    def has_folder(self, folder: str) -> bool:
        """Whether this folder exists; the case of its name is ignored."""
        above, _, name = folder.rpartition("/")
        return any(name.casefold() == other.casefold() for other in self.folders(above or "."))

    def walk(self, folder: str = ".", depth: int = _MAX_DEPTH) -> Iterator[str]:
        """Yield a folder and its subfolders, parents first, sorted by name."""
        yield folder
        for name in self.folders(folder) if depth else ():
            yield from self.walk(name if folder == "." else f"{folder}/{name}", depth - 1)

    def nearest(self, is_wanted: Callable[[str], bool], depth: int = 2) -> list[str]:
        """Return the wanted folders of the first level below the root, among the first `depth`, that has any."""
        level = self.folders(".")
        for _ in range(depth):
            if wanted := list(filter(is_wanted, level)):
                return wanted
            level = [f"{folder}/{name}" for folder in level for name in self.folders(folder)]
        return []

    def match(self, name: re.Pattern[str]) -> Iterator[tuple[re.Match[str], str]]:
        """Yield the match and the path of each file, at any depth, whose full name matches (suffix in lower case)."""
        for folder in self.walk():
            for file, path in self.files(folder).items():
                if match := name.fullmatch(file):
                    yield match, path

    def text(self, path: str) -> str | None:
        """Read a text file (see `decode`). Returns None, with a note, if it is unreadable or binary."""

        def remark(sentence: str) -> None:
            self.notes.add("files of mixed encodings or with NUL bytes", f"{path}: {sentence}")

        try:
            return decode((self.root / path).read_bytes(), remark)
        except OSError as error:
            self._note_unreadable(path, error)
        except ValueError as error:
            self.notes.add("files that are not text", f"{path}: {error}")
        return None

    def _list(self, folder: str) -> _Listing:
        if folder not in self._listed:
            self._listed[folder] = self._read(folder)
        return self._listed[folder]

    def _read(self, folder: str) -> _Listing:
        entries = self._scan(folder)
        if entries is None and (other := self._in_other_case(folder)):
            folder, entries = other, self._scan(other)
        listing = _Listing(folder)
        for entry in entries or ():
            path = entry.name if folder == "." else f"{folder}/{entry.name}"
            if valid_unicode(path) != path:
                encoding = sys.getfilesystemencoding()
                self.notes.add(
                    "names that are not text",
                    f"{valid_unicode(path)}: its name is not text in {encoding}; skipped, rename it",
                )
                continue
            try:
                if entry.is_dir():
                    listing.folders.append(entry.name)
                elif entry.is_file():
                    stem, dot, suffix = entry.name.rpartition(".")
                    listing.files.setdefault(stem + dot + suffix.lower() if dot else entry.name, path)
                    listing.folded.setdefault(entry.name.casefold(), path)
                elif entry.is_symlink():
                    kind = "links have no target (git-annex, DVC: fetch the content; otherwise copy their targets)"
                    self.notes.count(kind, f"{path} -> {valid_unicode(str(Path(entry.path).readlink()))}")
            except OSError as error:
                self._note_unreadable(path, error)
        return listing

    def _scan(self, folder: str) -> list[os.DirEntry[str]] | None:
        """List the entries of a folder, sorted by name; None if there is no such folder."""
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted((entry for entry in entries if not is_junk(entry.name)), key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise_resource_error(error)
            self.notes.add("folders that cannot be listed", f"{folder}: cannot be listed ({error.strerror or error})")
        return []

    def _in_other_case(self, folder: str) -> str | None:
        """Return the path of the folder whose name differs in case only."""
        above, _, name = folder.rpartition("/")
        if folder == ".":
            return None
        parent = self._list(above or ".")
        other = next((other for other in parent.folders if other.casefold() == name.casefold()), None)
        return other and (other if parent.path == "." else f"{parent.path}/{other}")

    def _note_unreadable(self, path: str, error: OSError) -> None:
        raise_resource_error(error)
        self.notes.add("files that cannot be read", f"{path}: cannot be read ({error.strerror or error})")


def is_junk(name: str) -> bool:
    """Whether a name is hidden, or that of a file left by an operating system."""
    return name.startswith(".") or name.lower() in _JUNK


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer, which stands for a file that was not fetched."""
    try:
        with path.open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def decode(data: bytes, remark: Callable[[str], object] = lambda sentence: None) -> str:
    r"""Decode text; line breaks become "\n", a byte order mark is removed.

    With a UTF-16 mark the text is UTF-16. Otherwise each line is UTF-8, or else Windows-1252 or Latin-1. A run of NUL
    bytes (an interrupted copy, a crash of the file system) ends a line.

    Args:
        data: the bytes of a text file.
        remark: called with a sentence for each irregularity.

    Raises:
        ValueError: binary data, that is, NUL bytes without a line of text before them.
    """
    if data.startswith(_UTF16):
        data = data.decode("utf-16", "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        data = _without_nuls(data, remark)
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    lines = data.split(b"\n")
    other = {number: line for number, line in enumerate(lines, start=1) if not _is(line, "utf-8")}
    encoding, name = ("cp1252", "Windows-1252") if _is(b"\n".join(other.values()), "cp1252") else ("latin-1", "Latin-1")
    if any(not line.isascii() for number, line in enumerate(lines, start=1) if number not in other):
        numbers = ", ".join(map(str, list(other)[:_MAX_LINES])) + (" ..." if len(other) > _MAX_LINES else "")
        remark(f"is UTF-8, but for {len(other)} lines ({numbers}), which are read as {name}")
    return "\n".join(
        line.decode(encoding if number in other else "utf-8") for number, line in enumerate(lines, start=1)
    )


def open_table(path: Path) -> IO[str]:
    """Open a table as text: UTF-16 with its mark (a spreadsheet's "Unicode text"), else UTF-8. Raises OSError.

    Invalid bytes are replaced.
    """
    with path.open("rb") as file:
        mark = file.read(2)
    return path.open(encoding="utf-16" if mark in _UTF16 else "utf-8-sig", errors="replace", newline="")


def _is(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _without_nuls(data: bytes, remark: Callable[[str], object]) -> bytes:
    """Replace each run of NUL bytes by a line break. Raises ValueError if there is no text before the first."""
    text = data[: data.index(0)]
    at_end = not data[len(text) :].strip(b"\0")
    if _CONTROL.search(text) or not (text.strip() and (at_end or b"\n" in text or b"\r" in text)):
        raise ValueError("is not text (it contains NUL bytes)")
    line = len(text.splitlines()) or 1
    remark(
        f"contains {data.count(0)} NUL bytes after line {line}, which may be truncated; the text around them is read"
    )
    return re.sub(rb"\0+", b"\n", data)
