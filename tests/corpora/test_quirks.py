"""Guarantee: with every known oddity of the real corpora, the dataset has the expected content and counts.

The quirks are planted in synthetic corpora, each with the expected result of a correct build (quirks/bed.py).
"""

import json
import operator
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quirks import iemocap as iemocap_quirks
from quirks import mosei as mosei_quirks
from quirks.bed import ORACLE

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.pipeline.build import build_dataset

Once = Callable[[str, Callable[[Path], None]], Path]
Oracle = dict[str, Any]


def check(dataset: Dataset, oracle: Oracle) -> list[str]:
    """One sentence for each difference between the dataset and the oracle."""
    wrong = [f"{key} is only in one of them" for key in dataset.rows.keys() ^ oracle["utterances"].keys()]
    if dataset.info["counts"] != oracle["counts"]:
        wrong.append(f"counts are {dataset.info['counts']}, expected {oracle['counts']}")
    for words in oracle["notes"]:
        if not any(all(word in note for word in words) for note in dataset.info["notes"]):
            wrong.append(f"no note says {words}")
    for key in sorted(dataset.rows.keys() & oracle["utterances"].keys()):
        seen, expected = observe(dataset, key), oracle["utterances"][key]
        wrong += [
            f"{key}: {name} is {seen.get(name)!r}, expected {value!r}"
            for name, value in expected.items()
            if name in seen and not COMPARE.get(name, operator.eq)(seen[name], value)
        ]
        wrong += [f"{key}: {name} is not in the dataset" for name in expected.keys() - seen.keys()]
    return wrong


def observe(dataset: Dataset, key: str) -> dict[str, Any]:
    """The fields of an utterance under the oracle's names."""
    row = dataset.rows[key]
    seen = {name: row[name] for name in ("status", "reason", "start", "end", "flags", "labels")}
    if isinstance(seen["labels"], str):
        seen["labels"] = json.loads(seen["labels"])
    if row["status"] != "ok":
        return seen
    record = dataset[key].record
    paths = [source["path"] for source in record["sources"]]
    return {
        **seen,
        "audio": record["audio"]["status"],
        "video": record["video"]["status"],
        "text": record["text"],
        "words": record["words"] and [[word["w"], word["t0"], word["t1"]] for word in record["words"]],
        "labels": record["labels"],
        "raters": len(record["labels"]["raters"]),
        "sound": paths,
        "picture": paths,
    }


