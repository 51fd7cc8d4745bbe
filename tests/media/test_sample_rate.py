"""Sound at another sample rate than 16 kHz."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mesm_data.media.audio import AudioReader
from mesm_data.media.channel_check import check_channel
from mesm_data.media.wav import decode_wav, encode_wav
from mesm_data.schema.recordings import AudioSource


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_a_tone_keeps_its_pitch_and_its_length(tmp_path: Path, rate: int) -> None:
    """440 Hz at 22 050 Hz, from 0.25 s to 1 s."""
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * 22_050) / 22_050)
    soundfile.write(tmp_path / "a.wav", tone, 22_050)
    sound = AudioReader(tmp_path, rate=rate).read([AudioSource(path="a.wav", span=(0.25, 1.0))])
    assert (sound.status, sound.sample_rate, len(sound.samples)) == ("ok", 22_050, 3 * rate // 4)
    expected = 0.5 * 32768 * np.sin(2 * np.pi * 440 * (0.25 + np.arange(len(sound.samples)) / rate))
    assert np.abs(sound.samples - expected).max() < 40


def test_sound_of_the_rate_is_copied_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-(2**15), 2**15, 48_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 48_000)
    sound = AudioReader(tmp_path, rate=48_000).read([AudioSource(path="a.wav", span=(0.1, 0.2))])
    assert np.array_equal(sound.samples, samples[4_800:9_600])


def test_the_header_has_the_sample_rate_and_readers_require_that_of_the_recipe(tmp_path: Path) -> None:
    samples = np.arange(100, dtype=np.int16)
    member = encode_wav(samples, 44_100)
    (tmp_path / "a.wav").write_bytes(member)
    read, rate = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert (rate, read.tolist()) == (44_100, samples.tolist())
    assert np.array_equal(decode_wav(member, 44_100), samples)
    with pytest.raises(ValueError, match="not a mono 16-bit wav of 16000 Hz"):
        decode_wav(member)


def test_channels_are_compared_at_any_rate(tmp_path: Path) -> None:
    stereo = np.random.default_rng(0).integers(-9000, 9000, (8_000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "both.wav", stereo, 8_000)
    sources = [AudioSource(path="own.wav"), AudioSource(path="both.wav", channel=0, span=(0.25, 0.75))]
    for channel, expected in ((0, "own"), (1, "other")):
        own = np.ascontiguousarray(stereo[2_010:6_010, channel])  # 10 samples late: 1.25 ms
        assert check_channel(AudioReader(tmp_path, rate=8_000), sources, own) == expected
