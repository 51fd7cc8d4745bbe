"""The processed release of the paper's authors (Dai et al. 2021) as rows of utterances, for both corpora.

IEMOCAP_RAW_PROCESSED/meta.pkl           {utterance: {start_time, end_time, label, text, sr, fps}}
IEMOCAP_RAW_PROCESSED/<scene>/<utterance>/audio.wav (stereo), audio_{L,R}.wav, image_{L,R}_0.jpg, ...
MOSEI_RAW_PROCESSED/meta.pkl             {utterance: {text, label: [0 or 1, six of them]}}
MOSEI_RAW_PROCESSED/<utterance>/audio.wav, image_0.jpg, ...

The images' rate is not written down (of MOSEI's it is not even known whether it is that of the videos or 2 a second):
it is found from the number of images and the length of the sound.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.corpora.dai2021.frame_rates import Counted, number, rates_of
from mesm_data.corpora.dai2021.safe_pickle import load
from mesm_data.corpora.iemocap.annotations import labels_record
from mesm_data.corpora.iemocap.ids import UTTERANCE, dialog_of, is_left, speaker_of
from mesm_data.corpora.mosei.ratings import labels as mosei_labels
from mesm_data.corpora.release_check import lacking_text
from mesm_data.corpora.source_tree import Tree
from mesm_data.errors import InputError
from mesm_data.media.image_sequence import numbered_images
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.recordings import AudioSource, Corpus, Excerpt, Picture, Recording, Utterance
from mesm_data.storage.machine_errors import raise_resource_error

FOLDERS = {"iemocap": "IEMOCAP_RAW_PROCESSED", "mosei": "MOSEI_RAW_PROCESSED"}
META = "meta.pkl"
EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")  # the order of MOSEI's labels
FLAG = "processed_release"
_STRANGE = "folders that are not named after an utterance"

_MOSEI = re.compile(r"[A-Za-z0-9_-]+_\d+", re.ASCII)


def find(corpus: str, given: Path) -> Path | None:
    """The processed release of `corpus` where `given` is it, or holds it itself or in `data/`; else None."""
    name = FOLDERS.get(corpus)
    if name is None:
        return None
    places = [given / name, given / "data" / name]
    if given.resolve().name == name or (given / META).is_file():
        return given
    return next((place for place in places if place.is_dir()), None)


@dataclass(slots=True, kw_only=True)
class _Found:
    """What lies on disk of an utterance. `images` counts up to the last number, `length` is in seconds."""

    folder: str
    wavs: Mapping[str, str]
    images: int
    length: float | None


def scan(corpus: str, root: Path) -> Corpus:
    """Every utterance that has a folder, an entry in meta.pkl, or both. `root` is the folder that holds meta.pkl.

    Flags: `processed_release` and `no_alignment` always; `no_meta` (no entry: label and text are unknown),
    `no_transcript`, `no_times` (start is 0: the place in the recording is unknown). An utterance without a folder has
    neither sound nor picture. What could not be used is in the notes.

    Raises InputError if there is no utterance, or meta.pkl cannot be read or holds more than plain data.
    """
    tree = Tree(root)
    entries = _entries(corpus, tree)
    folders: dict[str, str] = {}
    for id_, folder in _folders(corpus, tree):
        if folders.setdefault(id_, folder) != folder:
            sentence = f"{folder}/: a second folder of this utterance; {folders[id_]}/ counts"
            tree.notes.add("second folders of utterances", sentence)
    ids = sorted({*entries, *folders})
    if not ids:
        raise InputError(f"{root}: holds no utterances; expected {META} and a folder for each utterance")
    for said, missing in (
        ("folders have no entry in meta.pkl", folders.keys() - entries.keys()),
        ("entries of meta.pkl have no folder", entries.keys() - folders.keys()),
    ):
        if missing:
            tree.notes.add(said, f"{len(missing)} {said} (such as {min(missing)})")
    found = {id_: _look(corpus, tree, id_, folder) for id_, folder in folders.items()}
    times = {id_: _times(tree, id_, entries.get(id_)) for id_ in ids}
    rates, notes = rates_of(
        {
            id_: Counted(count=each.images, seconds=each.length, said=number(entries.get(id_, {}).get("fps")))
            for id_, each in found.items()
        }
    )
    for note in notes:
        tree.notes.add("remarks on the images' rate", note)
    recordings: dict[str, list[Utterance]] = {}
    for id_ in ids:
        utterance = _utterance(corpus, tree, id_, entries.get(id_), found.get(id_), times[id_], rates.get(id_))
        recordings.setdefault(utterance.dialog, []).append(utterance)
    return Corpus(
        schema=built_in_schema(corpus),
        root=root,
        recordings=tuple(
            Recording(
                id=dialog,
                video=None,
                utterances=tuple(sorted(recordings[dialog], key=lambda each: (each.start, each.end, each.id))),
            )
            for dialog in sorted(recordings)
        ),
        notes=(
            f"the processed release of the paper's authors: {root}",
            *lacking_text(utterance for utterances in recordings.values() for utterance in utterances),
            *tree.notes.sentences(),
        ),
    )


def _is_id(corpus: str, name: str) -> bool:
    return bool((UTTERANCE if corpus == "iemocap" else _MOSEI).fullmatch(name))


def _entries(corpus: str, tree: Tree) -> dict[str, dict[str, Any]]:
    """meta.pkl: utterance id -> what it says."""
    if META not in tree.files("."):
        tree.notes.add("missing files", f"{META}: is not there; labels, texts and times are unknown")
        return {}
    meta = load(tree.root / META)
    if not isinstance(meta, dict):
        raise InputError(f"{tree.root / META}: holds a {type(meta).__name__}, not a dictionary of utterances")
    entries: dict[str, dict[str, Any]] = {}
    for id_, entry in meta.items():
        if not isinstance(id_, str) or not _is_id(corpus, id_):
            name = repr(id_[:100]) if isinstance(id_, str) else f"a key that is a {type(id_).__name__}"
            tree.notes.add(
                f"keys of {META} that are no utterance id", f"{META}: {name} is not an utterance id; left out"
            )
        elif not isinstance(entry, dict):
            sentence = f"{META}: {id_}: holds a {type(entry).__name__}, not a dictionary; taken as empty"
            tree.notes.add(f"entries of {META} that are no dictionary", sentence)
            entries[id_] = {}
        else:
            entries[id_] = entry
    return entries


def _folders(corpus: str, tree: Tree) -> Iterator[tuple[str, str]]:
    """Utterance id -> its folder: directly in the release (MOSEI), or in the folder of its scene (IEMOCAP)."""
    for name in tree.folders("."):
        if _is_id(corpus, name):
            yield name, name
        elif corpus == "iemocap":
            inside = tree.folders(name)
            yield from ((id_, f"{name}/{id_}") for id_ in inside if _is_id(corpus, id_))
            for each in inside:
                if not _is_id(corpus, each):
                    tree.notes.add(_STRANGE, f"{name}/{each}/: is not named after an utterance; left out")
        else:
            tree.notes.add(_STRANGE, f"{name}/: is not named after an utterance; left out")


def _side(corpus: str, id_: str) -> str:
    return ("_L" if is_left(id_) else "_R") if corpus == "iemocap" else ""


def _prefix(corpus: str, id_: str) -> str:
    return f"image{_side(corpus, id_)}_"


def _look(corpus: str, tree: Tree, id_: str, folder: str) -> _Found:
    """One utterance's folder. The headers of its wavs are read for their length, nothing else of them."""
    listing = Tree(tree.root)  # not kept: there are millions of images
    files = listing.files(folder)
    tree.notes.extend(listing.notes)
    images = numbered_images(iter(files), _prefix(corpus, id_))
    wavs = {name: path for name, path in files.items() if name.endswith(".wav")}
    lengths = (_length(tree.root / path) for name, path in sorted(wavs.items(), reverse=True))
    length = next((length for length in lengths if length), None)
    return _Found(folder=folder, wavs=wavs, images=max(images) + 1 if images else 0, length=length)


