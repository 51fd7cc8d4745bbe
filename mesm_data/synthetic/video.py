"""Writer of video files from frames and audio; identical on each run on the same machine."""

import itertools
import subprocess
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.toolchain import ffmpeg_binary

# IEMOCAP's files are DivX: MPEG-4 part 2 with a key frame at least every 250 frames, the default of DivX and Xvid.
CODECS: dict[str, dict[str, Any]] = {
    "mpeg4": {"c:v": "mpeg4", "tag:v": "DIVX", "q:v": 4, "g": 250, "bf": 0},
    "libx264": {"c:v": "libx264", "preset": "veryfast", "crf": 23, "g": 250},
}
AUDIO: dict[str, dict[str, Any]] = {".avi": {"c:a": "pcm_s16le"}, ".mp4": {"c:a": "aac", "b:a": "96k"}}


def write_video(
    path: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    fps: Fraction,
    audio: Path | None,
    codec: str = "mpeg4",
    comment: str,
    varying: bool = False,
) -> None:
    """Encode RGB frames (height, width, 3), even in height and width, at a constant rate, to an .avi or .mp4 file.

    `codec` is "mpeg4" or "libx264" (yuv420p); `audio` is a sound file to mux in: PCM in .avi, AAC in .mp4. One thread
    and bit-exact flags: the same input gives the same bytes with the same ffmpeg. `varying` leaves out every fifth and
    every seventh frame, the others keep their times: a variable rate. The file appears whole or not at all.
    Raises ValueError if there are no frames or they differ in size, MesmError with ffmpeg's words if it fails.
    """
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame")
    temporary = path.with_name(f".{path.name}.tmp")
    command = _command(temporary, path.suffix, first.shape[:2], fps, audio, codec, comment, varying)
    try:
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors)
            try:
                assert process.stdin is not None
                _feed(process.stdin, itertools.chain([first], rest), first.shape)
            except BaseException:
                process.kill()
                raise
            finally:
                process.wait()
            if process.returncode != 0:
                errors.seek(0)
                output = errors.read().decode("utf-8", "replace").strip()
                raise MesmError(f"ffmpeg could not write {path} (exit {process.returncode}): {output}")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _command(
    output: Path,
    suffix: str,
    size: tuple[int, ...],
    fps: Fraction,
    audio: Path | None,
    codec: str,
    comment: str,
    varying: bool,
) -> list[str]:
    """Return the ffmpeg command that reads raw frames from standard input."""
    import ffmpeg

    rate = f"{fps.numerator}/{fps.denominator}"
    height, width = size
    inputs = [ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{width}x{height}", framerate=rate).video]
    sound: dict[str, Any] = {}
    if varying:
        inputs[0] = inputs[0].filter("select", "mod(n,5)*mod(n,7)+eq(n,0)")
    if audio is not None:
        inputs.append(ffmpeg.input(str(audio)).audio)
        sound = AUDIO[suffix] | {"flags:a": "+bitexact"}
    stream = ffmpeg.output(
        *inputs,
        str(output),
        **CODECS[codec],
        **sound,
        **({"fps_mode": "vfr"} if varying else {}),
        **{"flags:v": "+bitexact", "metadata": f"comment={comment}"},
        format=suffix.removeprefix("."),
        pix_fmt="yuv420p",
        sws_flags="bitexact+accurate_rnd",
        fflags="+bitexact",
        map_metadata=-1,
        threads=1,
    )
    quiet = stream.global_args("-hide_banner", "-nostdin", "-loglevel", "error").overwrite_output()
    return list(ffmpeg.compile(quiet, cmd=ffmpeg_binary()))


def _feed(pipe: IO[bytes], frames: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> None:
    """Write the frames and close the pipe. If ffmpeg stops reading, its exit code and messages tell why."""
    try:
        with pipe:
            for number, frame in enumerate(frames):
                if frame.shape != shape or frame.dtype != np.uint8:
                    raise ValueError(f"frame {number} is {frame.dtype} {frame.shape}, the first was uint8 {shape}")
                pipe.write(np.ascontiguousarray(frame).data)
    except BrokenPipeError:
        pass
