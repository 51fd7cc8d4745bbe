"""Encode the clip of an utterance: the speaker's part of the frames, and the utterance's sound, as mp4.

Each clip has its own ffmpeg process. Frames are sent to it in NUT, a container that stores the time of each frame, so
a clip keeps a variable frame rate. Cutting with `-c copy` would be wrong by up to a group of pictures.
"""

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.frame import Frame
from mesm_data.media.frame_sampling import SampledFrame, TimeSpan
from mesm_data.media.pixels import colour_tags, frame_size, yuv420_planes
from mesm_data.media.toolchain import ErrorOutput, describe_error, ffmpeg_command
from mesm_data.media.wav import encode_wav
from mesm_data.storage.machine_errors import raise_for_exit_code

# Encoders that run at the same time: each uses up to 200 MB at 1920x1080.
MAX_ENCODERS = 4
# Ticks per second: a multiple of the usual frame rates, 30000/1001 among them, so their times are exact.
CLIP_TIME_BASE = 30_000
ENCODER_SETTINGS = {"vcodec": "libx264", "preset": "veryfast", "crf": 20, "acodec": "aac", "audio_bitrate": "64k"}


class ClipWriter:
    """Encodes one clip.

    Args:
        path: The file, which the caller deletes.
        start: Start of the utterance in seconds of the source: the clip's time 0.
        shape: Width and height of the speaker's part of the frame, in pixels.
        colours: The result of `pixels.colour_tags`.
        samples: The sound, int16 (n,).
        rate: The sample rate in Hz.

    Raises:
        MesmError: The image is smaller than 2x2 pixels.
    """

    def __init__(
        self,
        path: Path,
        *,
        start: Fraction,
        shape: tuple[int, int],
        colours: Mapping[str, str],
        samples: NDArray[np.int16],
        rate: int,
    ) -> None:
        import av

        self.path, self._start, self.shape, self._colours = path, start, shape, colours
        self._width, self._height = shape[0] // 2 * 2, shape[1] // 2 * 2  # 4:2:0 needs even sizes
        if not self._width or not self._height:
            raise MesmError(f"a picture of {shape[0]}x{shape[1]} pixels is too small for a clip")
        self._sound = path.with_suffix(".wav")
        self._errors = ErrorOutput(path)
        self._process = subprocess.Popen(
            self._command(samples, rate), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors.file
        )
        assert self._process.stdin
        # Not the file object: PyAV drops what a signal handler raises while it writes to one, and frames with it.
        self._pipe = av.open(f"pipe:{self._process.stdin.fileno()}", "w", format="nut")
        self._stream = self._pipe.add_stream("rawvideo", rate=CLIP_TIME_BASE)
        self._stream.width, self._stream.height = self._width, self._height
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, CLIP_TIME_BASE)
        self._next = 0  # the first tick that is free
        self.frames = 0

    def _command(self, samples: NDArray[np.int16], rate: int) -> list[str]:
        import ffmpeg

        streams = [ffmpeg.input("pipe:0", format="nut").video]
        settings = dict(ENCODER_SETTINGS)
        if len(samples):
            self._sound.write_bytes(encode_wav(samples, rate))
            streams.append(ffmpeg.input("SOUND").audio)
        tags = ":".join(f"{name}={value}" for name, value in self._colours.items())
        # threads=1: the output of libx264 depends on the number of threads. copyts: the first frame keeps its time.
        output = ffmpeg.output(
            *streams, "CLIP", threads=1, fps_mode="passthrough", enc_time_base="demux",
            video_track_timescale=CLIP_TIME_BASE, format="mp4", fflags="+bitexact", vf=f"setparams={tags}", **settings,
        )  # fmt: skip
        return ffmpeg_command(output, "-copyts", files={"SOUND": self._sound, "CLIP": self.path})

    def add(self, frame: Frame, left: int, right: int) -> None:
        """Append the columns [left, right) of a frame. Raises MesmError if ffmpeg has failed."""
        import av

        luma, *chroma = yuv420_planes(frame, left, right)
        picture = [luma[: self._height, : self._width]]
        picture += [plane[: self._height // 2, : self._width // 2] for plane in chroma]
        packet = av.Packet(b"".join(plane.tobytes() for plane in picture))
        packet.stream = self._stream
        packet.time_base = Fraction(1, CLIP_TIME_BASE)
        # A second frame at the same time, as in files of variable frame rate, is shown a tick later: NUT refuses it.
        packet.pts = packet.dts = max(round((frame.time - self._start) * CLIP_TIME_BASE), self._next)
        packet.is_keyframe = True
        self._next = packet.pts + 1
        try:
            self._pipe.mux(packet)
        except (av.FFmpegError, OSError) as error:
            self._check_end(error)
        self.frames += 1

    def close(self) -> None:
        """Finish the file.

        Raises:
            MesmError: ffmpeg failed; the message has its first error line.
            OSError: The machine failed, such as a full disk.
        """
        import av

        problem = None
        try:
            self._pipe.close()
        except (av.FFmpegError, OSError) as error:
            problem = error
        self._check_end(problem)

    def abort(self) -> None:
        """Stop the encoder. The caller deletes the unfinished file."""
        self._process.kill()
        self._process.wait()
        self._errors.file.close()
        self._sound.unlink(missing_ok=True)

    def _check_end(self, error: Exception | None = None) -> None:
        """Wait for ffmpeg to end. Raises as `close`, also if ffmpeg did not accept input (`error`)."""
        import av

        assert self._process.stdin
        with suppress(av.FFmpegError, OSError):
            self._pipe.close()  # after a failure: libav has a descriptor of its own, and ffmpeg waits for both
        with suppress(OSError):
            self._process.stdin.close()
        status = self._process.wait()
        self._sound.unlink(missing_ok=True)
        with self._errors.file:
            raise_for_exit_code(status, self._errors.text())
            if status or error:
                reason = describe_error(error) if error and not status else self._errors.reason(status)
                raise MesmError(f"ffmpeg could not encode {self.path.name}: {reason}")


def group_overlapping(spans: Sequence[TimeSpan], limit: int = MAX_ENCODERS) -> list[set[int]]:
    """Divide spans into groups, so that at no time more than `limit` spans of a group overlap.

    The clips of a group are encoded in one pass.
    """
    groups: list[set[int]] = []
    for index in sorted(range(len(spans)), key=lambda index: (spans[index].start, spans[index].end)):
        start = spans[index].start
        free = (group for group in groups if sum(spans[other].end > start for other in group) < limit)
        group = next(free, None)
        if group is None:
            groups.append(group := set())
        group.add(index)
    return groups


class ClipResult(NamedTuple):
    """A finished clip, or why there is none. Both are None if no frame lay in the span."""

    path: Path | None
    problem: str | None


class ClipSet:
    """Encodes the clips of one source while it is decoded. Each clip is finished as soon as its span has ended.

    Args:
        folder: The folder of the files.
        spans: The span of each clip, in seconds of the source.
        sounds: The sound of each clip, int16 (n,).
        rate: The sample rate of `sounds` in Hz.
        prefix: The beginning of the file names.
    """

    def __init__(
        self,
        folder: Path,
        spans: Sequence[TimeSpan],
        sounds: Sequence[NDArray[np.int16]],
        *,
        rate: int,
        prefix: str = "",
    ) -> None:
        self._folder, self._spans, self._sounds, self._rate, self._prefix = folder, spans, sounds, rate, prefix
        self._open: dict[int, ClipWriter] = {}
        self._done: dict[int, Path] = {}
        self._failed: dict[int, str] = {}

    def add(self, sampled: SampledFrame, left: int, right: int) -> None:
        """Append the columns [left, right) of a frame to the clip of its span."""
        for index in [index for index in self._open if self._spans[index].end <= sampled.frame.time]:
            self._finish(index)
        if sampled.index in self._failed:
            return
        if sampled.index not in self._open:
            self._begin(sampled, (right - left, frame_size(sampled.frame)[1]))
        writer = self._open.get(sampled.index)
        if writer is None:
            return
        try:
            if writer.shape != (right - left, frame_size(sampled.frame)[1]):
                writer.abort()
                raise MesmError("the picture changes its size inside the utterance: no clip")
            writer.add(sampled.frame, left, right)
        except MesmError as error:
            self._open.pop(sampled.index)
            self._failed[sampled.index] = str(error)

    def _begin(self, sampled: SampledFrame, shape: tuple[int, int]) -> None:
        try:
            self._open[sampled.index] = ClipWriter(
                self._folder / f"{self._prefix}{sampled.index}.mp4",
                start=self._spans[sampled.index].start,
                shape=shape,
                colours=colour_tags(sampled.frame.image),
                samples=self._sounds[sampled.index],
                rate=self._rate,
            )
        except MesmError as error:
            self._failed[sampled.index] = str(error)

    def collect(self, index: int) -> ClipResult:
        """Finish the clip of a span."""
        if index in self._open:
            self._finish(index)
        return ClipResult(self._done.get(index), self._failed.get(index))

    def close(self) -> None:
        """Stop all encoders that still run."""
        for writer in self._open.values():
            writer.abort()

    def _finish(self, index: int) -> None:
        writer = self._open.pop(index)
        try:
            writer.close()
            self._done[index] = writer.path
        except MesmError as error:
            self._failed[index] = str(error)
