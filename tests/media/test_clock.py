"""Guarantee: pictures and sound have one clock, that of the ffmpeg command; what has none is not shown."""

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from test_exact import FPS, WIDTH, Slots, encode, number, numbered, shown
from test_films import X264, ffmpeg, numbers, one, seen

from mesm_data.errors import MesmError
from mesm_data.media.audio import AudioReader
from mesm_data.media.clip_encoder import ClipWriter
from mesm_data.media.frame import Frame
from mesm_data.media.frame_sampling import FrameSampler, TimeSpan
from mesm_data.media.pixels import to_rgb
from mesm_data.media.sound_probe import probe_sound
from mesm_data.media.toolchain import ErrorOutput, ffmpeg_binary
from mesm_data.media.video import Video
from mesm_data.schema.recordings import AudioSource

COUNT = 99
B_FRAMES = (*X264, "-bf", "3")
FILES = {
    "xvid.avi": ("-c:v", "libxvid", "-q:v", "2", "-bf", "2", "-vtag", "XVID"),
    "divx.avi": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2", "-vtag", "DIVX"),
    "h264.avi": B_FRAMES,
    "mjpeg.avi": ("-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj420p"),
    "h264.mkv": B_FRAMES,
    "h264.mp4": B_FRAMES,
    "fragments.mp4": (*B_FRAMES, "-movflags", "frag_keyframe+empty_moov"),
    "h264.mov": B_FRAMES,
    "h264.ts": B_FRAMES,
    "mpeg2.ts": ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"),
    "mpeg2.mpg": ("-c:v", "mpeg2video", "-q:v", "2", "-bf", "2"),
    "wmv2.wmv": ("-c:v", "wmv2", "-q:v", "2"),
    "h264.flv": B_FRAMES,
    "vp8.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-b:v", "2M"),
    "theora.ogv": ("-c:v", "libtheora", "-q:v", "9"),
    "raw.h264": B_FRAMES,
    "hevc.mp4": ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:bframes=4"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-b:v", "2M"),
    "raw.m4v": ("-c:v", "mpeg4", "-q:v", "2", "-bf", "2"),
}


