"""OUT/recipe.lock: what a build from another copy of a corpus needs to be identical, and to check that it is.

A lock can be published: it contains no text, label, word, media, path or host. Values of low entropy (a text, a label,
the record) appear as HMAC-SHA256 under a key that is derived from the sample's own audio: holders of the corpus can
check them, and nobody can guess them. docs/proof.md describes the content, and what a reader can learn from it.
"""

import hmac
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.audio import to_sample_span
from mesm_data.media.clip_encoder import CLIP_TIME_BASE
from mesm_data.media.containers import open_clip
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.progress import Step, no_step

if TYPE_CHECKING:
    from mesm_data.dataset.reader import Dataset
    from mesm_data.dataset.sample import Sample

LOCK_NAME = "recipe.lock"
LOCK_VERSION = 2
KeyedField = Literal["json", "text", "words", "labels", "record"]
KEYED_FIELDS: tuple[KeyedField, ...] = get_args(KeyedField)
MIN_DISTINCT_VALUES = 16  # of a signal that makes a key: digital silence could be guessed
_DOMAIN = {"sound": b"mesm recipe.lock 1 sound\0", "picture": b"mesm recipe.lock 1 picture\0"}
_BLOCK = 4096  # values
_NOT_IN_RECORD = ("text", "words", "labels", "sources")  # keyed separately, or not content
_DIGESTS = ("wav", "faces", "pcm", "pixels")


def write_lock(out: Path, step: Step = no_step) -> None:
    """Write OUT/recipe.lock of the finished dataset `out`. Calls `step(1)` for each sample.

    Needs the memory of the lock and of one shard.
    """
    from mesm_data.dataset.reader import Dataset

    dataset = Dataset(out)
    samples: dict[str, bytes] = {}
    for entry in lock_entries(dataset, step):
        samples[entry["id"]] = canonical_json(entry)
    before, empty, after = canonical_json({**lock_header(dataset), "samples": []}).partition(b'"samples":[]')
    with atomic_write(out / LOCK_NAME) as file:
        file.write(before + empty[:-1])
        for number, key in enumerate(dataset.keys):
            file.write((b"," if number else b"") + samples[key])
        file.write(b"]" + after + b"\n")


def lock_header(dataset: "Dataset") -> dict[str, Any]:
    """The lock of a dataset without its table of samples."""
    info = dataset.info
    return {
        "lock": LOCK_VERSION,
        "format": info["format"],
        "corpus": info["corpus"],
        "synthetic": info["synthetic"],
        "recipe": info["recipe"],
        "toolchain": info["toolchain"],
        "root": info["root"],
        "failed": sorted(key for key, row in dataset.rows.items() if row["status"] == "failed"),
    }


def lock_entries(dataset: "Dataset", step: Step = no_step) -> Iterator[dict[str, Any]]:
    """The entries of all built samples, shard by shard, so that one shard is mapped at a time; `step(1)` after each."""
    from mesm_data.dataset.dataset_dir import read_clip, read_clip_index

    clips: dict[str, dict[str, Any]] = {}
    if dataset.info["video"]:
        clips = {row["key"]: row for row in read_clip_index(dataset.path, dataset.info)}
    rows = dict(dataset.rows.select(*(f"{name}_sha256" for name in _DIGESTS)).items())
    keys = sorted(dataset.keys, key=dataset.shard)
    dataset.prefetch(keys)
    for key in keys:
        clip = clips.get(key)
        yield {
            **lock_entry(dataset[key], rows[key]),
            "clip": describe_clip(read_clip(dataset.path, clip)) if clip else None,
        }
        step(1)


def lock_entry(sample: "Sample", row: dict[str, Any]) -> dict[str, Any]:
    """One sample's entry without its clip: digests of the sources, spans, boxes, digests of the content.

    Args:
        sample: The sample.
        row: The digests in the sample's row of the manifest.
    """
    record = sample.record
    kind, key = derive_key(sample.samples, sample.faces)
    sound, picture = media_sources(record)
    fields = keyed_fields(sample.text, record)
    return {
        "id": sample.key,
        "audio": sound and {"source": sound["sha256"], "samples": _sample_span(sound["span"], sample)},
        "video": picture and {"source": picture["sha256"], "span": picture["span"], "times": record["faces"]["times"]},
        "faces": {name: record["faces"][name] for name in ("boxes", "scores", "detected", "counts")},
        "sha256": {name: row[f"{name}_sha256"] for name in _DIGESTS},
        "key": kind,
        "keyed": key and {name: keyed_digest(key, name, data) for name, data in fields.items()},
    }


def _sample_span(span: list[float] | None, sample: "Sample") -> list[int]:
    """The range [first, last) of the source in samples at the sample's rate; without a span, the whole source."""
    return list(to_sample_span((span[0], span[1]), sample.sample_rate)) if span else [0, len(sample.samples)]


def media_sources(record: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The sources of a sample's audio and of its faces; None where there is none."""
    by_role = {source["role"]: source for source in record["sources"]}
    return by_role.get("sound"), by_role.get("picture") if record["faces"]["times"] else None


def derive_key(samples: NDArray[np.int16], faces: NDArray[np.uint8]) -> tuple[str | None, bytes | None]:
    """Derive a sample's key from its audio, or from its face pixels if the audio is missing or silent.

    Returns:
        What the key is derived from ("sound" or "picture"), and the key; (None, None) if neither has enough entropy.
    """
    for kind, data in (("sound", samples.astype("<i2", copy=False)), ("picture", faces)):
        if has_enough_entropy(data.reshape(-1)):
            return kind, sha256(_DOMAIN[kind] + data.tobytes()).digest()
    return None, None


def has_enough_entropy(data: NDArray[np.integer[Any]]) -> bool:
    """Whether (n,) numbers have MIN_DISTINCT_VALUES distinct values; real media have them in the first block."""
    distinct: set[int] = set()
    for first in range(0, len(data), _BLOCK):
        distinct.update(np.unique(data[first : first + _BLOCK]).tolist())
        if len(distinct) >= MIN_DISTINCT_VALUES:
            return True
    return False


def keyed_fields(text: str, record: dict[str, Any]) -> dict[str, bytes]:
    """The values that appear in a lock only under the key, by name. `record` excludes fields with their own entry."""
    return {
        "json": canonical_json(record),  # the bytes of the member
        "text": text.encode(),
        "words": canonical_json(record["words"]),
        "labels": canonical_json(record["labels"]),
        "record": canonical_json({name: value for name, value in record.items() if name not in _NOT_IN_RECORD}),
    }


def keyed_digest(key: bytes, name: str, data: bytes) -> str:
    """HMAC-SHA256 of a field under a sample's key. The name separates equal bytes of a text and a label."""
    return hmac.new(key, name.encode() + b"\0" + data, sha256).hexdigest()


def describe_clip(mp4: bytes) -> dict[str, Any] | None:
    """The properties of a clip that any encoder must keep: size, times of all frames, number of audio packets.

    Nothing is decoded: the packets of H.264 and AAC carry all of it (4 ms per clip). None if the clip has no bytes.
    """
    if not mp4:
        return None
    times, audio_packets = [], 0
    with open_clip(mp4) as container:
        video = container.streams.video[0]
        width, height = video.width, video.height
        for packet in container.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio":
                audio_packets += 1
            else:
                times.append(int(packet.pts * packet.time_base * CLIP_TIME_BASE))
    digest = sha256(canonical_json(sorted(times))).hexdigest()
    return {"width": width, "height": height, "frames": len(times), "times_sha256": digest, "sound": audio_packets}
