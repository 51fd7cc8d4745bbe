"""Finished runs as comparisons read them: settings, results, and what each test utterance adds to the metrics."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.errors import InputError, MesmError
from mesm_data.storage.json_shapes import MapOf, read_checked_json
from mesm_train.evaluation import metrics
from mesm_train.evaluation.metrics import Floats
from mesm_train.evaluation.significance import confusion_columns
from mesm_train.evaluation.thresholds import apply_thresholds
from mesm_train.training.evaluation import Calibration
from mesm_train.training.prediction_table import read_numbers
from mesm_train.training.run_files import OPERATIONS, PROVENANCE, THRESHOLDS, check_scores

RESULTS = {
    "schema": str,
    "name": str,
    "model": {"kind": str, "modalities": [str], "parameters": int, "trainable_parameters": int},
    "seed": int,
    "training": {"best_epoch": int, "seconds": (int, float)},
    "scores": MapOf({"task": str, "n": int}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of a comparison.

    Attributes:
        title: the head of its column.
        formula: in words, for the sentence below the table.
        table: the columns of a RunRecord that it is computed from.
        by_output: from their sums (r, *shape) to one value per class or number, (r, outputs), or to (r, 1).
        lower_is_better: of an error.
    """

    title: str
    formula: str
    table: str
    by_output: Callable[[Floats], Floats]
    lower_is_better: bool = False

    def __call__(self, sums: Floats) -> Floats:
        """The mean over the outputs that it is defined for, (r,)."""
        return metrics.mean_of_defined(self.by_output(sums))


