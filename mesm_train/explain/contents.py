"""The utterances that are explained: of the run's dataset by key, the worst mistakes, or any clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import InputError
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RunConfig
from mesm_train.data.labels import Heads, one_key_per_output, resolve_heads
from mesm_train.inference.clips import Clip, ClipInput, of_sample
from mesm_train.inference.predictor import Predictor
from mesm_train.inference.result import Failure
from mesm_train.report.evidence import worst_predictions
from mesm_train.report.record import read_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An utterance to explain. `true`: by output of the primary view; empty for clips, whose labels are not known."""

    title: str
    content: ClipInput
    true: Mapping[str, bool]


def dataset_subjects(run: Path, keys: Sequence[str], *, data: str | None = None) -> list[Subject]:
    """Utterances of the run's dataset, or of another one in `data`.

    Raises InputError if the dataset is not there, or a key is not in it.
    """
    config, dataset, heads = _open(run, data)
    interval, undetected = float(dataset.info["recipe"]["frame_interval"]), config.loader.undetected
    subjects = []
    for key in keys:
        try:
            sample = dataset[key]
        except KeyError as error:
            raise InputError(f"--keys {key}: there is no such utterance in {dataset.path} ({error.args[0]})") from None
        target = heads.target(dataset.rows[key]["labels"])
        primary = heads.primary
        true = (
            {}
            if target is None or primary.kind == "number"
            else {name: bool(value > 0.5) for name, value in zip(primary.outputs, target[primary.columns], strict=True)}
        )
        subjects.append(Subject(title=key, content=of_sample(sample, interval, undetected), true=true))
    return subjects


def clip_subjects(predictor: Predictor, clips: Sequence[Clip]) -> list[Subject]:
    """Media files, whatever they lack. Raises MesmError if one cannot be decoded, or holds nothing that is read."""
    subjects = []
    for answer in predictor.predict_clips(clips, allow_missing=True, keep_input=True):
        if isinstance(answer, Failure):
            raise InputError(answer.reason)
        assert answer.input is not None  # keep_input
        subjects.append(Subject(title=answer.input.key, content=answer.input, true={}))
    return subjects


def default_keys(run: Path, part: str, *, data: str | None = None) -> list[str]:
    """One utterance of each class of a part of the split: the first by key that has all modalities if there is one."""
    config, dataset, heads = _open(run, data)
    members = dataset.split(config.split).parts.get(part, ())
    targets = {key: heads.target(dataset.rows[key]["labels"]) for key in members if dataset.rows[key]["status"] == "ok"}
    known = {key: target for key, target in sorted(targets.items()) if target is not None}
    if not known:
        raise InputError(f"split {config.split} has no utterance in its part {part!r} that {dataset.path} holds")
    return one_key_per_output(known, dataset, len(heads.primary.outputs))


def worst_keys(run: Path, count: int) -> list[str]:
    """The keys of the worst mistakes on test. Raises InputError if the run has not been tested on classes."""
    predictions = read_record(run).predictions
    if predictions is None:
        raise InputError(f"{run} has no predictions of classes on its test part: give --keys, or a clip")
    return [predictions.keys[row] for row in worst_predictions(predictions, count)]


def _open(run: Path, data: str | None) -> tuple[RunConfig, Dataset, Heads]:
    if not (run / "config.yaml").exists():
        raise InputError(f"{run} holds no config.yaml, so it is not a run of `mesm-train run`")
    config = load_recipe(str(run / "config.yaml"))
    place = data or config.data
    if place is None:
        raise InputError(f"{run} does not say where its dataset is: give --data, or a clip")
    dataset = open_dataset(place)
    return config, dataset, resolve_heads(dataset.schema, config.labels, config.loss)
