"""Guarantee: sound and picture of a video stay together, whatever its container and its codecs."""

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mesm_data.media.audio import AudioReader
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.media.video import Video
from mesm_data.schema.recordings import AudioSource

RATE, SOURCE_RATE, FPS, FLASH = 16_000, 48_000, 25, 30  # the frame FLASH is white, and a tone of 20 ms begins with it
VIDEOS = {
    "aac.mp4": "libx264", "aac.mov": "libx264", "aac.mkv": "libx264", "aac.3gp": "libx264", "aac.ts": "libx264",
    "aac.flv": "flv", "mp3.mkv": "libx264", "mp3.flv": "flv", "mp3.avi": "mpeg4", "mp2.mpg": "mpeg2video",
    "opus.webm": "libvpx", "opus.mp4": "libx264", "vorbis.webm": "libvpx", "vorbis.ogv": "libtheora",
    "wma.wmv": "wmv2", "pcm.avi": "mpeg4", "pcm.mov": "libx264",
}  # fmt: skip
SOUNDS = {"mp3": "libmp3lame", "opus": "libopus", "vorbis": "libvorbis", "wma": "wmav2", "pcm": "pcm_s16le"}


@pytest.fixture(scope="module")
def tone_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wav of 2 s: faint noise, and a loud tone that begins with the white frame."""
    samples = np.random.default_rng(0).normal(0, 0.0005, 2 * SOURCE_RATE)
    begin, n = FLASH * SOURCE_RATE // FPS, np.arange(SOURCE_RATE // 50)
    samples[begin : begin + len(n)] += 0.8 * np.sin(2 * np.pi * 1000 * n / SOURCE_RATE)
    path = tmp_path_factory.mktemp("synchrony") / "tone.wav"
    soundfile.write(path, samples, SOURCE_RATE)
    return path


@pytest.mark.parametrize("name", VIDEOS)
def test_a_tone_begins_with_its_picture(tone_wav: Path, tmp_path: Path, name: str) -> None:
    """Encoders put 0 to 86 ms of their own before the sound, and muxers move both streams: by 43 ms in wmv."""
    kind = name.split(".")[0]
    black = f"color=black:d=2:s=96x64:r={FPS},drawbox=c=white:t=fill:enable='eq(n\\,{FLASH})',format=yuv420p"
    command = [ffmpeg_binary(), "-v", "error", "-f", "lavfi", "-i", black, "-i", str(tone_wav)]
    command += ["-c:v", VIDEOS[name], "-c:a", SOUNDS.get(kind, kind), *([] if kind == "pcm" else ["-b:a", "128k"])]
    subprocess.run([*command, str(tmp_path / name)], check=True)

    video = Video(tmp_path / name)
    flash = max(video.frames(), key=lambda frame: frame.image.to_ndarray(format="gray").mean()).time
    video.close()
    sound = AudioReader(tmp_path).read([AudioSource(path=name)]).samples.astype(float)
    energy = np.convolve(sound**2, np.ones(RATE // 50), "valid")
    # In avi FFmpeg's muxer delays mp3 by 23 ms, and pictures by whole frames: the file itself is not exact.
    tolerance = Fraction(1, 2 * FPS) if name == "mp3.avi" else Fraction(1, 1000)
    assert abs(Fraction(int(energy.argmax()), RATE) - flash) <= tolerance
    assert abs(flash - Fraction(FLASH, FPS)) <= Fraction(1, 20)
