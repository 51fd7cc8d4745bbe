"""One self-contained page about some predictions: players, importance by occlusion, kept sites."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesm_data.pages.media import face_strip, png_uri, sound_uri, spectrogram, waveform
from mesm_data.pages.page import render
from mesm_data.storage.files import atomic_write
from mesm_data.storage.progress import Step, no_step
from mesm_data.storage.safe_text import valid_unicode
from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.explain.contents import Subject
from mesm_train.explain.occlusion import Part, count_passes, occlude
from mesm_train.explain.untrained import untrained_model
from mesm_train.inference.predictor import Predictor
from mesm_train.inference.result import Prediction
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.fe2e_mesm import Model
from mesm_train.report.evidence import strip_view
from mesm_train.report.site_selection import Strip, fusion_weights, predict_with_sites

MAX_SITES = 8.0  # seconds of an utterance whose kept sites are drawn
PLACES = 4  # decimals of an effect on the page


def write_explanation(
    predictor: Predictor,
    subjects: Sequence[Subject],
    out: Path,
    *,
    step: Step = no_step,
) -> Path:
    """Explain `subjects` on the page `out`; `step` is called with a number of forward passes that are done."""
    with atomic_write(out) as file:
        file.write(valid_unicode(render_explanation(predictor, subjects, step=step)).encode())
    return out


def count_all_passes(predictor: Predictor, subjects: Sequence[Subject]) -> int:
    """How many forward passes `write_explanation` reports."""
    return sum(count_passes(predictor, subject.content) for subject in subjects)


def render_explanation(
    predictor: Predictor,
    subjects: Sequence[Subject],
    *,
    step: Step = no_step,
    heading: bool = True,
    timeline: str | None = None,
) -> str:
    """The page about `subjects`.

    Args:
        predictor: the trained model.
        subjects: the utterances.
        step: called with a number of forward passes that are done.
        heading: with the name of the model.
        timeline: a figure of the outputs over time, as SVG.
    """
    dataset: Mapping[str, Any] = predictor.facts.get("dataset", {})
    settings, untrained = predictor.model.settings, untrained_model(predictor)
    return render(
        "mesm_train.explain",
        "explain.html",
        script=True,
        name=predictor.name,
        heading=heading,
        timeline=timeline,
        kind=settings.kind,
        sparse=settings.sparse,
        trained_on=predictor.trained_on,
        from_corpus=any(subject.true for subject in subjects),
        synthetic=bool(dataset.get("synthetic")),
        licence=dataset.get("licence", {}),
        names=[predictor.spec.meanings.get(name, name) for name in predictor.spec.outputs],
        seed=predictor.facts["seed"],
        subjects=[explain(predictor, subject, untrained, step=step) for subject in subjects],
    )


def explain(predictor: Predictor, subject: Subject, untrained: Model | None, *, step: Step = no_step) -> dict[str, Any]:
    """What the template `utterance.html` shows of one utterance. `untrained`: see `untrained_model`."""
    content = subject.content
    prediction = predictor.predict_inputs([content])[0]
    parts = occlude(predictor, content, step=step)
    outputs = list(prediction.values)
    seconds = max(len(content.samples) / content.sample_rate, len(content.faces) * content.frame_interval, 0.01)
    strips: Sequence[Strip] = ()
    strips_before: Sequence[Strip] = ()
    if untrained is not None:
        strips, strips_before = (_strips(predictor, model, subject) for model in (predictor.model, untrained))
    drawn_seconds = min(MAX_SITES, max((strip.seconds for strip in strips), default=MAX_SITES))
    sound = len(content.samples) > 0
    return {
        "title": subject.title,
        "seconds": seconds,
        "notes": [*prediction.notes, *(f"No {name}: {reason}." for name, reason in prediction.missing.items())],
        "selected": outputs.index(prediction.best) if prediction.best else 0,
        "rows": [_output_row(prediction, name, subject.true) for name in outputs],
        "branches": _branches(predictor, prediction),
        "modalities": [_effect(part) for part in parts if part.kind == "modality"],
        "words": _words(content.text, parts),
        "faces": _faces(subject, parts, seconds),
        "stretches": [_placed(part, seconds) for part in parts if part.kind == "sound"],
        "sound": sound_uri(content.samples, content.sample_rate),
        "spectrogram": png_uri(spectrogram(content.samples, content.sample_rate)) if sound else None,
        "waveform": waveform(content.samples),
        "sound_width": 100 * len(content.samples) / content.sample_rate / seconds,
        "strips": [strip_view(strip, drawn_seconds) for strip in strips],
        "strips_before": [strip_view(strip, drawn_seconds) for strip in strips_before],
        "strip_seconds": drawn_seconds,
    }


def _strips(predictor: Predictor, model: AnyModel, subject: Subject) -> Sequence[Strip]:
    """The beginning of an utterance, and what each sparse block of `model` keeps of it."""
    content = subject.content
    [prediction] = predict_with_sites(
        model, predictor.batch([content]), frame_interval=content.frame_interval, seconds=MAX_SITES
    )
    return prediction.strips


def _output_row(prediction: Prediction, name: str, true: Mapping[str, bool]) -> dict[str, Any]:
    is_class = any(name in head.outputs and head.kind != "number" for head in prediction.heads)
    return {
        "title": prediction.meaning(name), "value": prediction.values[name], "is_class": is_class,
        "threshold": prediction.thresholds.get(name), "predicted": name in prediction.labels, "true": true.get(name),
    }  # fmt: skip


def _branches(predictor: Predictor, prediction: Prediction) -> list[dict[str, Any]]:
    """The logits of each modality that the utterance has, and the modality's weight in the fusion."""
    weights, branches = fusion_weights(predictor.model), prediction.branches
    return [
        {"title": name.capitalize(), "weight": weights.get(modality), "logits": list(branches[name].values())}
        for modality, name in MODALITY_NAMES.items()
        if name in branches
    ]


def _effect(part: Part) -> dict[str, Any]:
    effect = [round(value, PLACES) for value in part.effect]
    return {"name": part.name, "effect": effect, "start": part.start, "end": part.end}


def _placed(part: Part, seconds: float) -> dict[str, Any]:
    """With its place on the axis of time, in percent."""
    start, end = part.start or 0.0, min(part.end or seconds, seconds)
    return {**_effect(part), "left": 100 * start / seconds, "width": 100 * max(end - start, 0) / seconds}


def _words(text: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
    """All words of the text; those that were left out in turn have an effect."""
    effects = {part.index: _effect(part) for part in parts if part.kind == "word"}
    unknown = {"effect": None, "start": None, "end": None}
    return [effects.get(index, {"name": word, **unknown}) for index, word in enumerate(text.split())]


def _faces(subject: Subject, parts: Sequence[Part], seconds: float) -> list[dict[str, Any]]:
    """The faces with their effects; a single face, whose effect is that of the modality, has none of its own."""
    content = subject.content
    faces = [part for part in parts if part.kind == "face"]
    if not faces and len(content.faces):
        whole = Part(kind="face", name="", start=0.0, end=content.frame_interval, index=0, effect=())
        return [{**_placed(whole, seconds), "effect": None, "uri": face_strip(content.faces[:1])}]
    return [{**_placed(part, seconds), "uri": face_strip(content.faces[part.index : part.index + 1])} for part in faces]
