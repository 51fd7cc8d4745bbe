"""Decode the sound track of any file that FFmpeg reads to 16-bit PCM of one rate. Only the requested parts are kept.

ffmpeg runs without SIMD code, which rounds differently on different CPUs. Its output is NUT, a container in which each
block of sound has a time: gaps of any length cost nothing, and nothing is written to disk.
"""

import math
import subprocess
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.media.containers import WHITELIST, exact_number
from mesm_data.media.downmix import channel_weights, mix_down
from mesm_data.media.sound_probe import probe_sound
from mesm_data.media.toolchain import ErrorOutput, describe_error, ffmpeg_command
from mesm_data.storage.machine_errors import raise_for_exit_code, raise_resource_error

SampleSpan = tuple[int, int]  # samples [start, stop), counted from the container's start
SampleBlock = NDArray[np.int16]  # (n, channels)
END_OF_TRACK = 2**62  # a stop behind the end of every track

# Seconds. Smaller steps of the time stamps are rounding and drift: the sound is joined without a gap. A track that
# begins no later than this, as many do by a few packets, lacks nothing.
_GAP = Fraction(1, 10)


@dataclass(slots=True, kw_only=True)
class TrackPart:
    """A requested part of a track, samples [start, stop). `blocks` contain the samples up to `position`."""

    start: int
    stop: int
    position: int
    blocks: list[SampleBlock] = field(default_factory=list)

    def add(self, begin: int, block: SampleBlock) -> None:
        """Append the samples of a block from the sample `begin` on that lie in this part; gaps are silence."""
        first = max(self.start, begin)
        inside = block[first - begin : max(self.stop - begin, 0)]
        if len(inside):
            self.fill(first, block.shape[1])
            self.blocks.append(inside)
            self.position += len(inside)

    def fill(self, end: int, channels: int) -> None:
        """Append silence up to the sample `end`, but not beyond this part."""
        if (count := min(end, self.stop) - self.position) > 0:
            self.blocks.append(np.zeros((count, channels), np.int16))
            self.position += count


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundTrack:
    """The requested parts of a sound track.

    Attributes:
        parts: The parts, sorted.
        first: The first sample of the track.
        gaps: The samples [start, stop) that the track lacks, before its first one too.
        sample_rate: The sample rate of the file in Hz.
        channels: The number of channels of the parts.
        stopped: Why decoding ended early, if it did.
    """

    parts: Sequence[TrackPart]
    first: int
    gaps: Sequence[SampleSpan]
    sample_rate: int
    channels: int
    stopped: str | None

    def contains(self, start: int, stop: int) -> bool:
        """Whether the samples [start, stop) were requested."""
        return any(part.start <= start and stop <= part.stop for part in self.parts)

    def missing_samples(self, start: int, stop: int) -> int:
        """The number of the samples [start, stop) that lie in gaps."""
        return sum(max(min(end, stop) - max(begin, start), 0) for begin, end in self.gaps)

    def cut(self, start: int, stop: int) -> SampleBlock:
        """The samples [start, stop), which were requested: fewer if the track ends before, none if it begins later."""
        part = next(part for part in self.parts if part.start <= start and stop <= part.stop)
        if len(part.blocks) != 1:
            part.blocks = [np.concatenate([np.zeros((0, self.channels), np.int16), *part.blocks])]
        return part.blocks[0][start - part.start : stop - part.start if stop > self.first else 0]


