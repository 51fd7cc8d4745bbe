"""The record of an utterance (its JSON member), its encoded members, and its row in the manifest."""

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.members import encode_faces, normalize_text
from mesm_data.dataset.recipe import Recipe
from mesm_data.media.audio_segment import AudioSegment
from mesm_data.media.video_result import VideoResult
from mesm_data.media.wav import encode_wav
from mesm_data.schema.recordings import Utterance
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.machine_errors import raise_resource_error


class SourceDigests:
    """sha256 of source files. Each file is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[str, str | None] = {}

    def of(self, path: str) -> str | None:
        """The hex digest of `path`, relative to the corpus root; None if the file cannot be read."""
        if path not in self._digests:
            try:
                self._digests[path] = sha256_file(self._root / path)
            except OSError as error:
                raise_resource_error(error)
                self._digests[path] = None
        return self._digests[path]

    def of_all(self, paths: Sequence[str]) -> str:
        """The hex digest over several files: over the output of `sha256sum` for them, with names without folders.

        In their folder, `sha256sum $(ls -v image_*.jpg) | sha256sum` prints it.
        """
        lines = [f"{self.of(path)}  {path.rpartition('/')[2]}\n" for path in paths]
        return sha256("".join(lines).encode()).hexdigest()


def make_record(
    corpus: str, utterance: Utterance, sound: AudioSegment, video: VideoResult, digests: SourceDigests
) -> dict[str, Any]:
    """The JSON member of a sample. All samples have the same keys; missing values are null."""
    width, height = video.size or (None, None)
    return {
        "id": utterance.id,
        "corpus": corpus,
        "dialog": utterance.dialog,
        "speaker": utterance.speaker,
        "session": utterance.session,
        "split": utterance.split,
        "start": utterance.start,
        "end": utterance.end,
        "text": normalize_text(utterance.text),
        "words": None
        if utterance.words is None
        else [{"w": w.word, "t0": w.start, "t1": w.end} for w in utterance.words],
        "labels": dict(utterance.labels),
        "faces": {
            "times": video.times,
            "boxes": [list(face.box) for face in video.faces],
            "scores": [face.score for face in video.faces],
            "detected": [face.detected for face in video.faces],
            "counts": [face.count for face in video.faces],
        },
        "video": {"status": video.status, "fps": video.fps, "width": width, "height": height},
        "audio": {"status": sound.status, "sample_rate": sound.sample_rate},
        "sources": _sources(utterance, sound, video, digests),
        "flags": list(utterance.flags),
    }


def _sources(
    utterance: Utterance, sound: AudioSegment, video: VideoResult, digests: SourceDigests
) -> list[dict[str, Any]]:
    """The files that a sample was made from, with the span in seconds (null: the whole file).

    The images of a folder are one entry, with a digest over all of them.
    """
    sources = [_source("text", path, None, digests.of(path)) for path in utterance.annotation_files]
    if source := video.source:
        digest = digests.of_all(source.images) if source.images else digests.of(source.path)
        sources.append(_source("picture", source.path, source.span, digest))
    if sound.source:
        sources.append(_source("sound", sound.source.path, sound.source.span, digests.of(sound.source.path)))
    return sources


def _source(role: str, path: str, span: tuple[float, float] | None, digest: str | None) -> dict[str, Any]:
    return {"role": role, "path": path, "span": span and list(span), "sha256": digest}


def encode_members(record: dict[str, Any], sound: AudioSegment, video: VideoResult, recipe: Recipe) -> dict[str, bytes]:
    """Encode the four members of a sample."""
    faces = np.zeros((len(video.faces), recipe.face_size, recipe.face_size, 3), np.uint8)
    for index, face in enumerate(video.faces):
        faces[index] = face.crop
    return {
        "faces.npy": encode_faces(faces),
        "json": canonical_json(record),
        "txt": record["text"].encode(),
        "wav": encode_wav(sound.samples, recipe.sample_rate),
    }


def built_row(utterance: Utterance, sound: AudioSegment, video: VideoResult, text: bytes) -> dict[str, Any]:
    """The manifest row of an utterance that was built, without what `PartWriter.add` says of its bytes.

    Its `reason`, and `lost` by modality, say what is missing.
    """
    problems = "; ".join(dict.fromkeys((*sound.problems, *video.problems))) or None
    lost = {"audio": "; ".join(sound.problems), "video": "; ".join(video.problems)}
    crops = b"".join(face.crop.tobytes() for face in video.faces)
    return {
        **manifest_row(utterance, "ok", problems),
        "lost": {modality: reason for modality, reason in lost.items() if reason},
        "audio": sound.status,
        "video": video.status,
        "n_samples": len(sound.samples),
        "n_faces": len(video.faces),
        "n_detected": sum(face.detected for face in video.faces),
        "n_words": None if utterance.words is None else len(utterance.words),
        "pcm_sha256": sha256(sound.samples.astype("<i2").tobytes()).hexdigest(),
        "pixels_sha256": sha256(crops).hexdigest(),
        "text_sha256": sha256(text).hexdigest(),
    }


def corpus_findings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Findings about the whole corpus, one sentence each, from the rows of all recordings."""
    return [*_report_missing(rows), *_report_channels(rows)]


def _report_missing(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Report missing texts, sounds and videos: a branch that is trained on none of them learns nothing, silently."""
    built = [row for row in rows if row["status"] == "ok"]
    missing = {
        "text (flag no_transcript)": [row for row in built if "no_transcript" in row["flags"]],
        "sound": [row for row in built if row.get("audio") == "none"],
        "video": [row for row in built if row.get("video") == "none"],
    }
    dialogs = len({row["dialog"] for row in built})
    return [
        f"{len(without)} of {len(built)} utterances have no {what}, in {len({row['dialog'] for row in without})} of "
        f"{dialogs} dialogs"
        for what, without in missing.items()
        if without
    ]


def _report_channels(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Report the results of the channel check."""
    fits = Counter(row.get("channel") for row in rows)
    compared = fits["own"] + fits["other"] + fits["unclear"]
    if not compared:
        return []
    return [
        f"channel check: of {compared} utterances with a file of their own, {fits['own']} fit the channel that the "
        f"corpus' rule gives them, {fits['other']} another one (flag other_channel), {fits['unclear']} are unclear"
    ]
