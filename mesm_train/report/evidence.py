"""What a report shows beside a run's own files: facts and media of utterances, and the model's own view of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from mesm_data.pages.media import face_strip, png_uri, sound_uri
from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.report.predictions import Predictions
from mesm_train.report.record import Record, value_titles
from mesm_train.report.scores import UtteranceFacts
from mesm_train.report.site_selection import (
    SHOWN,
    Prediction,
    Strip,
    fusion_weights,
    predict_with_sites,
)

if TYPE_CHECKING:
    from mesm_train.training.setup import Setup

MISTAKES = 6
SECONDS_OF_SOUND = 20.0  # of an utterance that are put on the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """Of one utterance, as addresses that hold them; None where it has none."""

    faces: str | None
    sound: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Empty where there is no dataset or, for `media` and `inputs`, where they are not to be shown."""

    titles: Mapping[str, str] = field(default_factory=dict)  # values of labels, spelled out
    facts: Mapping[str, UtteranceFacts] = field(default_factory=dict)  # by key, of the test part
    media: Mapping[str, Media] = field(default_factory=dict)  # by key, of `worst` and `inputs`
    predictions: Mapping[str, Prediction] = field(default_factory=dict)  # by key, of `worst` and `inputs`
    inputs: Sequence[str] = ()  # the keys whose faces, spectrogram and kept sites are shown
    fusion: Mapping[str, float] = field(default_factory=dict)


def worst_predictions(predictions: Predictions, count: int = MISTAKES) -> list[int]:
    """The rows with the highest cross-entropy, of those that the model gets wrong; of equals the first by key."""
    losses = predictions.losses
    rows = np.flatnonzero(predictions.wrong).tolist()
    return sorted(rows, key=lambda row: (-losses[row], predictions.keys[row]))[:count]


def collect_evidence(setup: "Setup", record: Record, inputs: Sequence[str], *, media: bool) -> Evidence:
    """Read from the dataset, and predict, what the report of `record` shows.

    Args:
        setup: the run, with the weights of its best epoch.
        record: the files of the run's folder.
        inputs: keys whose faces, spectrogram and kept sites are shown.
        media: whether pictures, sound and transcripts may be shown.
    """
    predictions = record.predictions
    known = [key for key in predictions.keys if key in setup.dataset.rows] if predictions else []
    worst = [predictions.keys[row] for row in worst_predictions(predictions)] if predictions else []
    keys = list(dict.fromkeys([*(inputs if media else ()), *(key for key in worst if key in setup.loader.targets)]))
    views = predict_with_sites(setup.model.eval(), setup.loader.batch(keys), frame_interval=setup.frame_interval)
    return Evidence(
        titles=value_titles(setup.dataset.schema),
        facts={key: utterance_facts(setup.dataset.rows[key], setup.dataset.info) for key in known},
        media={key: utterance_media(setup.dataset[key]) for key in keys} if media else {},
        predictions={one.key: one for one in views},
        inputs=tuple(inputs) if media else (),
        fusion=fusion_weights(setup.model),
    )


def utterance_facts(row: Mapping[str, Any], info: Mapping[str, Any]) -> UtteranceFacts:
    """Facts of a row of the manifest; `info`: dataset.json."""
    return UtteranceFacts(
        speaker=row["speaker"] or "not known",
        seconds=(row["n_samples"] or 0) / info["recipe"]["sample_rate"],
        faces=row["n_faces"] or 0,
        detected=row["n_detected"] or 0,
    )


def utterance_media(sample: Any) -> Media:
    """Faces, sound and transcript of a sample of a dataset, or of anything with the same attributes."""
    most = round(SECONDS_OF_SOUND * sample.sample_rate)
    sound = sound_uri(sample.samples[:most], sample.sample_rate)
    return Media(faces=face_strip(sample.faces), sound=sound, text=sample.text.strip())


