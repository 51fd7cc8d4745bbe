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
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mesm_data.errors import MesmError
from mesm_data.storage.json_files import write_json
from mesm_train.data.batch import Batch
from mesm_train.data.plan import derive_seed
from mesm_train.evaluation.score_values import best_baseline
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.sparse import NotFiniteError
from mesm_train.training import checkpoint, throughput
from mesm_train.training.device_batches import DeviceBatch, device_batches
from mesm_train.training.distributed import no_sync
from mesm_train.training.evaluation import Calibration, predict, score, selection_value
from mesm_train.training.exchange import Exchange
from mesm_train.training.losses import TargetStatistics, batch_loss, target_statistics
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.optimizer import autocast, learning_rate, optimizer_step
from mesm_train.training.prediction_table import write_predictions
from mesm_train.training.progress import RunLogger
from mesm_train.training.results import write_run_results
from mesm_train.training.run_state import Position, RunState
from mesm_train.training.setup import Setup
from mesm_train.training.status import TrainingSummary, UpdateReport, UpdateReporter, UpdateStatus


def train(setup: Setup, run: Path, *, stop: Callable[[], bool], logger: RunLogger) -> bool:
    """Train until the end, or until `stop()` returns true on any rank; then test the best epoch.

    Args:
        setup: Model, data and settings of the run.
        run: The folder of the run.
        stop: Called before each update.
        logger: Receives the events of the loop.

    Returns:
        Whether the run has ended.

    Raises:
        MesmError: The loss is not finite. The message names the file with the keys of the batch.
    """
    config, ranks = setup.config.optim, setup.ranks
    state = RunState.start(setup)
    position, optimizer, scaler = state.position, state.optimizer, state.scaler
    statistics = target_statistics(setup)
    device_statistics = statistics.to(setup.device)
    metrics_log = MetricsLog(run / "metrics.jsonl", write=ranks.first)
    with ranks.same_error_everywhere():
        state.resume(setup, run, metrics_log)
    model, operations = ranks.data_parallel(setup.model), throughput.OperationCounter(setup.model)
    updates = -(-setup.steps_per_epoch() // config.accumulate)  # of an epoch
    reporter = UpdateReporter(setup, run, metrics_log, logger, updates)

    while position.epoch < config.epochs and not position.finished:
        plan = setup.plan(position.epoch)
        batches = device_batches(setup, plan.shares(ranks.rank, ranks.world, start=position.step), position.epoch)
        upcoming = next(batches, None)
        last_save = time.monotonic()
        model.train()
        while upcoming is not None:
            start, first = time.monotonic(), position.step
            rate = learning_rate(config, position.total, config.epochs * updates, state.plateau.factor)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            count = min(config.accumulate, len(plan) - first)
            micro_batches, losses = list[DeviceBatch](), list[Tensor]()
            while len(micro_batches) < count:
                assert upcoming is not None  # the plan has a share for every step
                micro_batches.append(upcoming)
                is_update = len(micro_batches) == count
                with no_sync(model, unless=is_update):
                    loss = forward(setup, model, upcoming.batch, device_statistics, position, plan.size(position.step))
                    losses.append(loss.detach())
                    if is_update:
                        overdue = ranks.first and time.monotonic() - last_save >= setup.config.checkpoint_seconds
                        last_save = time.monotonic() if overdue else last_save
                        status = UpdateStatus(
                            losses=torch.stack(losses),
                            data_wait=sum(each.wait for each in micro_batches),
                            operations=sum(operations.of(each.batch) for each in micro_batches),
                            failed=upcoming.error is not None,
                            stop=stop(),
                            overdue=overdue,
                        )
                        exchange = Exchange(ranks, status.pack(setup.device), setup.model)
                    with ranks.backend_errors():
                        scaler.scale(loss / count).backward()  # type: ignore[no-untyped-call]
                position.step += 1
                upcoming = next(batches, None)
            rows = exchange.finish()
            setup.model.end_update(ranks.sum_statistics if ranks.world > 1 else None)
            norm = optimizer_step(setup.model, optimizer, scaler, config)
            if state.mean is not None:
                state.mean.update_parameters(setup.model)
            position.total += 1
            report = UpdateReport(
                {
                    "kind": "train", "epoch": position.epoch, "step": position.total, "lr": rate,
                    "samples": sum(plan.size(step) for step in range(first, position.step)), "ranks": ranks.world,
                },
                first=first, keys=[each.batch.keys for each in micro_batches], error=micro_batches[-1].error, rows=rows,
                norm=norm,
            )  # fmt: skip
            reporter.read()
            report.seconds = time.monotonic() - start
            reporter.put(report)
            if upcoming is not None and (reporter.stopping or reporter.overdue):
                reporter.read()  # an update is only saved if it is known to be good
                state.save(setup, run)
                if reporter.stopping:
                    return False
        reporter.read()
        end_epoch(setup, run, state, metrics_log, logger, reporter.end_epoch(), statistics)
        if (ranks.any(stop()) or reporter.stopping) and not position.finished:
            return False
    finish(setup, run, position, metrics_log, logger, statistics)
    return True


def forward(
    setup: Setup, model: nn.Module, batch: Batch, statistics: TargetStatistics, position: Position, count: int
) -> Tensor:
    """The loss of a batch, see `batch_loss`. `count`: the number of samples of the step on all ranks."""
    epoch = position.epoch + position.step / setup.steps_per_epoch()
    setup.model.set_epoch(epoch, setup.config.optim.epochs)
    # The seed depends on the samples, not on the rank: dropout depends only on how a step is dealt.
    torch.manual_seed(derive_seed(setup.config.seed, "step", position.epoch, position.step, *batch.keys))
    try:
        with autocast(setup.device, setup.config.optim.precision):
            logits = model(batch)
    except NotFiniteError:
        empty = setup.loader.batch(()).to(setup.device)
        return forward(setup, model, empty, statistics, position, count) * math.nan
    return batch_loss(setup.heads, logits.float(), batch.labels, statistics, count)


def end_epoch(
    setup: Setup, run: Path, state: RunState, metrics_log: MetricsLog, logger: RunLogger, training: TrainingSummary,
    statistics: TargetStatistics,
) -> None:  # fmt: skip
    """Validate, choose thresholds, update the best epoch, save a checkpoint."""
    position, start = state.position, time.monotonic()
    eval_setup = setup if state.mean is None else replace(setup, model=cast(AnyModel, state.mean.module))
    predictions = predict(eval_setup, "valid", statistics)
    with setup.ranks.same_error_everywhere():  # all ranks see the same, one prints that the output is not finite
        calibration = Calibration.choose(setup.heads, predictions, statistics, setup.config.eval.thresholds)
        scores = score(setup.heads, predictions, calibration)
    by = setup.config.eval.select_by
    value = selection_value(scores, predictions.loss, position.epoch, by)
    value = -math.inf if value is None else value
    better = value > position.best
    record = {
        "kind": "valid", "epoch": position.epoch, "step": position.total, "loss": predictions.loss, "metrics": scores,
    }  # fmt: skip
    metrics_log.append(record)
    logger.epoch(record)
    seconds = training.seconds + time.monotonic() - start
    left = (setup.config.optim.epochs - 1 - position.epoch) * seconds
    logger.say(
        f"epoch {position.epoch}: valid loss {predictions.loss:.4f}, {_main_score(scores)}, "
        f"train loss {training.loss:.4f}, {seconds:.1f} s, at most {left / 60:.1f} min left"
        f"{' (best so far)' if better and by != 'last' else ''}"
    )
    if better:
        position.best, position.best_epoch = value, position.epoch
    if setup.config.optim.schedule == "plateau":
        state.plateau.update(predictions.loss, setup.config.optim)
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
    setup: Setup,
    run: Path,
    position: Position,
    metrics_log: MetricsLog,
    logger: RunLogger,
    statistics: TargetStatistics,
) -> None:
    """Evaluate the best epoch on the test part, with the thresholds of the valid part, and write the results."""
    best = checkpoint.load(run / "checkpoints", "best")
    if best is None:
        raise MesmError(
            f"no epoch of {run} has a validation score: eval.select_by {setup.config.eval.select_by} is not defined "
            "for predictions that do not vary. Train with --set eval.select_by=loss in another --out"
        )
    setup.model.load_state_dict(best[0])
    predictions = {part: predict(setup, part, statistics) for part in ("valid", "test") if setup.keys.get(part)}
    if not setup.ranks.first:
        return
    calibration = Calibration.choose(setup.heads, predictions["valid"], statistics, setup.config.eval.thresholds)
    choice = {"classes": list(setup.heads.outputs), "epoch": position.best_epoch, "part": "valid"}
    write_json(run / "thresholds.json", {**choice, **calibration.as_dict()})
    for part, part_predictions in predictions.items():
        write_predictions(run / f"predictions-{part}.parquet", setup.heads, part_predictions, setup.split.name)
    scores = {part: score(setup.heads, part_predictions, calibration) for part, part_predictions in predictions.items()}
    metrics_log.rewind(lambda record: record["kind"] != "test")
    if "test" in scores:
        record = {
            "kind": "test", "epoch": position.best_epoch, "step": position.total, "loss": predictions["test"].loss,
            "metrics": scores["test"],
        }  # fmt: skip
        metrics_log.append(record)
        logger.epoch(record)
        logger.say(f"test (epoch {position.best_epoch}): {_beside_baselines(scores['test'])}")
    write_run_results(run, setup, position.best_epoch, scores, metrics_log.read())


def _beside_baselines(scores: dict[str, Any]) -> str:
    mean, baselines = scores["mean"], scores["baselines"]
    if scores["task"] == "number":
        constant = baselines["median"]["mae"]
        return f"mean CCC {mean['ccc'] or 0:.3f}; MAE {mean['mae']:.3f}, always the median {constant:.3f}"
    return (
        f"macro F1 {mean['f1'] or 0:.3f}, constant {best_baseline(baselines, 'f1') or 0:.3f}; "
        f"accuracy {mean['accuracy']:.3f}, always no {baselines['always_no']['accuracy']:.3f}"
    )
