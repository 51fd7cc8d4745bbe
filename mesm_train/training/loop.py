"""The training loop, from top to bottom.

The state of a run is that of the model and of run_state.py; random numbers depend on (seed, epoch, step, sample) only.
So a run that is stopped or killed anywhere resumes from its last checkpoint exactly: on a CPU with the same number of
ranks and threads, bit for bit. On another number of ranks it continues with exactly the remaining samples.

A step is a micro-batch, an update consists of `optim.accumulate` steps. The host launches an update and only then reads
the report of the previous one (status.py), so a GPU is never idle.

Every rank runs this file on its own samples; rank 0 writes files.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mesm_data.errors import MesmError
from mesm_data.storage.json_files import write_json
from mesm_train.data.batch import Batch
from mesm_train.data.plan import derive_seed
from mesm_train.evaluation import metrics
from mesm_train.models.fe2e_mesm import Model
from mesm_train.training import checkpoint, throughput
from mesm_train.training.distributed import Exchange, no_sync
from mesm_train.training.evaluation import answer, score, write_predictions
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.optimizer import autocast, learning_rate, positive_weight, update
from mesm_train.training.progress import RunLogger
from mesm_train.training.run_state import Position, RunState
from mesm_train.training.setup import Setup
from mesm_train.training.status import TrainingSummary, UpdateReport, UpdateReporter, UpdateStatus


def train(setup: Setup, run: Path, *, stop: Callable[[], bool], watcher: RunLogger) -> bool:
    """Train to the end, or until `stop()` on any rank; then test the best epoch. True if the run has ended.

    `watcher` is told of every update and epoch. Raises MesmError on a loss that is not finite, naming the batch.
    """
    config, ranks = setup.config.optim, setup.ranks
    state = RunState.start(setup)
    position, optimizer, scaler = state.position, state.optimizer, state.scaler
    pos_weight = positive_weight(setup).to(setup.device)
    journal = MetricsLog(run / "metrics.jsonl", write=ranks.first)
    with ranks.same_error_everywhere():
        state.resume(setup, run, journal)
    model, operations = ranks.data_parallel(setup.model), throughput.OperationCounter(setup.model)
    updates = -(-setup.steps_per_epoch() // config.accumulate)  # of an epoch
    reporter = UpdateReporter(setup, run, journal, watcher, updates)

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
                    loss = forward(setup, model, ahead.batch, pos_weight, position, plan.size(position.step))
                    losses.append(loss.detach())
                    if whole:
                        overdue = ranks.first and time.monotonic() - last_save >= setup.config.checkpoint_seconds
                        last_save = time.monotonic() if overdue else last_save
                        status = UpdateStatus(
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
            norm = update(setup.model, optimizer, scaler, config)
            if state.mean is not None:
                state.mean.update_parameters(setup.model)
            position.total += 1
            report = UpdateReport(
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
        end_epoch(setup, run, state, journal, watcher, reporter.end_epoch())
        if (ranks.any(stop()) or reporter.stopping) and not position.finished:
            return False
    finish(setup, run, position, journal, watcher)
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


def forward(setup: Setup, model: nn.Module, batch: Batch, pos_weight: Tensor, position: Position, count: int) -> Tensor:
    """The loss of a batch: a sum over its own samples, divided by the `count` of all ranks.

    So the ranks' gradients add up to that of the mean over the whole step, however its samples were dealt.
    """
    # Of the samples, not of the rank: dropout depends on how a step is dealt, and on nothing else.
    torch.manual_seed(derive_seed(setup.config.seed, "step", position.epoch, position.step, *batch.keys))
    try:
        with autocast(setup.device, setup.config.optim.precision):
            logits = model(batch)
    except ValueError as error:  # an attention that is not finite cannot choose
        if "not finite" not in str(error):
            raise
        empty = setup.loader.batch(()).to(setup.device)
        return forward(setup, model, empty, pos_weight, position, count) * math.nan
    total = functional.binary_cross_entropy_with_logits(
        logits.float(), batch.labels, pos_weight=pos_weight, reduction="sum"
    )
    loss: Tensor = total / (count * logits.shape[1])
    return loss


def end_epoch(
    setup: Setup, run: Path, state: RunState, journal: MetricsLog, watcher: RunLogger, trained: TrainingSummary
) -> None:
    """Validate, choose thresholds, remember the best, save."""
    position, start = state.position, time.monotonic()
    judged = setup if state.mean is None else replace(setup, model=cast(Model, state.mean.module))
    answers = answer(judged, "valid")
    limits = metrics.thresholds(answers.logits, answers.labels, setup.config.eval.thresholds)
    found = score(setup, answers, limits, positive_weight(setup))
    by = setup.config.eval.select_by
    value = -answers.loss if by == "loss" else found["mean"][by]
    better = value is not None and value > position.best
    record = {"kind": "valid", "epoch": position.epoch, "step": position.total, "loss": answers.loss, "metrics": found}
    journal.append(record)
    watcher.epoch(record)
    seconds = trained.seconds + time.monotonic() - start
    left = (setup.config.optim.epochs - 1 - position.epoch) * seconds
    watcher.say(
        f"epoch {position.epoch}: valid loss {answers.loss:.4f}, macro F1 {found['mean']['f1'] or 0:.3f}, "
        f"train loss {trained.loss:.4f}, {seconds:.1f} s, at most {left / 60:.1f} min left"
        f"{' (best so far)' if better else ''}"
    )
    if better:
        position.best, position.best_epoch = float(value), position.epoch
    position.epoch, position.step = position.epoch + 1, 0
    patience = setup.config.optim.patience
    waited = position.epoch - 1 - position.best_epoch
    position.finished = position.epoch >= setup.config.optim.epochs or (patience > 0 and waited >= patience)
    state.save(setup, run, score=float(value) if better else None)


def finish(setup: Setup, run: Path, position: Position, journal: MetricsLog, watcher: RunLogger) -> None:
    """The best epoch on the test part, with the thresholds that the valid part chose; written down whole."""
    found = checkpoint.load(run / "checkpoints", "best")
    if found is None:
        raise MesmError(f"no epoch of {run} has a validation score: no class of the valid part has positives")
    setup.model.load_state_dict(found[0])
    answers = {part: answer(setup, part) for part in ("valid", "test") if setup.keys.get(part)}
    if not setup.ranks.first:
        return
    limits = metrics.thresholds(answers["valid"].logits, answers["valid"].labels, setup.config.eval.thresholds)
    classes = list(setup.view.classes)
    weight = positive_weight(setup)
    chosen = {
        "classes": classes, "thresholds": limits.tolist(), "epoch": position.best_epoch, "part": "valid",
        "pos_weight": weight.tolist(),
    }  # fmt: skip
    write_json(run / "thresholds.json", chosen)
    for part, found_answers in answers.items():
        write_predictions(run / f"predictions-{part}.parquet", setup, found_answers)
    journal.rewind(lambda record: record["kind"] != "test")
    if "test" not in answers:
        return
    result = score(setup, answers["test"], limits, weight)
    best, loss = position.best_epoch, answers["test"].loss
    record = {"kind": "test", "epoch": best, "step": position.total, "loss": loss, "metrics": result}
    journal.append(record)
    watcher.epoch(record)
    mean, floor = result["mean"], result["floor"]
    watcher.say(
        f"test (epoch {position.best_epoch}): macro F1 {mean['f1'] or 0:.3f}, constant answer {floor['f1'] or 0:.3f}; "
        f"accuracy {mean['accuracy']:.3f}, always no {floor['accuracy']:.3f}"
    )