def holds(seen: Any, expected: Any) -> bool:
    """Whether `seen` includes `expected`: keys of mappings, members of lists, numbers to 1e-6."""
    if isinstance(expected, dict):
        return isinstance(seen, dict) and all(holds(seen.get(key, ...), value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(seen, list) and all(any(holds(item, value) for item in seen) for value in expected)
    if isinstance(expected, float):
        return isinstance(seen, (int, float)) and abs(seen - expected) < 1e-6
    return bool(seen == expected)


def was_cut_from(seen: Any, expected: str | None) -> bool:
    """Whether the file is among the sources, whose paths may be relative to a subfolder."""
    return expected is None or any(f"/{expected}".endswith(f"/{path}") for path in seen)


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "labels": holds,
    "start": lambda seen, expected: abs(seen - expected) < 1e-6,
    "end": lambda seen, expected: abs(seen - expected) < 1e-6,
    "flags": lambda seen, expected: sorted(seen) == expected,
    "reason": lambda seen, expected: expected in (seen or ""),
    "sound": was_cut_from,
    "picture": was_cut_from,
}


def recipe(corpus: str) -> Recipe:
    """Few frames and large faces only, for speed: the oracle asks whether there is a picture, not how good it is."""
    return Recipe(corpus=corpus, clips=False, frame_interval="4", min_face_size=200)


def quirky(corpus: Path, out: Path, plant: Callable[[Path], Oracle]) -> None:
    shutil.copytree(corpus, out)
    plant(out)


@pytest.fixture(scope="session")
def quirky_iemocap(once: Once, corpus: Path) -> Path:
    return once("quirky-iemocap", lambda out: quirky(corpus, out, iemocap_quirks.plant))


@pytest.fixture(scope="session")
def built_iemocap(once: Once, quirky_iemocap: Path) -> Dataset:
    source = scan_corpus("iemocap", quirky_iemocap)
    return Dataset(once("built-quirky", lambda out: build_dataset(source, out, recipe("iemocap"), workers=1) and None))


def oracle_of(corpus: Path) -> Oracle:
    return dict(json.loads((corpus / ORACLE).read_text()))


def test_every_quirk_of_iemocap_has_the_result_of_its_oracle(built_iemocap: Dataset, quirky_iemocap: Path) -> None:
    assert check(built_iemocap, oracle_of(quirky_iemocap)) == []


def test_the_oracle_of_iemocap_covers_every_outcome(quirky_iemocap: Path) -> None:
    expected = oracle_of(quirky_iemocap)["utterances"].values()
    assert {utterance["status"] for utterance in expected} == {"ok", "failed"}
    assert {utterance.get("video") for utterance in expected} == {"ok", "partial", "none", None}
    assert {utterance.get("audio") for utterance in expected} == {"ok", "none", None}
    flags = Counter(flag for utterance in expected for flag in utterance["flags"])
    assert flags == {"no_alignment": 3, "no_evaluation": 1, "no_transcript": 1, "both_voices": 1}


@pytest.fixture(scope="session")
def quirky_mosei(once: Once, mosei_corpus: Path) -> Path:
    return once("quirky-mosei", lambda out: quirky(mosei_corpus, out, mosei_quirks.plant))


def test_every_quirk_of_mosei_has_the_result_of_its_oracle(once: Once, quirky_mosei: Path) -> None:
    pytest.importorskip("mesm_data.corpora.mosei.scan")
    source = scan_corpus("mosei", quirky_mosei)
    out = once("built-quirky-mosei", lambda out: build_dataset(source, out, recipe("mosei"), workers=1) and None)
    assert check(Dataset(out), oracle_of(quirky_mosei)) == []


def test_the_oracle_of_mosei_covers_every_outcome(quirky_mosei: Path) -> None:
    oracle = oracle_of(quirky_mosei)
    assert min(oracle["counts"].values()) > 0
    expected = oracle["utterances"].values()
    assert {utterance.get("video") for utterance in expected} == {"ok", "partial", "none", None}
    assert {utterance.get("audio") for utterance in expected} == {"ok", "partial", "none", None}
    flags = {flag for utterance in expected for flag in utterance.get("flags", ())}
    assert flags == {"no_alignment", "no_transcript", "negative_start", "empty_answers", "mistimed", "faceless"}
    assert {"Videos/Segmented", "Videos/Full", None} == {
        "/".join(path.split("/")[1:3]) if (path := utterance.get("picture")) else None for utterance in expected
    }


def test_a_dataset_that_differs_from_the_oracle_is_detected(built_iemocap: Dataset, quirky_iemocap: Path) -> None:
    """The check itself fails for a difference in each of the fields."""
    oracle = oracle_of(quirky_iemocap)
    key = next(key for key, expected in oracle["utterances"].items() if expected["status"] == "ok")
    wrong = {"audio": "none", "video": "none", "flags": ["x"], "text": "x", "labels": {"emotion": "x"}, "sound": "x",
             "status": "failed", "reason": "x", "start": -1.0}  # fmt: skip
    for name, value in wrong.items():
        changed = {**oracle["utterances"], key: {**oracle["utterances"][key], name: value}}
        assert any(
            line.startswith(f"{key}: {name} ") for line in check(built_iemocap, {**oracle, "utterances": changed})
        )
    assert check(built_iemocap, {**oracle, "notes": [["never said"]]}) == ["no note says ['never said']"]
    rest = {name: expected for name, expected in oracle["utterances"].items() if name != key}
    assert check(built_iemocap, {**oracle, "utterances": rest}) == [f"{key} is only in one of them"]


def test_a_corpus_that_is_too_small_for_all_quirks_is_refused(tmp_path: Path, corpus: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    for path in sorted((tmp_path / "corpus").glob("Session*/dialog/EmoEvaluation/*.txt"))[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="too small"):
        iemocap_quirks.plant(tmp_path / "corpus")
