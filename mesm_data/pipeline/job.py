"""A recording to build, and what must hold on the machine that builds it."""

import functools
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mesm_data.corpora.inventory import Stamps, file_stamp
from mesm_data.dataset.recipe import Recipe, describe_toolchain_difference
from mesm_data.errors import InputError, MesmError
from mesm_data.media.faces.crop import FaceBox
from mesm_data.media.faces.detector import FaceDetector
from mesm_data.media.toolchain import toolchain_versions
from mesm_data.schema.recordings import Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A recording to build.

    Attributes:
        root: The folder of the corpus.
        parts: The folder of the parts.
        recipe: The options.
        recording: The recording, with the utterances to build.
        toolchain: The versions that the build began with.
        stamps: Size and time of the recording's files when the corpus was scanned.
        skip_video_reason: Why the video is not decoded: an earlier attempt killed its process.
        face_boxes: The face boxes of each utterance by its key, if the build follows a lock.
        face_model: The model file of the face detector, if it needs one.
    """

    root: Path
    parts: Path
    recipe: Recipe
    recording: Recording
    toolchain: dict[str, str]
    stamps: Stamps = field(default_factory=dict)
    skip_video_reason: str | None = None
    face_boxes: Mapping[str, Sequence[FaceBox]] = field(default_factory=dict)
    face_model: Path | None = None


def check_machine(job: Job) -> None:
    """Raises MesmError if this machine does not see the folders, or its software would give other results."""
    plan = job.parts.parent / "recipe.json"
    for folder, is_visible in ((job.root, job.root.is_dir()), (job.parts, plan.exists())):
        if not is_visible:
            raise MesmError(
                f"{folder} cannot be seen on {socket.gethostname()}. Every machine of a build needs its --source and "
                "--out at the same path, on a shared file system. Run the same command again to resume"
            )
    if differs := describe_toolchain_difference(job.toolchain, _toolchain()):
        raise MesmError(
            f"{socket.gethostname()} has another toolchain: {differs}. All machines of a build need the same versions"
        )
    try:
        job_detector(job)
    except InputError as error:
        raise MesmError(f"{socket.gethostname()}: {error}. All machines of a build need the same detector") from None


def job_detector(job: Job) -> FaceDetector | None:
    """The face detector of a job; None if a lock says where faces are and the detector's model file is missing."""
    if job.recipe.face_model and not job.face_model:
        return None
    return job.recipe.detector(job.face_model)


_toolchain = functools.cache(toolchain_versions)


def check_sources_unchanged(job: Job) -> None:
    """Raises MesmError if a file is missing or has changed since the scan.

    An unmounted disk must not make utterances fail, and a recorded digest must be that of the file that was decoded.
    """
    for path, before in job.stamps.items():
        now = file_stamp(job.root / path)
        if now is None:
            raise MesmError(
                f"{job.root / path} was there when the corpus was scanned and is gone now (an unmounted disk?). "
                "When it is back, run the same command again to resume"
            )
        if now != before:
            raise MesmError(
                f"{job.root / path} was changed after the corpus was scanned. Nothing is recorded of it: run the same "
                "command again when nothing else writes to the corpus"
            )
