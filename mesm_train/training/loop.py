"""The training loop, from top to bottom.

All state of a run is the model's and what state.py has; randomness is derived from (seed, epoch, step, sample). So a
run that is stopped or killed anywhere goes on from its last checkpoint as if nothing had happened: on a CPU with the
same number of ranks and threads, bit for bit. On another number of ranks it goes on with exactly the samples that
remain.

A step is a micro-batch, an update is `optim.accumulate` of them. The host queues an update and only then reads what the
one before reported (status.py), so a card always has work.

Every rank runs this file. They differ in their samples; rank 0 writes.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mesm_data.errors import MesmError
from mesm_data.storage.json_files import write_json
from mesm_train.data.batch import Batch
from mesm_train.data.plan import derived
from mesm_train.evaluation.scores import best_baseline
from mesm_train.models.baselines.make import AnyModel
from mesm_train.training import checkpoint, throughput
from mesm_train.training.distributed import Exchange, no_sync
from mesm_train.training.evaluation import Calibration, predict, score, selection_value, write_predictions
from mesm_train.training.losses import TargetStatistics, batch_loss, target_statistics
from mesm_train.training.metrics_log import Journal
from mesm_train.training.optimizer import autocast, learning_rate, optimizer_step
from mesm_train.training.progress import Watcher
from mesm_train.training.results import write_run_results
from mesm_train.training.run_state import Position, State
from mesm_train.training.setup import Setup
from mesm_train.training.status import Report, Reporter, Status, Trained


def train(setup: Setup, run: Path, *, stop: Callable[[], bool], watcher: Watcher) -> bool:
    """Train to the end, or until `stop()` on any rank; then test the best epoch. True if the run has ended.

    `watcher` shows every update and epoch. Raises MesmError on a loss that is not finite, naming the batch.
    """
    config, ranks = setup.config.optim, setup.ranks
    state = State.start(setup)
    position, optimizer, scaler = state.position, state.optimizer, state.scaler
    statistics = target_statistics(setup)
    on_device = statistics.to(setup.device)
    journal = Journal(run / "metrics.jsonl", write=ranks.first)
    with ranks.together():
        state.resume(setup, run, journal)
    model, operations = ranks.data_parallel(setup.model), throughput.Operations(setup.model)
    updates = -(-setup.steps_per_epoch() // config.accumulate)  # of an epoch
    reporter = Reporter(setup, run, journal, watcher, updates)

    while position.epoch < config.epochs and not position.finished:
        plan = setup.plan(position.epoch)
        batches = feed(setup, plan.shares(ranks.rank, ranks.world, start=position.step), position.epoch)
        ahead = next(batches, None)
        last_save = time.monotonic()
        model.train()
        while ahead is not None:
            start, first = time.monotonic(), position.step
            rate = learning_rate(config, position.total, config.epochs * updates)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            count = min(config.accumulate, len(plan) - first)
            fed, losses = list[Fed](), list[Tensor]()
            while len(fed) < count:
                assert ahead is not None  # the plan has a share for each of its steps
                fed.append(ahead)
                whole = len(fed) == count
                with no_sync(model, unless=whole):
                    loss = forward(setup, model, ahead.batch, on_device, position, plan.size(position.step))
                    losses.append(loss.detach())
                    if whole:
                        overdue = ranks.first and time.monotonic() - last_save >= setup.config.checkpoint_seconds
                        last_save = time.monotonic() if overdue else last_save
                        status = Status(
                            losses=torch.stack(losses),
                            data_wait=sum(one.wait for one in fed),
                            operations=sum(operations.of(one.batch) for one in fed),
                            failed=ahead.error is not None,
                            stop=stop(),
                            overdue=overdue,
                        )
                        exchange = Exchange(ranks, status.pack(setup.device), setup.model)
                    with ranks.backend_errors():
                        scaler.scale(loss / count).backward()  # type: ignore[no-untyped-call]
                position.step += 1
                ahead = next(batches, None)
            rows = exchange.finish()
            norm = optimizer_step(setup.model, optimizer, scaler, config)
            if state.mean is not None:
                state.mean.update_parameters(setup.model)
            position.total += 1
            report = Report(
                {
                    "kind": "train", "epoch": position.epoch, "step": position.total, "lr": rate,
                    "samples": sum(plan.size(step) for step in range(first, position.step)), "ranks": ranks.world,
                },
                first=first, keys=[one.batch.keys for one in fed], error=fed[-1].error, rows=rows, norm=norm,
            )  # fmt: skip
            reporter.read()
            report.seconds = time.monotonic() - start
            reporter.put(report)
            if ahead is not None and (reporter.stopping or reporter.overdue):
                reporter.read()  # nothing is saved of an update that is not known to be good
                state.save(setup, run)
                if reporter.stopping:
                    return False
        reporter.read()
        end_epoch(setup, run, state, journal, watcher, reporter.end_epoch(), statistics)
        if (ranks.any(stop()) or reporter.stopping) and not position.finished:
            return False
    finish(setup, run, position, journal, watcher, statistics)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fed:
    """A batch of this rank on its device; `wait`: the seconds that the loop waited for it."""

    batch: Batch
    wait: float
    error: MesmError | None


def feed(setup: Setup, shares: list[tuple[str, ...]], epoch: int) -> Iterator[Fed]:
    """The batches of this rank in order.

    From one that cannot be read on they are empty and have its error: the other ranks go on until all of them know.
    """
    batches, error = setup.loader.batches(shares, epoch=epoch), None
    for _ in shares:
        start = time.monotonic()
        try:
            batch = next(batches) if error is None else setup.loader.batch(())
        except MesmError as caught:
            batch, error = setup.loader.batch(()), caught
        yield Fed(batch=batch.to(setup.device), wait=time.monotonic() - start, error=error)


def forward(
    setup: Setup, model: nn.Module, batch: Batch, statistics: TargetStatistics, position: Position, count: int
) -> Tensor:
    """The loss of a batch: see `batch_loss`. `count`: the samples of the step on all ranks."""
    setup.model.set_epoch(position.epoch + position.step / setup.steps_per_epoch())
    # Of the samples, not of the rank: dropout depends on how a step is dealt, and on nothing else.
    torch.manual_seed(derived(setup.config.seed, "step", position.epoch, position.step, *batch.keys))
    try:
        with autocast(setup.device, setup.config.optim.precision):
            logits = model(batch)
    except ValueError as error:  # an attention that is not finite cannot choose
        if "not finite" not in str(error):
            raise
        empty = setup.loader.batch(()).to(setup.device)
        return forward(setup, model, empty, statistics, position, count) * math.nan
    return batch_loss(setup.heads, logits.float(), batch.labels, statistics, count)


def end_epoch(
    setup: Setup, run: Path, state: State, journal: Journal, watcher: Watcher, trained: Trained,
    statistics: TargetStatistics,
) -> None:  # fmt: skip
    """Validate, choose thresholds, remember the best, save."""
    position, start = state.position, time.monotonic()
    eval_setup = setup if state.mean is None else replace(setup, model=cast(AnyModel, state.mean.module))
    predictions = predict(eval_setup, "valid", statistics)
    calibration = Calibration.choose(setup.heads, predictions, statistics, setup.config.eval.thresholds)
    scores = score(setup.heads, predictions, calibration)
    value = selection_value(scores, predictions.loss, setup.config.eval.select_by)
    value = -math.inf if value is None else value
    better = value > position.best
    record = {
        "kind": "valid", "epoch": position.epoch, "step": position.total, "loss": predictions.loss, "metrics": scores,
    }  # fmt: skip
    journal.append(record)
    watcher.epoch(record)
    seconds = trained.seconds + time.monotonic() - start
    left = (setup.config.optim.epochs - 1 - position.epoch) * seconds
    watcher.say(
        f"epoch {position.epoch}: valid loss {predictions.loss:.4f}, {_main_score(scores)}, "
        f"train loss {trained.loss:.4f}, {seconds:.1f} s, at most {left / 60:.1f} min left"
        f"{' (best so far)' if better else ''}"
    )
    if better:
        position.best, position.best_epoch = value, position.epoch
    position.epoch, position.step = position.epoch + 1, 0
    patience = setup.config.optim.patience
    epochs_since_best = position.epoch - 1 - position.best_epoch
    position.finished = position.epoch >= setup.config.optim.epochs or (patience > 0 and epochs_since_best >= patience)
    state.save(setup, run, score=value if better else None)


def _main_score(scores: dict[str, Any]) -> str:
    if scores["task"] == "number":
        return f"mean CCC {scores['mean']['ccc'] or 0:.3f}"
    return f"macro F1 {scores['mean']['f1'] or 0:.3f}"


def finish(
    setup: Setup, run: Path, position: Position, journal: Journal, watcher: Watcher, statistics: TargetStatistics
) -> None:
    """The best epoch on the test part, with the thresholds that the valid part chose; written down whole."""
    best = checkpoint.load(run / "checkpoints", "best")
    if best is None:
        raise MesmError(f"no epoch of {run} has a validation score: no class of the valid part has positives")
    setup.model.load_state_dict(best[0])
    predictions = {part: predict(setup, part, statistics) for part in ("valid", "test") if setup.keys.get(part)}
    if not setup.ranks.first:
        return
    calibration = Calibration.choose(setup.heads, predictions["valid"], statistics, setup.config.eval.thresholds)
    choice = {"classes": list(setup.heads.outputs), "epoch": position.best_epoch, "part": "valid"}
    write_json(run / "thresholds.json", {**choice, **calibration.as_dict()})
    for part, of_part in predictions.items():
        write_predictions(run / f"predictions-{part}.parquet", setup.heads, of_part, setup.split.name)
    scores = {part: score(setup.heads, of_part, calibration) for part, of_part in predictions.items()}
    journal.rewind(lambda record: record["kind"] != "test")
    if "test" in scores:
        record = {
            "kind": "test", "epoch": position.best_epoch, "step": position.total, "loss": predictions["test"].loss,
            "metrics": scores["test"],
        }  # fmt: skip
        journal.append(record)
        watcher.epoch(record)
        watcher.say(f"test (epoch {position.best_epoch}): {_beside_baselines(scores['test'])}")
    write_run_results(run, setup, position.best_epoch, scores, journal.read())


def _beside_baselines(scores: dict[str, Any]) -> str:
    mean, baselines = scores["mean"], scores["baselines"]
    if scores["task"] == "number":
        constant = baselines["median"]["mae"]
        return f"mean CCC {mean['ccc'] or 0:.3f}; MAE {mean['mae']:.3f}, always the median {constant:.3f}"
    return (
        f"macro F1 {mean['f1'] or 0:.3f}, constant {best_baseline(baselines, 'f1') or 0:.3f}; "
        f"accuracy {mean['accuracy']:.3f}, always no {baselines['always_no']['accuracy']:.3f}"
    )
