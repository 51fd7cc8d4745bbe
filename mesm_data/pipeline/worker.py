"""Build one recording: the job that engines run, on whatever machine.

Its result is a part of the dataset, see parts.py.
"""

import math
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.parts import finish_part, open_part
from mesm_data.errors import MesmError
from mesm_data.media.audio import AudioReader, utterance_duration
from mesm_data.media.audio_segment import AudioSegment, no_audio
from mesm_data.media.channel_check import check_channel
from mesm_data.media.duration import DurationError, describe_truncation, measure_duration
from mesm_data.media.extract import extract_video
from mesm_data.media.faces.crop import FaceCropper
from mesm_data.media.video_result import VideoResult
from mesm_data.pipeline.job import Job, check_machine, check_sources_unchanged, job_detector
from mesm_data.pipeline.records import SourceDigests, built_row, encode_members, make_record
from mesm_data.schema.recordings import Utterance
from mesm_data.storage.machine_errors import describe_machine_error, is_machine_error


def build_recording(job: Job) -> Counter[str]:
    """Build the part of one recording.

    Whatever is wrong with the recording's media is a reason in its rows and raises nothing.

    Returns:
        The number of utterances by status: ok, failed.

    Raises:
        MesmError: The machine failed, such as a full disk, or a source file changed meanwhile. There is no part then.
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
    """The rows of `write_part`; failed rows after an unexpected exception, which must not end a build of 65 hours."""
    try:
        return write_part(job)
    except Exception as error:
        if ends_build(error):
            raise
        return failed_rows(job.recording.utterances, describe_unexpected_error(error))


def failed_rows(utterances: Sequence[Utterance], reason: str) -> list[dict[str, Any]]:
    """Manifest rows of utterances that failed for the same reason."""
    return [manifest_row(utterance, "failed", reason) for utterance in utterances]


def ends_build(error: Exception) -> bool:
    """Whether an exception ends the build: it says nothing about the source, so no utterance may fail for it."""
    return isinstance(error, MesmError) or is_machine_error(error)


def describe_unexpected_error(error: Exception) -> str:
    """The reason of an utterance that failed by an unexpected exception."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(where.filename).name}:{where.lineno}: {error}"


def write_part(job: Job) -> list[dict[str, Any]]:
    """Write the samples and clips of a recording. Returns its rows."""
    digests = SourceDigests(job.root)
    utterances, truncated, rows = measure_ends(job)
    job = replace(job, recording=replace(job.recording, utterances=utterances))
    name = job.recording.id
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(dir=job.parts, prefix=f".{name}.", suffix=".tmp"))
        reader = AudioReader(job.root, utterances, job.recipe.sample_rate)
        sounds = [read_audio(reader, utterance) for utterance in utterances]
        channels = [check_own_channel(reader, *pair) for pair in zip(utterances, sounds, strict=True)]
        videos = read_video(job, sounds, Path(scratch))
        part = stack.enter_context(open_part(job.parts, name, clips=job.recipe.clips))
        for utterance, sound, video, channel in zip(utterances, sounds, videos, channels, strict=True):
            if utterance.id in truncated:
                sound, video = mark_truncated(*truncated[utterance.id], sound, video)
            utterance = replace(utterance, flags=(*utterance.flags, *media_flags(sound, video, channel)))
            if sound.status == video.status == "none":
                rows.append(manifest_row(utterance, "failed", "; ".join((*sound.problems, *video.problems))))
                continue
            record = make_record(job.recipe.corpus, utterance, sound, video, digests)
            members = encode_members(record, sound, video, job.recipe)
            placed = part.add(utterance.key, members, video.clip.read_bytes() if video.clip else b"")
            rows.append({**built_row(utterance, sound, video, members["txt"]), "channel": channel, **placed})
    return rows


