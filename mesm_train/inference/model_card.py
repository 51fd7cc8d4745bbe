"""README.md of an exported model: what it is, learnt from what, how well it does, within which limits. Facts only."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mesm_data.splits.resolve import PARTS
from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.evaluation.metrics import Floats, f1_binary, mean_of_defined
from mesm_train.evaluation.number_scores import number_scores
from mesm_train.evaluation.significance import bootstrap_interval, confusion_columns
from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.evaluation.trivial_baselines import binary_baselines
from mesm_train.inference.predictor import Predictor
from mesm_train.training.prediction_table import read_numbers

KINDS = {
    "fe2e": "FE2E: dense convolutions over faces and spectrogram, a text encoder, late fusion",
    "mesm": "MESM: text-guided sparse convolutions over faces and spectrogram, a text encoder, late fusion",
    "lf-lstm": "LF-LSTM: an LSTM over the features of each modality, late fusion",
    "lf-transformer": "LF-Transformer: a transformer over the features of each modality, late fusion",
    "emo-embs": "EmoEmbs: states of LSTMs over features, compared with word vectors of the emotions",
    "mult": "MulT: transformers over features, in which each modality attends to the others",
}


def model_card(predictor: Predictor, run: Path | None) -> str:
    """The card, as Markdown with the metadata of the Hub. `run` holds the scores; None: there are none."""
    facts, synthetic = predictor.facts, bool(predictor.facts["dataset"].get("synthetic"))
    tags = ["mesm", "emotion-recognition", "multimodal", *(["synthetic-data"] if synthetic else [])]
    metadata = {"library_name": "mesm", "license": "other", "tags": tags}
    sections = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---",
        f"# {predictor.name}",
        _summary(predictor, synthetic),
        "## Use",
        _use(),
        "## Training data",
        _data(predictor, synthetic),
        "## Scores",
        _scores(predictor, run),
        "## Limits",
        _limits(predictor, synthetic),
        "## Licence",
        _licence(facts, synthetic),
        "## Provenance",
        _provenance(facts),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(predictor: Predictor, synthetic: bool) -> str:
    settings = predictor.model.settings
    millions = sum(parameter.numel() for parameter in predictor.model.parameters()) / 1e6
    reads = ", ".join(MODALITY_NAMES[m] for m in predictor.modalities)
    lines = [
        f"{KINDS.get(settings.kind, settings.kind)}. It reads {reads} of an utterance and has {millions:.2f} million "
        "parameters.",
        "| output | meaning | kind | threshold |\n|---|---|---|---|",
    ]
    kinds = [head.kind for head in predictor.spec.heads for _ in head.outputs]
    for name, kind, limit in zip(predictor.spec.outputs, kinds, predictor.calibration.thresholds, strict=True):
        threshold = f"{limit:.2f}" if kind == "binary" else "–"
        lines[1] += f"\n| {name} | {predictor.spec.meanings.get(name, name)} | {kind} | {threshold} |"
    for modality, features in predictor.spec.features.items():
        library = "".join(f", {name} {version}" for name, version in features["libraries"].items())
        lines.append(f"Features of {MODALITY_NAMES[modality]}: `{features['kind']}`{library}.")
    for section, description in predictor.encoders.items():
        lines.append(f"Pretrained encoder of {section}: `{description['config'].get('model_type')}`.")
    if synthetic:
        lines.insert(0, "**Trained on synthetic data: nothing that it predicts says anything about people.**")
    return "\n\n".join(lines)


def _use() -> str:
    return (
        "```python\nimport mesm_train\n\n"
        'mesm_train.load("FOLDER_OR_HUB_ID").predict("clip.mp4", text="What is said in it.")\n```'
    )


def _data(predictor: Predictor, synthetic: bool) -> str:
    facts = predictor.facts
    dataset, split = facts["dataset"], facts["split"]
    used, counts = predictor.spec.train["utterances"], split.get("counts", {})
    parts = ", ".join(f"{part} {counts[part]}" for part in PARTS if part in counts)
    leaks = {name: count for name, count in split.get("leaks", {}).items() if count}
    shared = (
        "Its parts share " + ", ".join(f"{count} {name}" for name, count in leaks.items())
        if leaks
        else "Its parts share no speaker, dialog or overlapping recording"
    )
    kind = "Synthetic data in the layout of " if synthetic else ""
    return (
        f"{kind}{dataset['corpus']}, split `{split['name']}` ({parts} utterances). Trained on the {used} utterances of "
        f"its train part that are inside the label view `{facts['labels']['view']}`. {shared}.\n\n"
        f"Dataset root `{dataset['root']}`, digest of the split `{split['digest']}`."
    )


def _scores(predictor: Predictor, run: Path | None) -> str:
    """Of the primary head on the test part: of classes F1 with bootstrap intervals over utterances."""
    head = predictor.spec.heads[0]
    if run is None or not (run / "predictions-test.parquet").exists():
        return "None: the run that this model comes from has not been tested."
    if head.kind == "number":
        return _numbers(run / "predictions-test.parquet", head.outputs)
    columns_of = ([f"{what}_{name}" for name in head.outputs] for what in ("logit", "label"))
    _, (logits, truth) = read_numbers(run / "predictions-test.parquet", *columns_of)
    best = np.eye(len(head.outputs), dtype=bool)[logits.argmax(axis=1)]
    limits = predictor.calibration.thresholds[: len(head.outputs)]
    predicted = best if head.kind == "multiclass" else apply_thresholds(logits, limits)
    columns = confusion_columns(predicted, truth > 0.5)
    lines = ["| class | F1 | 95 % interval | always yes | utterances |", "|---|---|---|---|---|"]
    for index, name in enumerate(head.outputs):
        support, confusion = int(truth[:, index].sum()), columns[:, index]
        low, high = bootstrap_interval(confusion, f1_binary)
        trivial = binary_baselines(support, len(truth))["always_yes"]["f1"]
        meaning, point = predictor.spec.meanings.get(name, name), float(f1_binary(confusion.sum(0)))
        lines.append(f"| {meaning} | {_score(point)} | {_interval(low, high)} | {_score(trivial)} | {support} |")
    low, high = bootstrap_interval(columns, _mean_f1)
    mean = float(_mean_f1(columns.sum(0)[None])[0])
    lines.append(f"| mean | {_score(mean)} | {_interval(low, high)} | | {len(truth)} |")
    grid = predictor.facts.get("config", {}).get("eval", {}).get("thresholds", ())
    chosen = "a threshold fixed before" if len(grid) == 1 else "thresholds chosen on the validation part"
    how = "the most probable class" if head.kind == "multiclass" else chosen
    return (
        "\n".join(lines) + f"\n\nTest part; {how}; percentile bootstrap over utterances, which does not count the "
        "spread over seeds."
    )


def _numbers(path: Path, names: Sequence[str]) -> str:
    """The scores of numbers, in the units of their labels, beside the best constant."""
    columns_of = ([f"{what}_{name}" for name in names] for what in ("prediction", "target"))
    _, (predicted, targets) = read_numbers(path, *columns_of)
    lines = ["| number | CCC | Pearson's r | MAE | MAE of always the median |", "|---|---|---|---|---|"]
    for name, of in number_scores(predicted, targets, names)["numbers"].items():
        values = (of["ccc"], of["pearson"], of["mae"], of["baselines"]["median"]["mae"])
        lines.append(f"| {name} | {' | '.join(_score(math.nan if x is None else x) for x in values)} |")
    return "\n".join(lines) + f"\n\nTest part, {len(targets)} utterances; errors in the units of the labels."


def _mean_f1(counts: Floats) -> Floats:
    """Confusion matrices (r, classes, 2, 2) to the mean F1 over the classes that are there, (r,)."""
    return mean_of_defined(f1_binary(counts))


def _score(value: float) -> str:
    """Of a class that no utterance has, a dash."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def _interval(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"


