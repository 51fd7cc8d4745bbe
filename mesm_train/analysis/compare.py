"""Systems beside each other: which of them may be, and whether they differ."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesm_data.errors import InputError
from mesm_train.analysis.run_records import METRICS, RunRecord, available_metrics
from mesm_train.analysis.systems import PairedRuns, System, paired_runs
from mesm_train.evaluation.score_values import mean_of
from mesm_train.evaluation.significance import Difference, holm, paired_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Systems that were compared.

    Attributes:
        systems: in their order; the first one is the reference of the tests.
        metrics: names of METRICS that all of them have.
        metric: the one that classes and tests are about.
        caveats: by system, why its numbers do not belong beside the first one's; empty for comparable ones.
        tests: by system (but the first): its difference from the first, and the p-value after Holm's correction.
    """

    systems: tuple[System, ...]
    metrics: tuple[str, ...]
    metric: str
    caveats: Mapping[str, tuple[str, ...]]
    tests: Mapping[str, tuple[Difference, float]]

    @property
    def first_run(self) -> RunRecord:
        """A run of the reference."""
        return self.systems[0].runs[0]

    def pairs(self, system: System) -> PairedRuns | None:
        """A tested system's runs beside those of the reference; None for the others."""
        return paired_runs(system, self.systems[0], self.metric) if system.name in self.tests else None


def compare(
    systems: Sequence[System], *, metric: str | None = None, allow_different: bool = False, resamples: int = 10_000
) -> Comparison:
    """Compare systems on the same test utterances.

    Args:
        systems: At least one; the others are tested against the first.
        metric: The one of METRICS that classes and tests are about; the first that the systems have by default.
        allow_different: Also take systems of another dataset, split or label view, or with other test utterances. They
            are not tested.
        resamples: Of the significance tests; 0 leaves the tests out.

    Raises:
        InputError: The systems do not belong beside each other, or lack the metric.
    """
    caveats = {system.name: tuple(_differences(systems[0], system)) for system in systems}
    different = [f"{name} has {' and '.join(sentences)}" for name, sentences in caveats.items() if sentences]
    if different and not allow_different:
        raise InputError(
            f"not comparable with {systems[0].name}: {'; '.join(different)}. --allow-different shows them all the same"
        )
    known = available_metrics([run for system in systems for run in system.runs])
    chosen = metric or next(iter(known), None)
    if chosen is None or chosen not in known:
        raise InputError(f"metric {chosen!r}: these runs have {', '.join(known) or 'none in common'}")
    tested = [system for system in systems[1:] if not caveats[system.name]] if resamples else []
    all_differences = {system.name: _test(systems[0], system, chosen, resamples) for system in tested}
    # Where the metric is not defined, as that of a class that nobody has, there is nothing to test.
    differences = {name: each for name, each in all_differences.items() if not math.isnan(each.value)}
    corrected = dict(zip(differences, holm([difference.p for difference in differences.values()]), strict=True))
    return Comparison(
        systems=tuple(systems),
        metrics=tuple(known),
        metric=chosen,
        caveats=caveats,
        tests={name: (difference, corrected[name]) for name, difference in differences.items()},
    )


def _differences(first: System, other: System) -> list[str]:
    """What keeps a system's numbers from standing beside those of the first."""
    one, two = first.runs[0].provenance, other.runs[0].provenance
    named = {
        "another dataset": one["dataset"]["root"] != two["dataset"]["root"],
        "another split": first.folds != other.folds,
        "another label view": one["labels"]["view"].split("+")[0] != two["labels"]["view"].split("+")[0],
    }
    differences = [what for what, differs in named.items() if differs]
    # A further label view leaves out the utterances that it does not ask about.
    return differences or ["other test utterances"] * (first.tested != other.tested)


def _test(first: System, other: System, metric: str, resamples: int) -> Difference:
    spec = METRICS[metric]
    (_, one), (_, two) = first.pooled(spec.table), other.pooled(spec.table)
    count = min(len(one), len(two))  # seeds; a pair each
    return paired_difference(one[:count], two[:count], spec, resamples=resamples)


def mean_baselines(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """Of the reference, the mean over its runs, which differ by fold."""
    runs = comparison.systems[0].runs
    tables = [{**run.scores["baselines"], **_multiclass_baselines(run)} for run in runs]
    means: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(name for table in tables for name in table):
        means[name] = {}
        for metric in dict.fromkeys(metric for table in tables for metric in table.get(name, {})):
            means[name][metric] = mean_of(table.get(name, {}).get(metric) for table in tables)
    return means


def _multiclass_baselines(run: RunRecord) -> dict[str, dict[str, float | None]]:
    """Majority and prior of the most probable class; the prior of the classes against the rest stays beside it."""
    exclusive = run.scores.get("multiclass")
    if not exclusive:
        return {}
    baselines = {name: _renamed(values) for name, values in exclusive["baselines"].items()}
    return {**baselines, "prior": {**run.scores["baselines"].get("prior", {}), **baselines.get("prior", {})}}


def _renamed(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {f"multiclass_{metric}": values.get(metric) for metric in ("accuracy", "balanced_accuracy")}
