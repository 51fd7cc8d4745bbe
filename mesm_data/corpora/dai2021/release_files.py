"""The folders and files of the processed release, and its meta.pkl."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.corpora.dai2021.safe_pickle import load_pickle
from mesm_data.corpora.iemocap.ids import UTTERANCE, is_left_speaker
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError
from mesm_data.media.image_sequence import numbered_images
from mesm_data.storage.machine_errors import raise_resource_error

FOLDERS = {"iemocap": "IEMOCAP_RAW_PROCESSED", "mosei": "MOSEI_RAW_PROCESSED"}
META = "meta.pkl"
_UNKNOWN = "folders that are not named after an utterance"

_MOSEI = re.compile(r"[A-Za-z0-9_-]+_\d+", re.ASCII)


def find_release(corpus: str, folder: Path) -> Path | None:
    """Return the processed release that `folder` is or contains, directly or in `data/`; None if there is none."""
    name = FOLDERS.get(corpus)
    if name is None:
        return None
    places = [folder / name, folder / "data" / name]
    if folder.resolve().name == name or (folder / META).is_file():
        return folder
    return next((place for place in places if place.is_dir()), None)


@dataclass(slots=True, kw_only=True)
class UtteranceFiles:
    """The files of an utterance.

    Attributes:
        wavs: name -> path.
        images: number of images up to the last one, including missing ones.
        length: length of the audio in seconds; None if unknown.
    """

    folder: str
    wavs: Mapping[str, str]
    images: int
    length: float | None


def is_utterance_id(corpus: str, name: str) -> bool:
    """Whether a name is that of an utterance of the corpus."""
    return bool((UTTERANCE if corpus == "iemocap" else _MOSEI).fullmatch(name))


def read_entries(corpus: str, tree: SourceTree) -> dict[str, dict[str, Any]]:
    """Read meta.pkl: utterance id -> entry."""
    if META not in tree.files("."):
        tree.notes.add("missing files", f"{META}: is not there; labels, texts and times are unknown")
        return {}
    meta = load_pickle(tree.root / META)
    if not isinstance(meta, dict):
        raise InputError(f"{tree.root / META}: contains a {type(meta).__name__}, not a dictionary of utterances")
    entries: dict[str, dict[str, Any]] = {}
    for id_, entry in meta.items():
        if not isinstance(id_, str) or not is_utterance_id(corpus, id_):
            name = repr(id_[:100]) if isinstance(id_, str) else f"a key that is a {type(id_).__name__}"
            tree.notes.add(
                f"keys of {META} that are no utterance id", f"{META}: {name} is not an utterance id; skipped"
            )
        elif not isinstance(entry, dict):
            sentence = f"{META}: {id_}: contains a {type(entry).__name__}, not a dictionary; taken as empty"
            tree.notes.add(f"entries of {META} that are no dictionary", sentence)
            entries[id_] = {}
        else:
            entries[id_] = entry
    return entries


def find_folders(corpus: str, tree: SourceTree) -> Iterator[tuple[str, str]]:
    """Yield (utterance id, folder). The folders are in the release (MOSEI) or in folders of scenes (IEMOCAP)."""
    for name in tree.folders("."):
        if is_utterance_id(corpus, name):
            yield name, name
        elif corpus == "iemocap":
            inside = tree.folders(name)
            yield from ((id_, f"{name}/{id_}") for id_ in inside if is_utterance_id(corpus, id_))
            for other in inside:
                if not is_utterance_id(corpus, other):
                    tree.notes.add(_UNKNOWN, f"{name}/{other}/: is not named after an utterance; skipped")
        else:
            tree.notes.add(_UNKNOWN, f"{name}/: is not named after an utterance; skipped")


def speaker_side(corpus: str, id_: str) -> str:
    """Return the suffix of the speaker's files, for IEMOCAP."""
    return ("_L" if is_left_speaker(id_) else "_R") if corpus == "iemocap" else ""


def image_prefix(corpus: str, id_: str) -> str:
    """Return the prefix of the speaker's images."""
    return f"image{speaker_side(corpus, id_)}_"


def list_files(corpus: str, tree: SourceTree, id_: str, folder: str) -> UtteranceFiles:
    """List the folder of an utterance. Of the wavs only the headers are read, for the length."""
    listing = SourceTree(tree.root)  # a temporary tree: the listings of millions of images must not stay in memory
    files = listing.files(folder)
    tree.notes.extend(listing.notes)
    images = numbered_images(iter(files), image_prefix(corpus, id_))
    wavs = {name: path for name, path in files.items() if name.endswith(".wav")}
    lengths = (_length(tree.root / path) for name, path in sorted(wavs.items(), reverse=True))
    length = next((length for length in lengths if length), None)
    return UtteranceFiles(folder=folder, wavs=wavs, images=max(images) + 1 if images else 0, length=length)


def _length(path: Path) -> float | None:
    """Return the length of an audio file in seconds; None if it is not one."""
    import soundfile

    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise_resource_error(error)
        return None
    return float(info.frames / info.samplerate)
