"""Systems: the runs of one model and its settings, over folds and seeds, and what they came to together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from mesm_data.errors import InputError
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.analysis.run_records import METRICS, RunRecord
from mesm_train.evaluation.metrics import Floats

CV = {"protocol": str, "runs": [{"variant": str, "fold": str, "seed": int, "path": str}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric of a system, None where it is not defined.

    Attributes:
        mean: over all runs (the averaged score).
        sd: over all runs; sd_folds: of the folds' means; sd_seeds: of the seeds' means. None for a single one.
        pooled: on the predictions of all folds together, the mean over the seeds; pooled_sd: over the seeds.
    """

    mean: float | None
    sd: float | None
    sd_folds: float | None
    sd_seeds: float | None
    pooled: float | None
    pooled_sd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Runs that differ in fold and seed alone."""

    name: str
    runs: tuple[RunRecord, ...]

    @property
    def folds(self) -> tuple[str, ...]:
        """The digests of its splits, sorted."""
        return tuple(sorted({str(run.provenance["split"]["digest"]) for run in self.runs}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its seeds, sorted."""
        return tuple(sorted({run.seed for run in self.runs}))

    @property
    def tested(self) -> frozenset[str]:
        """The keys of the utterances that its runs are tested on."""
        return frozenset(key for run in self.runs for key in run.predictions[0])

    def pooled(self, table: str) -> tuple[list[str], list[Floats]]:
        """The test utterances of all folds, sorted, and for each seed what they add to a table of the METRICS.

        Raises InputError if an utterance is tested in two folds, or a seed lacks a fold.
        """
        all_keys, by_seed = list[str](), list[Floats]()
        for seed in self.seeds:
            parts = [run.predictions for run in self.runs if run.seed == seed]
            keys = np.array([key for names, _ in parts for key in names])
            order = np.argsort(keys, kind="stable")
            names = keys[order].tolist()
            if len(set(names)) != len(names) or (by_seed and names != all_keys):
                raise InputError(
                    f"{self.name}: seed {seed} does not test the same utterances once as the other seeds do, so its "
                    "folds cannot be pooled"
                )
            all_keys = names
            by_seed.append(np.concatenate([columns[table] for _, columns in parts])[order])
        return all_keys, by_seed

    def estimate(self, metric: str) -> Estimate:
        """A metric over folds and seeds."""
        values = {(run.fold, run.seed): value for run in self.runs if (value := run.value(metric)) is not None}
        folds, seeds = sorted({fold for fold, _ in values}), sorted({seed for _, seed in values})
        by_fold = [fmean(value for (fold, _), value in values.items() if fold == one) for one in folds]
        by_seed = [fmean(value for (_, seed), value in values.items() if seed == one) for one in seeds]
        pooled = list[float]()
        if values:
            _, columns = self.pooled(METRICS[metric].table)
            pooled = [float(METRICS[metric](each.sum(axis=0)[None])[0]) for each in columns]
        return Estimate(
            mean=_mean(list(values.values())),
            sd=_sd(list(values.values())),
            sd_folds=_sd(by_fold),
            sd_seeds=_sd(by_seed),
            pooled=_mean(pooled),
            pooled_sd=_sd(pooled),
        )

    def by_output(self, metric: str) -> list[tuple[float | None, float | None]]:
        """Mean and standard deviation over all runs, of each class or number."""
        rows = [run.by_output(metric) for run in self.runs]
        columns = [[value for value in column if value is not None] for column in zip(*rows, strict=True)]
        return [(_mean(column), _sd(column)) for column in columns]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRuns:
    """A metric of a system minus that of another one, over the runs of both with the same fold and seed.

    Attributes:
        mean, sd: of the differences; sd is None for a single one.
        count: of the pairs.
        better: In how many of them the first-named system is better.
    """

    mean: float
    sd: float | None
    count: int
    better: int


def paired_runs(system: System, reference: System, metric: str) -> PairedRuns | None:
    """Compare two systems run by run; None if no fold and seed has the metric in both."""
    before = {(run.fold, run.seed): run.value(metric) for run in reference.runs}
    differences = [
        value - other
        for run in system.runs
        if (value := run.value(metric)) is not None and (other := before.get((run.fold, run.seed))) is not None
    ]
    if not differences:
        return None
    sign = -1 if METRICS[metric].lower_is_better else 1
    better = sum(sign * difference > 0 for difference in differences)
    return PairedRuns(mean=fmean(differences), sd=_sd(differences), count=len(differences), better=better)


def read_systems(folders: Sequence[Path]) -> list[System]:
    """The systems in some folders: runs, or what `mesm-train cv` wrote.

    Runs that differ in the seed alone are one system; the variants of a cross-validation are one each.

    Raises:
        InputError: A folder is neither, or two runs are the same.
        MesmError: A run has not ended.
    """
    groups: dict[tuple[str, str], list[RunRecord]] = {}
    for folder in folders:
        if (folder / "cv.json").exists():
            for entry in read_checked_json(folder / "cv.json", CV)["runs"]:
                record = RunRecord.read(folder / entry["path"], entry["variant"])
                groups.setdefault((str(folder), entry["variant"]), []).append(record)
        else:
            record = RunRecord.read(folder)
            groups.setdefault((str(record.provenance["split"]["digest"]), record.settings_key), []).append(record)
    systems = [System(name=_name(records), runs=tuple(records)) for records in groups.values()]
    for system in systems:
        pairs = [(run.fold, run.seed) for run in system.runs]
        if len(set(pairs)) < len(pairs):
            raise InputError(f"{system.name}: two runs have the same settings, split and seed: give each once")
    names = [system.name for system in systems]
    return [
        System(name=f"{system.name} {number}" if names.count(system.name) > 1 else system.name, runs=system.runs)
        for number, system in enumerate(systems, 1)
    ]


def _name(records: Sequence[RunRecord]) -> str:
    first = records[0]
    if first.variant or len(records) > 1:
        name = str(first.results["name"])
        return f"{name} {first.variant}" if first.variant else name
    return first.path.resolve().name


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
