"""One recording -> one part of the dataset: the step that engines run, wherever they run it.

See parts.py for what a part consists of.
"""

import functools
import math
import socket
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.corpora.inventory import Stamps, stamp
from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.parts import finish_part
from mesm_data.dataset.recipe import Recipe, describe_toolchain_difference
from mesm_data.dataset.tar import SampleWriter
from mesm_data.errors import InputError, MesmError
from mesm_data.media.audio import AudioReader, AudioSegment, utterance_duration
from mesm_data.media.channel_check import check_channel
from mesm_data.media.duration import DurationError, measure_duration
from mesm_data.media.extract import VideoResult, extract_video
from mesm_data.media.faces.crop import FaceBox, FaceCropper
from mesm_data.media.faces.detector import FaceDetector
from mesm_data.media.toolchain import toolchain_versions
from mesm_data.pipeline.records import SourceDigests, built_row, encode_members, make_record
from mesm_data.schema.recordings import Recording, Utterance
from mesm_data.storage.files import atomic_write
from mesm_data.storage.machine_errors import describe_machine_error, is_machine_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that a step needs to know.

    `parts` is the folder of the parts; `tools` the toolchain that the build began with. `stamps` are those of the
    recording's files when the corpus was scanned. `blind` says why the picture must not be looked at: an earlier
    attempt killed its process. `places` says by utterance where the faces are, if the build follows a lock.
    `face_model` is the model file of the face detector, if it needs one.
    """

    root: Path
    parts: Path
    recipe: Recipe
    recording: Recording
    tools: dict[str, str]
    stamps: Stamps = field(default_factory=dict)
    blind: str | None = None
    places: Mapping[str, Sequence[FaceBox]] = field(default_factory=dict)
    face_model: Path | None = None


def build_recording(job: Job) -> Counter[str]:
    """Build the part of one recording. Returns how many of its utterances are ok and failed.

    Whatever a recording's own media do, this returns: what cannot be used is a reason in its rows. It raises
    MesmError for what is wrong with the machine, such as a full disk, and if a source changes meanwhile; then there
    is no part.
    """
    check_machine(job)
    check_sources_unchanged(job)
    try:
        rows = build_rows(job)
        check_sources_unchanged(job)
        finish_part(job.parts, job.recording.id, rows)
    except MesmError:
        raise
    except Exception as error:
        raise MesmError(describe_machine_error(error, job.parts.parent.parent)) from error
    return Counter(row["status"] for row in rows)


def build_rows(job: Job) -> list[dict[str, Any]]:
    """The rows of `build_part`; failed ones after an unforeseen exception: a build of 65 hours must not end for it."""
    try:
        return write_part(job)
    except Exception as error:
        if ends_build(error):
            raise
        return [
            manifest_row(utterance, "failed", describe_unexpected_error(error))
            for utterance in job.recording.utterances
        ]


def ends_build(error: Exception) -> bool:
    """Whether an exception is no answer to a damaged source: then it must not become a reason of utterances."""
    return isinstance(error, MesmError) or is_machine_error(error)


def check_machine(job: Job) -> None:
    """Raises MesmError if this machine, of perhaps many, does not see the folders or would make other bytes."""
    plan = job.parts.parent / "recipe.json"
    for folder, seen in ((job.root, job.root.is_dir()), (job.parts, plan.exists())):
        if not seen:
            raise MesmError(
                f"{folder} cannot be seen on {socket.gethostname()}. Every machine that works on a build needs its "
                "--source and --out at the same path, on a file system that they share. The same command goes on"
            )
    if differs := describe_toolchain_difference(job.tools, _toolchain()):
        raise MesmError(
            f"{socket.gethostname()} has another toolchain: {differs}. All machines of a build need the same versions"
        )
    try:
        job_detector(job)
    except InputError as error:
        raise MesmError(f"{socket.gethostname()}: {error}. All machines of a build need the same detector") from None


def job_detector(job: Job) -> FaceDetector | None:
    """The face detector of a job; None if a lock says where faces are, and the detector's model file is not here."""
    if job.recipe.face_model and not job.face_model:
        return None
    return job.recipe.detector(job.face_model)


_toolchain = functools.cache(toolchain_versions)


