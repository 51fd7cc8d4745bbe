"""The sound track of any file that FFmpeg reads, as 16-bit PCM of one rate: only the parts that are wanted are kept.

ffmpeg's SIMD code rounds differently from CPU to CPU, so it runs without. It writes NUT, a container in which every
piece of sound has its time: holes of any length cost nothing, and nothing is written to a disk.
"""

import math
import subprocess
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.containers import WHITELIST, open_container
from mesm_data.media.toolchain import ErrorOutput, describe_error, ffmpeg_command
from mesm_data.media.video import container_start
from mesm_data.storage.machine_errors import raise_for_exit_code, raise_resource_error

if TYPE_CHECKING:
    import av

SampleSpan = tuple[int, int]  # samples [start, stop) of the container's clock
SampleBlock = NDArray[np.int16]  # (n, channels)
END_OF_TRACK = 2**62  # a stop that lies behind every track

# Seconds. Smaller steps of the time stamps are rounding and drift: the sound goes on without a seam.
_HOLE = Fraction(1, 10)


@dataclass(slots=True, kw_only=True)
class TrackPart:
    """A part of a track that is wanted, samples [start, stop), of which `blocks` hold those up to `position`."""

    start: int
    stop: int
    position: int
    blocks: list[SampleBlock] = field(default_factory=list)

    def add(self, begin: int, block: SampleBlock) -> None:
        """Append what lies in this part of a block that begins at the sample `begin`, after silence for a hole."""
        first = max(self.start, begin)
        inside = block[first - begin : max(self.stop - begin, 0)]
        if len(inside):
            self.fill(first, block.shape[1])
            self.blocks.append(inside)
            self.position += len(inside)

    def fill(self, end: int, channels: int) -> None:
        """Append silence up to the sample `end`, at most to the end of this part."""
        if (count := min(end, self.stop) - self.position) > 0:
            self.blocks.append(np.zeros((count, channels), np.int16))
            self.position += count


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundTrack:
    """The wanted parts of a sound track, which begins at the sample `first`.

    `holes` are the samples [start, stop) that it lacks in between, `sample_rate` is the file's own; `stopped` says why
    it ended early, if it did.
    """

    parts: Sequence[TrackPart]
    first: int
    holes: Sequence[SampleSpan]
    sample_rate: int
    channels: int
    stopped: str | None

    def holds(self, start: int, stop: int) -> bool:
        """Whether the samples [start, stop) were wanted."""
        return any(part.start <= start and stop <= part.stop for part in self.parts)

    def missing(self, start: int, stop: int) -> int:
        """How many of the samples [start, stop) lie in holes."""
        return sum(max(min(end, stop) - max(begin, start), 0) for begin, end in self.holes)

    def cut(self, start: int, stop: int) -> SampleBlock:
        """The samples [start, stop), which the track holds: fewer where it ends before, none if it begins later."""
        part = next(part for part in self.parts if part.start <= start and stop <= part.stop)
        if len(part.blocks) != 1:
            part.blocks = [np.concatenate([np.zeros((0, self.channels), np.int16), *part.blocks])]
        return part.blocks[0][start - part.start : stop - part.start if stop > self.first else 0]


def decode_track(path: Path, spans: Sequence[SampleSpan], rate: int, *, mix: bool = False) -> SoundTrack:
    """Decode the first sound track of `path` at `rate` Hz as far as `spans` reach; `mix` mixes it down.

    Before a track that begins late, and in its holes, there is silence. Raises MesmError with the reason if there is no
    sound track or nothing of it can be decoded, OSError if the machine fails.
    """
    names, own_rate, begin = probe_sound(path)
    channels, first = 1 if mix else len(names), to_sample_index(begin, rate)
    weights = channel_weights(names)
    parts = [TrackPart(start=start, stop=stop, position=start) for start, stop in merge_spans(spans)]
    waiting = deque(part for part in parts if part.stop > first)
    holes: list[SampleSpan] = []
    end, stopped = first, None
    with closing(_decode(path, first, rate)) as blocks:
        try:
            for place, block in blocks if waiting else ():
                block = mix_down(block, weights)[:, None] if mix else block
                holes += [(end, place)] if place > end else []
                end = place + len(block)
                while waiting and waiting[0].stop <= place:
                    waiting.popleft()
                for part in waiting:
                    if part.start >= end:
                        break
                    part.add(place, block)
                if not waiting or waiting[-1].stop <= end:
                    break
        except _Stopped as error:
            stopped = str(error)
            if end == first:
                raise MesmError(f"its sound cannot be decoded ({stopped})") from None
    for part in parts:
        part.fill(end, channels)
    return SoundTrack(parts=parts, first=first, holes=holes, sample_rate=own_rate, channels=channels, stopped=stopped)


class _Stopped(Exception):
    """Why ffmpeg ended before the track did."""


