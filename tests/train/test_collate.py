"""Guarantee: samples of any reader become the same batch, and what cannot become one is refused by name."""

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import webdataset

import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_train.config.model_settings import TextSettings, TinySettings
from mesm_train.config.settings import LoaderConfig
from mesm_train.data.batch import Batch
from mesm_train.data.loader import Loader
from mesm_train.models.text import load
from mesm_train.models.tiny_text import make_tiny


@pytest.fixture(scope="module")
def ours(dataset: Path) -> Dataset:
    return Dataset(dataset)


@pytest.fixture(scope="module")
def tokenizer(ours: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("text")
    tiny = TinySettings(vocabulary=60, embedding=8, width=8, layers=1, heads=2, feedforward=8)
    make_tiny([sample.text for sample in ours], folder, 0, TextSettings(encoder="tiny", tiny=tiny))
    return load(TextSettings(encoder=str(folder)))[0]


def shards(ours: Dataset) -> list[str]:
    return sorted(str(path) for path in (ours.path / "shards").glob("*.tar"))


def assert_equal(one: Batch, two: Batch) -> None:
    assert one.keys == two.keys
    for name in ("faces", "face_counts", "samples", "sample_counts", "tokens", "token_counts", "labels"):
        first, second = getattr(one, name), getattr(two, name)
        assert first.dtype == second.dtype
        assert torch.equal(first, second), name


def hugging_face(ours: Dataset) -> Any:
    import datasets

    features = datasets.Features.from_dict(ours.info["features"])
    return datasets.load_dataset(
        "webdataset", data_files=shards(ours), features=features, split="train", streaming=True
    )


READERS: dict[str, Any] = {
    "ours": list,
    "webdataset": lambda ours: webdataset.WebDataset(shards(ours), shardshuffle=False).decode(),
    "webdataset, bytes": lambda ours: webdataset.WebDataset(shards(ours), shardshuffle=False),
    "datasets": hugging_face,
}


@pytest.mark.parametrize("reader", READERS)
def test_samples_of_every_reader_give_the_batch_of_the_loader(ours: Dataset, tokenizer: Any, reader: str) -> None:
    view = ours.schema.view("majority")
    samples = list(READERS[reader](ours))
    keys = [sample.key if reader == "ours" else sample["__key__"] for sample in samples]
    assert sorted(keys) == sorted(ours.keys)
    targets = {key: target for key in keys if (target := view.target(ours.rows[key]["labels"])) is not None}
    expected = Loader(ours, targets, tokenizer, 12, LoaderConfig()).batch(keys)
    batch = mesm_train.collate(samples, target=view.target, tokenizer=tokenizer, max_tokens=12)
    assert_equal(batch, expected)
    assert batch.tokens.shape[1] == 12


def test_a_mapping_may_lack_modalities_and_a_batch_may_be_empty() -> None:
    sound = np.arange(500, dtype=np.int16)
    batch = mesm_train.collate([{"__key__": "a", "wav": sound}, {"__key__": "b", "txt": "yes"}])
    assert batch.face_counts.tolist() == [0, 0]
    assert batch.sample_counts.tolist() == [500, 0]
    assert torch.equal(batch.samples, torch.from_numpy(sound))
    empty = mesm_train.collate([])
    assert empty.keys == ()
    assert empty.faces.shape == (0, 48, 48, 3)
    assert empty.labels.shape == (0, 0)


def test_faces_of_any_one_size_are_packed() -> None:
    faces = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    batch = mesm_train.collate([{"__key__": "a"}, {"__key__": "b", "faces.npy": faces}])
    assert batch.face_counts.tolist() == [0, 2]
    assert np.array_equal(batch.faces.numpy(), faces)


def wav(rate: int, channels: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((160, channels), np.int16), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([print], object), allow_pickle=True)
    return file.getvalue()


def outside(_: Mapping[str, Any]) -> None:
    return None


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"wav": wav(8_000, 1)}, "its wav .*it has 8000 Hz, expected 16000 Hz"),
        ({"wav": wav(16_000, 2)}, r"its wav .*it is int16 \(160, 2\)"),
        ({"wav": b"no sound"}, "its wav .*it is not an audio file"),
        ({"wav": np.zeros(4, np.float32)}, r"its wav .*it is float32 \(4,\), expected an audio file, or int16"),
        ({"faces.npy": np.zeros((2, 48, 48), np.uint8)}, "its faces.npy .*it is uint8"),
        ({"faces.npy": np.full((1, 8, 8, 3), 0.5)}, "its faces.npy .*it is float64"),
        ({"faces.npy": np.full((1, 8, 8, 3), 300)}, "its faces.npy .*it is int64"),
        ({"faces.npy": pickled()}, "its faces.npy .*allow_pickle"),
        ({"faces.npy": b"no array"}, "its faces.npy .*magic string"),
        ({"txt": b"\xff"}, "its txt .*utf-8"),
        ({"txt": 3}, "its txt .*it is of type int"),
        ({"json": {}}, "its json .*it has no mapping `labels`"),
        ({"json": b"{"}, "its json .*line 1"),
        ({"json": {"labels": {}}}, "is outside the label view"),
    ],
)
def test_an_invalid_sample_is_refused_with_its_key_and_member(members: dict[str, Any], sentence: str) -> None:
    target = outside if "json" in members else None
    with pytest.raises(InputError, match=f"sample c7:? {sentence}"):
        mesm_train.collate([{"__key__": "c7", **members}], target=target)


def test_incompatible_samples_are_refused() -> None:
    faces = {size: np.zeros((1, size, size, 3), np.uint8) for size in (8, 9)}
    with pytest.raises(InputError, match="a, b have faces of different sizes"):
        mesm_train.collate([{"__key__": "a", "faces.npy": faces[8]}, {"__key__": "b", "faces.npy": faces[9]}])
    with pytest.raises(InputError, match="a, b have targets of different lengths"):
        mesm_train.collate(
            [{"__key__": "a", "json": {"labels": {"n": 1}}}, {"__key__": "b", "json": {"labels": {"n": 2}}}],
            target=lambda labels: [0.0] * labels["n"],
        )


def test_the_stock_loop_of_the_documentation_gives_every_sample_of_the_view_once(ours: Dataset) -> None:
    """With workers, each of which reads shards of its own."""
    view = ours.schema.view("six")

    def in_view(sample: Mapping[str, Any]) -> bool:
        return view.target(sample["json"]["labels"]) is not None

    urls = shards(ours)
    stream = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(100).decode().select(in_view)
    batches = stream.batched(4, collation_fn=partial(mesm_train.collate, target=view.target))
    workers = {"num_workers": len(urls), "multiprocessing_context": "fork"}
    seen = list(torch.utils.data.DataLoader(batches, batch_size=None, **workers))
    expected = {key for key in ours.keys if view.target(ours.rows[key]["labels"]) is not None}
    keys = [key for batch in seen for key in batch.keys]
    assert sorted(keys) == sorted(expected)
    assert len(expected) < len(ours)
    for batch in seen:
        labels = torch.from_numpy(np.stack([view.target(ours.rows[key]["labels"]) for key in batch.keys]))
        assert torch.equal(batch.labels, labels)
