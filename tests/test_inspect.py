"""Guarantees: what `inspect` counts of a corpus' labels and speakers is true of it and fits a screen."""

import pandas as pd
from mesm_cli.inspect import SHOWN, shortened

from mesm_data.corpora.mosei.ratings import EMOTIONS, ITEMS
from mesm_data.dataset.summary import label_counts, reasons, view_counts
from mesm_data.schema.built_in import built_in_schema


def test_every_emotion_that_is_present_is_counted() -> None:
    mosei = built_in_schema("mosei")
    zeros = dict.fromkeys(EMOTIONS, 0.0)
    labels = [
        {**zeros, "fear": 1 / 3, "anger": 2.0, "sentiment": 1.0},
        {**zeros, "sentiment": -1.0},
        {**dict.fromkeys(ITEMS), "fear": 0.0},
        {**dict.fromkeys(ITEMS), "sentiment": 3.0},
        dict.fromkeys(ITEMS),
    ]
    views = view_counts(labels, mosei)
    assert views["six"] == {
        "task": "one_vs_rest",
        "utterances": 3,
        "classes": {**dict.fromkeys(EMOTIONS, 0.0), "fear": 1.0, "anger": 1.0},
    }
    assert views["sentiment"] == {"task": "number", "utterances": 3, "classes": {"sentiment": 1.0}}
    assert label_counts(labels, mosei)["sentiment"] == {"mean": 1.0, "minimum": -1.0, "maximum": 3.0, "no label": 2}


def test_categories_and_utterances_without_one_are_counted() -> None:
    iemocap = built_in_schema("iemocap")
    numbers = dict.fromkeys(("valence", "activation", "dominance"))
    labels = [{"emotion": label, **numbers, "raters": []} for label in ("neu", "neu", "ang", None)]
    assert label_counts(labels, iemocap)["emotion"] == {"neu": 2, "ang": 1, "no label": 1}
    assert view_counts(labels, iemocap)["six"]["utterances"] == 3


def test_reasons_are_counted_without_the_names_of_their_utterances() -> None:
    """A short id, such as the number of a row, may also be a part of another word or of a number."""
    rows = [
        ("Ses01F_impro01_F000", "Ses01F_impro01", "wav/Ses01F_impro01/Ses01F_impro01_F000.wav: lasts 1.0 s"),
        ("miss", "missing", "missing.mp4 not found"),
        ("1", "clips", "clips/1.mp4: ends at 1.500 s, the utterance at 11.000 s"),
        ("2", "2", "2.mp4: 2 packets could not be decoded"),
        ("v_1", "v", "Raw/v/1.mp4: ends at 1.500 s"),
        ("x", "x", None),
    ]
    assert list(reasons(pd.DataFrame(rows, columns=["key", "dialog", "reason"]))) == [
        "wav/<dialog>/<id>.wav: lasts 1.0 s",
        "<dialog>.mp4 not found",
        "<dialog>/<id>.mp4: ends at 1.500 s, the utterance at 11.000 s",
        "<id>.mp4: 2 packets could not be decoded",
        "Raw/<dialog>/1.mp4: ends at 1.500 s",
    ]


def test_long_tables_are_truncated_and_the_rest_is_summed() -> None:
    counts = {f"video{number}": 3293 - number for number in range(3293)}
    first = shortened(counts, "speakers")
    assert len(first) == SHOWN + 1
    assert first["and 3273 more speakers"] == sum(range(1, 3274))
    assert sum(first.values()) == sum(counts.values())
    assert shortened({"a": 1}, "speakers") == {"a": 1}
