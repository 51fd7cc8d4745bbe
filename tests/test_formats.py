"""Guarantee: stock readers work on the shards, and see what our own reader sees."""

import io
import json
import tarfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mesm_data.dataset.reader import Dataset


@pytest.fixture(scope="module")
def ours(dataset: Path) -> Dataset:
    return Dataset(dataset)


def shards(dataset: Path) -> list[str]:
    paths = sorted(str(path) for path in (dataset / "shards").glob("*.tar"))
    assert len(paths) > 1
    return paths


def test_webdataset_reads_every_sample(dataset: Path, ours: Dataset) -> None:
    import webdataset

    seen = set()
    for sample in webdataset.WebDataset(shards(dataset), shardshuffle=False).decode():
        expected = ours[sample["__key__"]]
        seen.add(sample["__key__"])
        assert np.array_equal(sample["faces.npy"], expected.faces)
        assert sample["json"] == expected.record
        assert sample["txt"] == expected.text
        samples, rate = soundfile.read(io.BytesIO(sample["wav"]), dtype="int16")
        assert rate == 16_000
        assert np.array_equal(samples, expected.samples)
    assert seen == set(ours.keys)


def test_tarfile_finds_four_plain_members_a_sample(dataset: Path, ours: Dataset) -> None:
    names = []
    for path in shards(dataset):
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                assert (member.uid, member.gid, member.uname, member.gname, member.mtime) == (0, 0, "", "", 0)
                assert (member.mode, member.type, member.pax_headers) == (0o644, tarfile.REGTYPE, {})
                names.append(member.name)
    assert len(names) == 4 * len(ours)
    for first in range(0, len(names), 4):
        key = names[first].split(".")[0]
        assert names[first : first + 4] == [f"{key}.faces.npy", f"{key}.json", f"{key}.txt", f"{key}.wav"]


def test_hugging_face_datasets_reads_it_with_the_features_that_come_with_it(
    dataset: Path, ours: Dataset, tmp_path: Path
) -> None:
    import datasets

    features = datasets.Features.from_dict(json.loads((dataset / "dataset.json").read_text())["features"])
    loaded = datasets.load_dataset(
        "webdataset", data_files=shards(dataset), features=features, split="train", cache_dir=str(tmp_path)
    )
    assert sorted(loaded["__key__"]) == sorted(ours.keys)
    for row in loaded.select(range(5)):
        expected = ours[row["__key__"]]
        assert np.array_equal(np.array(row["faces.npy"], np.uint8), expected.faces)
        assert row["txt"] == expected.text
        assert row["json"] == expected.record


def test_the_record_has_the_same_keys_in_every_sample(ours: Dataset) -> None:
    def keys(value: object) -> object:
        return {name: keys(inner) for name, inner in value.items()} if isinstance(value, dict) else None

    assert len({json.dumps(keys(sample.record), sort_keys=True) for sample in ours}) == 1


def test_words_are_in_order_inside_the_utterance(ours: Dataset) -> None:
    count = 0
    for sample in ours:
        edges = [edge for word in sample.record["words"] for edge in (word["t0"], word["t1"])]
        assert edges == sorted(edges)
        assert not edges or (edges[0] >= 0 and edges[-1] <= len(sample.samples) / 16_000 + 0.02)
        count += len(sample.record["words"])
    assert count > len(ours)


def test_there_is_one_crop_for_every_half_second(ours: Dataset) -> None:
    for sample in ours:
        record = sample.record
        assert record["video"]["status"] == "ok"
        duration = record["end"] - record["start"]
        assert len(sample.faces) == int(-(-round(duration * 10_000) // 5_000))
        for index, time in enumerate(record["faces"]["times"]):
            assert -1e-4 <= time - index / 2 < 1001 / 30_000 + 1e-4


def test_clips_show_the_speaker_with_the_times_of_the_source(dataset: Path, ours: Dataset) -> None:
    """Same keys, same order; the frames inside the span, at their times, and the sound of the whole utterance."""
    checked = 0
    for path in shards(dataset):
        with tarfile.open(path) as model, tarfile.open(path.replace("/shards/", "/video/")) as clips:
            keys = [name.removesuffix(".txt") for name in model.getnames() if name.endswith(".txt")]
            assert clips.getnames() == [f"{key}.mp4" for key in keys]
            for key in keys:
                record = ours[key].record
                member = clips.extractfile(f"{key}.mp4")
                assert member is not None
                mp4 = member.read()
                with av.open(io.BytesIO(mp4)) as clip:
                    times = [frame.pts * frame.time_base for frame in clip.decode(video=0)]
                    picture = clip.streams.video[0]
                    assert (picture.width, picture.height) == (record["video"]["width"], record["video"]["height"])
                with av.open(io.BytesIO(mp4)) as clip:
                    seconds = sum(frame.samples / frame.sample_rate for frame in clip.decode(audio=0))
                duration = record["end"] - record["start"]
                assert abs(len(times) - duration * 30_000 / 1001) <= 1
                assert 0 <= times[0] < 0.034
                assert duration - 0.034 <= times[-1] < duration
                assert record["faces"]["times"][0] == pytest.approx(float(times[0]), abs=1e-4)
                assert abs(seconds - duration) < 0.2  # AAC comes in packets of 64 ms
                checked += 1
    assert checked == len(ours)
