"""A view asks what the manifest says of every utterance that it should."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.views import View
from mesm_data.splits.rules import named_splits
from mesm_train.config.recipe_files import load_recipe
from mesm_train.data.labels import truth

IEMOCAP = built_in_schema("iemocap")
LABELS = list(IEMOCAP.labels["emotion"].values)


def view(corpus: str, name: str) -> View:
    return built_in_schema(corpus).view(name)


# Views


@pytest.mark.parametrize("name", ["six", "four", "majority"])
def test_a_view_of_the_whole_corpus_has_the_counts_of_the_manifest(name: str) -> None:
    known = built_in_facts("iemocap")
    chosen = view("iemocap", name)
    total, in_view = np.zeros(len(chosen.classes)), 0
    for label, count in known["counts"]["labels"].items():
        target = chosen.target({"emotion": label, "raters": []})
        if target is not None:
            assert target.dtype == np.float32
            assert target.sum() == (label != "xxx")
            total, in_view = total + count * target, in_view + count
    assert dict(zip(chosen.classes, total, strict=True)) == known["views"][name]["counts"]
    assert in_view == known["views"][name]["utterances"] == {"six": 7380, "four": 5531, "majority": 10_039}[name]


def test_without_a_majority_all_ten_targets_are_0() -> None:
    """So the highest logit is no answer there, and is not scored as one."""
    majority = view("iemocap", "majority")
    target = majority.target({"emotion": "xxx"})
    assert target is not None
    assert target.tolist() == [0.0] * 10
    assert not majority.exclusive
    assert majority.target({"emotion": None}) is None
    assert [view("iemocap", name).exclusive for name in ("six", "four", "soft")] == [True, True, False]


def rater(name: str, *categories: str) -> dict[str, Any]:
    return {"rater": name, "self": name[2] != "E", "emotion": list(categories) if name[0] == "C" else None}


def test_a_soft_label_is_the_share_of_the_external_raters_votes() -> None:
    """Two categories of a rater are half a vote each; self-evaluation, dimensions and empty categories have none."""
    soft = view("iemocap", "soft")
    raters = [
        rater("C-E2", "Neutral state"), rater("C-E3", "Anger", "Frustration", "", "Anger"), rater("C-E4", "neutral"),
        rater("C-E5", "", " "), rater("C-F1", "Happiness"), rater("A-E3"),
    ]  # fmt: skip
    target = soft.target({"emotion": "neu", "raters": raters})
    assert target is not None
    assert target.dtype == np.float32
    shares = {name: float(share) for name, share in zip(soft.classes, target, strict=True) if share}
    assert shares == pytest.approx({"neu": 2 / 3, "ang": 1 / 6, "fru": 1 / 6})
    assert truth(target).tolist() == [float(name == "neu") for name in soft.classes]
    for nothing in ([], [rater("C-F1", "Anger")], [rater("A-E3")], [rater("C-E2", "")]):
        assert soft.target({"emotion": "xxx", "raters": nothing}) is None


def test_a_category_outside_the_view_keeps_its_part_of_the_vote() -> None:
    target = view("iemocap", "soft").target({"raters": [rater("C-E2", "Relief", "Anger"), rater("C-E3", "Anger")]})
    assert target is not None
    assert float(target.sum()) == float(target[0]) == 0.75


WORDS = list(IEMOCAP.labels["emotion"].values.values())[:-1]


@given(st.lists(st.lists(st.sampled_from([*WORDS, ""]), max_size=4), min_size=3, max_size=3))
def test_the_majority_category_is_true_in_the_soft_view_too(named: list[list[str]]) -> None:
    """Against the header's rule, more than half of the raters, where nobody names two."""
    target = view("iemocap", "soft").target({"raters": [rater(f"C-E{n}", *words) for n, words in enumerate(named)]})
    given_votes = [set(words) - {""} for words in named if set(words) - {""}]
    if target is None:
        assert not given_votes
        return
    assert float(target.sum()) == pytest.approx(1)
    if all(len(words) == 1 for words in given_votes):
        counts = Counter(word for words in given_votes for word in words)
        most = {word for word, count in counts.items() if 2 * count > len(given_votes)}
        codes = {word: code for code, word in IEMOCAP.labels["emotion"].values.items()}
        classes = view("iemocap", "soft").classes
        assert {classes[index] for index in np.flatnonzero(truth(target))} == {codes[word] for word in most}


def test_six_has_one_target_per_label() -> None:
    six = view("iemocap", "six")
    assert six.classes == ("ang", "exc", "fru", "hap", "neu", "sad")
    assert six.exclusive
    for label in LABELS:
        target = six.target({"emotion": label})
        assert (None if target is None else target.tolist()) == (
            [float(label == name) for name in six.classes] if label in six.classes else None
        )


def test_four_merges_excited_into_happy() -> None:
    four = view("iemocap", "four")
    targets = [four.target({"emotion": label}) for label in ("hap", "exc", "neu")]
    assert [target is not None and target.tolist() for target in targets] == [[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert four.target({"emotion": "fru"}) is None


@pytest.mark.parametrize("record", [{"emotion": None}, {"emotion": "yyy"}, {}])
def test_an_utterance_without_a_label_is_in_no_view(record: dict[str, Any]) -> None:
    assert all(view("iemocap", name).target(record) is None for name in IEMOCAP.views)


@given(st.dictionaries(st.sampled_from(["anger", "fear", "joy"]), st.none() | st.sampled_from([0.0, 1 / 6, 1.0, 3.0])))
def test_a_view_that_is_not_exclusive_asks_for_each_mean_above_zero(emotions: dict[str, float | None]) -> None:
    multi = View(
        corpus="mosei", name="x", label=None, classes=("ang", "fea"), sources=(("anger",), ("fear",)),
        target_rule="positive",
    )  # fmt: skip
    target = multi.target({**emotions, "sentiment": 0.0})
    if all(emotions.get(name) is None for name in ("anger", "fear")):
        assert target is None  # nobody rated it
        return
    assert target is not None
    assert target.tolist() == [float((emotions.get(name) or 0) > 0) for name in ("anger", "fear")]
    assert multi.target({"anger": None}) is None
    assert not multi.exclusive


def test_the_recipes_for_mosei_name_an_existing_view_and_split() -> None:
    for name in ("mosei-fe2e", "mosei-mesm"):
        config = load_recipe(name)
        assert view("mosei", config.labels).classes == ("anger", "disgust", "fear", "happiness", "sadness", "surprise")
        assert not named_splits(built_in_schema("mosei"), {})[config.split].is_rule


def test_an_unknown_view_or_corpus_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(
        InputError, match=r"no label view 'sixx': did you mean six\? There are six, four, majority, soft, dimensions"
    ):
        view("iemocap", "sixx")
    with pytest.raises(InputError, match=r"no manifest of a corpus 'iemo'; there are .*iemocap"):
        view("iemo", "six")


def test_a_view_of_numbers_has_the_numbers_as_targets() -> None:
    dimensions = view("iemocap", "dimensions")
    target = dimensions.target({"valence": 2.5, "activation": 3.0, "dominance": 4.0})
    assert target is not None
    assert (target.dtype, target.tolist(), dimensions.classes) == (
        np.float32, [2.5, 3.0, 4.0], ("valence", "activation", "dominance"),
    )  # fmt: skip
    assert dimensions.target({"valence": 2.5, "activation": None, "dominance": 4.0}) is None
