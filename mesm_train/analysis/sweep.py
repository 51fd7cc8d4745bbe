"""Several runs that differ in a setting or two, beside each other: what they scored, kept, cost and took."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.config.settings import RunConfig, load_recipe
from mesm_train.runs.run import begin, stored
from mesm_train.training.metrics_log import Journal
from mesm_train.training.progress import Watcher
from mesm_train.training.run_files import OPERATIONS

HEAD = ("run", "p", "selection", "seed", "macro F1", "AUC", "kept v", "kept a", "M MAC", "of dense", "s a step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a finished run came to. `kept`: the mean share of sites that the blocks of v and of a keep."""

    name: str
    p: float
    selection: str
    seed: int
    f1: float | None  # mean over the classes, test part
    auc: float | None
    kept: Mapping[str, float]
    macs: int  # of the forward pass on the utterances that the run's report states
    dense_macs: int
    step_seconds: float  # median, forward and backward and update; of this machine, with whatever ran beside it

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of HEAD."""
        score = tuple("-" if value is None else f"{value:.3f}" for value in (self.f1, self.auc))
        kept = tuple(f"{self.kept[m]:.3f}" if m in self.kept else "-" for m in ("v", "a"))
        cost = (f"{self.macs / 1e6:.0f}", f"{self.macs / self.dense_macs:.3f}", f"{self.step_seconds:.3f}")
        return (self.name, f"{self.p:g}", self.selection, str(self.seed), *score, *kept, *cost)


def sweep(
    configs: Mapping[str, RunConfig], out: Path, *, stop: Callable[[], bool], watcher: Watcher
) -> list[Row] | None:
    """Train each of `configs` in the folder OUT/name, in this order; finished ones are not done again.

    None if `stop()` ended it: the same call goes on. Raises InputError for a config that is not of kind mesm.
    """
    for name, config in configs.items():
        if config.model.kind != "mesm":
            raise InputError(
                f"{name} is of kind {config.model.kind}: a sweep compares sparse models (model.kind: mesm)"
            )
    for name, config in configs.items():
        if not finished(out / name):
            watcher.say(f"{name}: {out / name}")
            if not begin(config, out / name, resume=True, stop=stop, watcher=watcher):
                return None
    return [row(out / name) for name in configs]


def finished(run: Path) -> bool:
    """A run writes its report last."""
    return (run / "report.html").exists()


def row(run: Path) -> Row:
    """The row of a run that has ended."""
    config = load_recipe(str(run / "config.yaml"))
    counted = read_checked_json(run / "operations.json", OPERATIONS)
    models, kept = counted["models"], counted.get("kept", {})
    if not {"fe2e", "mesm"} <= models.keys() or sum(models["fe2e"].values()) <= 0:
        raise InputError(f"{run / 'operations.json'} is damaged: it counts no sparse model and its dense counterpart")
    scores = stored(run, "test") or stored(run, "valid") or {"mean": {"f1": None, "auc": None}}
    records = Journal(run / "metrics.jsonl").read()
    steps = [record["seconds"] for record in records if record["kind"] == "train" and record.get("seconds") is not None]
    return Row(
        name=run.name,
        p=config.model.sparse.p,
        selection=config.model.sparse.selection,
        seed=config.seed,
        f1=scores["mean"].get("f1"),
        auc=scores["mean"].get("auc"),
        kept={m: sum(shares) / max(len(shares), 1) for m, shares in kept.items()},
        macs=sum(models["mesm"].values()),
        dense_macs=sum(models["fe2e"].values()),
        step_seconds=median(steps or [math.nan]),
    )


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """HEAD and the rows as comma-separated values."""
    with atomic_write(path) as file:
        for cells in (HEAD, *(row.cells() for row in rows)):
            file.write((",".join(cells) + "\n").encode())
