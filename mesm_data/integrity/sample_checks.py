"""Consistency checks of one decoded sample: digests, record, audio, faces, words, labels, clip.

Each check yields its findings as sentences whose subject is the sample.
"""

import unicodedata
from collections.abc import Iterator, Mapping
from fractions import Fraction
from hashlib import sha256
from typing import Any

from mesm_data.dataset.sample import Sample
from mesm_data.media.audio import to_sample_span
from mesm_data.media.containers import exact_number, open_clip
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.recordings import sample_key
from mesm_data.storage.json_files import canonical_json

FILE_SLACK = 1.0  # s: an utterance's own file need not be as long as the annotation says
WORD_SLACK = 0.1  # s: the last frame of a word may end after the utterance
ROUNDING = 1e-3  # s
AAC_SLACK = 3200  # samples: AAC consists of packets of 1024 samples


def sample_problems(sample: Sample, row: Mapping[str, Any], schema: CorpusSchema, interval: float) -> Iterator[str]:
    """All checks but that of the clip, the most severe first.

    Args:
        sample: The sample.
        row: The sample's row of the manifest.
        schema: The schema of the dataset, for its labels.
        interval: The recipe's frame interval in seconds.
    """
    yield from digest_problems(sample, row)
    yield from record_problems(sample, row)
    yield from audio_problems(sample)
    yield from face_problems(sample, interval)
    yield from word_problems(sample)
    yield from label_problems(sample, schema)


def digest_problems(sample: Sample, row: Mapping[str, Any]) -> Iterator[str]:
    """Compare the digests of the decoded content, and check that text is NFC and JSON canonical."""
    digests = {
        "pcm_sha256": sha256(sample.samples.tobytes()).hexdigest(),
        "pixels_sha256": sha256(sample.faces.tobytes()).hexdigest(),
        "text_sha256": sha256(sample.text.encode()).hexdigest(),
    }
    for name, digest in digests.items():
        if digest != row[name]:
            yield f"{name} of the decoded content is {digest}, the manifest says {row[name]}"
    if unicodedata.normalize("NFC", sample.text) != sample.text:
        yield "its text is not NFC"
    if sha256(canonical_json(sample.record)).hexdigest() != row["json_sha256"]:
        yield "its JSON is not canonical"


def record_problems(sample: Sample, row: Mapping[str, Any]) -> Iterator[str]:
    """Compare the record with its row of the manifest and with the other members."""
    record = sample.record
    expected = {name: record[name] for name in ("dialog", "speaker", "start", "end", "flags", "id", "session", "split")}
    expected |= {
        "audio": record["audio"]["status"],
        "video": record["video"]["status"],
        "key": sample_key(record["id"]),
        "n_samples": len(sample.samples),
        "n_faces": len(sample.faces),
        "n_detected": sum(record["faces"]["detected"]),
        "n_words": None if record["words"] is None else len(record["words"]),
    }
    for name, value in expected.items():
        if value != row[name]:
            yield f"{name} is {value!r}, the manifest says {row[name]!r}"
    if record["text"] != sample.text:
        yield "the text of its JSON is not that of its .txt"
    if _without_nulls(record["labels"]) != _without_nulls(row["labels"]):
        yield "its labels are not those of the manifest"


def _without_nulls(value: Any) -> Any:
    """The value without the nulls that a table adds."""
    if isinstance(value, Mapping):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def audio_problems(sample: Sample) -> Iterator[str]:
    """Check the length of the audio: exactly if it was cut, approximately if the utterance has a file of its own."""
    record, length = sample.record, len(sample.samples)
    status = record["audio"]["status"]
    if status not in ("ok", "partial", "none") or (status == "none") != (length == 0):
        yield f"its audio has the status {status}, and {length} samples"
    if status not in ("ok", "partial"):
        return
    (source,) = (source for source in record["sources"] if source["role"] == "sound")
    span = source["span"]
    seconds = record["end"] - record["start"]
    if span is None:
        is_short = status == "ok" and length / sample.sample_rate < seconds - FILE_SLACK
        if is_short or length / sample.sample_rate > seconds + FILE_SLACK:
            yield f"its audio lasts {length / sample.sample_rate:.3f} s, the utterance {seconds:.3f} s"
        return
    first, last = to_sample_span((span[0], span[1]), sample.sample_rate)
    if length != last - first if status == "ok" else length > last - first:
        yield f"its audio has {length} samples, its span {last - first}"


