"""Guarantee: a media file shows what is in it, and never what another file of the user holds."""

import os
from pathlib import Path

import av
import pytest
from test_exact import encode
from test_films import X264, tone

from mesm_data.errors import MesmError
from mesm_data.media.audio import AudioReader
from mesm_data.media.containers import FORMATS, open_clip, open_container
from mesm_data.media.sound_track import decode_track
from mesm_data.media.video import Video
from mesm_data.schema.recordings import AudioSource

# Texts that FFmpeg takes for media: each names the file whose media it is to play.
SCRIPTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "concat without a head": "file secret.mp4\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet><Representation>'
    "<BaseURL>secret.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=audio 9999 RTP/AVP 0\n",
    "ffmetadata": ";FFMETADATA1\ntitle=secret\n",
}


@pytest.mark.parametrize("name", ["film.avi", "film.mp4", "sound.wav"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_text_file_that_names_media_is_not_decoded(tmp_path: Path, name: str, script: str) -> None:
    encode(tmp_path / "secret.mp4", *X264, count=10)
    (tmp_path / name).write_text(SCRIPTS[script])
    with pytest.raises(MesmError):
        Video(tmp_path / name)
    with pytest.raises(MesmError):
        decode_track(tmp_path / name, [(0, 1)], 16_000)
    with pytest.raises((MesmError, av.FFmpegError)):
        open_clip(SCRIPTS[script].encode())


def test_ffmpeg_alone_would_follow_the_ffconcat_file(tmp_path: Path) -> None:
    """The attack works on FFmpeg as it is: what the test above refuses is not refused for another reason."""
    encode(tmp_path / "secret.mp4", *X264, count=10)
    (tmp_path / "film.avi").write_text(SCRIPTS["ffconcat"])
    with av.open(str(tmp_path / "film.avi")) as container:
        assert len(list(container.decode(video=0))) == 10
    with pytest.raises(MesmError, match="container format is not one that mesm reads"):
        open_container(tmp_path / "film.avi")


@pytest.mark.parametrize("suffix", ["avi", "mp4", "mov", "mkv", "webm", "ts", "mpg", "wmv", "flv", "ogv"])
def test_common_containers_are_opened(tmp_path: Path, suffix: str) -> None:
    codecs = {"webm": ("-c:v", "libvpx"), "ogv": ("-c:v", "libtheora"), "mpg": (), "wmv": (), "flv": ()}
    path = encode(tmp_path / f"film.{suffix}", *codecs.get(suffix, X264), count=5)
    with open_container(path) as container:
        assert container.format.name in FORMATS
        assert container.streams.video


def test_opening_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.avi")
    with pytest.raises(OSError, match="not a regular file"):
        open_container(tmp_path / "film.avi")
    with pytest.raises(MesmError, match="not a regular file"):
        Video(tmp_path / "film.avi")
    sound = AudioReader(tmp_path).read([AudioSource(path="film.avi")])
    assert sound.problems == ("film.avi: it is not a regular file",)


def test_a_symbolic_link_to_a_file_is_followed(tmp_path: Path) -> None:
    """Corpora are often trees of links (git-annex, a copy that saves room)."""
    tone(tmp_path / "real.wav", 0.5)
    (tmp_path / "link.wav").symlink_to("real.wav")
    assert AudioReader(tmp_path).read([AudioSource(path="link.wav")]).status == "ok"
