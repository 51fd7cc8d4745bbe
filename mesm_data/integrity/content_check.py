"""Does every sample make sense, and do stock readers see it? What `verify --full` looks at beyond the bytes.

Everything is decoded again: members and content digests, durations, frame times, words, labels, clips; and each shard
is read by webdataset's own reader, whose samples must be ours.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.dataset_dir import schema_from_info
from mesm_data.dataset.manifest import read_table_rows
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.errors import MesmError
from mesm_data.integrity.lock_writer import read_clip
from mesm_data.media.audio import to_sample_span
from mesm_data.media.containers import open_clip
from mesm_data.media.wav import encode_wav
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.recordings import sample_key
from mesm_data.storage.json_files import canonical_json

# A sentence's own file need not be as long as the annotation says; a word's last frame may reach over the end.
FILE_SLACK, WORD_SLACK = 1.0, 0.1
ROUNDING = 1e-3
AAC_SLACK = 3200  # samples: AAC comes in packets of 1024
Progress = Callable[[int], object]


def check(path: Path, progress: Progress = lambda samples: None) -> Iterator[str]:
    """Yield the first difference of each sample, in words; none if all is well.

    `progress` is told of every sample twice: when it was decoded, and when webdataset has read it. Raises InputError if
    `path` is not a dataset.
    """
    dataset = Dataset(path, check=True)
    schema = schema_from_info(path, dataset.info)
    interval = float(dataset.info["recipe"]["frame_interval"])
    clips = {}
    if dataset.info["video"]:
        clips = {row["key"]: row for row in read_table_rows(path / "video" / "index.parquet")}
    order = sorted(dataset.keys, key=dataset.shard)
    dataset.prefetch(order)
    for key in order:
        for problem in _problems(dataset, key, clips.get(key), schema, interval):
            yield f"sample {key}: {problem}"
            break
        progress(1)
    dataset.prefetch(order)
    yield from stock(dataset, progress)


def _problems(
    dataset: Dataset, key: str, clip: dict[str, Any] | None, schema: CorpusSchema, interval: float
) -> Iterator[str]:
    """What is wrong with one sample, the gravest first."""
    row = dataset.rows[key]
    try:
        sample = dataset[key]
        yield from content(sample, row)
        yield from record_of(sample, row)
        yield from sound(sample)
        yield from picture(sample, interval)
        yield from words(sample)
        yield from labels(sample, schema)
        if clip:
            yield from film(sample, read_clip(dataset.path, clip))
    except (MesmError, OSError) as error:
        yield str(error)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield f"its record is not of this format ({type(error).__name__}: {error})"


def content(sample: Sample, row: Mapping[str, Any]) -> Iterator[str]:
    """The digests of what was decoded, and the one spelling of text and record."""
    found = {
        "pcm_sha256": sha256(sample.samples.tobytes()).hexdigest(),
        "pixels_sha256": sha256(sample.faces.tobytes()).hexdigest(),
        "text_sha256": sha256(sample.text.encode()).hexdigest(),
    }
    for name, digest in found.items():
        if digest != row[name]:
            yield f"{name} of the decoded content is {digest}, the manifest says {row[name]}"
    if unicodedata.normalize("NFC", sample.text) != sample.text:
        yield "its text is not NFC"
    if sha256(canonical_json(sample.record)).hexdigest() != row["json_sha256"]:
        yield "its JSON is not canonical"


def record_of(sample: Sample, row: Mapping[str, Any]) -> Iterator[str]:
    """The record against its row of the manifest, and against the other members."""
    record = sample.record
    said = {name: record[name] for name in ("dialog", "speaker", "start", "end", "flags")}
    said |= {name: record[name] for name in ("id", "session", "split")}
    said |= {"audio": record["audio"]["status"], "video": record["video"]["status"], "key": sample_key(record["id"])}
    said |= {"n_samples": len(sample.samples), "n_faces": len(sample.faces)}
    said["n_detected"] = sum(record["faces"]["detected"])
    said["n_words"] = None if record["words"] is None else len(record["words"])
    for name, value in said.items():
        if value != row[name]:
            yield f"{name} is {value!r}, the manifest says {row[name]!r}"
    if record["text"] != sample.text:
        yield "the text of its JSON is not that of its .txt"
    if _filled(record["labels"]) != _filled(row["labels"]):
        yield "its labels are not those of the manifest"


def _filled(value: Any) -> Any:
    """A value without the nulls that a table fills in."""
    if isinstance(value, Mapping):
        return {name: _filled(inner) for name, inner in value.items() if inner is not None}
    return [_filled(inner) for inner in value] if isinstance(value, list) else value


def sound(sample: Sample) -> Iterator[str]:
    """The length of the sound: exact where it was cut, about that of the utterance where it is a file of its own."""
    record, length = sample.record, len(sample.samples)
    status = record["audio"]["status"]
    if status not in ("ok", "partial", "none") or (status == "none") != (length == 0):
        yield f"its sound is said to be {status}, and has {length} samples"
    if status not in ("ok", "partial"):
        return
    (source,) = (source for source in record["sources"] if source["role"] == "sound")
    span = source["span"]
    seconds = record["end"] - record["start"]
    if span is None:
        is_short = status == "ok" and length / sample.sample_rate < seconds - FILE_SLACK
        if is_short or length / sample.sample_rate > seconds + FILE_SLACK:
            yield f"its sound lasts {length / sample.sample_rate:.3f} s, the utterance {seconds:.3f} s"
        return
    first, last = to_sample_span((span[0], span[1]), sample.sample_rate)
    if length != last - first if status == "ok" else length > last - first:
        yield f"its sound has {length} samples, its span {last - first}"


def picture(sample: Sample, interval: float) -> Iterator[str]:
    """One crop for each moment of the grid, at times inside the utterance, cut from inside the picture."""
    record, faces = sample.record, sample.record["faces"]
    lists = ("times", "boxes", "scores", "detected", "counts")
    if len({len(sample.faces), *(len(faces[name]) for name in lists)}) != 1:
        yield f"{len(sample.faces)} crops, and other numbers of {', '.join(lists)}"
    status, seconds = record["video"]["status"], record["end"] - record["start"]
    if status not in ("ok", "partial", "none") or (status == "none" and len(sample.faces)):
        yield f"its picture is said to be {status}, and has {len(sample.faces)} crops"
    asked = -int(-Fraction(repr(seconds)).limit_denominator(10**6) // Fraction(repr(interval)))
    # The last frame of a film may stand before a moment, and one that is shown late behind it.
    frame = 1 / record["video"]["fps"] if record["video"]["fps"] else interval
    if status == "ok" and not asked - 1 <= len(sample.faces) <= asked:
        yield f"{len(sample.faces)} crops for {seconds:.3f} s, expected {asked}"
    times = faces["times"]
    if times != sorted(times) or (times and times[0] < -frame - ROUNDING):
        yield f"the times of its crops are not in order from the utterance's start: {times[:3]}"
    if status == "ok" and times and times[-1] > seconds + max(frame, interval) + ROUNDING:
        yield f"a crop is from {times[-1]} s, the utterance lasts {seconds:.3f} s"
    width, height = record["video"]["width"], record["video"]["height"]
    for left, top, right, bottom in faces["boxes"]:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            yield f"a box {left, top, right, bottom} lies outside the picture of {width}x{height}"
    if not all(0 <= score <= 1 for score in faces["scores"]):
        yield "a score is no probability"
    if faces["detected"] != [count > 0 for count in faces["counts"]] or min(faces["counts"], default=0) < 0:
        yield "its counts of faces do not fit detected"
    if ("several_faces" in record["flags"]) != any(count > 1 for count in faces["counts"]):
        yield "its flag several_faces does not fit its counts of faces"


def words(sample: Sample) -> Iterator[str]:
    """Words inside the utterance, each from its t0 to its t1."""
    end = max(sample.record["end"] - sample.record["start"], len(sample.samples) / sample.sample_rate) + WORD_SLACK
    for word in sample.record["words"] or ():
        if not 0 <= word["t0"] <= word["t1"] <= end:
            yield f"the word {word['w']!r} lies at {word['t0']} .. {word['t1']} s, the utterance ends at {end:.3f} s"


def labels(sample: Sample, schema: CorpusSchema) -> Iterator[str]:
    """Every label of the schema, each with a value that its scheme allows or null, and what the raters said."""
    values = sample.record["labels"]
    if set(values) != {*schema.labels, "raters"}:
        yield f"its labels are {', '.join(sorted(values))}"
        return
    for name, scheme in schema.labels.items():
        if problem := scheme.find_problem(values[name]):
            yield f"its label {name} {problem}"


def film(sample: Sample, mp4: bytes) -> Iterator[str]:
    """The clip decodes to frames of the speaker's picture inside the utterance, and to all of its sound."""
    import av

    record = sample.record
    if not mp4:
        return
    end = record["end"] - record["start"]
    try:
        with open_clip(mp4) as container:
            shape = (container.streams.video[0].width, container.streams.video[0].height)
            times = [float(f.pts * f.time_base) for f in container.decode(video=0) if f.pts is not None and f.time_base]
        seconds = 0.0
        with open_clip(mp4) as container:
            if container.streams.audio:
                seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    except (av.FFmpegError, IndexError) as error:
        yield f"its clip cannot be decoded ({error})"
        return
    if shape != (record["video"]["width"] // 2 * 2, record["video"]["height"] // 2 * 2):
        yield f"its clip has {shape} pixels, its picture {record['video']['width'], record['video']['height']}"
    if not times or times != sorted(times) or times[0] < -ROUNDING or times[-1] >= end + ROUNDING:
        yield f"the frames of its clip lie at {times[:1]} .. {times[-1:]} s, the utterance lasts {end:.3f} s"
    length = len(sample.samples) / sample.sample_rate
    if abs(seconds - length) > AAC_SLACK / sample.sample_rate:
        yield f"the sound of its clip lasts {seconds:.3f} s, its wav {length:.3f} s"


def stock(dataset: Dataset, progress: Progress) -> Iterator[str]:
    """Read every shard with webdataset and compare: the same samples in the same order, the same content."""
    import webdataset

    order: dict[str, list[str]] = {name: [] for name in dataset.info["shards"]}
    for key in sorted(dataset.keys, key=lambda key: int(dataset.rows[key]["faces_offset"])):
        order.setdefault(dataset.rows[key]["shard"], []).append(key)
    for name, keys in sorted(order.items()):
        source = str((dataset.path / "shards" / name).resolve())
        try:
            stream = webdataset.WebDataset([source], shardshuffle=False, empty_check=False).decode()
            for key, theirs in zip_longest(keys, stream):
                yield from _same(dataset, name, key, theirs)
                progress(1)
        except Exception as error:  # whatever a reader of others says of damage, it is an answer
            yield f"shards/{name}: webdataset cannot read it ({type(error).__name__}: {str(error).splitlines()[0]})"


def _same(dataset: Dataset, shard: str, key: str | None, theirs: Mapping[str, Any] | None) -> Iterable[str]:
    """One sample as webdataset gives it, against ours."""
    if key is None or theirs is None or theirs["__key__"] != key:
        found = theirs["__key__"] if theirs else "nothing"
        return [f"shards/{shard}: webdataset reads {found} where the manifest has {key or 'nothing'}"]
    ours = dataset[key]
    same = {
        "faces.npy": np.array_equal(theirs["faces.npy"], ours.faces),
        "json": theirs["json"] == ours.record,
        "txt": theirs["txt"] == ours.text,
        "wav": theirs["wav"] == encode_wav(ours.samples, ours.sample_rate),
    }
    differs = [name for name, equal in same.items() if not equal]
    return [f"sample {key}: webdataset reads another {differs[0]}"] if differs else []
