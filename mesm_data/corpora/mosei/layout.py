"""The layout of a copy of CMU-MOSEI: the archive's own, and those to which users flatten and rename it.

Raw/
    Transcript/Segmented/Combined/<vid>.txt           times and text of the clips
    Labels/*.csv                                      the raters' answers
    Videos/Full/Combined/<vid>.mp4                    whole videos
    Videos/Segmented/Combined/<vid>_<clip>.mp4        single clips; many are missing, some are damaged
    Audio/Full/WAV_16000/<vid>.wav                    whole audio
CMU_MOSEI_Labels.csd, CMU_MOSEI_TimestampedWords.csd  the SDK's, often next to Raw/
"""

import stat
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError


class Place(NamedTuple):
    """The suffixes of one kind of files and the folders in which they can be, in order of preference."""

    suffixes: tuple[str, ...]
    folders: tuple[str, ...]


_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi")
# By kind of file. Case is ignored. The archive's own folder comes first, then those in published code (the paper uses
# Transcript/Combined and Audio/WAV_16000).
PLACES: dict[str, Place] = {
    "transcripts": Place(
        (".txt",),
        tuple(
            f"{folder}{below}"
            for folder in ("Transcript", "Transcripts")
            for below in ("/Segmented/Combined", "/Combined", "/Segmented", "")
        ),
    ),
    "labels": Place((".csv",), ("Labels", "Label", "Labels/Combined", ".")),
    "videos": Place(
        _VIDEO_SUFFIXES,
        (
            "Videos/Full/Combined",
            "Videos/Full",
            "Videos/Combined",
            "Videos",
            "Video/Full/Combined",
            "Video/Full",
            "Video",
        ),
    ),
    "clips": Place(
        _VIDEO_SUFFIXES,
        ("Videos/Segmented/Combined", "Videos/Segmented", "Video/Segmented/Combined", "Video/Segmented"),
    ),
    "sound": Place(
        (".wav", ".flac"),
        ("Audio/Full/WAV_16000", "Audio/WAV_16000", "Audio/Full", "Audio", "Audios/Full/WAV_16000", "WAV_16000"),
    ),
    "csd": Place((".csd",), (".", "CSD", "SDK", "Labels")),
}
_EXPECTED = "the folder Raw of CMU_MOSEI, with Transcript/, Labels/, Videos/ and Audio/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A copy of the corpus. `folders`: kind -> folder relative to the tree's root; missing kinds have no entry."""

    tree: SourceTree
    folders: dict[str, str]

    def files(self, kind: str) -> dict[str, str]:
        """Return the files of one kind: name without suffix -> path. The first suffix in PLACES is preferred."""
        if kind not in self.folders:
            return {}
        names = self.tree.files(self.folders[kind])
        paths: dict[str, str] = {}
        for suffix in PLACES[kind].suffixes:
            for name, path in names.items():
                if name.endswith(suffix):
                    paths.setdefault(name.removesuffix(suffix), path)
        return paths

    def files_of(self, kind: str, ids: Collection[str]) -> dict[str, str]:
        """Return the files of one kind by the id that they are named after, in any case: id -> path."""
        files = self.files(kind)
        return {id_: files[name] for id_, name in match_case(files, ids).items()}

    def describe(self) -> str:
        """Describe in one sentence which kinds are in which folders."""
        folders = [f"{kind} in {folder}/ ({len(self.files(kind))})" for kind, folder in self.folders.items()]
        missing = [kind for kind in PLACES if kind not in self.folders]
        return f"read: {', '.join(folders)}" + (f"; not there: {', '.join(missing)}" if missing else "")


def match_case(names: Iterable[str], ids: Collection[str]) -> dict[str, str]:
    """Map each id to its name: the id itself, or a name that differs in case only.

    YouTube ids may differ in case only, too: such ids match their exact names only.
    """
    exact = set(names)
    folded = {name.casefold(): name for name in sorted(exact)}
    ids_like = Counter(id_.casefold() for id_ in ids)
    matches = {id_: id_ if id_ in exact else folded.get(id_.casefold()) for id_ in ids}
    return {id_: name for id_, name in matches.items() if name and (name == id_ or ids_like[id_.casefold()] == 1)}


