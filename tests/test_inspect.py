"""Guarantees: what `inspect` counts of a corpus' labels and speakers is true of it and fits a screen."""

import pytest
from mesm_cli.inspect import SHOWN, shortened

from mesm_data.corpora.mosei_labels import EMOTIONS
from mesm_data.inspect import label_names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"label": "neu", "vad": None}, ["neu"]),
        ({"label": None}, ["no label"]),
        ({"emotions": {**dict.fromkeys(EMOTIONS, 0.0), "fear": 1 / 3, "anger": 2.0}}, ["anger", "fear"]),
        ({"emotions": dict.fromkeys(EMOTIONS, 0.0)}, ["no emotion"]),
        ({"emotions": {**dict.fromkeys(EMOTIONS), "fear": 0.0}}, ["no emotion"]),
        ({"emotions": dict.fromkeys(EMOTIONS), "sentiment": 1.0}, ["no label"]),
        ({"emotions": None}, ["no label"]),
    ],
)
def test_every_emotion_that_is_present_is_counted(labels: dict[str, object], names: list[str]) -> None:
    assert label_names(labels) == names


def test_long_tables_are_cut_and_the_rest_is_summed() -> None:
    counts = {f"video{number}": 3293 - number for number in range(3293)}
    first = shortened(counts, "speakers")
    assert len(first) == SHOWN + 1
    assert first["and 3273 more speakers"] == sum(range(1, 3274))
    assert sum(first.values()) == sum(counts.values())
    assert shortened({"a": 1}, "speakers") == {"a": 1}
