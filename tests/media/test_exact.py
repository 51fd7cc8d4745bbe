"""Frames by presentation time and audio by sample.

The frames of the clip carry their number, and its sound carries a clock.
"""

import subprocess
from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mesm_data.media.audio import AudioReader
from mesm_data.media.frame import Frame
from mesm_data.media.frame_sampling import FrameSampler, TimeSpan
from mesm_data.media.pixels import to_rgb
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.media.video import Video
from mesm_data.schema.recordings import AudioSource

WIDTH, HEIGHT, BITS = 96, 64, 12
FPS = Fraction(30000, 1001)
COUNT = 240


def numbered(number: int) -> NDArray[np.uint8]:
    """A grey picture whose upper half shows `number` in binary, eight pixels a bit."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 200 + 28, WIDTH // BITS)
    return np.tile(row, (HEIGHT, 1))


def number(picture: NDArray[np.uint8]) -> int:
    """The number that a decoded picture shows."""
    bits = picture[:, :, 1].mean(axis=0).reshape(BITS, -1).mean(axis=1) > 128
    return int(sum(1 << bit for bit in range(BITS) if bits[bit]))


def encode(path: Path, *options: str, fps: Fraction = FPS, count: int = COUNT) -> Path:
    """Write the numbered clip with ffmpeg."""
    command = [ffmpeg_binary(), "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{WIDTH}x{HEIGHT}"]
    command += ["-r", str(fps), "-i", "pipe:0", "-pix_fmt", "yuv420p", *options, str(path)]
    subprocess.run(command, input=b"".join(numbered(n).tobytes() for n in range(count)), check=True)
    return path


@pytest.fixture(scope="module", params=["avi", "avi-b-frames", "mp4", "mkv"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = {
        "avi": ("-c:v", "mpeg4", "-q:v", "2", "-vtag", "DIVX", "-g", "250"),
        "avi-b-frames": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),
        "mp4": ("-c:v", "libx264", "-crf", "10", "-bf", "3"),
        "mkv": ("-c:v", "libx264", "-crf", "10"),
    }[request.param]
    suffix = request.param.split("-")[0]
    return encode(tmp_path_factory.mktemp("clip") / f"numbered.{suffix}", *options)


def shown(path: Path) -> dict[Fraction, int]:
    """Presentation time -> number of every frame of a clip."""
    video = Video(path)
    return {frame.time: number(to_rgb(frame, 0, WIDTH)) for frame in video.frames()}


def test_every_frame_is_shown_at_its_own_time(clip: Path) -> None:
    frames = shown(clip)
    assert sorted(frames.values()) == list(range(COUNT))
    times = sorted(frames)
    # ffmpeg's AVI muxer leaves an empty slot before or behind the first frame of an MPEG-4 stream: one frame late is
    # what the file says. Matroska rounds to milliseconds.
    late = [time - frames[time] / FPS for time in times]
    assert all(min(abs(delay), abs(delay - 1 / FPS)) < Fraction(1, 1000) for delay in late)
    assert [frames[time] for time in times] == list(range(COUNT))


@pytest.mark.parametrize("start", ["0.0", "0.5", "1.2345", "2.00200", "3.9999"])
def test_crops_are_the_first_frames_at_or_after_each_half_second(clip: Path, start: str) -> None:
    frames = shown(clip)
    begin, stop = Fraction(start), Fraction(start) + Fraction("2.7")
    cutter = FrameSampler(Video(clip), [TimeSpan(start=begin, end=stop)], Fraction(1, 2))
    numbers = [number(to_rgb(cut.frame, 0, WIDTH)) for cut in cutter for _ in range(cut.grid_hits)]
    moments = [begin + Fraction(k, 2) for k in range(6)]
    assert numbers == [frames[min(time for time in frames if time >= moment)] for moment in moments]


def test_a_span_past_the_end_gets_the_frames_that_there_are(clip: Path) -> None:
    frames = shown(clip)
    end = max(frames) + 1 / FPS
    cutter = FrameSampler(Video(clip), [TimeSpan(start=end - Fraction(6, 5), end=end + 5)], Fraction(1, 2))
    assert sum(cut.grid_hits for cut in cutter) == 3
    assert cutter.end is not None
    assert abs(cutter.end - end) < Fraction(1, 1000)
    late = FrameSampler(Video(clip), [TimeSpan(start=cutter.end, end=end + 1)], Fraction(1, 2))
    assert [cut.grid_hits for cut in late] == []


class Slots:
    """A stand-in for a file: frames at given times, of given durations, without pictures."""

    def __init__(self, times: list[Fraction], last: Fraction) -> None:
        self._times, self._last = times, last
        self.scale = lcm(last.denominator, *(time.denominator for time in times))

    def frames(self):  # type: ignore[no-untyped-def]
        for index, time in enumerate(self._times):
            until = self._times[index + 1] if index + 1 < len(self._times) else time + self._last
            begin, end = (int(moment * self.scale) for moment in (time, until))
            yield Frame(begin=begin, end=end, scale=self.scale, image=None)  # type: ignore[arg-type]


seconds = st.fractions(min_value=0, max_value=20, max_denominator=1000)


@given(
    gaps=st.lists(st.fractions(min_value=Fraction(1, 60), max_value=2, max_denominator=90), max_size=40),
    spans=st.lists(
        st.tuples(seconds, st.fractions(min_value=Fraction(1, 50), max_value=8, max_denominator=50)), max_size=6
    ),
)
def test_the_frame_sampler_agrees_with_its_definition(
    gaps: list[Fraction], spans: list[tuple[Fraction, Fraction]]
) -> None:
    """Variable frame rates, gaps, overlaps: compared with a literal reading of the rule."""
    times = [sum(gaps[:index], Fraction(0)) for index in range(len(gaps))]
    requested = [TimeSpan(start=start, end=start + length) for start, length in spans]
    cutter = FrameSampler(Slots(times, Fraction(1, 10)), requested, Fraction(1, 2))
    faces: list[list[Fraction]] = [[] for _ in requested]
    inside: list[list[Fraction]] = [[] for _ in requested]
    for cut in cutter:
        faces[cut.index] += [cut.frame.time] * cut.grid_hits
        inside[cut.index] += [cut.frame.time] * cut.in_span
    end = times[-1] + Fraction(1, 10) if times else Fraction(0)
    for span, got, within in zip(requested, faces, inside, strict=True):
        moments = [span.start + Fraction(k, 2) for k in range(40)]
        moments = [moment for moment in moments if moment < min(span.end, end)]
        assert got == [
            min([time for time in times if time >= moment], default=times[-1] if times else None) for moment in moments
        ]
        assert within == [time for time in times if span.start <= time < span.end]


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stereo wav whose left sample n is n modulo 30 000 and whose right sample is its negative."""
    path = tmp_path_factory.mktemp("sound") / "clock.wav"
    ticks = (np.arange(20 * 16_000) % 30_000).astype(np.int16)
    soundfile.write(path, np.stack([ticks, -ticks], axis=1), 16_000)
    return path


