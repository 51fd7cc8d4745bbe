"""The open corpora built from real media: test patterns and tones, in the containers and codecs of each."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from open_trees import MELD, VOTES, put, table

from mesm_data.corpora.open_corpus import open_corpus, scan_corpus
from mesm_data.dataset.manifest import read_table_rows
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.integrity.verify import verify
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset
from mesm_data.pipeline.retry import retry_dataset
from mesm_data.storage.progress import Progress, no_progress


def make(path: Path, *, video: str = "", sound: str = "", options: tuple[str, ...] = ()) -> None:
    """Write a file with a test pattern (`video`: its rate) and the audio of an `aevalsrc`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = [f"testsrc2=s=128x96:r={video}:d=2"] if video else []
    inputs += [f"aevalsrc={sound}:d=2"] if sound else []
    command = [ffmpeg_binary(), "-v", "error", *(word for source in inputs for word in ("-f", "lavfi", "-i", source))]
    subprocess.run([*command, *options, str(path)], check=True)


def built(name: str, root: Path, out: Path) -> tuple[Dataset, dict[str, dict[str, Any]]]:
    """The dataset, verified, and its rows by key."""
    build_dataset(scan_corpus(name, root), out, Recipe(corpus=name), workers=1)
    assert list(verify(out)) == []
    return Dataset(out), {row["key"]: row for row in read_table_rows(out / "manifest.parquet")}


def hertz(samples: NDArray[np.int16]) -> float:
    """Return the strongest frequency."""
    return float(np.abs(np.fft.rfft(samples.astype(float))).argmax() * 16_000 / len(samples))


def test_ravdess_uses_the_lossless_sound_and_the_video_of_the_same_take(tmp_path: Path) -> None:
    take, sung = "01-05-02-01-02-01", "02-02-01-02-01-01"
    folder = tmp_path / "raw/Actor_01"
    make(folder / f"01-{take}.mp4", video="30000/1001", sound="sin(2*PI*300*t)", options=("-c:a", "aac"))
    make(folder / f"02-{take}.mp4", video="30000/1001")
    make(folder / f"03-{take}.wav", sound="sin(2*PI*600*t)|sin(2*PI*600*t):s=48000")
    make(folder / f"03-{sung}.wav", sound="sin(2*PI*600*t):s=48000")
    dataset, rows = built("ravdess", tmp_path / "raw", tmp_path / "out")
    assert {key: (row["status"], row["audio"], row["video"]) for key, row in rows.items()} == {
        take: ("ok", "ok", "ok"),
        sung: ("ok", "ok", "none"),
    }
    sample = dataset[take]
    assert hertz(sample.samples) == 600
    assert [source["path"] for source in sample.record["sources"]] == [
        f"Actor_01/01-{take}.mp4",
        f"Actor_01/03-{take}.wav",
    ]
    assert (sample.record["labels"]["emotion"], sample.record["speaker"]) == ("angry", "Actor_01")
    assert sample.text == "Kids are talking by the door"
    assert sample.record["start"] == 0.0
    assert abs(sample.record["end"] - 2) < 0.01  # of the whole file, measured


def test_crema_d_uses_the_sound_of_the_wav_and_the_frames_of_the_flash_video(tmp_path: Path) -> None:
    clip, wrong = "1001_IEO_ANG_HI", "1064_IEO_DIS_MD"
    for name in (clip, wrong):
        make(tmp_path / f"raw/AudioWAV/{name}.wav", sound="sin(2*PI*600*t):s=16000")
        flash = ("-c:v", "flv1", "-c:a", "libmp3lame")
        make(tmp_path / f"raw/VideoFlash/{name}.flv", video="30", sound="sin(2*PI*300*t):s=44100", options=flash)
    votes = [["300001", 6, 0, 0, 0, 2, 2, clip, 10, 0.6, "A", *[-1] * 16]]
    put(tmp_path / "raw/processedResults/tabulatedVotes.csv", table(VOTES, votes, "\n", quoting=2))
    dataset, rows = built("crema-d", tmp_path / "raw", tmp_path / "out")
    assert {key: (row["audio"], row["video"], row["flags"]) for key, row in rows.items()} == {
        clip: ("ok", "ok", []),
        wrong: ("ok", "none", ["wrong_picture"]),
    }
    assert hertz(dataset[clip].samples) == 600
    labels = dataset[clip].record["labels"]
    assert (labels["av"], labels["av_anger"], labels["av_neutral"], labels["voice"]) == (["anger"], 0.6, 0.2, None)


