"""Where things lie in a copy of CMU-MOSEI: the archive's layout, and how its users flatten and rename it.

Raw/
    Transcript/Segmented/Combined/<vid>.txt           clips: times and text
    Labels/*.csv                                      the raters' answers
    Videos/Full/Combined/<vid>.mp4                    whole videos
    Videos/Segmented/Combined/<vid>_<clip>.mp4        a clip alone; many are missing, some broken
    Audio/Full/WAV_16000/<vid>.wav                    whole sound
CMU_MOSEI_Labels.csd, CMU_MOSEI_TimestampedWords.csd  the SDK's, often beside Raw/
"""

import stat
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from mesm_data.corpora.source_tree import Tree
from mesm_data.errors import InputError

# By kind: the names that it can have, and where it can be; upper and lower case do not matter. The archive's own place
# comes first, then those met in published code (the paper's is Transcript/Combined and Audio/WAV_16000).
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "transcripts": (
        (".txt",),
        (
            "Transcript/Segmented/Combined",
            "Transcript/Combined",
            "Transcript/Segmented",
            "Transcript",
            "Transcripts/Segmented/Combined",
            "Transcripts/Combined",
            "Transcripts/Segmented",
            "Transcripts",
        ),
    ),
    "labels": ((".csv",), ("Labels", "Label", "Labels/Combined", ".")),
    "videos": (
        (".mp4", ".mkv", ".webm", ".avi"),
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
    "clips": (
        (".mp4", ".mkv", ".webm", ".avi"),
        ("Videos/Segmented/Combined", "Videos/Segmented", "Video/Segmented/Combined", "Video/Segmented"),
    ),
    "sound": (
        (".wav", ".flac"),
        ("Audio/Full/WAV_16000", "Audio/WAV_16000", "Audio/Full", "Audio", "Audios/Full/WAV_16000", "WAV_16000"),
    ),
    "csd": ((".csd",), (".", "CSD", "SDK", "Labels")),
}
_WANTED = "the folder Raw of CMU_MOSEI, with Transcript/, Labels/, Videos/ and Audio/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A copy and where in it each kind lies: folders relative to the tree's root. What is not there has no folder."""

    tree: Tree
    folders: dict[str, str]

    def files(self, kind: str) -> dict[str, str]:
        """The files of one kind: the name without its suffix -> the path. The first suffix of PLACES is preferred."""
        if kind not in self.folders:
            return {}
        names = self.tree.files(self.folders[kind])
        found: dict[str, str] = {}
        for suffix in PLACES[kind][0]:
            for name, path in names.items():
                if name.endswith(suffix):
                    found.setdefault(name.removesuffix(suffix), path)
        return found

    def files_of(self, kind: str, ids: Collection[str]) -> dict[str, str]:
        """The files of one kind by the id that they are named after, in any case: id -> the path."""
        files = self.files(kind)
        return {id_: files[name] for id_, name in match_case(files, ids).items()}

    def describe(self) -> str:
        """One sentence: what was found where."""
        said = [f"{kind} in {folder}/ ({len(self.files(kind))})" for kind, folder in self.folders.items()]
        absent = [kind for kind in PLACES if kind not in self.folders]
        return f"read: {', '.join(said)}" + (f"; not there: {', '.join(absent)}" if absent else "")


def match_case(names: Iterable[str], ids: Collection[str]) -> dict[str, str]:
    """Id -> the name that stands for it: itself, or one that differs in upper and lower case alone.

    Ids of YouTube may differ in case alone too: such two are never told apart by another name than their own.
    """
    there = set(names)
    folded = {name.casefold(): name for name in sorted(there)}
    ids_like = Counter(id_.casefold() for id_ in ids)
    found = {id_: id_ if id_ in there else folded.get(id_.casefold()) for id_ in ids}
    return {id_: name for id_, name in found.items() if name and (name == id_ or ids_like[id_.casefold()] == 1)}