def describe_unexpected_error(error: Exception) -> str:
    """An exception that nobody foresaw, as a reason."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"


def check_sources_unchanged(job: Job) -> None:
    """Raises MesmError if a file that the scan saw is gone, or another one now.

    An unmounted disk is no reason to fail utterances, and a digest must be of the file that was decoded.
    """
    for path, before in job.stamps.items():
        now = stamp(job.root / path)
        if now is None:
            raise MesmError(
                f"{job.root / path} was there when the corpus was scanned and is gone now (an unmounted disk?). "
                "When it is back, the same command resumes"
            )
        if now != before:
            raise MesmError(
                f"{job.root / path} was changed after the corpus was scanned. Nothing is recorded of it: run the same "
                "command again when nothing else writes to the corpus"
            )


def write_part(job: Job) -> list[dict[str, Any]]:
    """Write the samples and clips of a recording; returns its rows."""
    digests = SourceDigests(job.root)
    utterances, rows = measure_ends(job)
    job = replace(job, recording=replace(job.recording, utterances=utterances))
    with ExitStack() as stack:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(dir=job.parts, prefix=f".{job.recording.id}.", suffix=".tmp")
        )
        reader = AudioReader(job.root, utterances, job.recipe.sample_rate)
        sounds = [read_audio(reader, utterance) for utterance in utterances]
        fits = [check_own_channel(reader, *both) for both in zip(utterances, sounds, strict=True)]
        sights = read_video(job, sounds, Path(scratch))
        samples = stack.enter_context(open_part_writer(job, "tar"))
        clips = stack.enter_context(open_part_writer(job, "clips.tar")) if job.recipe.clips else None
        for utterance, sound, sight, channel in zip(utterances, sounds, sights, fits, strict=True):
            flags = audio_flags(sound, channel)
            flags += ["several_faces"] if any(face.count > 1 for face in sight.faces) else []
            utterance = replace(utterance, flags=(*utterance.flags, *flags))
            if sound.status == sight.status == "none":
                rows.append(manifest_row(utterance, "failed", "; ".join((*sound.problems, *sight.problems))))
                continue
            described = make_record(job.recipe.corpus, utterance, sound, sight, digests)
            members = encode_members(described, sound, sight, job.recipe)
            start, offsets = samples.size, samples.write(utterance.key, members)
            rows.append(built_row(utterance, sound, sight, members, offsets))
            rows[-1]["channel"] = channel
            rows[-1]["part"] = {"start": start, "stop": samples.size}
            if clips:
                clip = sight.clip.read_bytes() if sight.clip else b""
                rows[-1]["clip"] = {"start": clips.size, "size": len(clip), "sha256": sha256(clip).hexdigest()}
                clips.write(utterance.key, {"mp4": clip})
    return rows


def measure_ends(job: Job) -> tuple[tuple[Utterance, ...], list[dict[str, Any]]]:
    """The utterances with the end of the file in place of an infinite one, and the failed rows of those without any."""
    measured, failed = [], []
    for utterance in job.recording.utterances:
        if math.isinf(utterance.end):
            path = job.recording.video or utterance.audio[0].path
            try:
                end = measure_duration(job.root / path)
            except DurationError as error:
                failed.append(manifest_row(utterance, "failed", str(error)))
                continue
            audio = tuple(replace(source, span=source.span and (source.span[0], end)) for source in utterance.audio)
            utterance = replace(utterance, end=end, audio=audio)
        measured.append(utterance)
    return tuple(measured), failed


def audio_flags(sound: AudioSegment, channel: str | None) -> list[str]:
    """What is doubtful about a sound: `channel` is what the check of the stereo channels says."""
    is_shared = bool(sound.source and sound.source.channel_per_speaker) and sound.channels == 1
    flags = {"other_channel": channel == "other", "both_voices": is_shared, "silent_sound": sound.is_silent}
    return [flag for flag, is_so in flags.items() if is_so]


def check_own_channel(reader: AudioReader, utterance: Utterance, sound: AudioSegment) -> str | None:
    """What `channels.check` says of an utterance whose sound is its own wav, None of any other."""
    own = bool(utterance.audio) and sound.source == utterance.audio[0]
    return check_channel(reader, utterance.audio, sound.samples) if own else None


def read_audio(reader: AudioReader, utterance: Utterance) -> AudioSegment:
    """The sound of an utterance; what nobody foresaw costs the sound alone."""
    try:
        return reader.read(utterance.audio, utterance_duration(utterance))
    except Exception as error:
        if ends_build(error):
            raise
        nothing = np.zeros(0, np.int16)
        return AudioSegment(
            samples=nothing, status="none", sample_rate=None, source=None, problems=(describe_unexpected_error(error),)
        )


def read_video(job: Job, sounds: Sequence[AudioSegment], scratch: Path) -> list[VideoResult]:
    """The picture of all utterances; what nobody foresaw, or killed an earlier attempt, costs the picture alone."""
    try:
        if job.blind is None:
            heard = [sound.samples for sound in sounds]
            size, margin = job.recipe.face_size, job.recipe.face_margin
            faces = FaceCropper(size=size, margin=margin, detector=job_detector(job), places=job.places)
            return extract_video(job.root, job.recording, job.recipe, heard, scratch, faces)
        reason = job.blind
    except Exception as error:
        if ends_build(error):
            raise
        reason = describe_unexpected_error(error)
    return [VideoResult(problems=[f"{job.recording.video}: {reason}"]) for _ in job.recording.utterances]


@contextmanager
def open_part_writer(job: Job, suffix: str) -> Iterator[SampleWriter]:
    """One file of the part, whole or absent."""
    with atomic_write(job.parts / f"{job.recording.id}.{suffix}") as file, SampleWriter(file) as writer:
        yield writer