def face_problems(sample: Sample, interval: float) -> Iterator[str]:
    """Check that there is one crop per grid point, at times inside the utterance, from inside the frame."""
    record, faces = sample.record, sample.record["faces"]
    lists = ("times", "boxes", "scores", "detected", "counts")
    if len({len(sample.faces), *(len(faces[name]) for name in lists)}) != 1:
        yield f"{len(sample.faces)} crops, but another number of {', '.join(lists)}"
    status, seconds = record["video"]["status"], record["end"] - record["start"]
    if status not in ("ok", "partial", "none") or (status == "none" and len(sample.faces)):
        yield f"its video has the status {status}, and {len(sample.faces)} crops"
    grid_points = -int(-Fraction(repr(seconds)).limit_denominator(10**6) // Fraction(repr(interval)))
    # The last frame of a video may lie before a grid point, and a frame that is shown late may lie after it.
    frame = 1 / record["video"]["fps"] if record["video"]["fps"] else interval
    if status == "ok" and not grid_points - 1 <= len(sample.faces) <= grid_points:
        yield f"{len(sample.faces)} crops for {seconds:.3f} s, expected {grid_points}"
    times = faces["times"]
    if times != sorted(times) or (times and times[0] < -frame - ROUNDING):
        yield f"the times of its crops do not ascend from the start of the utterance: {times[:3]}"
    if status == "ok" and times and times[-1] > seconds + max(frame, interval) + ROUNDING:
        yield f"a crop is from {times[-1]} s, the utterance lasts {seconds:.3f} s"
    width, height = record["video"]["width"], record["video"]["height"]
    for left, top, right, bottom in faces["boxes"]:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            yield f"a box {left, top, right, bottom} lies outside the frame of {width}x{height}"
    if not all(0 <= score <= 1 for score in faces["scores"]):
        yield "a score is not a probability"
    if faces["detected"] != [count > 0 for count in faces["counts"]] or min(faces["counts"], default=0) < 0:
        yield "its counts of faces do not match detected"
    if ("several_faces" in record["flags"]) != any(count > 1 for count in faces["counts"]):
        yield "its flag several_faces does not match its counts of faces"


def word_problems(sample: Sample) -> Iterator[str]:
    """Check that every word lies inside the utterance and ends after it starts."""
    end = max(sample.record["end"] - sample.record["start"], len(sample.samples) / sample.sample_rate) + WORD_SLACK
    for word in sample.record["words"] or ():
        if not 0 <= word["t0"] <= word["t1"] <= end:
            yield f"the word {word['w']!r} lies at {word['t0']} .. {word['t1']} s, the utterance ends at {end:.3f} s"


def label_problems(sample: Sample, schema: CorpusSchema) -> Iterator[str]:
    """Check that the sample has the labels of the schema, each null or a value that its scheme allows, and raters."""
    values = sample.record["labels"]
    if set(values) != {*schema.labels, "raters"}:
        yield f"its labels are {', '.join(sorted(values))}"
        return
    for name, scheme in schema.labels.items():
        if problem := scheme.find_problem(values[name]):
            yield f"its label {name} {problem}"


def clip_problems(sample: Sample, mp4: bytes) -> Iterator[str]:
    """Check that the clip decodes to frames of the speaker's video inside the utterance, and to all of its audio."""
    import av

    record = sample.record
    if not mp4:
        return
    end = record["end"] - record["start"]
    try:
        with open_clip(mp4) as container:
            shape = (container.streams.video[0].width, container.streams.video[0].height)
            frames = [(f.pts, exact_number(f.time_base)) for f in container.decode(video=0)]
            times = [float(time * base) for time, base in frames if time is not None and base]
        seconds = 0.0
        with open_clip(mp4) as container:
            if container.streams.audio:
                seconds = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    except (av.FFmpegError, IndexError) as error:
        yield f"its clip cannot be decoded ({error})"
        return
    if shape != (record["video"]["width"] // 2 * 2, record["video"]["height"] // 2 * 2):
        yield f"its clip has {shape} pixels, its video {record['video']['width'], record['video']['height']}"
    if not times or times != sorted(times) or times[0] < -ROUNDING or times[-1] >= end + ROUNDING:
        yield f"the frames of its clip lie at {times[:1]} .. {times[-1:]} s, the utterance lasts {end:.3f} s"
    length = len(sample.samples) / sample.sample_rate
    if abs(seconds - length) > AAC_SLACK / sample.sample_rate:
        yield f"the audio of its clip lasts {seconds:.3f} s, its wav {length:.3f} s"