def mistakes_section(record: Record, evidence: Evidence) -> list[dict[str, Any]]:
    """The worst predictions of the test part, each with its bars by class."""
    predictions = record.predictions
    if predictions is None:
        return []
    titles, probabilities, losses = record.titles, predictions.probabilities, predictions.losses
    entries = []
    for row in worst_predictions(predictions):
        key = predictions.keys[row]
        bars: list[dict[str, Any]] = [
            {"title": title, "probability": float(probability), "true": bool(true), "yes": bool(yes)}
            for title, probability, true, yes in zip(
                titles, probabilities[row], predictions.targets[row], predictions.answers[row], strict=True
            )
        ]
        true = [bar["title"] for bar in bars if bar["true"]]
        best = titles[int(predictions.most_probable[row])]
        predicted = [best] if predictions.exclusive else [bar["title"] for bar in bars if bar["yes"]]
        one = evidence.predictions.get(key)
        entries.append(
            {
                "key": key,
                "loss": float(losses[row]),
                "true": ", ".join(true) or "none of the classes",
                "predicted": ", ".join(predicted) or "none of the classes",
                "bars": bars,
                "facts": evidence.facts.get(key),
                "media": evidence.media.get(key),
                "deciding": deciding_modality(one, evidence.fusion, titles.index(best)) if one else None,
            }
        )
    return entries


def deciding_modality(one: Prediction, fusion: Mapping[str, float], index: int) -> str | None:
    """The modality that adds most to the fused logit of class `index`; None if there is one modality only."""
    added = {m: fusion.get(m, 1.0) * logits[index] for m, logits in one.branches.items()}
    return MODALITY_NAMES[max(added, key=lambda m: added[m])] if len(added) > 1 else None


def inputs_section(record: Record, evidence: Evidence) -> list[dict[str, Any]]:
    """What the model reads of some utterances, with their logits by modality."""
    return [
        prediction_view(evidence.predictions[key], evidence.media[key], record, evidence.fusion)
        for key in evidence.inputs
    ]


def prediction_view(one: Prediction, media: Media, record: Record, fusion: Mapping[str, float]) -> dict[str, Any]:
    """Strips and logits of one prediction, for the templates.

    Probabilities are those of a primary view of yes/no questions; numbers are in the units of their labels.
    """
    names, thresholds = list(record.classes), list(record.thresholds.get("thresholds", ()))
    if len(names) != len(one.logits):  # nothing names them, or files of another run do
        names = [f"class {number}" for number in range(1, len(one.logits) + 1)]
    binary = record.task == "binary" and len(thresholds) == len(names) and set(record.primary_classes) <= set(names)
    numbers, scales = record.number_outputs, [record.thresholds.get(name, ()) for name in ("scale", "offset")]
    rows = []
    for n, (name, logit, target) in enumerate(zip(names, one.logits, one.targets, strict=True)):
        is_question, is_number = binary and n < len(record.primary_classes), name in numbers
        answer = None
        if is_number and all(len(values) == len(names) for values in scales):
            answer = f"{logit * scales[0][n] + scales[1][n]:.6g}"
        elif is_question:
            answer = yes_or_no(bool(apply_thresholds(logit, thresholds[n])))
        rows.append(
            {
                "title": record.known_titles.get(name, name),
                "branches": [one.branches[m][n] if m in one.branches else None for m in one.amounts],
                "logit": logit,
                "probability": float(1 / (1 + np.exp(-logit))) if is_question else None,
                "threshold": thresholds[n] if is_question else None,
                "answer": answer,
                "true": f"{target:.6g}" if is_number else yes_or_no(target > 0.5),
            }
        )
    return {
        "key": one.key,
        "media": media,
        "absent": [MODALITY_NAMES[m] for m, amount in one.amounts.items() if not amount],
        "strips": [strip_view(strip) for strip in one.strips],
        "modalities": [{"title": MODALITY_NAMES[m].capitalize(), "weight": fusion.get(m)} for m in one.amounts],
        "rows": rows,
    }


def yes_or_no(holds: bool) -> str:
    """In words."""
    return "yes" if holds else "no"


def strip_view(strip: Strip, seconds: float = SHOWN) -> dict[str, Any]:
    """One strip for the templates; `seconds` are as wide as the page."""
    return {
        "modality": strip.modality, "title": strip.title, "note": strip.note, "count": strip.count,
        "width": 100 * strip.seconds / seconds, "uri": png_uri(strip.pixels),
    }  # fmt: skip
