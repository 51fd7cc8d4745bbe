"""Guarantee: verify --full finds samples that make no sense though they are as recorded."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.integrity import content_check as check
from mesm_data.schema.built_in import built_in_schema


@pytest.fixture(scope="module")
def ours(dataset: Path) -> Dataset:
    return Dataset(dataset)


def test_a_dataset_as_built_makes_sense_and_webdataset_reads_it(ours: Dataset) -> None:
    told: list[int] = []
    assert list(check.check(ours.path, told.append)) == []
    assert sum(told) == 2 * len(ours)


def with_record(sample: Sample, record: Any) -> Any:
    names = ("key", "faces", "samples", "sample_rate", "text")
    return SimpleNamespace(**{name: getattr(sample, name) for name in names}, record=record)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Sample], Sample]:
    def apply(sample: Sample) -> Sample:
        record = copy.deepcopy(sample.record)
        change(record)
        return with_record(sample, record)

    return apply


@pytest.mark.parametrize(
    ("look", "change", "words"),
    [
        (check.words, lambda r: r["words"][-1].update(t1=99.0), "lies at"),
        (check.words, lambda r: r["words"][0].update(t0=-0.5), "lies at -0.5"),
        (check.sound, lambda r: r.update(end=r["end"] + 5), "its sound lasts"),
        (check.sound, lambda r: r["audio"].update(status="none"), "is said to be none"),
        (check.sound, lambda r: r["sources"][-1].update(span=[0.0, 1.0]), "its span 16000"),
        (check.picture, lambda r: r["faces"]["times"].reverse(), "not in order"),
        (check.picture, lambda r: r["faces"]["times"].pop(), "other numbers of times"),
        (check.picture, lambda r: r["faces"]["times"].__setitem__(-1, 99.0), "a crop is from 99.0 s"),
        (check.picture, lambda r: r["faces"]["boxes"].__setitem__(0, [0, 0, 9999, 9]), "outside the picture"),
        (check.picture, lambda r: r["faces"]["scores"].__setitem__(0, 1.5), "no probability"),
        (check.picture, lambda r: r["faces"]["counts"].__setitem__(0, -1), "counts of faces do not fit detected"),
        (check.picture, lambda r: r["faces"]["counts"].__setitem__(-1, 2), "several_faces does not fit"),
        (check.picture, lambda r: r.update(end=r["end"] + 5), "crops for"),
        (check.labels, lambda r: r["labels"].update(emotion="joy"), "'joy' is none of"),
        (check.record_of, lambda r: r.update(speaker="Ses09X"), "speaker is 'Ses09X', the manifest says"),
        (check.record_of, lambda r: r["labels"]["raters"].pop(), "labels are not those"),
        (check.record_of, lambda r: r.update(text="something else"), "not that of its .txt"),
        (check.record_of, lambda r: r["words"].pop(), "n_words is"),
    ],
)
def test_a_record_that_makes_no_sense_is_found(ours: Dataset, look: Any, change: Any, words: str) -> None:
    key = max(ours.keys, key=lambda key: ours.rows[key]["n_words"])
    more: dict[Any, tuple[Any, ...]] = {
        check.picture: (0.5,), check.labels: (built_in_schema("iemocap"),), check.record_of: (ours.rows[key],),
    }  # fmt: skip
    arguments = more.get(look, ())
    assert list(look(ours[key], *arguments)) == []
    assert words in "; ".join(look(changed(change)(ours[key]), *arguments))


def test_content_is_compared_apart_from_the_bytes(ours: Dataset) -> None:
    sample, row = ours[ours.keys[0]], ours.rows[ours.keys[0]]
    assert list(check.content(sample, row)) == []
    for other, words in (
        (replace(sample, samples=sample.samples[:-1]), "pcm_sha256"),
        (replace(sample, faces=np.zeros_like(sample.faces)), "pixels_sha256"),
        (replace(sample, text="e\u0301"), "not NFC"),
    ):
        assert words in "; ".join(check.content(other, row))
    assert list(check.content(with_record(sample, {**sample.record, "more": 1}), row)) == ["its JSON is not canonical"]


def test_what_webdataset_reads_otherwise_is_found(dataset: Path, ours: Dataset) -> None:
    fewer = Dataset(dataset)
    gone = fewer.keys.pop()
    assert any(f"webdataset reads {gone} where the manifest has" in said for said in check.stock(fewer, lambda n: None))
    clip = b"this is no film"
    [said] = check.film(ours[ours.keys[0]], clip)
    assert "its clip cannot be decoded" in said
