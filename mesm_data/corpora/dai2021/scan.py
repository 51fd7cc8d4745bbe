"""Scan of the processed release of the paper's authors (Dai et al. 2021), of IEMOCAP or CMU-MOSEI.

IEMOCAP_RAW_PROCESSED/meta.pkl           {utterance: {start_time, end_time, label, text, sr, fps}}
IEMOCAP_RAW_PROCESSED/<scene>/<utterance>/audio.wav (stereo), audio_{L,R}.wav, image_{L,R}_0.jpg, ...
MOSEI_RAW_PROCESSED/meta.pkl             {utterance: {text, label: [six numbers, 0 or 1]}}
MOSEI_RAW_PROCESSED/<utterance>/audio.wav, image_0.jpg, ...

The release does not state the images' rate (for MOSEI it is unknown whether it is that of the videos or 2 per second):
it is inferred from the number of images and the length of the audio.
"""

from pathlib import Path
from typing import Any

from mesm_data.corpora.dai2021.frame_rates import ImageCount, infer_frame_rates, parse_number
from mesm_data.corpora.dai2021.release_files import (
    META,
    UtteranceFiles,
    find_folders,
    image_prefix,
    list_files,
    read_entries,
    speaker_side,
)
from mesm_data.corpora.iemocap.annotations import iemocap_labels
from mesm_data.corpora.iemocap.ids import dialog_of, is_left_speaker, speaker_of
from mesm_data.corpora.mosei.ratings import EMOTIONS, mosei_labels
from mesm_data.corpora.release_check import missing_text_notes
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.recordings import AudioSource, ClipSource, Corpus, Recording, Utterance, VideoRegion

FLAG = "processed_release"


def scan_release(corpus: str, root: Path) -> Corpus:
    """Scan every utterance that has a folder, an entry in meta.pkl, or both. `root` is the folder of meta.pkl.

    Flags: always `processed_release` and `no_alignment`; `no_meta` (no entry: label and text are unknown),
    `no_transcript`, `no_times` (start is 0: the position in the recording is unknown). An utterance without a folder
    has neither audio nor video. The notes list what could not be used.

    Raises InputError if there is no utterance, or meta.pkl cannot be read or contains more than plain data.
    """
    tree = SourceTree(root)
    entries = read_entries(corpus, tree)
    folders: dict[str, str] = {}
    for id_, folder in find_folders(corpus, tree):
        if folders.setdefault(id_, folder) != folder:
            sentence = f"{folder}/: a second folder of this utterance; {folders[id_]}/ counts"
            tree.notes.add("second folders of utterances", sentence)
    ids = sorted({*entries, *folders})
    if not ids:
        raise InputError(f"{root}: contains no utterances; expected {META} and a folder for each utterance")
    for kind, missing in (
        ("folders have no entry in meta.pkl", folders.keys() - entries.keys()),
        ("entries of meta.pkl have no folder", entries.keys() - folders.keys()),
    ):
        if missing:
            tree.notes.add(kind, f"{len(missing)} {kind} (such as {min(missing)})")
    files = {id_: list_files(corpus, tree, id_, folder) for id_, folder in folders.items()}
    times = {id_: _read_times(tree, id_, entries.get(id_)) for id_ in ids}
    rates, notes = infer_frame_rates(
        {
            id_: ImageCount(
                count=own.images, seconds=own.length, declared_rate=parse_number(entries.get(id_, {}).get("fps"))
            )
            for id_, own in files.items()
        }
    )
    for note in notes:
        tree.notes.add("remarks on the images' rate", note)
    recordings: dict[str, list[Utterance]] = {}
    for id_ in ids:
        utterance = _utterance(corpus, tree, id_, entries.get(id_), files.get(id_), times[id_], rates.get(id_))
        recordings.setdefault(utterance.dialog, []).append(utterance)
    return Corpus(
        schema=built_in_schema(corpus),
        root=root,
        recordings=tuple(
            Recording(
                id=dialog,
                video=None,
                utterances=tuple(sorted(recordings[dialog], key=lambda u: (u.start, u.end, u.id))),
            )
            for dialog in sorted(recordings)
        ),
        notes=(
            f"the processed release of the paper's authors: {root}",
            *missing_text_notes(utterance for utterances in recordings.values() for utterance in utterances),
            *tree.notes.sentences(),
        ),
    )


def _read_times(tree: SourceTree, id_: str, entry: dict[str, Any] | None) -> tuple[float, float] | None:
    """Return start and end from meta.pkl; None if it has none."""
    start, end = (parse_number((entry or {}).get(name)) for name in ("start_time", "end_time"))
    if start is None or end is None:
        return None
    if end <= start:
        sentence = f"{META}: {id_} ends at {end} s, not after its start at {start} s; its times are not used"
        tree.notes.add("utterances that end before they begin", sentence)
        return None
    return start, end


def _utterance(
    corpus: str,
    tree: SourceTree,
    id_: str,
    entry: dict[str, Any] | None,
    files: UtteranceFiles | None,
    times: tuple[float, float] | None,
    rate: float | None,
) -> Utterance:
    length = (files.length if files else None) or (files.images / rate if files and rate else 0.0)
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
        audio=_audio(corpus, id_, files) if files else (),
        region=VideoRegion(),  # the images are already the centre squares
        annotation_files=() if entry is None else (META,),
        clip_source=ClipSource(path=files.folder, images=image_prefix(corpus, id_), rate=rate or 0.0)
        if files
        else None,
        flags=(FLAG, *(flag for flag, applies in flags.items() if applies), "no_alignment"),
    )


def _audio(corpus: str, id_: str, files: UtteranceFiles) -> tuple[AudioSource, ...]:
    """Return the wav of the speaker's channel, and that channel of the stereo wav."""
    sources = []
    if corpus == "iemocap" and (own := files.wavs.get(f"audio{speaker_side(corpus, id_)}.wav")):
        sources.append(AudioSource(path=own))
    if both := files.wavs.get("audio.wav"):
        channel = (0 if is_left_speaker(id_) else 1) if corpus == "iemocap" else None
        sources.append(AudioSource(path=both, channel=channel, channel_per_speaker=channel is not None))
    return tuple(sources)


def _labels(corpus: str, tree: SourceTree, id_: str, entry: dict[str, Any] | None) -> dict[str, Any]:
    """Return the `labels` record from meta.pkl; what the release lacks (raters, sentiment) is null."""
    label = (entry or {}).get("label")
    if corpus == "iemocap":
        if entry is not None and not isinstance(label, str):
            tree.notes.add("utterances without a label", f"{META}: {id_} has no label that is text; taken as null")
        return iemocap_labels(label if isinstance(label, str) else None, None, [])
    values = [parse_number(value) for value in label] if isinstance(label, (list, tuple)) else []
    if len(values) != len(EMOTIONS) or any(value not in (0.0, 1.0) for value in values):
        if entry is not None:
            sentence = f"{META}: {id_} has no label of six numbers, each 0 or 1; taken as null"
            tree.notes.add("utterances without a label", sentence)
        values = [None] * len(EMOTIONS)
    return mosei_labels({**dict(zip(EMOTIONS, values, strict=True)), "sentiment": None}, [])