def locate_copy(folder: Path) -> Layout:
    """Locate the copy that `folder` is or contains: the archive's Raw under any name, or one of the two folders above.

    The root of the layout is Raw. If `folder` is above it and contains .csd files, that is the root.

    Raises:
        InputError: this is not a copy, or nothing can be built from it. The message lists what was expected and found.
    """
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected {_EXPECTED}") from None
    if not is_folder:
        raise InputError(f"{folder}: is a file; expected {_EXPECTED} (unpack the archive first)")
    tree = SourceTree(folder)
    own = _find_kinds(tree, "")
    if _is_copy(own, ""):
        return _check_usable(Layout(tree=tree, folders=own))
    copies = tree.nearest(lambda name: _is_copy(_find_kinds(tree, name), name))
    if len(copies) > 1:
        raise InputError(f"{folder}: contains several copies ({', '.join(copies)}); name one of them")
    if copies and "csd" in own:
        return _check_usable(Layout(tree=tree, folders={**_find_kinds(tree, copies[0]), "csd": own["csd"]}))
    if copies:
        return locate_copy(folder / copies[0])
    for parent in folder.resolve().parents:
        if _is_copy(_find_kinds(SourceTree(parent), ""), ""):
            raise InputError(f"{folder}: is a part of a copy of CMU-MOSEI; give {parent} instead")
    if own:
        return _check_usable(Layout(tree=tree, folders=own))  # raises: there is one kind only
    content = ", ".join([f"{name}/" for name in tree.folders(".")] + [*tree.files(".")]) or "nothing"
    reason = "".join(f" ({note})" for note in tree.notes.sentences()[:1])
    raise InputError(f"{folder}: is not CMU-MOSEI; expected {_EXPECTED}, found {content[:200]}{reason}")


def _is_copy(kinds: dict[str, str], base: str) -> bool:
    """Whether `base` can be the root of a copy: two kinds in folders of their own are hardly a coincidence."""
    return sum(folder != (base or ".") for folder in kinds.values()) >= 2


def _find_kinds(tree: SourceTree, base: str) -> dict[str, str]:
    """Return, for each kind, the first of its folders under `base` that contains such a file."""
    return {kind: folder for kind in PLACES if (folder := find_folder(tree, base, kind))}


def find_folder(tree: SourceTree, base: str, kind: str) -> str | None:
    """Return the first of a kind's folders under `base` that contains a file with its suffix."""
    place = PLACES[kind]
    folders = (folder for path in place.folders for folder in _match_folders(tree, base, path))
    return next(
        (folder for folder in folders if any(name.endswith(place.suffixes) for name in tree.files(folder))), None
    )


def _match_folders(tree: SourceTree, base: str, path: str) -> list[str]:
    """Return the folders of this path; case is ignored."""
    folders = [base or "."]
    for part in () if path == "." else path.split("/"):
        folders = [
            name if folder == "." else f"{folder}/{name}"
            for folder in folders
            for name in tree.folders(folder)
            if name.casefold() == part.casefold()
        ]
    return folders


def _check_usable(layout: Layout) -> Layout:
    """Return the layout. Raises InputError if labels, times or media are missing, so that no clip could be built."""
    needs = {
        "labels": ("labels", "csd"),
        "times": ("transcripts", "csd"),
        "sound or picture": ("videos", "sound", "clips"),
    }
    missing = [need for need, kinds in needs.items() if not any(kind in layout.folders for kind in kinds)]
    if missing:
        kinds = sorted({kind for need in missing for kind in needs[need]})
        places = "; ".join(f"{'/'.join(PLACES[kind].suffixes)} in {', '.join(PLACES[kind].folders)}" for kind in kinds)
        folders = ", ".join(f"{kind} in {folder}/" for kind, folder in layout.folders.items()) or "nothing"
        raise InputError(f"{layout.tree.root}: has no {' and no '.join(missing)}. Found {folders}. Looked for {places}")
    return layout
