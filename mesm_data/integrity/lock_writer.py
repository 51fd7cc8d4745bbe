"""OUT/recipe.lock: all that a build on another copy of a corpus needs to make the same bytes, and to check that it did.

It can be published: no text, label, word, media, path or host is in it. What holds little entropy (a text, a label, the
record) is there as HMAC-SHA256 under a key that is made of the sample's own sound, so that only a holder of the corpus
can check it, and nobody can guess it. docs/proof.md says what it holds, and what a reader of it can learn.
"""

import hmac
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.media.audio import to_sample_span
from mesm_data.media.clip_encoder import CLIP_TIME_BASE
from mesm_data.media.containers import open_clip
from mesm_data.storage.files import atomic_write, open_regular_file
from mesm_data.storage.json_files import canonical_json

if TYPE_CHECKING:
    from mesm_data.dataset.reader import Dataset
    from mesm_data.dataset.sample import Sample

NAME = "recipe.lock"
VERSION = 2
KEYED = ("json", "text", "words", "labels", "record")
ENOUGH = 16  # different values that a sound must have to make a key: digital silence could be guessed
_DOMAIN = {"sound": b"mesm recipe.lock 1 sound\0", "picture": b"mesm recipe.lock 1 picture\0"}
_BLOCK = 4096  # values
_APART = ("text", "words", "labels", "sources")  # of the record: keyed on their own, or not content


def write(out: Path, step: Callable[[int], object] = lambda number: None) -> None:
    """Write OUT/recipe.lock of the finished dataset `out`. `step` is called with 1 for each sample.

    The memory that this takes is that of the file and of one shard.
    """
    from mesm_data.dataset.reader import Dataset

    dataset = Dataset(out)
    samples: dict[str, bytes] = {}
    for made in entries(dataset):
        samples[made["id"]] = canonical_json(made)
        step(1)
    before, empty, after = canonical_json({**head(dataset), "samples": []}).partition(b'"samples":[]')
    with atomic_write(out / NAME) as file:
        file.write(before + empty[:-1])
        for number, key in enumerate(dataset.keys):
            file.write((b"," if number else b"") + samples[key])
        file.write(b"]" + after + b"\n")


def head(dataset: "Dataset") -> dict[str, Any]:
    """All of a lock but its table."""
    info = dataset.info
    return {
        "lock": VERSION,
        "format": info["format"],
        "corpus": info["corpus"],
        "synthetic": info["synthetic"],
        "recipe": info["recipe"],
        "toolchain": info["toolchain"],
        "root": info["root"],
        "failed": sorted(key for key, row in dataset.rows.items() if row["status"] == "failed"),
    }


def entries(dataset: "Dataset") -> Iterator[dict[str, Any]]:
    """The table of a lock, one entry per built sample, shard by shard: one of them is mapped at a time."""
    from mesm_data.dataset.manifest import read_table_rows

    clips: dict[str, dict[str, Any]] = {}
    if dataset.info["video"]:
        clips = {row["key"]: row for row in read_table_rows(dataset.path / "video" / "index.parquet")}
    rows = dict(dataset.rows.select(*(f"{name}_sha256" for name in ("wav", "faces", "pcm", "pixels"))).items())
    order = sorted(dataset.keys, key=dataset.shard)
    dataset.prefetch(order)
    for key in order:
        clip = clips.get(key)
        yield {
            **entry(dataset[key], rows[key]),
            "clip": clip_facts(read_clip(dataset.path, clip)) if clip else None,
        }


def entry(sample: "Sample", row: dict[str, Any]) -> dict[str, Any]:
    """What a lock says of one sample but for its clip: sources by digest, spans, boxes, expected digests.

    `row` holds the digests of its manifest row.
    """
    record = sample.record
    kind, key = secret(sample.samples, sample.faces)
    sound, picture = used(record)
    return {
        "id": sample.key,
        "audio": sound and {"source": sound["sha256"], "samples": _samples(sound["span"], sample)},
        "video": picture and {"source": picture["sha256"], "span": picture["span"], "times": record["faces"]["times"]},
        "faces": {name: record["faces"][name] for name in ("boxes", "scores", "detected", "counts")},
        "sha256": {
            "wav": row["wav_sha256"],
            "faces": row["faces_sha256"],
            "pcm": row["pcm_sha256"],
            "pixels": row["pixels_sha256"],
        },
        "key": kind,
        "keyed": key and {name: keyed(key, name, data) for name, data in private(sample.text, record).items()},
    }


def _samples(span: list[float] | None, sample: "Sample") -> list[int]:
    """The samples [first, last) of the source that were asked for, at the rate of the sample; no span: all it has."""
    return list(to_sample_span((span[0], span[1]), sample.sample_rate)) if span else [0, len(sample.samples)]


def used(record: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The sources of a sample's sound and of its picture, None where there is none."""
    by_role = {source["role"]: source for source in record["sources"]}
    return by_role.get("sound"), by_role.get("picture") if record["faces"]["times"] else None


def secret(samples: NDArray[np.int16], faces: NDArray[np.uint8]) -> tuple[str | None, bytes | None]:
    """The key of a sample and what it is made of: its sound; its face pixels where that is missing or silent.

    None where neither holds enough different values: such a sample has no keyed digests.
    """
    for kind, data in (("sound", samples.astype("<i2", copy=False)), ("picture", faces)):
        if varied(data.reshape(-1)):
            return kind, sha256(_DOMAIN[kind] + data.tobytes()).digest()
    return None, None


def varied(data: NDArray[np.integer[Any]]) -> bool:
    """Whether there are ENOUGH different values in (n,) numbers; real media show them in the first block."""
    seen: set[int] = set()
    for first in range(0, len(data), _BLOCK):
        seen.update(np.unique(data[first : first + _BLOCK]).tolist())
        if len(seen) >= ENOUGH:
            return True
    return False


def private(text: str, record: dict[str, Any]) -> dict[str, bytes]:
    """What is only told under the key, by name; `record` is the record without what stands on its own."""
    return {
        "json": canonical_json(record),  # the bytes of the member
        "text": text.encode(),
        "words": canonical_json(record["words"]),
        "labels": canonical_json(record["labels"]),
        "record": canonical_json({name: value for name, value in record.items() if name not in _APART}),
    }


def keyed(key: bytes, name: str, data: bytes) -> str:
    """HMAC-SHA256 of `data` under a sample's key. The name keeps a text and a label of the same bytes apart."""
    return hmac.new(key, name.encode() + b"\0" + data, sha256).hexdigest()


def read_clip(out: Path, row: dict[str, Any]) -> bytes:
    """The bytes of a clip by its row of video/index.parquet."""
    with open_regular_file(out / "video" / Path(row["shard"]).name) as file:
        file.seek(row["offset"])
        return file.read(int(row["size"]))


def clip_facts(mp4: bytes) -> dict[str, Any] | None:
    """What any encoder must keep of a clip: size, the times of all frames, packets of sound. None if it has no bytes.

    Nothing is decoded: clips are H.264 and AAC, whose packets carry all of that (4 ms a clip).
    """
    if not mp4:
        return None
    times, sound = [], 0
    with open_clip(mp4) as container:
        picture = container.streams.video[0]
        width, height = picture.width, picture.height
        for packet in container.demux():
            if packet.pts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio":
                sound += 1
            else:
                times.append(int(packet.pts * packet.time_base * CLIP_TIME_BASE))
    digest = sha256(canonical_json(sorted(times))).hexdigest()
    return {"width": width, "height": height, "frames": len(times), "times_sha256": digest, "sound": sound}