def locate(given: Path) -> Layout:
    """The copy that `given` is or holds: the archive's Raw under any name, or the folder above it.

    The root is Raw; if .csd files lie beside it and the folder above is given, that is the root. Raises InputError that
    says what was looked for and what is here, if it is no copy or nothing can be built of it.
    """
    try:
        is_folder = stat.S_ISDIR(given.stat().st_mode)
    except OSError as error:
        raise InputError(f"{given}: {error.strerror}; expected {_WANTED}") from None
    if not is_folder:
        raise InputError(f"{given}: is a file; expected {_WANTED} (unpack the archive first)")
    tree = Tree(given)
    here = _find(tree, "")
    if _is_copy(here, ""):
        return _usable(Layout(tree=tree, folders=here))
    copies = [(name, inside) for name in tree.folders(".") if _is_copy(inside := _find(tree, name), name)]
    if len(copies) > 1:
        raise InputError(f"{given}: holds several copies ({', '.join(name for name, _ in copies)}); name one of them")
    if copies and "csd" in here:
        return _usable(Layout(tree=tree, folders={**copies[0][1], "csd": here["csd"]}))
    if copies:
        return locate(given / copies[0][0])
    for parent in given.resolve().parents:
        if _is_copy(_find(Tree(parent), ""), ""):
            raise InputError(f"{given}: is a part of a copy of CMU-MOSEI; give {parent} instead")
    if here:
        return _usable(Layout(tree=tree, folders=here))  # raises: one kind alone
    seen = ", ".join([f"{name}/" for name in tree.folders(".")] + [*tree.files(".")]) or "nothing"
    why = "".join(f" ({note})" for note in tree.notes.sentences()[:1])
    raise InputError(f"{given}: is not CMU-MOSEI; expected {_WANTED}, found {seen[:200]}{why}")


def _is_copy(found: dict[str, str], base: str) -> bool:
    """Whether `base` can be the root: two kinds in folders of their own are hardly together by chance."""
    return sum(folder != (base or ".") for folder in found.values()) >= 2


def _find(tree: Tree, base: str) -> dict[str, str]:
    """Kind -> the first of its places under `base` that holds a file of its suffix."""
    return {kind: folder for kind in PLACES if (folder := find_folder(tree, base, kind))}


def find_folder(tree: Tree, base: str, kind: str) -> str | None:
    """The first of a kind's places under `base` that holds a file of its suffix."""
    suffixes, places = PLACES[kind]
    folders = (folder for place in places for folder in _resolve(tree, base, place))
    return next((folder for folder in folders if any(name.endswith(suffixes) for name in tree.files(folder))), None)


def _resolve(tree: Tree, base: str, place: str) -> list[str]:
    """The folders of this name, upper and lower case aside."""
    folders = [base or "."]
    for part in () if place == "." else place.split("/"):
        folders = [
            name if folder == "." else f"{folder}/{name}"
            for folder in folders
            for name in tree.folders(folder)
            if name.casefold() == part.casefold()
        ]
    return folders


def _usable(layout: Layout) -> Layout:
    """The layout. Raises InputError if labels, times or media are missing: no clip could be built."""
    needs = {
        "labels": ("labels", "csd"),
        "times": ("transcripts", "csd"),
        "sound or picture": ("videos", "sound", "clips"),
    }
    missing = [what for what, kinds in needs.items() if not any(kind in layout.folders for kind in kinds)]
    if missing:
        kinds = sorted({kind for what in missing for kind in needs[what]})
        places = "; ".join(f"{'/'.join(PLACES[kind][0])} in {', '.join(PLACES[kind][1])}" for kind in kinds)
        here = ", ".join(f"{kind} in {folder}/" for kind, folder in layout.folders.items()) or "nothing"
        raise InputError(f"{layout.tree.root}: has no {' and no '.join(missing)}. Found {here}. Looked for {places}")
    return layout