def _decode(path: Path, first: int, rate: int) -> Generator[tuple[int, SampleBlock]]:
    """The sound of a file in blocks, each with the sample that it begins at; the first one begins at `first`.

    Raises _Stopped where ffmpeg fails. The process ends with the generator.
    """
    import av

    process = subprocess.Popen(
        _command(path, rate), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        errors, problem = ErrorOutput(process, path), None
        try:
            yield from _blocks(process, first, rate)
        except av.FFmpegError as error:  # what ffmpeg wrote ends early, or it wrote nothing
            raise_resource_error(error)
            problem = describe_error(error)
        status = process.wait()
        raise_for_exit_code(status, errors.text())
        if status or problem:
            raise _Stopped(errors.reason() if status or not problem else problem)
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()


def _command(path: Path, rate: int) -> list[str]:
    import ffmpeg

    # The number of channels is that of the file: for a layout such as FL+FC ffmpeg knows no other.
    stream = ffmpeg.input("FILE", **WHITELIST)["a:0"].filter("aresample", rate)
    output = ffmpeg.output(stream, "pipe:1", format="nut", acodec="pcm_s16le")
    return ffmpeg_command(output, "-cpuflags", "0", files={"FILE": path})


def _blocks(process: subprocess.Popen[bytes], first: int, rate: int) -> Generator[tuple[int, SampleBlock]]:
    """The sound that ffmpeg writes, each block with the sample that it begins at; the first one begins at `first`."""
    import av

    shift, end, hole = None, first, math.floor(_HOLE * rate)
    with av.open(process.stdout, "r", format="nut") as container:
        stream = container.streams.audio[0]
        unit = (stream.time_base or Fraction(1)) * rate
        for packet in container.demux(stream):
            block = np.frombuffer(bytes(packet), "<i2").reshape(-1, stream.codec_context.channels)
            if packet.pts is None or not len(block):
                continue
            place = round(packet.pts * unit)
            shift = first - place if shift is None else shift
            step = place + shift - end
            if step > hole:
                end += step
            elif step < -hole:
                block = block[-step:]
            if len(block):
                yield end, block
            end += len(block)


def merge_spans(spans: Sequence[SampleSpan]) -> list[SampleSpan]:
    """Spans without overlaps, sorted, which cover the same samples."""
    merged: list[SampleSpan] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def mix_down(block: SampleBlock, weights: Sequence[int]) -> NDArray[np.int16]:
    """int16 (n,): the mean of the channels of (n, channels), each with its weight; in integers, halves up."""
    factors, total = np.array(weights, np.int64), sum(weights)
    rounded: NDArray[np.int16] = ((2 * (block.astype(np.int64) @ factors) + total) // (2 * total)).astype(np.int16)
    return rounded


def channel_weights(names: Sequence[str]) -> tuple[int, ...]:
    """The weight of each channel in a downmix, from the channels' names in FFmpeg ("FL", "FC", "LFE", ...).

    In a layout with a centre, which carries the speech of a film, the weights are those of the mono downmix of ITU-R
    BS.775: 1 for the centre, 0.7071 for left and right, 0.5 for the others, and none for low-frequency effects. In any
    other layout all channels weigh the same.
    """
    if "FC" not in names or len(names) < 3:
        return (1,) * len(names)
    return tuple({"FC": 1000, "FL": 707, "FR": 707, "LFE": 0, "LFE2": 0}.get(name, 500) for name in names)


def to_sample_index(seconds: Fraction, rate: int) -> int:
    """The nearest sample at `rate` Hz, halves up."""
    return math.floor(seconds * rate + Fraction(1, 2))


def probe_sound(path: Path) -> tuple[tuple[str, ...], int, Fraction]:
    """Names of the channels, sample rate and first sample's time (from the container's start) of the first sound track.

    Raises MesmError if there is no sound in it.
    """
    import av

    try:
        with open_container(path) as container:
            if not container.streams.audio:
                raise MesmError("holds no sound track")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise MesmError("holds sound of a kind that this FFmpeg cannot decode")
            names = tuple(channel.name for channel in stream.codec_context.layout.channels)
            names, rate = names or ("",) * stream.codec_context.channels, stream.codec_context.sample_rate
            begin = _first(container, stream)
    except (av.FFmpegError, OSError) as error:
        raise_resource_error(error)
        raise MesmError(f"not a sound file ({describe_error(error)})") from None
    if begin is None or not names or not rate:
        raise MesmError("its sound cannot be decoded")
    return names, rate, begin


def _first(container: "av.container.InputContainer", stream: "av.AudioStream") -> Fraction | None:
    """The time of the first sample that can be decoded; None if there is none."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        if frames:
            first = frames[0]
            if first.pts is None or first.time_base is None:
                return Fraction(0)
            return first.pts * first.time_base - container_start(container)
    return None
