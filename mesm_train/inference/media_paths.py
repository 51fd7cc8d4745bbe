"""Which files on disk the names of a command line mean."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mesm_data.corpora.table.media_files import AUDIO_SUFFIXES, VIDEO_SUFFIXES
from mesm_data.errors import InputError


def find_clips(names: Sequence[str]) -> list[Path]:
    """The media files that names mean: files, folders (all media files below them) and patterns with * ? [ ].

    Raises InputError if a name means nothing, or two names mean the same file.
    """
    paths: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            below = sorted(file for file in path.rglob("*") if is_media(file))
            if not below:
                raise InputError(f"{name}: there is no video or audio file in this folder")
        elif path.exists():
            below = [path]
        else:
            parts = [index for index, part in enumerate(path.parts) if any(c in part for c in "*?[")]
            base = Path(*path.parts[: parts[0]]) if parts else path
            below = sorted(filter(is_media, base.glob("/".join(path.parts[parts[0] :])))) if parts else []
            if not below:
                raise InputError(f"{name}: there is no such {'media file' if parts else 'file'}")
        paths += below
    if twice := [path for path, count in Counter(path.absolute() for path in paths).items() if count > 1]:
        raise InputError(f"{twice[0]} is named twice")
    return paths


def is_media(path: Path) -> bool:
    """Whether a path is a file with the ending of a video or audio file."""
    return path.suffix.lower() in VIDEO_SUFFIXES | AUDIO_SUFFIXES and path.is_file()
