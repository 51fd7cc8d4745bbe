"""Guarantee: the sound of an utterance is never less, and never other, than what its files hold, without a word."""

import csv
import itertools
import os
import shutil
import struct
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_exact import encode
from test_films import X264, ffmpeg, one, seen, tone, write_images

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.integrity.content_check import check_content
from mesm_data.media.audio import AudioReader
from mesm_data.media.audio_segment import AudioSegment
from mesm_data.media.downmix import channel_weights, mix_down
from mesm_data.media.sound_track import decode_track, merge_spans
from mesm_data.media.video import Video
from mesm_data.pipeline.build import build_dataset
from mesm_data.schema.recordings import AudioSource, ClipSource

TICKS = (np.arange(20 * 16_000) % 30_000 + 1).astype(np.int16)
SECOND = 16_000


def write(path: Path, samples: NDArray[np.int16], rate: int = SECOND, **options: str) -> str:
    soundfile.write(path, samples, rate, **{"subtype": "PCM_16", **options})
    return path.name


def read(folder: Path, *sources: AudioSource, seconds: float = 3) -> AudioSegment:
    return AudioReader(folder).read(sources, Fraction(seconds))


def test_the_dialog_wav_replaces_a_truncated_sentence_wav(tmp_path: Path) -> None:
    own = write(tmp_path / "own.wav", TICKS[SECOND : 4 * SECOND])
    dialog = write(tmp_path / "dialog.wav", np.stack([TICKS, -TICKS], 1))
    sources = AudioSource(path=own), AudioSource(path=dialog, channel=0, span=(1.0, 4.0))
    assert read(tmp_path, *sources).source == sources[0]
    data = (tmp_path / own).read_bytes()
    (tmp_path / own).write_bytes(data[: len(data) * 2 // 5])
    sound = read(tmp_path, *sources)
    assert (sound.status, sound.source) == ("ok", sources[1])
    assert np.array_equal(sound.samples, TICKS[SECOND : 4 * SECOND])
    assert sound.problems == ("own.wav: lasts 1.199 s, the utterance 3.000 s",)


def test_the_sound_of_the_video_replaces_a_wav_that_ends_too_early(tmp_path: Path) -> None:
    write(tmp_path / "ticks.wav", TICKS)
    ffmpeg("-i", tmp_path / "ticks.wav", "-c:a", "flac", tmp_path / "film.mkv")
    short = write(tmp_path / "short.wav", TICKS[: 2 * SECOND])
    sources = AudioSource(path=short, channel=0, span=(1.0, 4.0)), AudioSource(path="film.mkv", span=(1.0, 4.0))
    sound = read(tmp_path, *sources)
    assert (sound.status, sound.source) == ("ok", sources[1])
    assert np.array_equal(sound.samples, TICKS[SECOND : 4 * SECOND])
    assert sound.problems == ("short.wav: ends at 2.000 s, the utterance at 4.000 s",)


def test_where_no_source_covers_the_utterance_the_longest_is_kept_and_all_are_named(tmp_path: Path) -> None:
    lengths = {"a.wav": 1.0, "b.wav": 2.5, "c.wav": 2.0}
    for name, length in lengths.items():
        write(tmp_path / name, TICKS[: int(length * SECOND)])
    sound = read(tmp_path, *(AudioSource(path=name, span=(0.0, 3.0)) for name in lengths), AudioSource(path="d.wav"))
    assert sound.source
    assert (sound.status, sound.source.path, len(sound.samples)) == ("partial", "b.wav", 2.5 * SECOND)
    assert [problem.split(":")[0] for problem in sound.problems] == [*lengths, "d.wav"]


def test_a_few_missing_samples_are_reported_without_changing_the_source(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", TICKS[: 3 * SECOND - 50])
    write(tmp_path / "b.wav", TICKS)
    cut = read(tmp_path, AudioSource(path="a.wav", span=(0.0, 3.0)), AudioSource(path="b.wav", span=(0.0, 3.0)))
    assert (cut.status, cut.source and cut.source.path) == ("partial", "a.wav")
    assert cut.problems == ("a.wav: ends at 2.997 s, the utterance at 3.000 s",)
    own = read(tmp_path, AudioSource(path="a.wav"), AudioSource(path="b.wav"))
    assert (own.status, own.source and own.source.path, own.problems) == ("ok", "a.wav", ())


def test_a_file_much_longer_than_its_utterance_is_used_only_without_another_source(tmp_path: Path) -> None:
    write(tmp_path / "own.wav", TICKS)
    write(tmp_path / "dialog.wav", TICKS)
    sources = AudioSource(path="own.wav"), AudioSource(path="dialog.wav", span=(5.0, 8.0))
    sound = read(tmp_path, *sources)
    assert (sound.status, sound.source) == ("ok", sources[1])
    assert sound.problems == ("own.wav: lasts 3.500 s or more, the utterance 3.000 s",)
    alone = read(tmp_path, sources[0])
    assert (alone.status, len(alone.samples), alone.problems) == ("ok", 3.5 * SECOND, sound.problems)


@pytest.mark.parametrize(("layout", "voice"), [("stereo", 1), ("5.1", 2), ("quad", 3), ("stereo", 0)])
def test_without_a_preferred_channel_all_channels_are_mixed(tmp_path: Path, layout: str, voice: int) -> None:
    channels = {"stereo": 2, "quad": 4, "5.1": 6}[layout]
    samples = np.zeros((4 * 48_000, channels), np.int16)
    samples[:, voice] = 9000 * np.sin(np.arange(len(samples)) * 2 * np.pi * 400 / 48_000)
    soundfile.write(tmp_path / "voice.wav", samples, 48_000)
    ffmpeg("-channel_layout", layout, "-i", tmp_path / "voice.wav", "-c:a", "flac", tmp_path / "film.mkv")
    sound = read(tmp_path, AudioSource(path="film.mkv", span=(0.5, 3.5)))
    assert (sound.status, sound.problems, sound.is_silent) == ("ok", (), False)
    # In a layout with a centre, where a film's speech is, the centre weighs most (ITU-R BS.775).
    share = 1 / (1 + 2 * 0.707 + 2 * 0.5) if layout == "5.1" else 1 / channels
    assert np.abs(sound.samples).max() == pytest.approx(9000 * share, rel=0.02)


@given(st.lists(st.lists(st.integers(-(2**15), 2**15 - 1), min_size=3, max_size=3), min_size=1, max_size=20))
def test_the_downmix_is_the_mean_to_the_nearest_sample(rows: list[list[int]]) -> None:
    block = np.array(rows, np.int16)
    assert mix_down(block, (1, 1, 1)).tolist() == [(2 * sum(row) + 3) // 6 for row in rows]
    assert mix_down(block[:, :1], (1,)).tolist() == block[:, 0].tolist()
    assert mix_down(np.repeat(block[:, :1], 2, 1), (1, 1)).tolist() == block[:, 0].tolist()
    weighted = [(2 * (1000 * row[0] + 707 * row[1]) + 1707) // 3414 for row in rows]
    assert mix_down(block, (1000, 707, 0)).tolist() == weighted


def test_channels_weigh_by_their_layout() -> None:
    assert channel_weights(("FL", "FR", "FC", "LFE", "BL", "BR")) == (707, 707, 1000, 0, 500, 500)
    assert channel_weights(("FL", "FC")) == channel_weights(("FL", "FR")) == (1, 1)


def test_digital_silence_is_used_only_if_no_other_source_has_sound(tmp_path: Path) -> None:
    write(tmp_path / "zeros.wav", np.zeros(20 * SECOND, np.int16))
    write(tmp_path / "sound.wav", TICKS)
    silent, loud = (AudioSource(path=f"{name}.wav", span=(1.0, 4.0)) for name in ("zeros", "sound"))
    sound = read(tmp_path, silent, loud)
    assert (sound.status, sound.source, sound.is_silent) == ("ok", loud, False)
    assert sound.problems == ("zeros.wav: holds only digital silence here",)
    alone = read(tmp_path, silent, silent)
    assert (alone.status, alone.source, alone.is_silent, alone.problems) == ("ok", silent, True, ())


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_a_wav_without_a_data_length_is_read_to_its_end(tmp_path: Path, kind: str) -> None:
    """Its header says that there are no data: RIFF....WAVEfmt ....data\\0\\0\\0\\0, and 20 s follow."""
    write(tmp_path / "killed.wav", TICKS, format=kind)
    data = bytearray((tmp_path / "killed.wav").read_bytes())
    data[4:8] = bytes(4)
    place = data.index(b"data") + 4
    data[place : place + 4] = bytes(4)
    (tmp_path / "killed.wav").write_bytes(data)
    assert soundfile.info(tmp_path / "killed.wav").frames == 0
    sound = read(tmp_path, AudioSource(path="killed.wav"), seconds=20)
    assert (sound.status, sound.problems) == ("ok", ())
    assert np.array_equal(sound.samples, TICKS)
    assert np.array_equal(read(tmp_path, AudioSource(path="killed.wav", span=(2.0, 5.0))).samples, TICKS[32_000:80_000])


def test_channels_of_any_layout_are_read(tmp_path: Path) -> None:
    """24 bits, front left and front centre: ffmpeg cannot convert that layout to another."""
    stereo = np.stack([TICKS, TICKS // 2], 1)
    write(tmp_path / "odd.wav", stereo, format="WAVEX", subtype="PCM_24")
    data = bytearray((tmp_path / "odd.wav").read_bytes())
    place = data.index(b"fmt ") + 8 + 20  # the mask stands behind the number of valid bits
    assert struct.unpack("<I", data[place : place + 4]) == (3,)
    data[place : place + 4] = struct.pack("<I", 5)
    (tmp_path / "odd.wav").write_bytes(data)
    for channel in (0, 1):
        sound = read(tmp_path, AudioSource(path="odd.wav", channel=channel, span=(1.0, 4.0)))
        assert (sound.status, sound.problems, sound.channels) == ("ok", (), 2)
        assert np.array_equal(sound.samples, stereo[SECOND : 4 * SECOND, channel])


BOUNDED = """
import re, resource, sys
from fractions import Fraction
from pathlib import Path
from mesm_data.schema.recordings import AudioSource
from mesm_data.media.audio import AudioReader
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no byte is written to any disk, by ffmpeg neither
path = Path(sys.argv[1])
for start in map(float, sys.argv[2:]):
    span = (start, start + 2) if start >= 0 else None
    sound = AudioReader(path.parent).read([AudioSource(path=path.name, span=span)], Fraction(2))
    print(sound.status, len(sound.samples), int((sound.samples != 0).sum()))
# Not ru_maxrss of this process: that begins with the size of the process that forked it.
own = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
print(own >> 10, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)
"""


def read_bounded(path: Path, *starts: float) -> list[tuple[str, int, int]]:
    """Of utterances of 2 s: status, samples, samples that are not 0. Neither the reader nor ffmpeg takes 400 MiB."""
    command = [sys.executable, "-c", BOUNDED, str(path), *map(str, starts)]
    *lines, sizes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert max(map(int, sizes.split())) < 400
    return [(status, int(count), int(sounding)) for status, count, sounding in map(str.split, lines)]


@pytest.mark.parametrize("hours", [2, 25])
def test_a_gap_in_the_time_stamps_needs_no_more_memory_than_the_utterance(tmp_path: Path, hours: int) -> None:
    """4 s of sound, of which the second half comes hours later. ffmpeg's own filling took 3.2 GB for two hours."""
    tone(tmp_path / "tone.wav")
    delay = f"asetnsamples=160,asetpts=PTS+{hours * 3600}*SR*gte(T\\,2)"
    ffmpeg("-i", tmp_path / "tone.wav", "-af", delay, "-c:a", "pcm_s16le", tmp_path / "hole.mkv")
    starts = (0.0, 1.0, 60.0, hours * 3600 + 1.0, hours * 3600 + 3.0)
    expected = (("ok", 2, 2), ("partial", 2, 1), ("partial", 2, 0), ("partial", 2, 1), ("partial", 1, 1))
    for sound, (status, seconds, sounding) in zip(read_bounded(tmp_path / "hole.mkv", *starts), expected, strict=True):
        assert sound[:2] == (status, seconds * SECOND)
        assert sound[2] == pytest.approx(sounding * SECOND, abs=400)


def test_a_small_file_that_expands_to_hours_is_decoded_to_the_end_of_the_utterance_only(tmp_path: Path) -> None:
    for rate in (16_000, 48_000):
        write(tmp_path / "bomb.flac", np.full(300 * rate, 1000, np.int16), rate)
        assert (tmp_path / "bomb.flac").stat().st_size < 2**19
        [(status, samples, _)] = read_bounded(tmp_path / "bomb.flac", -1)
        assert (status, samples) == ("ok", 2.5 * SECOND)


def test_a_file_is_converted_once_for_all_utterances_of_a_recording(tmp_path: Path) -> None:
    """And each gets what the whole track has at its place, overlaps too."""
    write(tmp_path / "ticks.wav", TICKS[: 6 * SECOND], rate=22_050)
    spans = [(0.5, 1.5), (1.0, 2.0), (3.25, 4.0), (0.1, 9.0)]
    source = AudioSource(path="ticks.wav")
    selected = [replace(one(str(span), *span), audio=(replace(source, span=span),)) for span in spans]
    reader = AudioReader(tmp_path, selected)
    whole = decode_track(tmp_path / "ticks.wav", [(0, 2**40)], 16_000).cut(0, 2**40)[:, 0]
    tracks = set()
    for utterance, (start, end) in zip(selected, spans, strict=True):
        sound = reader.read(utterance.audio, Fraction(end) - Fraction(start))
        assert np.array_equal(sound.samples, whole[round(start * SECOND) : round(end * SECOND)])
        tracks.add(id(reader._tracks["ticks.wav"]))
    assert len(tracks) == 1


def test_a_gap_in_a_track_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "ticks.wav", TICKS)
    delay = "asetnsamples=160,asetpts=PTS+SR*gte(T\\,2)"
    ffmpeg("-i", tmp_path / "ticks.wav", "-af", delay, "-c:a", "pcm_s16le", tmp_path / "hole.mkv")
    hole = AudioSource(path="hole.mkv", span=(1.0, 5.0))
    sound = read(tmp_path, hole, seconds=4)
    assert (sound.status, len(sound.samples)) == ("partial", 4 * SECOND)
    assert sound.problems == (
        "hole.mkv: lacks 1.000 s of the utterance's sound (its track has a hole, or begins late)",
    )
    assert np.array_equal(sound.samples[:SECOND], TICKS[SECOND : 2 * SECOND])
    assert not sound.samples[SECOND : 2 * SECOND].any()
    assert np.array_equal(sound.samples[2 * SECOND :], TICKS[2 * SECOND : 4 * SECOND])
    # Its end is missing, too, but by less than a source may lack: the hole is the problem.
    shorter = read(tmp_path, AudioSource(path="hole.mkv"), seconds=21.05)
    assert shorter.problems == sound.problems
    whole = read(tmp_path, hole, AudioSource(path="ticks.wav", span=(1.0, 5.0)), seconds=4)
    assert (whole.status, whole.source and whole.source.path, whole.problems) == ("ok", "ticks.wav", sound.problems)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=12))
def test_merged_spans_cover_the_same_samples_without_overlaps(pairs: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in pairs]
    merged = merge_spans(spans)
    assert {n for span in spans for n in range(*span)} == {n for span in merged for n in range(*span)}
    assert all(before[1] < behind[0] for before, behind in itertools.pairwise(merged))


def test_the_error_of_ffmpeg_about_a_damaged_track_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt nonsense")
    [problem] = read(tmp_path, AudioSource(path="a.wav")).problems
    assert problem.startswith("a.wav: not a sound file (")
    assert len(problem) > len("a.wav: not a sound file ()")
    assert str(tmp_path) not in problem


def test_a_build_reports_what_is_wrong_with_each_sound(tmp_path: Path, corpus: Path) -> None:
    """In the manifest, the record and failures.csv; and `verify --full` finds nothing wrong with that."""
    root = tmp_path / "IEMOCAP"
    shutil.copytree(corpus, root)
    first, second, third = [recording.utterances[:2] for recording in scan_corpus("iemocap", root).recordings]
    for utterance in (*first, second[1]):
        own = root / utterance.audio[0].path
        own.write_bytes(own.read_bytes()[: own.stat().st_size * 2 // 5])
    dialog = root / second[1].audio[1].path
    samples, rate = soundfile.read(dialog, dtype="int16")
    soundfile.write(dialog, samples[: round(rate * (second[1].start + 0.6))], rate)
    for utterance in third:
        own = root / utterance.audio[0].path
        soundfile.write(own, np.zeros(soundfile.info(own).frames, np.int16), SECOND)
    dialog = root / third[1].audio[1].path
    samples, rate = soundfile.read(dialog, dtype="int16")
    samples[: round(rate * third[0].end)] = 0
    soundfile.write(dialog, samples[:, 0], rate)
    names = [utterance.id for utterance in (*first, *second, *third)]
    out = tmp_path / "out"
    build_dataset(
        scan_corpus("iemocap", root), out, Recipe(corpus="iemocap", only="*_[FM]00[01]", clips=False), workers=1
    )
    dataset = Dataset(out)
    assert set(names) <= {key for key, row in dataset.rows.items() if row["status"] == "ok"}
    lost = {(line["key"], line["what"]): line["reason"] for line in csv.DictReader((out / "failures.csv").open())}
    for utterance in first:
        assert dataset.rows[utterance.id]["audio"] == "ok"
        assert dataset[utterance.id].record["sources"][-1]["path"] == utterance.audio[1].path
        assert "s, the utterance" in lost[utterance.id, "audio"]
    assert (second[0].id, "audio") not in lost
    assert dataset.rows[second[1].id]["audio"] == "partial"
    assert lost[second[1].id, "audio"] == dataset.rows[second[1].id]["reason"]
    silent, shared = (dataset[utterance.id].record for utterance in third)
    assert silent["flags"] == ["silent_sound"]
    assert shared["flags"] == ["both_voices"]
    assert (third[0].id, "audio") not in lost
    assert "digital silence" in lost[third[1].id, "audio"]
    assert list(check_content(out)) == []


def test_sound_and_picture_are_read_whatever_the_bytes_of_a_file_name(tmp_path: Path) -> None:
    for rate in (16_000, 44_100):
        soundfile.write(tmp_path / "plain.wav", TICKS[: 2 * rate], rate)
        name = os.fsdecode(b"caf\xe9.wav")
        (tmp_path / "plain.wav").rename(tmp_path / name)
        sound = read(tmp_path, AudioSource(path=name, span=(0.5, 1.5)))
        assert (sound.status, len(sound.samples), sound.problems) == ("ok", SECOND, ())
    encode(tmp_path / "film.mp4", *X264, count=9).rename(tmp_path / os.fsdecode(b"caf\xe9.mp4"))
    assert len(list(Video(tmp_path / os.fsdecode(b"caf\xe9.mp4")).frames())) == 9
    folder = tmp_path / os.fsdecode(b"out \xff")
    folder.mkdir()
    write_images(folder / "a", 30)
    [sight] = seen(folder, None, one("a", 0.0, 1.0, ClipSource(path="a", images="image_", rate=30.0)))
    assert (sight.status, sight.problems) == ("ok", [])
    assert sight.clip
