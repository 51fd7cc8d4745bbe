"""The media files in a table: below one folder, with the suffix of a video or an audio file."""

import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Literal
from unicodedata import normalize

from mesm_data.corpora.source_tree import LFS_POINTER_BYTES, is_lfs_pointer
from mesm_data.corpora.table.cells import Problems, Row, is_ruled_out
from mesm_data.errors import InputError
from mesm_data.storage.machine_errors import raise_resource_error

VIDEO_SUFFIXES = frozenset(
    (".mp4", ".mkv", ".avi", ".mov", ".webm", ".flv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".3gp", ".ogv", ".mts",
     ".m2ts", ".vob", ".dv", ".asf", ".f4v", ".3g2")
)  # fmt: skip
AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".oga", ".opus", ".aac", ".wma", ".aif", ".aiff", ".au", ".mka", ".caf",
     ".amr", ".w64", ".aifc", ".sph", ".mp2")
)  # fmt: skip
_ADVICE = "that mesm reads: convert it, for example by ffmpeg to .mkv or .flac"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMedia:
    """The files of one row, relative to the root."""

    video: str | None
    audio: str | None

    @property
    def recording(self) -> str:
        """The file on whose clock `start` and `end` are."""
        return self.video or self.audio or ""


def find_media(row: Row, disk: "MediaFiles", number: int, problems: Problems) -> RowMedia | None:
    """Return the files of row `number`; None, with a problem, if it has none or one that cannot be used."""
    files: dict[str, str] = {}
    for column in ("path", "video", "audio"):
        if not (cell := row.get(column, "").strip()):
            continue
        path = disk.as_written(row[column]) or relative_path(cell, disk.root)
        if path is None:
            problems.add(number, column, f"{cell!r:.120} is not below {disk.root}")
            return None
        if media_kind(path) is None:
            candidates = disk.files_named(path)
            if len(candidates) > 1:
                problems.add(number, column, f"{cell!r:.120} names {' and '.join(candidates)}: write the suffix")
                return None
            path = candidates[0] if candidates else path
        kind = media_kind(path)
        if kind is None and not PurePosixPath(path).suffix and not disk.exists(path):
            kind = "audio" if column == "audio" else "video"  # a clip that is missing
        if kind is None:
            problems.add(number, column, f"{cell!r:.120} does not have the suffix of a video or audio file {_ADVICE}")
            return None
        # An audio file in the column video would silently be built without video.
        if column == "video" and kind == "audio":
            problems.add(number, column, f"{cell!r:.120} is an audio file")
            return None
        files.setdefault(kind if column != "audio" else "audio", disk.spell(path))
    if not files and not is_ruled_out(row):
        problems.add(number, "path", "no media file is named")
        return None
    return RowMedia(video=files.get("video"), audio=files.get("audio"))


def media_kind(path: str) -> Literal["audio", "video"] | None:
    """Whether the suffix is that of a sound or a video file; None if neither."""
    suffix = PurePosixPath(path).suffix.lower()
    return "audio" if suffix in AUDIO_SUFFIXES else "video" if suffix in VIDEO_SUFFIXES else None


def without_media_suffix(path: str) -> str:
    """Return the path without the suffix of a media file; another ending, as in `clip.01`, stays."""
    return path.rpartition(".")[0] if media_kind(path) else path


def relative_path(cell: str, root: Path) -> str | None:
    """Return the path below `root`, with forward slashes; None if it is outside. A leading $data_folder is the root."""
    text = re.sub(r"^(\$\w+|\{\w+\})/", "", cell.replace("\\", "/"))
    if text.startswith("/"):
        try:
            text = Path(text).relative_to(root.absolute()).as_posix()
        except ValueError:
            return None
    parts = [part for part in text.split("/") if part not in ("", ".")]
    return "/".join(parts) if parts and ".." not in parts and "\0" not in text else None


def _folded(name: str) -> str:
    return normalize("NFC", name.casefold())


class MediaFiles:
    """The existing media files below a root. Each path is checked once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, bool] = {}
        self._lfs_pointers: list[str] = []
        self._names: dict[str, dict[str, list[str]]] = {}  # by folder
        self._stems: dict[str, dict[str, list[str]]] = {}  # by folder

    def exists(self, path: str) -> bool:
        """Whether there is a file of this path."""
        if path not in self._known:
            self._known[path] = self._check(path)
        return self._known[path]

    def as_written(self, cell: str) -> str | None:
        """Return a cell if a file has precisely this path: its name may begin with a space or contain a backslash."""
        is_plain = {"", ".", ".."}.isdisjoint(cell.split("/")) and "\0" not in cell
        return cell if is_plain and self.exists(cell) else None

    def problem(self, paths: Iterable[str | None]) -> str:
        """Say why none of these files exists."""
        by_problem: dict[str, list[str]] = {}
        for path in dict.fromkeys(filter(None, paths)):
            by_problem.setdefault(self._problem(path), []).append(path)
        return "; ".join(f"{' and '.join(paths)} {problem}" for problem, paths in by_problem.items())

    def _problem(self, path: str) -> str:
        file = self.root / path
        try:
            return "not found" if stat.S_ISREG(file.stat().st_mode) else "is not a regular file"
        except (FileNotFoundError, NotADirectoryError):
            return (
                "is a link without a target (git-annex, DVC: fetch the content)" if file.is_symlink() else "not found"
            )
        except OSError as error:
            return f"cannot be read ({error.strerror})"

    def spell(self, path: str) -> str:
        """Return the path as the disk spells it.

        macOS has two characters for ü, a table one; to macOS and Windows A.WAV is a.wav. A file whose name
        differs is found only if it is the only one.
        """
        if self.exists(path):
            return path
        spelled = [""]
        for part in path.split("/"):
            spelled = [f"{above}{name}/" for above in spelled for name in self._entries(above).get(_folded(part), ())]
        files = [name for name in (entry.removesuffix("/") for entry in spelled) if self.exists(name)]
        return files[0] if len(files) == 1 else path

    def files_named(self, path: str) -> list[str]:
        """Return the media files whose path is this one and a suffix: the tables of MER name clips so."""
        folder, slash, stem = path.rpartition("/")
        above = folder + slash
        if above not in self._stems:
            self._stems[above] = {}
            for name in filter(media_kind, chain.from_iterable(self._entries(above).values())):
                self._stems[above].setdefault(without_media_suffix(name), []).append(above + name)
        return self._stems[above].get(stem, [])

    def _entries(self, folder: str) -> dict[str, list[str]]:
        """Return the names in a folder by their folded form."""
        if folder not in self._names:
            names = self._names[folder] = {}
            try:
                for entry in sorted((self.root / folder).iterdir()):
                    names.setdefault(_folded(entry.name), []).append(entry.name)
            except OSError as error:
                raise_resource_error(error)
        return self._names[folder]

    def _check(self, path: str) -> bool:
        file = self.root / path
        try:
            status = file.stat()
        except OSError as error:
            raise_resource_error(error)
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        if 0 < status.st_size < LFS_POINTER_BYTES and is_lfs_pointer(file):
            self._lfs_pointers.append(path)
        return True

    def refuse_lfs_pointers(self) -> None:
        """Raise InputError if any of the files is a Git LFS pointer: nothing could be built from it."""
        if self._lfs_pointers:
            raise InputError(
                f"{self.root}: {len(self._lfs_pointers)} media files, such as {min(self._lfs_pointers)}, are Git "
                "LFS pointers without content: fetch the files with `git lfs pull` in a clone (a zip download "
                "never contains them)"
            )
