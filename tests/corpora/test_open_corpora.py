"""Guarantees for every open corpus, on a tree with the layout, names and counts of a complete copy."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from open_trees import LFS_POINTER, put

from mesm_data.corpora.registry import find_scan
from mesm_data.dataset.manifest import manifest_row
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts
from mesm_data.schema.recordings import Corpus
from mesm_data.splits.leaks import Leaks, find_leaks
from mesm_data.splits.rules import named_splits, split_by_rule

TOTALS = {"ravdess": 2452, "crema-d": 7442, "meld": 13_708, "mosi": 2199}
# One clip of each, by a name that the scanner knows, and another file that it needs.
CLIPS = {
    "ravdess": "Actor_01/03-01-05-01-02-01-01.wav",
    "crema-d": "AudioWAV/1001_DFA_ANG_XX.wav",
    "meld": "train_splits/dia0_utt0.mp4",
    "mosi": "Raw/Video/Full/03bSnISJMiM.mp4",
}
TABLES = {
    "meld": (
        "train_sent_emo.csv",
        "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
        '1,Hi,Joey,joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"\r\n',
    ),
    "mosi": ("Raw/Labels/OpinionLevelSentiment.csv", "51.9,55.95,03bSnISJMiM,1,2.4\n"),
}


@pytest.fixture(params=TOTALS)
def complete(request: pytest.FixtureRequest, complete_copy: Callable[[str], Corpus]) -> Corpus:
    """The scan of a complete copy of each."""
    return complete_copy(request.param)


def leaks_of(corpus: Corpus, name: str) -> Leaks:
    rows = {one.key: manifest_row(one, "ok", None) for one in corpus.utterances() if one.exclusion is None}
    return find_leaks(split_by_rule(rows, named_splits(corpus.schema, rows)[name]), rows)


def test_a_complete_copy_is_recognised_as_the_release(complete: Corpus) -> None:
    assert complete.notes[0].startswith(f"as released: {TOTALS[complete.name]} utterances; all ")
    counted = [one for one in complete.utterances() if one.exclusion is None or one.exclusion[0] == "failed"]
    assert len(counted) == TOTALS[complete.name]


def test_a_view_has_the_counts_that_the_facts_give_it(complete: Corpus) -> None:
    labels = [one.labels for one in complete.utterances() if not one.exclusion or one.exclusion[0] == "failed"]
    for name, spec in complete.schema.views.items():
        view = complete.schema.view(name)
        targets = [target for record in labels if (target := view.target(record)) is not None]
        assert spec.utterances == len(targets), name
        if spec.counts is not None:
            assert dict(zip(view.classes, sum(targets).tolist(), strict=True)) == spec.counts, name


def test_every_known_anomaly_is_a_flag_of_an_utterance(complete: Corpus) -> None:
    flags = Counter(flag for one in complete.utterances() for flag in one.flags)
    for flag, ids in built_in_facts(complete.name)["anomalies"].items():
        assert flags[flag] >= len(ids), flag


def test_folds_keep_their_groups_apart_and_a_random_split_is_shown_to_leak(complete: Corpus) -> None:
    rows = {one.key: manifest_row(one, "ok", None) for one in complete.utterances() if one.exclusion is None}
    splits = named_splits(complete.schema, rows)
    folds = [split for split in splits.values() if split.fold is not None]
    assert len(folds) >= 5
    for split in folds:
        parts = split_by_rule(rows, split)
        assert sum(map(len, parts.values())) == len(rows)
        leaks = find_leaks(parts, rows)
        assert not getattr(leaks, f"{split.spec.group}s")
        assert split.counts in ({}, {part: len(keys) for part, keys in parts.items()})
    shared = leaks_of(complete, "random")
    assert shared.speakers or shared.dialogs
    assert bool(shared.overlaps) == (complete.name == "mosi")  # elsewhere each utterance is a file of its own


@pytest.mark.parametrize("name", TOTALS)
def test_pointers_of_git_lfs_stop_the_scan_with_their_number(tmp_path: Path, name: str) -> None:
    put(tmp_path / CLIPS[name], LFS_POINTER)
    if name in TABLES:
        put(tmp_path / TABLES[name][0], TABLES[name][1])
    with pytest.raises(InputError, match=rf"1 media files, such as {CLIPS[name]}, are Git LFS pointers.*git lfs pull"):
        find_scan(name)(tmp_path)


@pytest.mark.parametrize("name", TOTALS)
def test_another_folder_is_refused_with_what_was_expected(tmp_path: Path, name: str) -> None:
    put(tmp_path / "holiday/beach.mp4")
    with pytest.raises(InputError, match=r"dia0|Actor_01|AudioWAV|MELD.Raw|OpinionLevelSentiment") as caught:
        find_scan(name)(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TOTALS)
def test_a_part_of_the_release_says_what_differs_and_a_synthetic_one_is_not_compared(tmp_path: Path, name: str) -> None:
    put(tmp_path / CLIPS[name])
    if name in TABLES:
        put(tmp_path / TABLES[name][0], TABLES[name][1])
    notes = find_scan(name)(tmp_path).notes
    assert notes[0] == f"utterances: 1 here, {TOTALS[name]} in the release as it is known"
    assert sum("as it is known" in note for note in notes) <= 9
    put(tmp_path / "SYNTHETIC.txt")
    assert not [note for note in find_scan(name)(tmp_path).notes if "as it is known" in note or "as released" in note]
