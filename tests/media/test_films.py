"""Videos, excerpts and sound tracks of every make, shown on clips whose frames carry their own number."""

import itertools
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_exact import FPS, HEIGHT, WIDTH, encode, shown

from mesm_data.corpora.open_corpus import open_corpus
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError, MesmError
from mesm_data.media.audio import AudioReader
from mesm_data.media.channel_check import check_channel
from mesm_data.media.clip_encoder import MAX_ENCODERS, group_overlapping
from mesm_data.media.extract import extract_video
from mesm_data.media.frame import Frame
from mesm_data.media.frame_sampling import TimeSpan
from mesm_data.media.options import parse_seconds
from mesm_data.media.pixels import colour_tags, frame_size, region_columns, to_rgb, yuv420_planes
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.media.video import Video
from mesm_data.media.video_result import VideoResult
from mesm_data.pipeline.job import Job
from mesm_data.pipeline.worker import write_part
from mesm_data.schema.recordings import AudioSource, ClipSource, Recording, Utterance, VideoRegion

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "10")


def ffmpeg(*arguments: object) -> None:
    subprocess.run([ffmpeg_binary(), "-v", "error", "-y", *map(str, arguments)], check=True)


def tone(path: Path, length: float = 4.0) -> Path:
    """16 kHz mono: sample n is n modulo 30 000."""
    soundfile.write(path, (np.arange(int(length * 16_000)) % 30_000).astype(np.int16), 16_000)
    return path


def one(id_: str, start: float, end: float, excerpt: ClipSource | None = None) -> Utterance:
    return Utterance(
        id=id_, dialog="d", speaker="s", start=start, end=end, text="", words=None, labels={}, audio=(),
        region=VideoRegion(), annotation_files=(), clip_source=excerpt,
    )  # fmt: skip


def seen(
    root: Path, video: str | None, *utterances: Utterance, offset: str = "0", clips: bool = True
) -> list[VideoResult]:
    """`extract_video` on silent utterances; clips go to root / "scratch"."""
    scratch = root / "scratch"
    scratch.mkdir(exist_ok=True)
    recipe = Recipe(corpus="mosei", clips=clips, video_offset=offset, min_face_size=60)
    silence: list[NDArray[np.int16]] = [np.zeros(0, np.int16)] * len(utterances)
    return extract_video(root, Recording(id="r", video=video, utterances=utterances), recipe, silence, scratch)


def numbers(clip: Path | None) -> list[int]:
    assert clip is not None
    return list(shown(clip).values())