METRICS: dict[str, Metric] = {
    "f1": Metric(
        title="F1", formula="2tp / (2tp + fp + fn), the mean of the classes", table="classes",
        by_output=metrics.f1_binary,
    ),
    "accuracy": Metric(
        title="(tp+tn)/n", formula="accuracy of each class against the rest, the mean of the classes", table="classes",
        by_output=metrics.accuracy,
    ),
    "balanced_accuracy": Metric(
        title="(TPR+TNR)/2", formula="balanced accuracy, called weighted accuracy in papers on CMU-MOSEI, the mean of "
        "the classes", table="classes", by_output=metrics.balanced_accuracy,
    ),
    "multiclass_accuracy": Metric(
        title="correct/n", formula="accuracy of the most probable class, called WA in speech emotion recognition",
        table="exclusive", by_output=lambda sums: metrics.accuracy(sums)[:, None],
    ),
    "multiclass_balanced_accuracy": Metric(
        title="mean recall", formula="mean recall of the most probable class, called UA in speech emotion recognition",
        table="exclusive", by_output=lambda sums: metrics.balanced_accuracy(sums)[:, None],
    ),
    "ccc": Metric(title="CCC", formula="concordance correlation", table="numbers", by_output=metrics.ccc),
    "pearson": Metric(title="r", formula="Pearson's correlation", table="numbers", by_output=metrics.pearson),
    "mae": Metric(
        title="MAE", formula="mean absolute error", table="numbers", by_output=metrics.mae, lower_is_better=True,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A finished run. `variant` names what an ablation changed, "" without one."""

    path: Path
    results: Mapping[str, Any]
    provenance: Mapping[str, Any]
    variant: str = ""

    @classmethod
    def read(cls, path: Path, variant: str = "") -> "RunRecord":
        """The run in a folder. Raises InputError if it is none, MesmError if it has not ended."""
        if not (path / "provenance.json").exists():
            raise InputError(f"{path} holds no provenance.json, so it is not a run of `mesm-train run`")
        provenance = read_checked_json(path / "provenance.json", PROVENANCE)
        if not (path / "results.json").exists():
            raise MesmError(f"{path} has no results.json yet: `mesm-train run --resume` brings the run to its end")
        results = read_checked_json(path / "results.json", RESULTS)
        for part, scores in results["scores"].items():
            try:
                check_scores(part, scores)
            except ValueError as error:
                raise InputError(f"{path / 'results.json'} is damaged, or not of mesm: {error}") from None
        return cls(path=path, results=results, provenance=provenance, variant=variant)

    @property
    def fold(self) -> str:
        """The name of its split."""
        return str(self.provenance["split"]["name"])

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return int(self.results["seed"])

    @property
    def kind(self) -> str:
        """The kind of the primary head: binary, multiclass or number."""
        return str(self.scores["task"])

    @property
    def scores(self) -> Mapping[str, Any]:
        """The scores of the test part. Raises MesmError if it was not scored."""
        scores: Mapping[str, Any] | None = self.results["scores"].get("test")
        if scores is None:
            raise MesmError(f"{self.path} was trained with eval.test=false: it has no scores of the test part")
        return scores

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes or numbers of the primary view, in the order of the logits: results.json has its keys sorted."""
        names = tuple(self.scores["numbers" if self.kind == "number" else "classes"])
        ordered = tuple(self.provenance["labels"]["classes"][: len(names)])
        if sorted(ordered) != sorted(names):
            raise MesmError(f"{self.path / 'results.json'} is damaged: it has other classes than provenance.json")
        return ordered

    @property
    def settings_key(self) -> str:
        """What runs of one system have in common: all settings but the seed, the split and what changes no number."""
        free = {"name", "seed", "split", "data", "device", "checkpoint_seconds", "keep_best", "report", "ranks"}
        settings = {name: value for name, value in self.provenance["config"].items() if name not in free}
        return json.dumps(settings, sort_keys=True)

    @property
    def mega_macs(self) -> float | None:
        """Million multiply-adds of a forward pass on the utterances that the run's report states; None if unknown."""
        path = self.path / "operations.json"
        models = read_checked_json(path, OPERATIONS)["models"] if path.exists() else {}
        kind = self.results["model"]["kind"]
        return sum(models[kind].values()) / 1e6 if kind in models else None

    @cached_property
    def predictions(self) -> tuple[tuple[str, ...], dict[str, Floats]]:
        """The keys of the test utterances, sorted, and what each adds to the sums of the METRICS, by their table.

        classes (n, classes, 2, 2), exclusive (n, classes, classes) if the view gives each utterance one class, or
        numbers (n, numbers, 7). Raises InputError or MesmError if the run's files are damaged.
        """
        names = self.outputs
        kinds = ("prediction", "target") if self.kind == "number" else ("logit", "label")
        columns_of = ([f"{kind}_{name}" for name in names] for kind in kinds)
        unsorted, numbers = read_numbers(self.path / "predictions-test.parquet", *columns_of)
        order = np.argsort(np.array(unsorted))
        keys = tuple(unsorted[row] for row in order)
        predictions, targets = (values[order] for values in numbers)
        if self.kind == "number":
            return keys, {"numbers": metrics.moments(predictions, targets)}
        logits, truth = predictions, targets > 0
        calibration = Calibration.read(read_checked_json(self.path / "thresholds.json", THRESHOLDS))
        if not len(calibration.thresholds) == len(calibration.pos_weight) >= len(names):
            raise MesmError(f"{self.path / 'thresholds.json'} is damaged: it has other classes than results.json")
        own = slice(0, len(names))
        best = np.eye(len(names), dtype=bool)[(logits - np.log(calibration.pos_weight[own])).argmax(axis=1)]
        predicted = best if self.kind == "multiclass" else apply_thresholds(logits, calibration.thresholds[own])
        columns = {"classes": confusion_columns(predicted, truth)}
        if "multiclass" in self.scores:
            columns["exclusive"] = truth[:, :, None].astype(np.float64) * best[:, None, :]
        return keys, columns

    def value(self, metric: str) -> float | None:
        """A metric on the test part; None where it is not defined."""
        return _first(METRICS[metric](self._sums(metric)))

    def by_output(self, metric: str) -> list[float | None]:
        """Of each class or number."""
        return [_first(value[None]) for value in METRICS[metric].by_output(self._sums(metric))[0]]

    def _sums(self, metric: str) -> Floats:
        return np.asarray(self.predictions[1][METRICS[metric].table].sum(axis=0)[None])


def _first(values: Floats) -> float | None:
    return None if np.isnan(values[0]) else float(values[0])


def available_metrics(records: Sequence[RunRecord]) -> list[str]:
    """The METRICS that all runs have."""
    tables = [set(record.predictions[1]) for record in records]
    return [name for name, metric in METRICS.items() if all(metric.table in of for of in tables)]
