"""What a dataset says of an utterance: the record in its JSON member, and its row in the manifest."""

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.manifest import row
from mesm_data.dataset.members import encode_faces, normal_text
from mesm_data.dataset.recipe import Recipe
from mesm_data.media.audio import Sound
from mesm_data.media.extract import Sight
from mesm_data.media.wav import encode_wav
from mesm_data.schema.recordings import Utterance
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.machine_errors import raise_resource_error


class Digests:
    """sha256 of source files, each read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str | None] = {}

    def of(self, path: str) -> str | None:
        """Hex digest of `path` (relative to the corpus root); None if it cannot be read."""
        if path not in self._known:
            try:
                self._known[path] = sha256_file(self._root / path)
            except OSError as error:
                raise_resource_error(error)
                self._known[path] = None
        return self._known[path]

    def of_all(self, paths: Sequence[str]) -> str:
        """Hex digest over several files: of the lines that `sha256sum` prints of them, with their bare names.

        In their folder, `sha256sum $(ls -v image_*.jpg) | sha256sum` gives the same.
        """
        lines = [f"{self.of(path)}  {path.rpartition('/')[2]}\n" for path in paths]
        return sha256("".join(lines).encode()).hexdigest()


def record(corpus: str, utterance: Utterance, sound: Sound, sight: Sight, digests: Digests) -> dict[str, Any]:
    """The JSON member of one sample. The same keys in every sample: what is absent is null."""
    width, height = sight.size or (None, None)
    return {
        "id": utterance.id,
        "corpus": corpus,
        "dialog": utterance.dialog,
        "speaker": utterance.speaker,
        "session": utterance.session,
        "split": utterance.split,
        "start": utterance.start,
        "end": utterance.end,
        "text": normal_text(utterance.text),
        "words": None
        if utterance.words is None
        else [{"w": word.word, "t0": word.start, "t1": word.end} for word in utterance.words],
        "labels": dict(utterance.labels),
        "faces": {
            "times": sight.times,
            "boxes": [list(face.box) for face in sight.faces],
            "scores": [face.score for face in sight.faces],
            "detected": [face.detected for face in sight.faces],
            "counts": [face.count for face in sight.faces],
        },
        "video": {"status": sight.status, "fps": sight.fps, "width": width, "height": height},
        "audio": {"status": sound.status, "sample_rate": sound.sample_rate},
        "sources": _sources(utterance, sound, sight, digests),
        "flags": list(utterance.flags),
    }


def _sources(utterance: Utterance, sound: Sound, sight: Sight, digests: Digests) -> list[dict[str, Any]]:
    """The files that went into a sample, with the seconds that were cut from them (null: the whole file).

    Images are one entry, with a digest over them all.
    """
    used = [_source("text", path, None, digests.of(path)) for path in utterance.annotation_files]
    if seen := sight.source:
        digest = digests.of_all(seen.images) if seen.images else digests.of(seen.path)
        used.append(_source("picture", seen.path, seen.span, digest))
    if sound.source:
        used.append(_source("sound", sound.source.path, sound.source.span, digests.of(sound.source.path)))
    return used


def _source(role: str, path: str, span: tuple[float, float] | None, digest: str | None) -> dict[str, Any]:
    return {"role": role, "path": path, "span": span and list(span), "sha256": digest}


def encode(record: dict[str, Any], sound: Sound, sight: Sight, recipe: Recipe) -> dict[str, bytes]:
    """The four members of one sample."""
    faces = np.zeros((len(sight.faces), recipe.face_size, recipe.face_size, 3), np.uint8)
    for index, face in enumerate(sight.faces):
        faces[index] = face.crop
    return {
        "faces.npy": encode_faces(faces),
        "json": canonical_json(record),
        "txt": record["text"].encode(),
        "wav": encode_wav(sound.samples, recipe.sample_rate),
    }


def built_row(
    utterance: Utterance, sound: Sound, sight: Sight, members: dict[str, bytes], offsets: dict[str, int]
) -> dict[str, Any]:
    """The manifest row of an utterance that was built; `reason`, and `lost` by modality, say what of it is missing."""
    problems = "; ".join((*sound.problems, *sight.problems)) or None
    lost = {"audio": "; ".join(sound.problems), "video": "; ".join(sight.problems)}
    crops = b"".join(face.crop.tobytes() for face in sight.faces)
    return {
        **row(utterance, "ok", problems),
        "lost": {what: said for what, said in lost.items() if said},
        "audio": sound.status,
        "video": sight.status,
        "n_samples": len(sound.samples),
        "n_faces": len(sight.faces),
        "n_detected": sum(face.detected for face in sight.faces),
        "n_words": None if utterance.words is None else len(utterance.words),
        "members": {
            name: {"offset": offsets[name], "size": len(data), "sha256": sha256(data).hexdigest()}
            for name, data in members.items()
        },
        "pcm_sha256": sha256(sound.samples.astype("<i2").tobytes()).hexdigest(),
        "pixels_sha256": sha256(crops).hexdigest(),
        "text_sha256": sha256(members["txt"]).hexdigest(),
    }


def findings(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What a build found out about the corpus as a whole, one sentence each, from the rows that steps left."""
    return [*_without_text(rows), *_channels(rows)]


def _without_text(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Lost transcripts: a text branch trained on empty texts learns nothing, and nothing else would tell."""
    built = [row for row in rows if row["status"] == "ok"]
    without = [row for row in built if "no_transcript" in row["flags"]]
    if not without:
        return []
    dialogs = len({row["dialog"] for row in without})
    return [
        f"{len(without)} of {len(built)} utterances have no text (flag no_transcript), in {dialogs} of "
        f"{len({row['dialog'] for row in built})} dialogs"
    ]


def _channels(rows: Iterable[dict[str, Any]]) -> list[str]:
    fits = Counter(row.get("channel") for row in rows)
    compared = fits["own"] + fits["other"] + fits["unclear"]
    if not compared:
        return []
    return [
        f"channel check: of {compared} utterances with a file of their own, {fits['own']} fit the channel that the "
        f"corpus' rule gives them, {fits['other']} another one (flag other_channel), {fits['unclear']} are unclear"
    ]