def _length(path: Path) -> float | None:
    """Seconds of a sound file, None if it is none."""
    import soundfile

    try:
        info = soundfile.info(os.fsencode(path))
    except (soundfile.LibsndfileError, OSError) as error:
        raise_resource_error(error)
        return None
    return float(info.frames / info.samplerate)


def _times(tree: Tree, id_: str, entry: dict[str, Any] | None) -> tuple[float, float] | None:
    """Start and end from meta.pkl, None where it has none."""
    start, end = (number((entry or {}).get(name)) for name in ("start_time", "end_time"))
    if start is None or end is None:
        return None
    if end <= start:
        sentence = f"{META}: {id_} ends at {end} s, not after its start at {start} s; its times are not used"
        tree.notes.add("utterances that end before they begin", sentence)
        return None
    return start, end


def _utterance(
    corpus: str,
    tree: Tree,
    id_: str,
    entry: dict[str, Any] | None,
    found: _Found | None,
    times: tuple[float, float] | None,
    rate: float | None,
) -> Utterance:
    length = (found.length if found else None) or (found.images / rate if found and rate else 0.0)
    start, end = times or (0.0, round(length, 6))
    text = (entry or {}).get("text")
    text = text if isinstance(text, str) else ""
    dialog = dialog_of(id_) if corpus == "iemocap" else id_.rpartition("_")[0]
    flags = {"no_meta": entry is None, "no_transcript": not text, "no_times": times is None}
    return Utterance(
        id=id_,
        dialog=dialog,
        speaker=speaker_of(id_) if corpus == "iemocap" else dialog,
        session=dialog[4] if corpus == "iemocap" else None,
        start=start,
        end=end,
        text=text,
        words=None,
        labels=_labels(corpus, tree, id_, entry),
        audio=_audio(corpus, id_, found) if found else (),
        picture=Picture(),  # the images are the centre squares already
        texts=() if entry is None else (META,),
        excerpt=Excerpt(path=found.folder, images=_prefix(corpus, id_), rate=rate or 0.0) if found else None,
        flags=(FLAG, *(flag for flag, is_so in flags.items() if is_so), "no_alignment"),
    )