def _limits(predictor: Predictor, synthetic: bool) -> str:
    recipe, train = predictor.spec.recipe, predictor.spec.train
    missing = ", ".join(
        f"{train['missing'][m]} of {train['utterances']} without {MODALITY_NAMES[m]}" for m in predictor.modalities
    )
    lines = [
        f"It has learnt from utterances of {predictor.spec.corpus} alone: other languages, ages, cameras and "
        "situations are outside of what was measured.",
        "Perceived emotion is what raters named; it is no measurement of what a person feels. It must not be the basis "
        "of decisions about people.",
        f"A face crop every {recipe['frame_interval']} s, {recipe['face_size']} pixels, by {recipe['face_detector']}; "
        f"sound of {recipe['sample_rate']} Hz. Missing in training: {missing}.",
    ]
    if synthetic:
        lines.insert(0, "Trained on synthetic data.")
    return "\n".join(f"* {line}" for line in lines)


def _licence(facts: Mapping[str, Any], synthetic: bool) -> str:
    if synthetic:
        return "The training data are synthetic (`mesm-data sample`): the terms of the corpus do not apply."
    licence = facts["dataset"].get("licence", {})
    terms = " ".join(str(licence[name]) for name in ("name", "terms") if licence.get(name)) or "none are stated"
    terms += "" if terms.endswith(".") else "."
    issuer = f" of {licence['issuer']}" if licence.get("issuer") else ""
    return (
        f"The weights were learnt from data under these terms{issuer}: {terms} Whether weights may be passed on is "
        "for whoever holds that licence to say."
    )


def _provenance(facts: Mapping[str, Any]) -> str:
    code, text = facts.get("code", {}), facts.get("text", {})
    rows = {
        "mesm": f"{code.get('version')}, commit {code.get('commit')}"
        + (" with changes" if code.get("modified") else ""),
        "seed": facts.get("seed"),
        "text encoder": text.get("encoder"),
        "torch": facts.get("environment", {}).get("torch"),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value is not None)
    return f"| | |\n|---|---|\n{table}\n\nconfig.json holds all settings and the whole provenance."