def decode_track(path: Path, spans: Sequence[SampleSpan], rate: int, *, mix: bool = False) -> SoundTrack:
    """Decode the first sound track of a file. Before a track that begins late, and in its gaps, there is silence.

    Args:
        path: The file.
        spans: The parts to keep, in samples at `rate`; decoding stops behind the last one.
        rate: The sample rate of the result in Hz.
        mix: Whether to mix all channels down to one.

    Raises:
        MesmError: There is no sound track, or nothing of it can be decoded.
        OSError: The machine failed.
    """
    names, own_rate, start_time = probe_sound(path)
    channels, first = 1 if mix else len(names), to_sample_index(start_time, rate)
    weights = channel_weights(names)
    parts = [TrackPart(start=start, stop=stop, position=start) for start, stop in merge_spans(spans)]
    pending = deque(part for part in parts if part.stop > first)
    gaps = [(0, first)] if first > _GAP * rate else []
    end, stopped = first, None
    with closing(_decode(path, first, rate)) as blocks:
        try:
            for begin, block in blocks if pending else ():
                block = mix_down(block, weights)[:, None] if mix else block
                gaps += [(end, begin)] if begin > end else []
                end = begin + len(block)
                while pending and pending[0].stop <= begin:
                    pending.popleft()
                for part in pending:
                    if part.start >= end:
                        break
                    part.add(begin, block)
                if not pending or pending[-1].stop <= end:
                    break
        except _DecodingStopped as error:
            stopped = str(error)
            if end == first:
                raise MesmError(f"its sound cannot be decoded ({stopped})") from None
    for part in parts:
        part.fill(end, channels)
    return SoundTrack(parts=parts, first=first, gaps=gaps, sample_rate=own_rate, channels=channels, stopped=stopped)


class _DecodingStopped(Exception):
    """ffmpeg ended before the track did; the message has the reason."""


def _decode(path: Path, first: int, rate: int) -> Generator[tuple[int, SampleBlock]]:
    """Yield the sound of a file in blocks, each with the number of its first sample; the first block begins at `first`.

    Raises _DecodingStopped if ffmpeg fails. The process ends with the generator.
    """
    import av

    errors, problem = ErrorOutput(path), None
    process = subprocess.Popen(
        _command(path, rate), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors.file
    )
    try:
        try:
            yield from _blocks(process, first, rate)
        except av.FFmpegError as error:  # the output of ffmpeg ends early, or is empty
            raise_resource_error(error)
            problem = describe_error(error)
        status = process.wait()
        raise_for_exit_code(status, errors.text())
        if status or problem:
            raise _DecodingStopped(errors.reason(status) if status or not problem else problem)
    finally:
        process.kill()
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
        errors.file.close()


def _command(path: Path, rate: int) -> list[str]:
    import ffmpeg

    # All channels of the file are kept: ffmpeg has no other conversion for a layout such as FL+FC.
    stream = ffmpeg.input("FILE", **WHITELIST)["a:0"].filter("aresample", rate)
    output = ffmpeg.output(stream, "pipe:1", format="nut", acodec="pcm_s16le")
    return ffmpeg_command(output, "-cpuflags", "0", files={"FILE": path})


def _blocks(process: subprocess.Popen[bytes], first: int, rate: int) -> Generator[tuple[int, SampleBlock]]:
    """Yield the blocks that ffmpeg writes, as `_decode` does."""
    import av

    shift, end, gap = None, first, math.floor(_GAP * rate)
    assert process.stdout is not None
    # Not the file object: PyAV drops what a signal handler raises while it reads from one, and takes it for the end.
    with av.open(f"pipe:{process.stdout.fileno()}", "r", format="nut") as container:
        stream = container.streams.audio[0]
        unit = (exact_number(stream.time_base) or 1) * rate
        for packet in container.demux(stream):
            block = np.frombuffer(bytes(packet), "<i2").reshape(-1, stream.codec_context.channels)
            if packet.pts is None or not len(block):
                continue
            begin = round(packet.pts * unit)
            shift = first - begin if shift is None else shift
            step = begin + shift - end
            if step > gap:
                end += step
            elif step < -gap:
                block = block[-step:]
            if len(block):
                yield end, block
            end += len(block)


def merge_spans(spans: Sequence[SampleSpan]) -> list[SampleSpan]:
    """Merge overlapping spans; the result is sorted."""
    merged: list[SampleSpan] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def to_sample_index(seconds: Fraction, rate: int) -> int:
    """The nearest sample at `rate` Hz, halves up."""
    return math.floor(seconds * rate + Fraction(1, 2))