@pytest.mark.parametrize("pixels", ["yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "gray", "yuvj420p"])
def test_frames_of_any_pixel_format_keep_their_numbers(tmp_path: Path, pixels: str) -> None:
    clip = encode(tmp_path / "clip.mp4", *X264, "-pix_fmt", pixels, count=20)
    assert list(shown(clip).values()) == list(range(20))


@pytest.mark.parametrize(
    ("name", "shape"), [("yuv420p", (2, 2)), ("yuv422p", (1, 2)), ("yuv444p", (1, 1)), ("yuv444p10le", (1, 1))]
)
def test_colours_of_any_pixel_format_are_those_of_the_standard(name: str, shape: tuple[int, int]) -> None:
    """Full-range BT.601 in floating point, from random planes of an odd size."""
    import av

    image, depth = av.VideoFrame(33, 17, name), 10 if name.endswith("10le") else 8
    generator, wide = np.random.default_rng(1), []
    for plane in image.planes:
        values = generator.integers(0, 2**depth, (plane.height, plane.width)).astype("<u2" if depth > 8 else np.uint8)
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[:, : plane.width] = values
        plane.update(rows.tobytes())
        wide.append(np.minimum(np.floor(values / 2 ** (depth - 8) + 0.5), 255))
    image.color_range = 2
    frame = Frame(begin=0, end=1, scale=1, image=image)
    y, u, v = wide[0], *(p.repeat(shape[0], 0).repeat(shape[1], 1)[:17, :33] - 128 for p in wide[1:])
    expected = np.stack([y + 1.402 * v, y - (0.114 * 1.772 * u + 0.299 * 1.402 * v) / 0.587, y + 1.772 * u], -1)
    assert np.abs(to_rgb(frame, 0, 33) - expected.clip(0, 255)).max() <= 0.51
    assert [plane.shape for plane in yuv420_planes(frame, 4, 33)] == [(17, 29), (9, 15), (9, 15)]


COLOURS = {  # raw pixel formats, and the largest difference: 5 or 6 bits of a channel become 8 in several ways
    **dict.fromkeys(("yuv410p", "yuv411p", "nv12", "nv21", "uyvy422", "yuyv422", "yuva420p"), 2),
    **dict.fromkeys(("yuv422p12le", "yuv444p16be", "gray", "gray10le", "gray16be", "ya8"), 2),
    **dict.fromkeys(("rgb24", "bgra", "gbrp10le", "rgb48be", "pal8"), 2),
    **dict.fromkeys(("rgb565le", "rgb565be", "rgb555le", "rgb555be", "bgr565be", "bgr555be"), 9),
}


@pytest.mark.parametrize("pixels", COLOURS)
def test_colours_of_raw_video_are_those_of_ffmpeg(tmp_path: Path, pixels: str) -> None:
    """White, dark grey and red areas, without tags of colour."""
    areas = f"color=0x404040:s=96x64:d=0.1:r=25,drawbox=c=white:t=fill:w=32,drawbox=c=red:t=fill:x=64,format={pixels}"
    ffmpeg("-f", "lavfi", "-i", areas, "-c:v", "rawvideo", tmp_path / "film.nut")
    picture = ("-frames:v", 1, "-sws_flags", "accurate_rnd", "-f", "rawvideo", "-pix_fmt", "rgb24")
    ffmpeg("-i", tmp_path / "film.nut", *picture, tmp_path / "raw")
    expected = np.fromfile(tmp_path / "raw", np.uint8).reshape(64, 96, 3)[32, [16, 48, 80]].astype(int)
    frame = next(Video(tmp_path / "film.nut").frames())
    assert frame.image.format.name == pixels
    assert np.abs(to_rgb(frame, 0, 96)[32, [16, 48, 80]] - expected).max() <= COLOURS[pixels]
    if COLOURS[pixels] < 3 and pixels != "pal8":  # the others' white is not quite white
        white = 255 if colour_tags(frame.image)["range"] == "pc" else 235
        assert abs(int(yuv420_planes(frame, 0, 96)[0][32, 16]) - white) <= 1


@pytest.mark.parametrize("range_", ["tv", "pc"])
@pytest.mark.parametrize("matrix", ["bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc"])
def test_colours_are_converted_by_the_matrix_of_the_tag(tmp_path: Path, matrix: str, range_: str) -> None:
    """Telephones tag HDR video as BT.2020. The clip keeps the tag, since it keeps the stored planes."""
    tags = f"format=yuv444p,setparams=range={range_}:colorspace={matrix}"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=96x64:d=0.1:r=25,{tags}", "-c:v", "ffv1", tmp_path / "film.mkv")
    picture = ("-frames:v", 1, "-sws_flags", "accurate_rnd", "-f", "rawvideo", "-pix_fmt", "rgb24")
    ffmpeg("-i", tmp_path / "film.mkv", *picture, tmp_path / "raw")
    expected = np.fromfile(tmp_path / "raw", np.uint8).reshape(64, 96, 3)
    frame = next(Video(tmp_path / "film.mkv").frames())
    assert np.abs(to_rgb(frame, 0, 96).astype(int) - expected).max() <= 1
    assert colour_tags(frame.image)["colorspace"] == matrix


@pytest.mark.parametrize("turn", [("-display_rotation", 90), ("-display_rotation", -90), ("-display_rotation", 180)])
@pytest.mark.parametrize("mirror", [(), ("-display_hflip",)])
def test_a_rotated_video_is_decoded_as_players_show_it(
    tmp_path: Path, turn: tuple[object, ...], mirror: tuple[str, ...]
) -> None:
    encode(tmp_path / "flat.mp4", *X264, count=12)
    path = tmp_path / "turned.mp4"
    ffmpeg(*turn, *mirror, "-i", tmp_path / "flat.mp4", "-c", "copy", path)
    ffmpeg("-i", path, "-f", "rawvideo", "-pix_fmt", "yuv420p", tmp_path / "raw")
    *_, frame = Video(path).frames()
    width, height = frame_size(frame)
    raw = np.frombuffer((tmp_path / "raw").read_bytes(), np.uint8).reshape(-1, height * width * 3 // 2)
    expected = raw[-1, : height * width].reshape(height, width)
    assert (width, height) == ((HEIGHT, WIDTH) if 180 not in turn else (WIDTH, HEIGHT))
    assert np.array_equal(yuv420_planes(frame, 0, width)[0], expected)
    assert np.abs(to_rgb(frame, 0, width)[:, :, 1] - (expected - 16.0) * 255 / 219).max() <= 1.5
    assert np.array_equal(yuv420_planes(frame, 10, 40)[0], expected[:, 10:40])


def test_a_video_that_begins_after_its_sound_keeps_its_delay(tmp_path: Path) -> None:
    encode(tmp_path / "flat.mp4", *X264, "-bf", "2", count=30)
    sound = tone(tmp_path / "tone.wav")
    path = tmp_path / "late.mkv"
    ffmpeg(
        "-itsoffset", 1.5, "-i", tmp_path / "flat.mp4", "-i", sound, "-map", "0:v", "-map", "1:a", "-c", "copy", path
    )
    times = {number: time for time, number in shown(path).items()}
    assert sorted(times) == list(range(30))
    assert all(abs(times[number] - Fraction(3, 2) - number / FPS) < Fraction(1, 500) for number in times)


def test_an_edit_list_and_a_start_that_is_not_zero_are_followed(tmp_path: Path) -> None:
    """Cut without encoding: what lies before the cut is in the file, and no player shows it."""
    whole = encode(tmp_path / "flat.mp4", *X264, "-g", "250", count=90)
    ffmpeg("-ss", 2, "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    frames = shown(tmp_path / "cut.mp4")
    assert list(frames.values()) == list(range(60, 90))
    assert 0 <= min(frames) < Fraction(1, 25)
    ffmpeg("-i", whole, "-c", "copy", "-muxdelay", 3, tmp_path / "clip.ts")
    frames = shown(tmp_path / "clip.ts")
    assert list(frames.values()) == list(range(90))
    assert min(frames) == 0


def test_a_cover_image_is_not_a_video(tmp_path: Path) -> None:
    sound = tone(tmp_path / "tone.wav")
    encode(tmp_path / "flat.mp4", *X264, count=10)
    ffmpeg("-i", tmp_path / "flat.mp4", "-frames:v", 1, tmp_path / "cover.jpg")
    cover = ("-disposition:v:0", "attached_pic")
    ffmpeg(
        "-i", sound, "-i", tmp_path / "cover.jpg", "-map", 0, "-map", 1, "-c:v", "copy", *cover, tmp_path / "only.mp4"
    )
    with pytest.raises(MesmError, match="holds no picture but a cover image"):
        Video(tmp_path / "only.mp4")
    ffmpeg(
        "-i", tmp_path / "cover.jpg", "-i", tmp_path / "flat.mp4", "-map", 0, "-map", 1, "-c", "copy", *cover,
        tmp_path / "both.mp4",
    )  # fmt: skip
    assert list(shown(tmp_path / "both.mp4").values()) == list(range(10))


@given(left=st.floats(0, 1), right=st.floats(0, 1), width=st.integers(2, 4000))
def test_the_speakers_part_lies_inside_the_frame(left: float, right: float, width: int) -> None:
    first, last = region_columns(VideoRegion(left=left, right=right), width)
    assert first % 2 == 0
    assert 0 <= last <= width
    assert region_columns(VideoRegion(), width) == (0, width)


def test_sizes_that_are_odd_give_faces_and_clips(tmp_path: Path) -> None:
    clip = encode(tmp_path / "flat.mp4", *X264, count=30)
    ffmpeg("-i", clip, "-vf", "scale=75:133:flags=neighbor,format=yuv444p", *X264, tmp_path / "odd.mp4")
    [sight] = seen(tmp_path, "odd.mp4", one("a", 0.0, 1.0))
    assert (sight.status, sight.size, len(sight.faces)) == ("ok", (75, 133), 2)
    assert sight.clip
    assert frame_size(next(Video(sight.clip).frames())) == (74, 132)


def write_images(folder: Path, count: int, without: tuple[int, ...] = ()) -> None:
    """image_0.jpg, image_1.jpg, ...: the numbered pictures."""
    folder.mkdir(parents=True)
    encode(folder / "image_%d.jpg", "-q:v", "2", "-start_number", "0", count=count)
    for missing in without:
        (folder / f"image_{missing}.jpg").unlink()


def test_an_excerpt_stands_in_for_a_video_that_is_missing_broken_or_too_short(tmp_path: Path) -> None:
    """Segmented clips, folders of images; the better of both, and the reason why."""
    encode(tmp_path / "short.mp4", *X264, count=45)  # 1.5 s
    (tmp_path / "text.mp4").write_text("no video")
    ffmpeg("-i", encode(tmp_path / "flat.mp4", *X264, count=90), "-ss", 1, tmp_path / "a_1.mp4")
    write_images(tmp_path / "a_2", count=60)
    segment, images = ClipSource(path="a_1.mp4"), ClipSource(path="a_2", images="image_", rate=float(FPS))
    selected = [one("a", 0.0, 1.4, images), one("b", 1.0, 2.5, segment), one("c", 1.0, 2.5, images), one("d", 1.0, 2.5)]
    inside, cut, pictures, bare = seen(tmp_path, "short.mp4", *selected)
    assert inside.source
    assert (inside.status, inside.source.path, inside.problems) == ("ok", "short.mp4", [])
    for sight, name in ((cut, "a_1.mp4"), (pictures, "a_2/image_*.jpg")):
        assert sight.source
        assert (sight.status, sight.source.path, sight.source.span) == ("ok", name, (0.0, 1.5))
        assert sight.times == [pytest.approx(moment, abs=0.034) for moment in (0.0, 0.5, 1.0)]
        assert sight.problems == ["short.mp4: ends at 1.502 s, the utterance at 2.500 s"]
    assert numbers(cut.clip) == list(range(30, 75))
    assert numbers(pictures.clip) == list(range(45))
    assert (bare.status, len(bare.faces)) == ("partial", 2)
    for video, problem in (("text.mp4", "not a video"), (None, "")):
        sights = seen(tmp_path, video, *selected, clips=False)
        assert [sight.status for sight in sights] == ["ok", "ok", "ok", "none"]
        assert all(problem in "".join(sight.problems) for sight in sights)
    assert seen(tmp_path, None, one("d", 0.0, 1.0))[0].problems == ["no video file"]
    late = one("e", 1.0, 9.0, ClipSource(path="gone", images="image_", rate=2.0))
    [sight] = seen(tmp_path, "short.mp4", late, clips=False)
    assert sight.source
    assert (sight.status, sight.source.path) == ("partial", "short.mp4")
    assert len(sight.problems) == 2


def test_missing_images_leave_gaps_and_a_long_gap_makes_the_video_partial(tmp_path: Path) -> None:
    write_images(tmp_path / "small", count=60, without=(3, 4))
    write_images(tmp_path / "large", count=60, without=tuple(range(16, 45)))
    selected = [
        one(name, 0.0, 2.0, ClipSource(path=name, images="image_", rate=float(FPS))) for name in ("small", "large")
    ]
    small, large = seen(tmp_path, None, *selected, clips=False)
    assert (small.status, small.problems) == ("ok", ["small/image_*.jpg: 2 images are missing"])
    assert (large.status, large.problems) == ("partial", ["large/image_*.jpg: 29 images are missing"])
    assert small.source
    assert len(small.source.images) == 58
    assert small.source.images[3] == "small/image_5.jpg"


def test_an_image_that_ends_early_is_reported(tmp_path: Path) -> None:
    """FFmpeg shows the part that is there, and grey."""
    write_images(tmp_path / "a", count=30)
    image = tmp_path / "a" / "image_3.jpg"
    image.write_bytes(image.read_bytes()[: -image.stat().st_size // 8])
    [sight] = seen(tmp_path, None, one("a", 0.0, 1.0, ClipSource(path="a", images="image_", rate=30.0)), clips=False)
    assert (sight.status, sight.problems) == ("ok", ["a/image_*.jpg: 1 images are truncated"])


def test_the_offset_moves_the_picture_and_not_the_times(tmp_path: Path) -> None:
    encode(tmp_path / "flat.mp4", *X264, count=90)
    for offset, first in (("0", 30), ("-0.167", 25), ("0.5", 45)):
        [sight] = seen(tmp_path, "flat.mp4", one("a", 1.0, 2.0), offset=offset)
        assert numbers(sight.clip)[0] == first
        assert sight.times == [pytest.approx(0.0, abs=0.034), pytest.approx(0.5, abs=0.034)]
        assert sight.source
        assert sight.source.span == (1.0 + float(offset), 2.0 + float(offset))


def test_an_offset_is_a_decimal_number_of_one_spelling() -> None:
    spelled = {
        "0": "0",
        "-0.0": "0",
        "+.50": "0.5",
        "-0.167": "-0.167",
        "1e3": None,
        "nan": None,
        "0,5": None,
        "": None,
    }
    for text, expected in spelled.items():
        if expected is None:
            with pytest.raises(InputError, match="is not a number of seconds"):
                parse_seconds(text)
        else:
            assert parse_seconds(text) == expected


def test_a_file_that_is_damaged_in_the_middle_gives_the_rest(tmp_path: Path) -> None:
    whole = encode(tmp_path / "flat.mp4", *X264, "-g", "30", "-movflags", "+faststart", count=240)
    data = bytearray(whole.read_bytes())
    begin = data.index(b"mdat")
    middle = begin + (len(data) - begin) // 3
    data[middle : middle + (len(data) - begin) // 3] = bytes((len(data) - begin) // 3)
    (tmp_path / "hole.mp4").write_bytes(data)
    (tmp_path / "torn.mp4").write_bytes(whole.read_bytes()[:middle])
    selected = [one(str(start), float(start), start + 1.0) for start in range(8)]
    hole, torn = (seen(tmp_path, name, *selected, clips=False) for name in ("hole.mp4", "torn.mp4"))
    assert [hole[0].status, hole[7].status] == ["ok", "ok"]
    assert "partial" in {sight.status for sight in hole}
    assert all("packets could not be decoded" in sight.problems[0] for sight in hole if sight.status != "ok")
    assert hole[0].problems == hole[7].problems == []  # a second apart from the damage, with a key frame in between
    assert [torn[0].status, torn[7].status] == ["ok", "none"]
    assert "ends at" in torn[7].problems[-1]


@pytest.mark.parametrize(("name", "options"), [("a.avi", ("-c:v", "mpeg4", "-q:v", "2")), ("a.mkv", X264)])
def test_pictures_of_which_the_decoder_guesses_a_part_are_reported(
    tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    """Flipped bits in a packet are no error to FFmpeg: it hides them with what earlier pictures show."""
    data = bytearray(encode(tmp_path / name, *options, "-g", "30", count=150).read_bytes())
    with av.open(str(tmp_path / name)) as film:
        packet = next(
            packet for packet in film.demux(video=0) if (packet.pts or packet.dts or 0) * packet.time_base > 1.5
        )
    at = data.index(bytes(packet))
    for place in range(at + 12, at + packet.size, 7):
        data[place] ^= 0x55
    (tmp_path / name).write_bytes(data)
    before, inside, after = seen(tmp_path, name, *(one(str(n), n, n + 1.0) for n in (0.0, 1.0, 3.5)), clips=False)
    assert [sight.status for sight in (before, inside, after)] == ["ok"] * 3
    assert before.problems == after.problems == []
    assert inside.problems == [f"{name}: 1 pictures are damaged"]


def rows_of(media: Path, *lines: str, frame_interval: str) -> dict[str, dict[str, Any]]:
    """The manifest rows of a table of these lines, by id."""
    (media.parent / "t.csv").write_text("\n".join(lines))
    corpus = open_corpus(str(media.parent / "t.csv"), media)
    recipe = Recipe(corpus=corpus.name, clips=False, frame_interval=frame_interval)
    jobs = (Job(root=media, parts=media, recipe=recipe, recording=each, toolchain={}) for each in corpus.recordings)
    return {row["id"]: row for job in jobs for row in write_part(job)}


def test_a_whole_file_of_which_the_end_is_missing_is_partial(tmp_path: Path) -> None:
    """A copy that was interrupted is as long as what is there of it; only its header says that there was more."""
    flat, sound = encode(tmp_path / "flat.mp4", *X264, "-bf", "0", count=60), tone(tmp_path / "a.wav", 2.0)
    media = tmp_path / "media"
    media.mkdir()
    parts = ("-i", flat, "-i", sound, "-c:v", "copy", "-c:a")
    ffmpeg(*parts, "flac", media / "a.mkv")
    ffmpeg(*parts, "aac", "-movflags", "+faststart", media / "a.mp4")
    ffmpeg(*parts, "pcm_s16le", "-c:v", "mpeg4", media / "a.avi")
    for suffix in (".flac", ".mp3", ".aiff", ".au"):
        ffmpeg("-i", sound, media / f"a{suffix}")
    sound.rename(media / "a.wav")
    for path in list(media.iterdir()):
        (media / f"cut{path.suffix}").write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    films, sounds = (".mkv", ".mp4", ".avi"), (".flac", ".wav", ".mp3", ".aiff", ".au")
    files = [f"{name}{suffix}" for name in ("a", "cut") for suffix in (*films, *sounds)]
    rows = rows_of(media, "id,file", *(f"{file},{file}" for file in files), frame_interval="9")
    assert {name: rows[name]["reason"] for name in files[:8]} == dict.fromkeys(files[:8])
    for name in files[8:]:
        row = rows[name]
        assert row["end"] < 1.8
        assert (row["audio"], row["video"]) == ("partial", "none" if name.endswith(sounds) else "partial")
        assert f"{name}: ends at {row['end']:.3f} s" in row["reason"]
    assert "by its header at 2.0" in rows["cut.mkv"]["reason"]
    assert "its header counts 64044 bytes, it has 38426" in rows["cut.wav"]["reason"]


def test_a_video_that_begins_late_is_not_complete(tmp_path: Path) -> None:
    """The first picture was used for an utterance that was over before it, and the video was ok."""
    flat, sound = encode(tmp_path / "flat.mp4", *X264, "-bf", "0", count=60), tone(tmp_path / "tone.wav", 2.0)
    ffmpeg("-itsoffset", 1.5, "-i", flat, "-i", sound, "-map", "0:v", "-map", "1:a", "-c:v", "copy", tmp_path / "v.mkv")
    sights = seen(tmp_path, "v.mkv", one("a", 0.0, 1.0), one("b", 0.5, 2.0), one("c", 1.0, 2.0), clips=False)
    assert [(sight.status, len(sight.faces)) for sight in sights] == [("none", 0), ("partial", 3), ("ok", 2)]
    assert sights[0].problems == ["v.mkv: begins at 1.500 s, where the utterance is over"]
    assert sights[1].problems == ["v.mkv: begins at 1.500 s, the utterance at 0.500 s"]


def test_a_whole_file_is_built_of_the_file_that_can_be_read(tmp_path: Path) -> None:
    """A sound file beside an unreadable video was given up, though it is kept beside a missing one."""
    media = tmp_path / "media"
    media.mkdir()
    tone(media / "a.wav", 1.0)
    flat = encode(tmp_path / "flat.mp4", *X264, "-bf", "0", count=30)
    ffmpeg("-i", flat, "-i", media / "a.wav", "-c:v", "copy", "-c:a", "flac", "-t", 0.97, media / "a.mkv")
    (media / "empty.mp4").touch()
    rows = rows_of(
        media, "id,video,audio,start", "sound,empty.mp4,a.wav,", "none,empty.mp4,,", "open,a.mkv,,0.2",
        frame_interval="0.5",
    )  # fmt: skip
    sound, none = rows["sound"], rows["none"]
    assert (sound["status"], sound["audio"], sound["video"], sound["end"]) == ("ok", "ok", "none", 1.0)
    assert sound["reason"].startswith("empty.mp4: not a video that can be opened")
    assert (none["status"], none["reason"][:25]) == ("failed", "empty.mp4 cannot be read ")
    # The tracks of a file do not end at the same sample: what has no end of its own is not cut short by that.
    assert (rows["open"]["status"], rows["open"]["audio"], rows["open"]["reason"]) == ("ok", "ok", None)
    assert rows["open"]["n_samples"] < (rows["open"]["end"] - 0.2) * 16_000


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), max_size=40))
def test_no_more_clips_are_open_at_once_than_encoders_may_run(pairs: list[tuple[int, int]]) -> None:
    spans = [TimeSpan(start=Fraction(start), end=Fraction(start + length)) for start, length in pairs]
    groups = group_overlapping(spans)
    assert sorted(itertools.chain(*groups)) == list(range(len(spans)))
    for group in groups:
        for moment in range(45):
            assert sum(spans[index].start <= moment < spans[index].end for index in group) <= MAX_ENCODERS


def test_simultaneous_utterances_all_get_their_clips(tmp_path: Path) -> None:
    encode(tmp_path / "flat.mp4", *X264, count=60)
    starts = [Fraction(number, 10) for number in range(2 * MAX_ENCODERS + 1)]
    sights = seen(tmp_path, "flat.mp4", *(one(f"u{start}", float(start), float(start + 1)) for start in starts))
    for start, sight in zip(starts, sights, strict=True):
        inside = [count for count in range(60) if start <= count / FPS < start + 1]
        assert numbers(sight.clip) == inside


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "NIST", "AU"])
def test_16_khz_pcm_under_any_header_is_copied_bit_for_bit(tmp_path: Path, kind: str) -> None:
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 8000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, format=kind, subtype="PCM_16")
    sound = AudioReader(tmp_path).read([AudioSource(path="a.wav", span=(0.1, 0.3))])
    assert sound.status == "ok"
    assert np.array_equal(sound.samples, samples[1600:4800])


def test_the_sound_track_of_a_video_is_cut_in_the_containers_clock(tmp_path: Path) -> None:
    """A track that begins 1.5 s after the picture, beside a second one that is not wanted."""
    encode(tmp_path / "flat.mp4", *X264, count=200)
    sound = tone(tmp_path / "tone.wav")
    ffmpeg(
        "-i", tmp_path / "flat.mp4", "-itsoffset", 1.5, "-i", sound, "-f", "lavfi", "-t", 1, "-i", "anullsrc",
        "-map", "0:v", "-map", "1:a", "-map", "2:a", "-c:v", "copy", "-c:a", "pcm_s16le", tmp_path / "late.mkv",
    )  # fmt: skip
    reader = AudioReader(tmp_path)
    whole = reader.read([AudioSource(path="late.mkv")])
    assert (len(whole.samples), whole.sample_rate) == (5.5 * 16_000, 16_000)
    assert not whole.samples[:24_000].any()
    clock = (np.arange(4 * 16_000) % 30_000).astype(np.int16)
    assert np.array_equal(whole.samples[24_000:], clock)
    part = reader.read([AudioSource(path="late.mkv", span=(1.0, 2.0))])
    assert (part.status, len(part.samples)) == ("partial", 16_000)
    assert part.problems == ("late.mkv: lacks 0.500 s of the utterance's sound (its track has a hole, or begins late)",)
    assert np.array_equal(part.samples[8000:], clock[:8000])
    assert reader.read([AudioSource(path="late.mkv", span=(1.5, 2.0))]).status == "ok"
    late = reader.read([AudioSource(path="late.mkv", span=(5.0, 6.0))])
    assert (late.status, len(late.samples)) == ("partial", 8000)
    assert reader.read([AudioSource(path="late.mkv", span=(0.0, 1.0))]).problems == (
        "late.mkv: holds no sound for this utterance",
    )


def test_compressed_sound_begins_where_it_was_recorded(tmp_path: Path) -> None:
    """AAC in mp4, whose encoder puts 64 ms before the first sample: a click at 1.0 s is heard at 1.0 s."""
    click = np.zeros(2 * 44_100, np.float32)
    click[44_100:44_140] = 0.9
    soundfile.write(tmp_path / "click.wav", click, 44_100)
    ffmpeg("-i", tmp_path / "click.wav", "-c:a", "aac", tmp_path / "click.mp4")
    sound = AudioReader(tmp_path).read([AudioSource(path="click.mp4", span=(0.5, 1.5))])
    assert sound.status == "ok"
    assert abs(int(np.abs(sound.samples.astype(int)).argmax()) - 8000) < 32


def test_a_video_without_sound_is_reported_in_one_sentence(tmp_path: Path) -> None:
    encode(tmp_path / "flat.mp4", *X264, count=10)
    sound = AudioReader(tmp_path).read([AudioSource(path="flat.mp4")])
    assert (sound.status, sound.problems) == ("none", ("flat.mp4: holds no sound track",))


def test_the_channel_check_distinguishes_the_speakers_channel_from_the_other(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    first, second = (generator.normal(0, 3000, 64_000) for _ in range(2))
    stereo = np.stack([first + 0.2 * second, 0.3 * first + second], 1).astype(np.int16)
    soundfile.write(tmp_path / "both.wav", stereo, 16_000)
    reader, whole = AudioReader(tmp_path), stereo[16_000:48_000]
    source = [AudioSource(path="own.wav"), AudioSource(path="both.wav", channel=0, span=(1.0, 3.0))]
    processed = (0.5 * whole + generator.normal(0, 100, whole.shape)).astype(np.int16)
    shifted = stereo[15_960:47_960]
    mixed = (whole.sum(axis=1) // 3).astype(np.int16)
    for own, expected in (
        (whole[:, 0], "own"),
        (whole[:, 1], "other"),
        (processed[:, 0], "own"),
        (shifted[:, 1], "other"),
        (mixed, "unclear"),
        (np.zeros(32_000, np.int16), None),
        (whole[:50, 0], "unclear"),
    ):
        assert check_channel(reader, source, np.ascontiguousarray(own)) == expected
    assert check_channel(reader, source[:1], whole[:, 0]) is None


PIXELS = """
import ctypes, glob, hashlib, sys
from pathlib import Path
import av
if sys.argv[2] == "plain":
    [library] = glob.glob(str(Path(av.__file__).parents[1] / "av.libs" / "libavutil*"))
    ctypes.CDLL(library).av_force_cpu_flags(0)
from mesm_data.media.image_sequence import ImageSequence
from mesm_data.media.pixels import frame_size, to_rgb
from mesm_data.media.video import Video
root, total = Path(sys.argv[1]), hashlib.sha256()
for film in (ImageSequence(root, "image_", 30.0), *map(Video, sorted(root.glob("*.mkv")))):
    for frame in film.frames():
        total.update(to_rgb(frame, 0, frame_size(frame)[0]))
print(total.hexdigest())
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="switches off x86 instruction sets")
def test_pixels_of_any_format_do_not_depend_on_the_cpu(tmp_path: Path) -> None:
    """JPEG images and H.264 of every chroma format and depth, with and without the decoder's vector instructions."""
    source = ("-f", "lavfi", "-i", "testsrc2=size=225x131:rate=30:duration=0.4,noise=alls=20")
    ffmpeg(*source, "-q:v", 3, tmp_path / "image_%d.jpg")
    for pixels in ("yuv420p", "yuv422p", "yuv444p", "yuv422p10le", "gbrp"):
        ffmpeg(*source, "-c:v", "libx264", "-pix_fmt", pixels, tmp_path / f"{pixels}.mkv")
    commands = [[sys.executable, "-c", PIXELS, str(tmp_path), cpu] for cpu in ("vector", "plain")]
    first, second = (subprocess.run(command, capture_output=True, check=True).stdout for command in commands)
    assert len(first) == 65
    assert first == second
