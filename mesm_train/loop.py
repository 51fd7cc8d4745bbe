"""The training loop, from top to bottom.

All state of a run is the model's and what state.py has; randomness is derived from (seed, epoch, step, sample). So a
run that is stopped or killed anywhere goes on from its last checkpoint as if nothing had happened: on a CPU with the
same number of ranks and threads, bit for bit. On another number of ranks it goes on with exactly the samples that
remain.

Every rank runs this file. They differ in the samples that they are given; rank 0 writes.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from mesm_data.errors import MesmError
from mesm_data.files import write_json
from mesm_train import checkpoint, metrics
from mesm_train.data.batch import Batch
from mesm_train.data.plan import derived
from mesm_train.evaluation import answer, score, write_predictions
from mesm_train.journal import Journal
from mesm_train.models.model import Model
from mesm_train.optimize import autocast, learning_rate, positive_weight, update
from mesm_train.setup import Setup
from mesm_train.state import Position, State
from mesm_train.watch import Watcher


def train(setup: Setup, run: Path, *, stop: Callable[[], bool], watcher: Watcher) -> bool:
    """Train to the end, or until `stop()` on any rank; then test the best epoch. True if the run has ended.

    `watcher` is told of every step and epoch. Raises MesmError on a loss that is not finite, naming the batch.
    """
    config, model, ranks = setup.config.optim, setup.model, setup.ranks
    state = State.start(setup)
    position, optimizer, scaler = state.position, state.optimizer, state.scaler
    weight = positive_weight(setup).to(setup.device)
    journal = Journal(run / "metrics.jsonl", write=ranks.first)
    with ranks.together():
        state.resume(setup, run, journal)
    per_epoch = setup.steps_per_epoch()

    while position.epoch < config.epochs and not position.finished:
        plan = setup.plan(position.epoch)
        shares = plan.shares(ranks.rank, ranks.world, start=position.step)
        batches = setup.loader.batches(shares, epoch=position.epoch)
        saved = time.monotonic()
        model.train()
        for step in range(position.step, len(plan)):
            began = time.monotonic()
            rate = learning_rate(config, position.total, config.epochs * per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            share = forward(setup, batches, weight, position, plan.size(step))
            overdue = time.monotonic() - saved >= setup.config.checkpoint_seconds
            told = ranks.gather([share.value, share.waited, share.error is not None, stop(), ranks.first and overdue])
            value, waited = float(told[:, 0].sum()), float(told[:, 1].max())
            if told[:, 2].any():
                ranks.agree(share.error)
            refuse_nan(setup, told[:, 0].tolist(), share, position, run)
            first = step - step % config.accumulate
            scaler.scale(share.loss / min(config.accumulate, len(plan) - first)).backward()  # type: ignore[no-untyped-call]
            last = step + 1 == len(plan)
            whole = last or (step + 1) % config.accumulate == 0
            if whole:
                ranks.reduce(model)
                update(model, optimizer, scaler, config)
                if state.mean is not None:
                    state.mean.update_parameters(model)
            position.step, position.total = step + 1, position.total + 1
            seconds = time.monotonic() - began
            record = {
                "kind": "train", "epoch": position.epoch, "step": position.total, "loss": value, "lr": rate,
                "samples": plan.size(step), "ranks": ranks.world, "samples_per_s": plan.size(step) / seconds,
                "data_wait": waited, "seconds": seconds,
            }  # fmt: skip
            journal.append(record)
            watcher.step(record, position.step, len(plan))
            stopping = bool(told[:, 3].any())
            if whole and not last and (stopping or told[:, 4].any()):
                state.save(setup, run)
                saved = time.monotonic()
                if stopping:
                    return False
        end_epoch(setup, run, state, journal, watcher)
        if ranks.any(stop()) and not position.finished:
            return False
    finish(setup, run, position, journal, watcher)
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One rank's part of a step. `value` is its part of the loss, `waited` the seconds that its batch let it wait."""

    keys: tuple[str, ...] = ()
    loss: Tensor
    value: float = math.nan
    waited: float = 0.0
    error: MesmError | None = None


def forward(setup: Setup, batches: Iterator[Batch], weight: Tensor, position: Position, count: int) -> Share:
    """The next batch through the model: its loss is a sum over its own samples, divided by the `count` of all ranks.

    So the ranks' gradients add up to that of the mean over the whole step, however its samples were dealt.
    """
    nothing, began = torch.zeros(()), time.monotonic()
    try:
        batch = next(batches)
    except MesmError as error:
        return Share(loss=nothing, error=error)
    waited = time.monotonic() - began
    # Of the samples, not of the rank: dropout depends on how a step is dealt, and on nothing else.
    torch.manual_seed(derived(setup.config.seed, "step", position.epoch, position.step, *batch.keys))
    batch = batch.to(setup.device)
    try:
        with autocast(setup.device, setup.config.optim.precision):
            logits = setup.model(batch)
    except ValueError as error:  # an attention that is not finite cannot choose
        if "not finite" not in str(error):
            raise
        return Share(keys=batch.keys, loss=nothing, waited=waited)
    loss = functional.binary_cross_entropy_with_logits(
        logits.float(), batch.labels, pos_weight=weight, reduction="sum"
    ) / (count * logits.shape[1])
    return Share(keys=batch.keys, loss=loss, value=float(loss.detach()), waited=waited)


def refuse_nan(setup: Setup, values: list[float], share: Share, position: Position, run: Path) -> None:
    """Raises MesmError on all ranks if a share of the loss is not finite, after writing down the keys that gave it."""
    if math.isfinite(sum(values)):
        return
    keys = [json.loads(text) for text in setup.ranks.gather_texts(json.dumps(share.keys))]
    loss = next((value for value in values if not math.isfinite(value)), sum(values))
    bad = [rank for rank, value in enumerate(values) if not math.isfinite(value)]
    where = {
        "epoch": position.epoch, "step": position.step, "loss": str(loss), "ranks": bad,
        "keys": [key for rank in bad for key in keys[rank]],
    }  # fmt: skip
    if setup.ranks.first:
        write_json(run / "diverged.json", where)
    setup.ranks.agree(
        MesmError(
            f"the loss is {loss} at epoch {position.epoch}, step {position.step}; the batch is written down in "
            f"{run / 'diverged.json'}. A smaller optim.lr or optim.clip_norm=1 may help; --resume goes back to the "
            "last checkpoint"
        )
    )


def end_epoch(setup: Setup, run: Path, state: State, journal: Journal, watcher: Watcher) -> None:
    """Validate, choose thresholds, remember the best, save."""
    position = state.position
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
    mark = " *" if better else ""
    watcher.say(f"epoch {position.epoch}: valid loss {answers.loss:.4f}, macro F1 {found['mean']['f1'] or 0:.3f}{mark}")
    if better:
        position.best, position.best_epoch = float(value), position.epoch
    position.epoch, position.step = position.epoch + 1, 0
    patience = setup.config.optim.patience
    waited = position.epoch - 1 - position.best_epoch
    position.finished = position.epoch >= setup.config.optim.epochs or (patience > 0 and waited >= patience)
    state.save(setup, run, score=float(value) if better else None)


def finish(setup: Setup, run: Path, position: Position, journal: Journal, watcher: Watcher) -> None:
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
