"""The video data of one utterance: faces, their times, and the clip."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from mesm_data.media.clip_encoder import ClipResult
from mesm_data.media.faces.crop import FaceCrop

STATUSES = ("none", "partial", "ok")  # of an utterance's video, worst first


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoSource:
    """The source of an utterance's faces.

    Attributes:
        path: The video file, or a pattern for the images.
        span: The part that was read, in seconds of the source.
        images: The paths of the image files; empty for a video file.
    """

    path: str
    span: tuple[float, float]
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """The video data of one utterance.

    Attributes:
        faces: One crop for each point of the sampling grid.
        times: The time of each crop's frame, in seconds from the start of the utterance.
        status: ok: frames cover the utterance. partial: the video ends early, or decoding errors left a gap longer
            than one sampling interval. none: there is no frame.
        fps: Frames per second of the source.
        size: Width and height of the speaker's part of the frame, in pixels.
        clip: The encoded clip, a file in the scratch folder.
        source: Where the faces are from; None if there are none.
        problems: What is missing, one phrase each.
    """

    faces: list[FaceCrop] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    status: str = "none"
    fps: float | None = None
    size: tuple[int, int] | None = None
    clip: Path | None = None
    source: VideoSource | None = None
    problems: list[str] = field(default_factory=list)

    def with_clip(self, clip: ClipResult) -> "VideoResult":
        """This result with its clip, or with the reason why there is none."""
        return replace(self, clip=clip.path).with_problems(*([clip.problem] if clip.problem else []))

    def with_problems(self, *problems: str) -> "VideoResult":
        """This result with further problems."""
        return replace(self, problems=[*self.problems, *problems])


def select_best(main: VideoResult, own: VideoResult) -> VideoResult:
    """The better of the results from the recording's video and from the utterance's own file, with both's problems."""
    best = own if STATUSES.index(own.status) > STATUSES.index(main.status) else main
    return replace(best, problems=[*main.problems, *own.problems])