def times_of_ffmpeg(path: Path) -> list[Fraction]:
    """The time stamps of all frames as the ffmpeg command has them, in seconds."""
    command = [ffmpeg_binary(), "-nostdin", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough", "-copyts"]
    command += ["-vf", "showinfo", "-f", "null", "-"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    base = re.search(r"config in time_base: (\d+)/(\d+)", output)
    assert base
    return [int(pts) * Fraction(int(base[1]), int(base[2])) for pts in re.findall(r"\] n: *\d+ pts: *(-?\d+)", output)]


def check_times(path: Path) -> None:
    """Frame times are those of ffmpeg, but for one origin, and never decrease."""
    ours, theirs = [frame.time for frame in Video(path).frames()], times_of_ffmpeg(path)
    assert ours == sorted(ours)
    assert [time - ours[0] for time in ours] == [time - theirs[0] for time in theirs]


@pytest.mark.parametrize("name", FILES)
def test_frame_times_are_those_of_ffmpeg_in_every_container(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, *FILES[name], count=COUNT)
    check_times(path)
    order = list(shown(path).values())
    # Encoders of MPEG-4 and Theora leave out the last B-frames or repeat a picture; none comes before an earlier one.
    assert order == sorted(order)
    assert len(order) >= COUNT - 3


def test_a_picture_that_theora_repeats_by_an_empty_packet_is_shown_again(tmp_path: Path) -> None:
    """FFmpeg's decoder refuses such a packet, which ended the video there; its end is that of the last repetition."""
    still = "color=black:d=2:s=96x64:r=25,drawbox=c=white:t=fill:enable='eq(n\\,30)',format=yuv420p"
    ffmpeg("-f", "lavfi", "-i", still, "-c:v", "libtheora", tmp_path / "still.ogv")
    assert len(times_of_ffmpeg(tmp_path / "still.ogv")) < 10
    video = Video(tmp_path / "still.ogv")
    bright = {frame.time: frame.image.to_ndarray(format="gray").mean() > 128 for frame in video.frames()}
    assert bright == {Fraction(n, 25): n == 30 for n in range(50)}
    assert video.stopped is None
    [sight] = seen(tmp_path, "still.ogv", one("a", 0.0, 2.0))
    assert (sight.status, sight.problems) == ("ok", [])
    assert sight.clip
    assert len(list(Video(sight.clip).frames())) == 50


def test_an_empty_packet_of_sound_is_not_the_end_of_the_track(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "sine=440:d=2", "-c:a", "mp2", tmp_path / "whole.nut")
    with av.open(str(tmp_path / "whole.nut")) as whole, av.open(str(tmp_path / "track.nut"), "w") as track:
        stream = track.add_stream_from_template(whole.streams.audio[0])
        for packet in list(whole.demux(audio=0))[:-1]:
            copy = av.Packet(bytes(packet) if (packet.pts or 0) > 0 else b"")
            copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
            copy.time_base, copy.stream = packet.time_base, stream
            track.mux(copy)
    assert probe_sound(tmp_path / "track.nut")[1:] == (44_100, Fraction(1152, 44_100))
    assert AudioReader(tmp_path).read([AudioSource(path="track.nut")]).status == "ok"


def test_an_avi_with_b_frames_shows_the_picture_of_each_moment_and_gives_a_clip(tmp_path: Path) -> None:
    encode(tmp_path / "film.avi", *B_FRAMES, count=90)
    late = 2 / FPS  # the encoder's delay, which is in the file
    [sight] = seen(tmp_path, "film.avi", one("a", 1.0, 2.0))
    assert (sight.status, sight.problems) == ("ok", [])
    assert numbers(sight.clip) == [count for count in range(90) if 1 <= count / FPS + late < 2]
    assert sight.times == [pytest.approx(0.0, abs=0.034), pytest.approx(0.5, abs=0.034)]


def test_frames_at_the_same_time_do_not_cost_the_clip(tmp_path: Path) -> None:
    same = ("-vf", "setpts=(N-eq(mod(N\\,10)\\,3))/25/TB", "-fps_mode", "passthrough")  # frame 3 when frame 2 is, ...
    encode(tmp_path / "film.mkv", "-c:v", "ffv1", *same, fps=Fraction(25), count=30)
    begins = [frame.begin for frame in Video(tmp_path / "film.mkv").frames()]
    assert len(set(begins)) < len(begins)
    [sight] = seen(tmp_path, "film.mkv", one("a", 0.0, 1.0))
    assert (sight.status, sight.problems) == ("ok", [])
    assert numbers(sight.clip) == list(range(25))


def test_the_decoders_time_stamps_replace_those_in_coding_order(tmp_path: Path) -> None:
    """H.264 with B-frames that was copied from AVI to mp4 has no presentation times. ffmpeg's last ones step back."""
    encode(tmp_path / "film.avi", *B_FRAMES, count=90)
    ffmpeg("-i", tmp_path / "film.avi", "-c", "copy", tmp_path / "copied.mp4")
    ours, theirs = (
        [frame.time for frame in Video(tmp_path / "copied.mp4").frames()],
        times_of_ffmpeg(tmp_path / "copied.mp4"),
    )
    assert ours == sorted(ours)
    assert 85 <= len(ours) <= len(theirs) == 90
    assert ours == [time - theirs[0] for time in theirs][: len(ours)]
    order = list(shown(tmp_path / "copied.mp4").values())
    assert order == sorted(order)


def parts(folder: Path, *lengths: int) -> list[bytes]:
    """Transport streams of so many seconds of one recording, picture and sound, each with time stamps of its own."""
    encode(folder / "flat.mp4", *X264, count=30 * sum(lengths))
    ticks = (np.arange(sum(lengths) * 48_000) // 8 % 30_000).astype(np.int16)
    soundfile.write(folder / "ticks.wav", ticks, 48_000)
    positions, start = [], 0
    for length in lengths:
        cut = ("-ss", start, "-t", length)
        ffmpeg(
            *cut, "-i", folder / "flat.mp4", *cut, "-i", folder / "ticks.wav", "-map", "0:v", "-map", "1:a", *B_FRAMES,
            "-c:a", "mp2", folder / "part.ts",
        )  # fmt: skip
        positions.append((folder / "part.ts").read_bytes())
        start += length
    return positions


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_frames_after_restarting_time_stamps_are_not_shown_at_another_time(tmp_path: Path, suffix: str) -> None:
    """Two joined transport streams: ffmpeg gives the sound of the second a new time, which its pictures have not."""
    name = f"joined.{suffix}"
    (tmp_path / name).write_bytes(b"".join(parts(tmp_path, 1, 3)))
    selected = [one("a", 0.1, 0.8), one("b", 0.5, 1.5), one("c", 1.5, 2.5), one("d", 0.2, 0.7)]
    before, across, behind, early = seen(tmp_path, name, *selected)
    assert (before.status, early.status, across.status, behind.status) == ("ok", "ok", "partial", "none")
    assert (before.problems, behind.faces, behind.clip) == ([], [], None)
    for sight, start, end in ((before, 0.1, 0.8), (across, 0.5, 1.0), (early, 0.2, 0.7)):
        assert all(start - 0.05 <= count / FPS <= end for count in numbers(sight.clip))
    assert "its time stamps begin anew" in behind.problems[0]
    assert "the utterance at 2.500 s" in behind.problems[0]
    sound = AudioReader(tmp_path).read([AudioSource(path=name, span=(1.5, 2.5))])
    assert sound.status == "ok"


@pytest.mark.parametrize("name", ["joined.ts", "delayed.mkv"])
def test_frames_after_a_jump_of_the_time_stamps_are_not_shown_at_another_time(tmp_path: Path, name: str) -> None:
    """100 s ahead in a transport stream, 2000 h in another container: ffmpeg joins the sound without a gap."""
    if name == "joined.ts":
        first, _ = parts(tmp_path, 1, 3)
        ffmpeg("-i", tmp_path / "part.ts", "-c", "copy", "-output_ts_offset", 100, tmp_path / "late.ts")
        (tmp_path / name).write_bytes(first + (tmp_path / "late.ts").read_bytes())
    else:
        encode(tmp_path / "flat.mp4", *X264, count=120)
        ffmpeg("-i", tmp_path / "flat.mp4", "-vf", "setpts=PTS+7200000/TB*gte(N\\,30)", *X264, tmp_path / name)
    before, behind = seen(tmp_path, name, one("a", 0.1, 0.8), one("b", 1.5, 2.5))
    assert (before.status, behind.status, behind.faces, behind.clip) == ("ok", "none", [], None)
    assert "its time stamps begin anew" in behind.problems[0]


@given(
    times=st.lists(st.fractions(min_value=0, max_value=8, max_denominator=30), min_size=1, max_size=30),
    start=st.fractions(min_value=0, max_value=8, max_denominator=30),
)
def test_frames_outside_an_utterance_are_excluded_for_any_order_of_time_stamps(
    times: list[Fraction], start: Fraction
) -> None:
    span = TimeSpan(start=start, end=start + 1)
    for cut in FrameSampler(
        Slots(times, Fraction(1, 10)), [span, TimeSpan(start=Fraction(0), end=Fraction(9))], Fraction(1, 2)
    ):
        if cut.index == 0 and cut.in_span:
            assert span.start <= cut.frame.time < span.end


def test_the_reason_of_a_lost_clip_is_never_empty(tmp_path: Path) -> None:
    """A picture that comes before the one before it cannot be encoded: ffmpeg itself has nothing to say of it."""
    import av

    image = av.VideoFrame.from_ndarray(np.repeat(numbered(1)[:, :, None], 3, axis=2), format="rgb24")
    image = image.reformat(format="yuv420p")
    writer = ClipWriter(
        tmp_path / "clip.mp4", start=Fraction(0), shape=(WIDTH, 64), colours={}, samples=np.zeros(0, np.int16),
        rate=16_000,
    )  # fmt: skip
    writer.add(Frame(begin=5, end=6, scale=30, image=image), 0, WIDTH)
    writer._next = 0  # or it would be shown a tick later
    with pytest.raises(MesmError, match=r"could not encode clip\.mp4: \S.{5}"):
        writer.add(Frame(begin=2, end=3, scale=30, image=image), 0, WIDTH)


SPEAKERS = {
    "import sys; sys.exit(3)": "no error message (exit status 3)",
    "import sys; sys.stderr.write('\\n[aac @ 0x55a0] [SWR @ 0x1f] the cause\\nthe rest'); sys.exit(1)": "the cause "
    "(exit status 1)",
    "import sys; sys.stderr.write('the cause\\n' + 'noise\\n' * 10**6); sys.exit(1)": "the cause (exit status 1)",
    "import sys; sys.stderr.write('file:/some/where/a b.mp4: broken'); sys.exit(1)": "a b.mp4: broken (exit status 1)",
    "import os; os.kill(os.getpid(), 9)": "no error message (ended by SIGKILL)",
}


@pytest.mark.parametrize("program", SPEAKERS)
def test_a_process_is_quoted_with_its_first_error_line_and_its_end(program: str) -> None:
    """However much it writes, and however little; without addresses and folders, which differ from run to run."""
    errors = ErrorOutput(Path("/some/where/a b.mp4"))
    with errors.file:
        status = subprocess.run([sys.executable, "-c", program], stderr=errors.file).returncode
        assert errors.reason(status) == SPEAKERS[program]


def test_frame_numbers_can_be_read_from_the_test_video(tmp_path: Path) -> None:
    """The measure itself: a frame that is shown twice or late would be seen."""
    frames = [number(to_rgb(frame, 0, WIDTH)) for frame in Video(encode(tmp_path / "a.mkv", *X264, count=9)).frames()]
    assert frames == list(range(9))