def test_meld_mixes_surround_sound_down_and_prefers_the_twin(tmp_path: Path) -> None:
    """The voice is in the centre of 5.1. A damaged clip, one without a row and a missing one are rows, too."""
    surround = "0|0|0.5*sin(2*PI*{}*t)|0|0.2*sin(2*PI*1000*t)|0:c=5.1:s=48000"
    test, train = (tmp_path / "raw" / folder for folder in ("output_repeated_splits_test", "train_splits"))
    aac = ("-c:a", "aac")
    make(test / "dia1_utt0.mp4", video="24000/1001", sound=surround.format(300), options=aac)
    make(test / "final_videos_testdia1_utt0.mp4", video="24000/1001", sound=surround.format(600), options=aac)
    make(train / "dia0_utt0.mp4", video="24000/1001", sound="0.3*sin(2*PI*600*t)|0:s=48000", options=aac)
    put(train / "dia125_utt3.mp4", b"\0" * 5000)
    put(train / "dia9_utt9.mp4", b"\0" * 5000)
    times = (8, 21, "00:16:16,059", "00:16:21,731")
    for part, ids in (("train", ((0, 0), (0, 1), (125, 3))), ("test", ((1, 0),))):
        lines = [(1, "You must\x92ve", "Joey", "joy", "positive", *id_, *times) for id_ in ids]
        put(tmp_path / f"raw/{part}_sent_emo.csv", table(MELD, lines, "\n"))
    dataset, rows = built("meld", tmp_path / "raw", tmp_path / "out")
    assert {key: row["status"] for key, row in rows.items()} == {
        "train_dia0_utt0": "ok",
        "train_dia0_utt1": "failed",
        "train_dia125_utt3": "failed",
        "train_dia9_utt9": "excluded",
        "test_dia1_utt0": "ok",
    }
    assert rows["train_dia9_utt9"]["reason"] == "no_row"
    assert rows["train_dia125_utt3"]["flags"] == ["unreadable"]
    twin = dataset["test_dia1_utt0"]
    assert hertz(twin.samples) == 600
    assert (twin.record["split"], twin.record["flags"], twin.text) == ("test", ["final_video"], "You must’ve")
    # One source for the picture and the sound, with one digest.
    assert {source["path"].rpartition("/")[2] for source in twin.record["sources"]} == {
        "final_videos_testdia1_utt0.mp4"
    }


def test_mosi_is_cut_from_the_whole_video_by_the_labels_times(tmp_path: Path) -> None:
    """The tone rises from 400 Hz by 200 Hz per second, so a cut from 0.5 s to 1.25 s is around 575 Hz."""
    video = "I5y0__X72p0"
    rising = "sin(2*PI*(400*t+100*t*t))|0:s=16000"
    make(tmp_path / f"raw/Raw/Video/Full/{video}.mp4", video="30")
    make(tmp_path / f"raw/Raw/Audio/WAV_16000/Full/{video}.wav", sound=rising)
    put(tmp_path / "raw/Raw/Labels/OpinionLevelSentiment.csv", f"0.5,1.25,{video},1,-1.4\n1.5,9,{video},2,3.0\n")
    put(tmp_path / f"raw/Raw/Transcript/Segmented/{video}.annotprocessed", "1_DELIM_IT WAS FUN\n2_DELIM_YES\n")
    dataset, rows = built("mosi", tmp_path / "raw", tmp_path / "out")
    assert {key: (row["audio"], row["video"], row["n_faces"]) for key, row in rows.items()} == {
        f"{video}_1": ("ok", "ok", 2),
        f"{video}_2": ("partial", "partial", 1),
    }
    first = dataset[f"{video}_1"]
    assert len(first.samples) == 12_000
    assert abs(hertz(first.samples) - 575) < 80
    assert (first.text, first.record["labels"]["sentiment"], first.record["dialog"]) == ("IT WAS FUN", -1.4, video)


class _Killed(Exception):
    """The build ends here."""


def _killed_at_packing(what: str, total: int, todo: int) -> Callable[[int], object]:
    if what == "pack":
        raise _Killed
    return no_progress(what, total, todo)


