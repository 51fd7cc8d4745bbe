"""Several models trained with several seeds and compared: quality against counted operations and measured seconds.

A variant is a model; its runs differ in the seed only. Operations and seconds are those of feature extraction, the
convolutional stacks, which is what FE2E and MESM differ in.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median, stdev

import torch

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.analysis.schedule import run_all
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RunConfig
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.streams import Stack, take_turns
from mesm_train.runs.evaluate import load_run, recorded_scores
from mesm_train.training.optimizer import autocast
from mesm_train.training.progress import RunLogger
from mesm_train.training.run_files import OPERATIONS
from mesm_train.training.selection import select_data
from mesm_train.training.setup import Setup

HEAD = ("variant", "seed", "macro F1", "AUC", "kept v", "kept a", "M MAC")
SUMMARY_HEAD = ("variant", "seeds", "macro F1", "AUC", "kept v", "kept a", "operations", "forward", "f + b")
EXTRACTION = ("stem", "blocks", "attention", "head")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A finished run. `kept`: the mean share of sites that the blocks of v and of a keep."""

    variant: str
    seed: int
    kind: str
    tile: int
    f1: float | None  # mean over the classes, test part
    auc: float | None
    kept: Mapping[str, float]
    macs: int  # of feature extraction, in a forward pass over the utterances that the run's report states

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of HEAD."""
        numbers = [self.f1, self.auc, *(self.kept.get(m) for m in ("v", "a"))]
        cells = ("-" if number is None else f"{number:.3f}" for number in numbers)
        return (self.variant, str(self.seed), *cells, f"{self.macs / 1e6:.0f}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Medians of one step of 8 utterances through the stacks of a model."""

    forward: float
    both: float  # forward and backward


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A variant over its seeds; each score as mean and standard deviation (None: of one seed there is none)."""

    variant: str
    kind: str
    tile: int
    seeds: int
    f1: tuple[float, float | None]
    auc: tuple[float, float | None]
    kept: Mapping[str, float]
    operations: float  # of the first variant's
    forward: float  # seconds, of the first variant's
    both: float

    @property
    def group(self) -> str:
        """What a figure joins by a line: FE2E of all widths, or MESM of one tile."""
        if self.kind == "fe2e":
            return "FE2E of several widths"
        return "MESM" if self.tile == 1 else f"MESM in {self.tile}x{self.tile} sites"

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of SUMMARY_HEAD."""
        scores = (f"{m:.3f}" if sd is None else f"{m:.3f} ± {sd:.3f}" for m, sd in (self.f1, self.auc))
        kept = (f"{self.kept[m]:.2f}" if m in self.kept else "-" for m in ("v", "a"))
        costs = (f"{value:.2f}" for value in (self.operations, self.forward, self.both))
        return (self.variant, str(self.seeds), *scores, *kept, *costs)


def variants(
    config: RunConfig, *, ps: Sequence[float], tiles: Sequence[int], widths: Sequence[float]
) -> dict[str, RunConfig]:
    """FE2E, FE2E narrowed to these shares of its channels, and MESM of the full width for each p and tile.

    A narrowed FE2E needs about width squared of the operations: the dense rival of a sparse model. See `narrow`.
    """
    model = config.model
    configs = {}
    for width in (1.0, *(w for w in widths if w != 1)):
        channels = narrow(model.channels, width)
        name = "fe2e" if width == 1 else f"fe2e-width-{width:g}"
        configs[name] = replace(config, model=replace(model, kind="fe2e", channels=channels))
    for tile in tiles:
        for p in ps:
            sparse = replace(model.sparse, p=p, tile=tile)
            configs[f"mesm-p-{p:g}-tile-{tile}"] = replace(config, model=replace(model, kind="mesm", sparse=sparse))
    return configs


def narrow(channels: Sequence[int], width: float) -> tuple[int, ...]:
    """This share of the channels; of a network as wide as the published one in whole vectors of 16 numbers.

    45 to 362 channels take .65 of the seconds of 64 to 512, and 48 to 352 with as many operations .54
    (docs/benchmarks.md): nobody who wants fewer seconds would choose the first.
    """
    whole = 16 if min(channels) >= 64 else 1
    return tuple(max(1, round(count * width / whole)) * whole for count in channels)


def train_all(
    variants: Mapping[str, RunConfig], seeds: Sequence[int], out: Path, *, stop: Callable[[], bool], logger: RunLogger
) -> list[Row] | None:
    """Train each variant with each seed in the folder OUT/variant/seed-n; finished runs are not trained again.

    All variants of a seed come before those of the next one. Returns None if `stop()` ended it: the same call resumes.
    Raises InputError if the first label view has numbers.
    """
    head = select_data(next(iter(variants.values()))).heads.primary
    if head.kind == "number":
        raise InputError(f"a sweep compares F1 and AUC, and label view {head.view.name!r} has numbers: choose classes")
    configs = {run_name(name, seed): replace(config, seed=seed) for seed in seeds for name, config in variants.items()}
    if not run_all(configs, out, jobs=1, stop=stop, logger=logger):
        return None
    return [read_row(name, seed, out / run_name(name, seed)) for seed in seeds for name in variants]