def measure_ends(job: Job) -> tuple[tuple[Utterance, ...], dict[str, tuple[str, str]], list[dict[str, Any]]]:
    """Replace infinite ends of utterances by the end of the file: the video, or if it has no length, the sound.

    Returns:
        The utterances; for those whose file is known to be truncated, id -> that file and the description; and failed
        rows for those whose files have no length.
    """
    measured, truncated, failed = [], {}, []
    for utterance in job.recording.utterances:
        if math.isinf(utterance.end):
            files = filter(None, (job.recording.video, *(source.path for source in utterance.audio)))
            path, end, problems = measure_first(job.root, dict.fromkeys(files))
            if path is None:
                failed += failed_rows([utterance], "; ".join(problems))
                continue
            if problem := describe_truncation(job.root / path, end):
                truncated[utterance.id] = (path, f"{path}: {problem}")
            audio = tuple(
                replace(source, span=source.span and (source.span[0], end), is_open=True) for source in utterance.audio
            )
            utterance = replace(utterance, end=end, audio=audio)
        measured.append(utterance)
    return tuple(measured), truncated, failed


def measure_first(root: Path, paths: Iterable[str]) -> tuple[str | None, float, list[str]]:
    """The first of the files that has a length, that length in seconds, and what is wrong with those before it."""
    problems: list[str] = []
    for path in paths:
        try:
            return path, measure_duration(root / path), problems
        except DurationError as error:
            problems.append(str(error))
    return None, math.nan, problems


def mark_truncated(
    path: str, problem: str, sound: AudioSegment, video: VideoResult
) -> tuple[AudioSegment, VideoResult]:
    """The sound and the video of an utterance whose file `path` is truncated: what is from that file is incomplete."""
    if sound.source and sound.source.path == path:
        sound = replace(sound, status="partial", problems=(*sound.problems, problem))
    if video.source and video.source.path == path:
        video = replace(video, status="partial").with_problems(problem)
    return sound, video


def media_flags(sound: AudioSegment, video: VideoResult, channel: str | None) -> list[str]:
    """The flags of an utterance with doubtful media. `channel` is the result of `check_own_channel`."""
    # A table that names channel 2 of a file expects a voice per channel there.
    is_shared = sound.channels == 1 and bool(
        sound.source and (sound.source.channel_per_speaker or (sound.source.channel or 0) > 0)
    )
    flags = {
        "other_channel": channel == "other",
        "both_voices": is_shared,
        "silent_sound": sound.is_silent,
        "several_faces": any(face.count > 1 for face in video.faces),
    }
    return [flag for flag, is_set in flags.items() if is_set]


def check_own_channel(reader: AudioReader, utterance: Utterance, sound: AudioSegment) -> str | None:
    """The result of `check_channel` for an utterance whose sound is its own wav, None for others."""
    has_own = bool(utterance.audio) and sound.source == utterance.audio[0]
    return check_channel(reader, utterance.audio, sound.samples) if has_own else None


def read_audio(reader: AudioReader, utterance: Utterance) -> AudioSegment:
    """Read the sound of an utterance. After an unexpected exception the utterance has no sound."""
    try:
        return reader.read(utterance.audio, utterance_duration(utterance))
    except Exception as error:
        if ends_build(error):
            raise
        return no_audio(describe_unexpected_error(error))


def read_video(job: Job, sounds: Sequence[AudioSegment], scratch: Path) -> list[VideoResult]:
    """Extract the video of all utterances. After an unexpected exception they have no video."""
    reason = job.skip_video_reason
    if reason is None:
        try:
            cropper = FaceCropper(
                size=job.recipe.face_size,
                margin=job.recipe.face_margin,
                detector=job_detector(job),
                face_boxes=job.face_boxes,
            )
            samples = [sound.samples for sound in sounds]
            return extract_video(job.root, job.recording, job.recipe, samples, scratch, cropper)
        except Exception as error:
            if ends_build(error):
                raise
            reason = describe_unexpected_error(error)
    return [VideoResult(problems=[f"{job.recording.video}: {reason}"]) for _ in job.recording.utterances]
