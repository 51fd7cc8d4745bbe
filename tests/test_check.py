"""Guarantee: verify --full finds inconsistent samples whose bytes are as recorded."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.integrity.content_check import check_content, webdataset_problems
from mesm_data.integrity.sample_checks import (
    audio_problems,
    clip_problems,
    digest_problems,
    face_problems,
    label_problems,
    record_problems,
    word_problems,
)
from mesm_data.schema.built_in import built_in_schema


@pytest.fixture(scope="module")
def ours(dataset: Path) -> Dataset:
    return Dataset(dataset)


def test_a_dataset_as_built_is_consistent_and_webdataset_reads_it(ours: Dataset) -> None:
    steps: list[int] = []
    assert list(check_content(ours.path, steps.append)) == []
    assert sum(steps) == 2 * len(ours)


def test_a_folder_with_characters_that_urls_escape_is_no_difference(ours: Dataset, tmp_path: Path) -> None:
    shutil.copytree(ours.path, tmp_path / "run #1? 100%20\n{0..1}")
    assert list(webdataset_problems(Dataset(tmp_path / "run #1? 100%20\n{0..1}"), lambda n: None)) == []


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
    ("problems", "change", "message"),
    [
        (word_problems, lambda r: r["words"][-1].update(t1=99.0), "lies at"),
        (word_problems, lambda r: r["words"][0].update(t0=-0.5), "lies at -0.5"),
        (audio_problems, lambda r: r.update(end=r["end"] + 5), "its audio lasts"),
        (audio_problems, lambda r: r["audio"].update(status="none"), "its audio has the status none"),
        (audio_problems, lambda r: r["sources"][-1].update(span=[0.0, 1.0]), "its span 16000"),
        (face_problems, lambda r: r["faces"]["times"].reverse(), "do not ascend"),
        (face_problems, lambda r: r["faces"]["times"].pop(), "but another number of times"),
        (face_problems, lambda r: r["faces"]["times"].__setitem__(-1, 99.0), "a crop is from 99.0 s"),
        (
            face_problems,
            lambda r: r["faces"]["boxes"].__setitem__(0, [0, 0, 9999, 9]),
            "outside the frame",
        ),
        (face_problems, lambda r: r["faces"]["scores"].__setitem__(0, 1.5), "not a probability"),
        (
            face_problems,
            lambda r: r["faces"]["counts"].__setitem__(0, -1),
            "counts of faces do not match detected",
        ),
        (
            face_problems,
            lambda r: r["faces"]["counts"].__setitem__(-1, 2),
            "several_faces does not match",
        ),
        (face_problems, lambda r: r.update(end=r["end"] + 5), "crops for"),
        (label_problems, lambda r: r["labels"].update(emotion="joy"), "'joy' is none of"),
        (record_problems, lambda r: r.update(speaker="Ses09X"), "speaker is 'Ses09X', the manifest says"),
        (record_problems, lambda r: r["labels"]["raters"].pop(), "labels are not those"),
        (record_problems, lambda r: r.update(text="something else"), "not that of its .txt"),
        (record_problems, lambda r: r["words"].pop(), "n_words is"),
    ],
)
def test_a_record_that_is_inconsistent_is_reported(ours: Dataset, problems: Any, change: Any, message: str) -> None:
    key = max(ours.keys, key=lambda key: ours.rows[key]["n_words"])
    more: dict[Any, tuple[Any, ...]] = {
        face_problems: (0.5,),
        label_problems: (built_in_schema("iemocap"),),
        record_problems: (ours.rows[key],),
    }
    arguments = more.get(problems, ())
    assert list(problems(ours[key], *arguments)) == []
    assert message in "; ".join(problems(changed(change)(ours[key]), *arguments))


def test_content_is_compared_apart_from_the_bytes(ours: Dataset) -> None:
    sample, row = ours[ours.keys[0]], ours.rows[ours.keys[0]]
    assert list(digest_problems(sample, row)) == []
    for other, message in (
        (replace(sample, samples=sample.samples[:-1]), "pcm_sha256"),
        (replace(sample, faces=np.zeros_like(sample.faces)), "pixels_sha256"),
        (replace(sample, text="e\u0301"), "not NFC"),
    ):
        assert message in "; ".join(digest_problems(other, row))
    extended = with_record(sample, {**sample.record, "more": 1})
    assert list(digest_problems(extended, row)) == ["its JSON is not canonical"]


def test_what_webdataset_reads_differently_is_reported(dataset: Path, ours: Dataset) -> None:
    fewer = Dataset(dataset)
    removed_key = fewer.keys.pop()
    problems = list(webdataset_problems(fewer, lambda n: None))
    assert any(f"webdataset reads {removed_key} where the manifest has" in problem for problem in problems)
    [problem] = clip_problems(ours[ours.keys[0]], b"this is no video")
    assert "its clip cannot be decoded" in problem