@pytest.mark.parametrize("state", ["finished", "killed", "fetched"])
def test_an_edited_table_of_a_release_is_another_source(tmp_path: Path, state: str) -> None:
    """`retry` makes again what was edited, of a finished dataset, also one without .build/, and of a killed build."""
    is_finished = state != "killed"
    root, out, recipe = tmp_path / "raw", tmp_path / "out", Recipe(corpus="meld")

    def write(first: str, second: str) -> None:
        texts = enumerate((first, second))
        lines = [(1, text, "Joey", "joy", "positive", 0, n, 8, 21, "00:16:16,059", "00:16:21,731") for n, text in texts]
        put(root / "train_sent_emo.csv", table(MELD, lines, "\n"))

    for number in range(2):
        make(root / f"train_splits/dia0_utt{number}.wav", sound="sin(2*PI*600*t):s=16000")
    write("You must", "You could")
    progress = no_progress if is_finished else _killed_at_packing
    with nullcontext() if is_finished else pytest.raises(_Killed):
        build_dataset(scan_corpus("meld", root), out, recipe, workers=1, progress=progress)
    if state == "fetched":
        shutil.rmtree(out / ".build")
    write("You must", "You would")
    with pytest.raises(InputError, match=r"labels, texts, times or names of files are others now.*mesm-data retry"):
        build_dataset(scan_corpus("meld", root), out, recipe, workers=1)
    if is_finished:  # by another version, which may read the same files otherwise
        content = (out / "dataset.json").read_text()
        (out / "dataset.json").write_text(re.sub('"mesm": "[^"]+"', '"mesm": "0.0.1"', content))
        with pytest.raises(InputError, match=r"are others now, or mesm \S+ reads them otherwise than mesm 0\.0\.1"):
            build_dataset(scan_corpus("meld", root), out, recipe, workers=1)
        (out / "dataset.json").write_text(content)
    messages: list[str] = []
    info = retry_dataset(scan_corpus("meld", root), out, workers=1, report=messages.append)
    expected = "1 of 2 utterances are done again" if is_finished else "1 utterances that were done are kept, 1 are done"
    assert expected in messages[0]
    assert Dataset(out)["train_dia0_utt1"].text == "You would"
    assert info == build_dataset(scan_corpus("meld", root), tmp_path / "fresh", recipe, workers=1)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("is_finished", [False, True])
def test_a_file_that_was_replaced_by_one_of_the_same_size_is_built_anew(
    tmp_path: Path, is_finished: bool, overwrite: bool
) -> None:
    """By a resumed build; after a finished one it is refused. A mere copy is the same source."""
    root, out, recipe = tmp_path / "raw", tmp_path / "out", Recipe(corpus="clips")
    table = put(tmp_path / "clips.csv", "path,emotion\na.wav,sad\nb.wav,happy\nc.wav,sad\n")
    sound = np.random.default_rng(0).integers(-9000, 9000, (4, 16_000)).astype(np.int16)
    root.mkdir()
    for name, samples in zip("abc", sound, strict=False):
        soundfile.write(root / f"{name}.wav", samples, 16_000)
    (root / "c.wav").write_bytes(bytes((root / "a.wav").stat().st_size))  # a copy that waits for its content

    def build(folder: Path, *, overwrite: bool = False, progress: Progress = no_progress) -> dict[str, Any]:
        corpus = open_corpus(str(table), root)
        return build_dataset(corpus, folder, recipe, workers=1, overwrite=overwrite, progress=progress)

    with nullcontext() if is_finished else pytest.raises(_Killed):
        build(out, overwrite=overwrite, progress=no_progress if is_finished else _killed_at_packing)
    if is_finished:
        for path in root.iterdir():
            os.utime(path)
        assert build(out)["counts"] == {"total": 3, "ok": 2, "failed": 1, "excluded": 0}
    soundfile.write(root / "a.wav", sound[3], 16_000)
    soundfile.write(root / "c.wav", sound[2], 16_000)
    if is_finished and not overwrite:
        with pytest.raises(InputError, match=r"one of a in .*raw has another content now.*mesm-data retry"):
            build(out)
        retry_dataset(open_corpus(str(table), root), out, workers=1)
    else:
        assert build(out, overwrite=overwrite)["counts"]["ok"] == 3
    assert build(out) == build(tmp_path / "fresh")