@given(start=st.integers(0, 190_000), length=st.integers(1, 90_000))
def test_sound_is_cut_by_sample(clock: Path, start: int, length: int) -> None:
    """Spans with four decimals, as the corpus writes them."""
    begin, stop = start / 10_000, (start + length) / 10_000
    first, last = (start * 16 + 5) // 10, ((start + length) * 16 + 5) // 10  # to the nearest sample, halves up
    for channel, sign in ((0, 1), (1, -1)):
        source = AudioSource(path=clock.name, channel=channel, span=(begin, stop))
        sound = AudioReader(clock.parent).read([source])
        expected = (np.arange(first, min(last, 320_000)) % 30_000 * sign).astype(np.int16)
        assert np.array_equal(sound.samples, expected)
        assert sound.status == ("ok" if last <= 320_000 else "partial")


def test_a_channel_beyond_the_last_is_no_other_one(tmp_path: Path, clock: Path) -> None:
    (tmp_path / "stereo.wav").write_bytes(clock.read_bytes())
    soundfile.write(tmp_path / "mono.wav", np.ones(16_000, np.int16), 16_000)
    reader = AudioReader(tmp_path)
    assert reader.read([AudioSource(path="mono.wav", channel=2)]).status == "ok"  # it has no other sound
    sound = reader.read([AudioSource(path="stereo.wav", channel=2)])
    assert (sound.status, sound.problems) == ("none", ("stereo.wav: has no channel 3: it has 2",))


def test_other_formats_are_converted_and_cut_at_the_same_times(tmp_path: Path) -> None:
    """A 44.1 kHz float file: a tone that begins at 1.0 s begins at sample 0 of a cut from 1.0 s."""
    wave = np.zeros(44_100 * 3, np.float32)
    wave[44_100:] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100 * 2) / 44_100)
    soundfile.write(tmp_path / "tone.wav", wave, 44_100, subtype="FLOAT")
    reader = AudioReader(tmp_path)
    sound = reader.read([AudioSource(path="tone.wav", span=(1.0, 2.0))])
    assert (sound.status, sound.sample_rate, len(sound.samples)) == ("ok", 44_100, 16_000)
    expected = 0.5 * 32768 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(sound.samples[200:] - expected[200:]).max() < 200
    silence = reader.read([AudioSource(path="tone.wav", span=(0.0, 0.9))]).samples
    assert np.abs(silence).max() < 10


def test_a_file_without_sound_is_reported_and_the_next_source_is_used(tmp_path: Path, clock: Path) -> None:
    (tmp_path / "text.wav").write_text("this is not a sound file")
    (tmp_path / "clock.wav").write_bytes(clock.read_bytes())
    sound = AudioReader(tmp_path).read([AudioSource(path="text.wav"), AudioSource(path="clock.wav", span=(1.0, 1.5))])
    assert sound.source == AudioSource(path="clock.wav", span=(1.0, 1.5))
    assert len(sound.problems) == 1
    assert sound.problems[0].startswith("text.wav: not a sound file")


def test_integer_colours_are_those_of_the_standard() -> None:
    """Against BT.601 in floating point, on every corner of the cube and random colours."""
    import av

    generator = np.random.default_rng(0)
    planes = generator.integers(0, 256, (6, 64), dtype=np.uint8)
    image = av.VideoFrame.from_ndarray(planes.reshape(-1, 16), format="yuv420p")
    frame = Frame(begin=0, end=1, scale=1, image=image)
    picture = to_rgb(frame, 0, image.width).astype(float)
    y, u, v = (np.frombuffer(p, np.uint8).reshape(-1, p.line_size)[:, : p.width].astype(float) for p in image.planes)
    u, v = (plane.repeat(2, 0).repeat(2, 1) - 128 for plane in (u, v))
    luma = (y - 16) * 255 / 219
    red = luma + 1.402 * v * 255 / 224
    green = luma - (0.114 * 1.772 * u + 0.299 * 1.402 * v) / 0.587 * 255 / 224
    blue = luma + 1.772 * u * 255 / 224
    expected = np.stack([red, green, blue], -1).clip(0, 255)
    assert np.abs(picture - expected).max() <= 0.51
