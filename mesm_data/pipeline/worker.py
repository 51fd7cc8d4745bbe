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

from mesm_data.corpora.inventory import Stamps, file_stamp
from mesm_data.dataset.manifest import row
from mesm_data.dataset.parts import write_rows
from mesm_data.dataset.recipe import Recipe, other_toolchain
from mesm_data.dataset.tar import SampleWriter
from mesm_data.errors import InputError, MesmError
from mesm_data.media import channel_check as channels
from mesm_data.media.audio import AudioReader, Sound, duration
from mesm_data.media.duration import NoDuration, measure_duration
from mesm_data.media.extract import Sight, watch
from mesm_data.media.faces.crop import FaceCutter, Place
from mesm_data.media.faces.detector import FaceDetector
from mesm_data.media.toolchain import toolchain
from mesm_data.pipeline.records import Digests, built_row, encode, record
from mesm_data.schema.recordings import Recording, Utterance
from mesm_data.storage.files import atomic_write
from mesm_data.storage.machine_errors import is_machine_error, message


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
    places: Mapping[str, Sequence[Place]] = field(default_factory=dict)
    face_model: Path | None = None


def run(job: Job) -> Counter[str]:
    """Build the part of one recording. Returns how many of its utterances are ok and failed.

    Whatever a recording's own media do, this returns: what cannot be used is a reason in its rows. It raises
    MesmError for what is wrong with the machine, such as a full disk, and if a source changes meanwhile; then there
    is no part.
    """
    check_machine(job)
    check_sources(job)
    try:
        rows = rows_of(job)
        check_sources(job)
        write_rows(job.parts, job.recording.id, rows)
    except MesmError:
        raise
    except Exception as error:
        raise MesmError(message(error, job.parts.parent.parent)) from error
    return Counter(row["status"] for row in rows)


def rows_of(job: Job) -> list[dict[str, Any]]:
    """The rows of `build_part`; failed ones after an unforeseen exception: a build of 65 hours must not end for it."""
    try:
        return build_part(job)
    except Exception as error:
        if ends_build(error):
            raise
        return [row(utterance, "failed", unforeseen(error)) for utterance in job.recording.utterances]


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
    if differs := other_toolchain(job.tools, _toolchain()):
        raise MesmError(
            f"{socket.gethostname()} has another toolchain: {differs}. All machines of a build need the same versions"
        )
    try:
        detector_of(job)
    except InputError as error:
        raise MesmError(f"{socket.gethostname()}: {error}. All machines of a build need the same detector") from None


def detector_of(job: Job) -> FaceDetector | None:
    """The face detector of a job; None if a lock says where faces are, and the detector's model file is not here."""
    if job.recipe.face_model and not job.face_model:
        return None
    return job.recipe.detector(job.face_model)


_toolchain = functools.cache(toolchain)


def unforeseen(error: Exception) -> str:
    """An exception that nobody foresaw, as a reason."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"


def check_sources(job: Job) -> None:
    """Raises MesmError if a file that the scan saw is gone, or another one now.

    An unmounted disk is no reason to fail utterances, and a digest must be of the file that was decoded.
    """
    for path, before in job.stamps.items():
        now = file_stamp(job.root / path)
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


def build_part(job: Job) -> list[dict[str, Any]]:
    """Write the samples and clips of a recording; returns its rows."""
    digests = Digests(job.root)
    utterances, rows = measure_ends(job)
    job = replace(job, recording=replace(job.recording, utterances=utterances))
    with ExitStack() as stack:
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(dir=job.parts, prefix=f".{job.recording.id}.", suffix=".tmp")
        )
        reader = AudioReader(job.root, utterances, job.recipe.sample_rate)
        sounds = [listen(reader, utterance) for utterance in utterances]
        fits = [fitting_channel(reader, *both) for both in zip(utterances, sounds, strict=True)]
        sights = look(job, sounds, Path(scratch))
        samples = stack.enter_context(part_writer(job, "tar"))
        clips = stack.enter_context(part_writer(job, "clips.tar")) if job.recipe.clips else None
        for utterance, sound, sight, channel in zip(utterances, sounds, sights, fits, strict=True):
            flags = sound_flags(sound, channel)
            flags += ["several_faces"] if any(face.count > 1 for face in sight.faces) else []
            utterance = replace(utterance, flags=(*utterance.flags, *flags))
            if sound.status == sight.status == "none":
                rows.append(row(utterance, "failed", "; ".join((*sound.problems, *sight.problems))))
                continue
            described = record(job.recipe.corpus, utterance, sound, sight, digests)
            members = encode(described, sound, sight, job.recipe)
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
            except NoDuration as error:
                failed.append(row(utterance, "failed", str(error)))
                continue
            audio = tuple(replace(source, span=source.span and (source.span[0], end)) for source in utterance.audio)
            utterance = replace(utterance, end=end, audio=audio)
        measured.append(utterance)
    return tuple(measured), failed


def sound_flags(sound: Sound, channel: str | None) -> list[str]:
    """What is doubtful about a sound: `channel` is what the check of the stereo channels says."""
    is_shared = bool(sound.source and sound.source.channel_per_speaker) and sound.channels == 1
    flags = {"other_channel": channel == "other", "both_voices": is_shared, "silent_sound": sound.is_silent}
    return [flag for flag, is_so in flags.items() if is_so]


def fitting_channel(reader: AudioReader, utterance: Utterance, sound: Sound) -> str | None:
    """What `channels.check` says of an utterance whose sound is its own wav, None of any other."""
    own = bool(utterance.audio) and sound.source == utterance.audio[0]
    return channels.check(reader, utterance.audio, sound.samples) if own else None


def listen(reader: AudioReader, utterance: Utterance) -> Sound:
    """The sound of an utterance; what nobody foresaw costs the sound alone."""
    try:
        return reader.read(utterance.audio, duration(utterance))
    except Exception as error:
        if ends_build(error):
            raise
        nothing = np.zeros(0, np.int16)
        return Sound(samples=nothing, status="none", sample_rate=None, source=None, problems=(unforeseen(error),))


def look(job: Job, sounds: Sequence[Sound], scratch: Path) -> list[Sight]:
    """The picture of all utterances; what nobody foresaw, or killed an earlier attempt, costs the picture alone."""
    try:
        if job.blind is None:
            heard = [sound.samples for sound in sounds]
            size, margin = job.recipe.face_size, job.recipe.face_margin
            faces = FaceCutter(size=size, margin=margin, detector=detector_of(job), places=job.places)
            return watch(job.root, job.recording, job.recipe, heard, scratch, faces)
        reason = job.blind
    except Exception as error:
        if ends_build(error):
            raise
        reason = unforeseen(error)
    return [Sight(problems=[f"{job.recording.video}: {reason}"]) for _ in job.recording.utterances]


@contextmanager
def part_writer(job: Job, suffix: str) -> Iterator[SampleWriter]:
    """One file of the part, whole or absent."""
    with atomic_write(job.parts / f"{job.recording.id}.{suffix}") as file, SampleWriter(file) as writer:
        yield writer