def _audio(corpus: str, id_: str, found: _Found) -> tuple[AudioSource, ...]:
    """The wav of the speaker's channel; else that channel of the stereo wav."""
    sources = []
    if corpus == "iemocap" and (own := found.wavs.get(f"audio{_side(corpus, id_)}.wav")):
        sources.append(AudioSource(path=own))
    if both := found.wavs.get("audio.wav"):
        channel = (0 if is_left(id_) else 1) if corpus == "iemocap" else None
        sources.append(AudioSource(path=both, channel=channel, channel_per_speaker=channel is not None))
    return tuple(sources)


def _labels(corpus: str, tree: Tree, id_: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """The label of meta.pkl in the corpus' own shape; what the release left out (raters, sentiment) is null."""
    label = (entry or {}).get("label")
    if corpus == "iemocap":
        if entry is not None and not isinstance(label, str):
            tree.notes.add("utterances without a label", f"{META}: {id_} has no label that is text; taken as null")
        return labels_record(label if isinstance(label, str) else None, None, [])
    values = [number(value) for value in label] if isinstance(label, (list, tuple)) else []
    if len(values) != len(EMOTIONS) or any(value not in (0.0, 1.0) for value in values):
        if entry is not None:
            sentence = f"{META}: {id_} has no label of six numbers, each 0 or 1; taken as null"
            tree.notes.add("utterances without a label", sentence)
        values = [None] * len(EMOTIONS)
    return mosei_labels({**dict(zip(EMOTIONS, values, strict=True)), "sentiment": None}, [])
