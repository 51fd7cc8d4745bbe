"""README.md of an exported model: what it is, learnt from what, how well it does, within which limits. Facts only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_train.inference.predictor import Predictor
from mesm_train.inference.result import MODALITIES

RESAMPLES, SEED = 2000, 0
KINDS = {
    "fe2e": "FE2E: dense convolutions over faces and spectrogram, a text encoder, late fusion",
    "mesm": "MESM: text-guided sparse convolutions over faces and spectrogram, a text encoder, late fusion",
}


def model_card(predictor: Predictor, run: Path | None) -> str:
    """The card, as Markdown with the metadata of the Hub. `run` holds the scores; None: there are none."""
    import yaml

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
        _data(facts, synthetic),
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
    reads = ", ".join(MODALITIES[m] for m in predictor.modalities)
    lines = [
        f"{KINDS.get(settings.kind, settings.kind)}. It reads {reads} of an utterance and has {millions:.2f} million "
        "parameters.",
        "| output | meaning | kind | threshold |\n|---|---|---|---|",
    ]
    kinds = [head.kind for head in predictor.spec.heads for _ in head.outputs]
    lines[1] += "".join(
        f"\n| {name} | {predictor.spec.meanings.get(name, name)} | {kind} | {limit:.2f} |"
        for name, kind, limit in zip(predictor.spec.outputs, kinds, predictor.calibration.thresholds, strict=True)
    )
    if synthetic:
        lines.insert(0, "**Trained on synthetic data: nothing that it predicts says anything about people.**")
    return "\n\n".join(lines)


def _use() -> str:
    return (
        "```python\nimport mesm_train\n\n"
        'mesm_train.load("FOLDER_OR_HUB_ID").predict("clip.mp4", text="What is said in it.")\n```'
    )


def _data(facts: Mapping[str, Any], synthetic: bool) -> str:
    dataset, split = facts["dataset"], facts["split"]
    counts = ", ".join(f"{count} {part}" for part, count in split.get("counts", {}).items())
    leaks = {name: count for name, count in split.get("leaks", {}).items() if count}
    shared = (
        "Train and test parts share " + ", ".join(f"{count} {name}" for name, count in leaks.items())
        if leaks
        else "Train and test parts share no speaker, dialog or overlapping recording"
    )
    kind = "Synthetic data in the layout of " if synthetic else ""
    return (
        f"{kind}{dataset['corpus']}, label view `{facts['labels']['view']}`, split `{split['name']}` ({counts} "
        f"utterances). {shared}.\n\nDataset root `{dataset['root']}`, digest of the split `{split['digest']}`."
    )


def _scores(predictor: Predictor, run: Path | None) -> str:
    """The test scores of the run with bootstrap intervals over utterances."""
    if predictor.spec.heads[0].kind != "binary" or run is None or not (run / "predictions-test.parquet").exists():
        return "None: the run that this model comes from has not been tested."
    import pyarrow.parquet as pq

    table = pq.read_table(run / "predictions-test.parquet")
    logits = np.column_stack([table[f"logit_{name}"].to_numpy() for name in predictor.spec.heads[0].outputs])
    truth = np.column_stack([table[f"label_{name}"].to_numpy() for name in predictor.spec.heads[0].outputs]) > 0.5
    limits = np.asarray(predictor.calibration.thresholds[: truth.shape[1]])
    answers = logits >= np.log(limits / (1 - limits))
    rows = np.random.default_rng(SEED).integers(0, len(truth), (RESAMPLES, len(truth)))
    lines = ["| class | F1 | 95 % interval | always yes | utterances |", "|---|---|---|---|---|"]
    samples = np.stack([f1(answers[chosen], truth[chosen]) for chosen in rows])
    for index, name in enumerate(predictor.spec.heads[0].outputs):
        point, support = f1(answers, truth)[index], int(truth[:, index].sum())
        trivial = 2 * support / (support + len(truth)) if support else float("nan")
        low, high = np.nanquantile(samples[:, index], (0.025, 0.975)) if support else (float("nan"),) * 2
        meaning = predictor.spec.meanings.get(name, name)
        lines.append(f"| {meaning} | {point:.3f} | {low:.3f} to {high:.3f} | {trivial:.3f} | {support} |")
    means = np.nanmean(samples, axis=1)
    low, high = np.nanquantile(means, (0.025, 0.975))
    lines.append(f"| mean | {np.nanmean(f1(answers, truth)):.3f} | {low:.3f} to {high:.3f} | | {len(truth)} |")
    return (
        "\n".join(lines) + f"\n\nTest part; thresholds chosen on the validation part; percentile bootstrap over "
        f"utterances ({RESAMPLES} resamples), which does not count the spread over seeds."
    )


def f1(answers: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F1 of each class, (classes,); not a number where a class is never true."""
    hits = (answers & truth).sum(0)
    total = answers.sum(0) + truth.sum(0)
    return np.where(truth.any(0), 2 * hits / np.maximum(total, 1), np.nan)


def _limits(predictor: Predictor, synthetic: bool) -> str:
    recipe, train = predictor.spec.recipe, predictor.spec.train
    missing = ", ".join(
        f"{train['missing'][m]} of {train['utterances']} without {MODALITIES[m]}" for m in predictor.modalities
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