def run_name(variant: str, seed: int) -> str:
    """The folder, in that of the sweep, of the run of a variant with a seed."""
    return f"{variant}/seed-{seed}"


def read_row(variant: str, seed: int, run: Path) -> Row:
    """The row of a run that has ended."""
    config = load_recipe(str(run / "config.yaml"))
    counted = read_checked_json(run / "operations.json", OPERATIONS)
    kind, kept = config.model.kind, counted.get("kept", {})
    if not sum(counted["models"].get(kind, {}).values()) > 0:
        raise InputError(f"{run / 'operations.json'} is damaged: it counts no operations of a model of kind {kind}")
    scores = recorded_scores(run, "test") or recorded_scores(run, "valid") or {"mean": {"f1": None, "auc": None}}
    return Row(
        variant=variant,
        seed=seed,
        kind=kind,
        tile=config.model.sparse.tile,
        f1=scores["mean"].get("f1"),
        auc=scores["mean"].get("auc"),
        kept={m: sum(shares) / max(len(shares), 1) for m, shares in kept.items()},
        macs=sum(value for part, value in counted["models"][kind].items() if part.rpartition(".")[2] in EXTRACTION),
    )


def summarise(rows: Sequence[Row], seconds: Mapping[str, Seconds]) -> list[Summary]:
    """One summary for each variant of `rows`, in their order; costs are relative to the first variant's."""
    names = list(dict.fromkeys(row.variant for row in rows))
    groups = {name: [row for row in rows if row.variant == name] for name in names}
    dense = mean(row.macs for row in groups[names[0]])
    first = seconds[names[0]]
    return [
        Summary(
            variant=name,
            kind=group[0].kind,
            tile=group[0].tile,
            seeds=len(group),
            f1=_spread([row.f1 or 0.0 for row in group]),
            auc=_spread([row.auc or 0.0 for row in group]),
            kept={m: mean(row.kept[m] for row in group) for m in group[0].kept},
            operations=mean(row.macs for row in group) / dense,
            forward=seconds[name].forward / first.forward,
            both=seconds[name].both / first.both,
        )
        for name, group in groups.items()
    ]


def measure(runs: Mapping[str, Path], *, rounds: int = 5) -> dict[str, Seconds]:
    """Time the stacks of finished runs on their first 8 test utterances, in turn, so that other load falls on all."""
    setups = {name: load_run(run) for name, run in runs.items()}
    steps = {name: _step(setup) for name, setup in setups.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            seconds = step()
            if turn:  # the first round compiles and fills caches
                times[name].append(seconds)
    return {
        name: Seconds(forward=median(f for f, _ in taken), both=median(b for _, b in taken))
        for name, taken in times.items()
    }


def _step(setup: Setup) -> Callable[[], tuple[float, float]]:
    """One step through the stacks of a model, in the precision of its training and as Model calls them.

    Returns the seconds of the forward pass, and of it with the backward pass.
    """
    part = "test" if setup.keys.get("test") else "valid"
    model = setup.model.train()
    if not isinstance(model, Model):
        raise InputError(f"a sweep measures the seconds of FE2E and MESM, not of {setup.config.model.kind}")
    batch = setup.loader.batch(setup.keys[part][:8]).to(setup.device)
    with torch.no_grad():
        text = None if model.text is None else model.text(batch.tokens, batch.token_counts)[0]
        inputs = {m: model.stack_inputs(m, text, batch) for m in model.stacks}
    stacks = {m: stack for m, stack in model.stacks.items() if isinstance(stack, Stack)}

    def step() -> tuple[float, float]:
        began = _now(setup.device)
        total = torch.zeros((), device=setup.device)
        with autocast(setup.device, setup.config.optim.precision):
            for vectors, _ in take_turns([stack.steps(*inputs[m]) for m, stack in stacks.items()]):
                total = total + vectors.float().square().sum()
        middle = _now(setup.device)
        total.backward()  # type: ignore[no-untyped-call]
        ended = _now(setup.device)
        model.zero_grad()
        return middle - began, ended - began

    return step


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    return mean(values), stdev(values) if len(values) > 1 else None


def write_csv(path: Path, head: Sequence[str], rows: Sequence[Row] | Sequence[Summary]) -> None:
    """The head and the rows as comma-separated values."""
    with atomic_write(path) as file:
        for cells in (head, *(row.cells() for row in rows)):
            file.write((",".join(cells) + "\n").encode())
