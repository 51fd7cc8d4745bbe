"""The training loop, from top to bottom.

All state of a run is the model's and the optimizer's, and one small `Position`; randomness is derived from (seed,
epoch, step). So a run that is stopped or killed anywhere goes on from its last checkpoint as if nothing had happened:
on a CPU with the same number of threads, bit for bit.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional

from mesm_data.errors import MesmError
from mesm_data.files import write_json
from mesm_train import checkpoint, metrics
from mesm_train.data.batch import Batch
from mesm_train.data.plan import derived, steps
from mesm_train.evaluation import answer, score, write_predictions
from mesm_train.journal import Journal
from mesm_train.optimize import autocast, groups, learning_rate, positive_weight, update
from mesm_train.setup import Setup
from mesm_train.watch import Watcher


@dataclass(slots=True)
class Position:
    """Where a run stands: before step `step` of epoch `epoch`; `total` steps have been done."""

    epoch: int = 0
    step: int = 0
    total: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    finished: bool = False


def train(setup: Setup, run: Path, *, stop: Callable[[], bool], watcher: Watcher) -> bool:
    """Train to the end, or until `stop()`; then test the best epoch. True if the run has ended.

    `watcher` is told of every step and epoch. Raises MesmError on a loss that is not finite, naming the batch.
    """
    config, model, device = setup.config.optim, setup.model, setup.device
    optimizer = torch.optim.AdamW(groups(setup), betas=config.betas, fused=False)
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    weight = positive_weight(setup).to(device)
    journal, position = Journal(run / "metrics.jsonl"), Position()
    resume(setup, run, optimizer, scaler, position, journal)
    per_epoch = -(-len(setup.keys["train"]) // config.batch)

    while position.epoch < config.epochs and not position.finished:
        plan = steps(setup.keys["train"], seed=setup.config.seed, epoch=position.epoch, batch=config.batch)
        batches = timed(setup.loader.batches(plan[position.step :]))
        saved = time.monotonic()
        model.train()
        for batch, waited in batches:
            began = time.monotonic()
            torch.manual_seed(derived(setup.config.seed, "step", position.epoch, position.step))
            rate = learning_rate(config, position.total, config.epochs * per_epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            with autocast(device, config.precision):
                logits = model(batch.to(device))
            loss = functional.binary_cross_entropy_with_logits(
                logits.float(), batch.labels.to(device), pos_weight=weight, reduction="sum"
            ) / (len(batch.keys) * logits.shape[1])
            value = float(loss.detach())
            refuse_nan(value, batch, position, run)
            first = position.step - position.step % config.accumulate
            scaler.scale(loss / min(config.accumulate, len(plan) - first)).backward()
            last = position.step + 1 == len(plan)
            whole = last or (position.step + 1) % config.accumulate == 0
            if whole:
                update(model, optimizer, scaler, config)
            position.step, position.total = position.step + 1, position.total + 1
            record = {"kind": "train", "epoch": position.epoch, "step": position.total, "loss": value, "lr": rate}
            seconds = time.monotonic() - began
            speed = len(batch.keys) / (seconds + waited)
            record |= {"seconds": round(seconds, 4), "data_wait": round(waited, 4), "samples_per_s": round(speed, 2)}
            journal.append(record)
            watcher.step(record, position.step, len(plan))
            if whole and not last and (stop() or time.monotonic() - saved >= setup.config.checkpoint_seconds):
                save(setup, run, optimizer, scaler, position, best=False)
                saved = time.monotonic()
                if stop():
                    return False
        end_epoch(setup, run, optimizer, scaler, position, journal, watcher)
        if stop() and not position.finished:
            return False
    finish(setup, run, position, journal, watcher)
    return True


def timed(batches: Iterator[Batch]) -> Iterator[tuple[Batch, float]]:
    """Each batch with the seconds that were spent waiting for it."""
    while True:
        began = time.monotonic()
        batch = next(batches, None)
        if batch is None:
            return
        yield batch, time.monotonic() - began


def refuse_nan(loss: float, batch: Batch, position: Position, run: Path) -> None:
    """Raises MesmError on a loss that is not finite, after writing down which utterances gave it."""
    if math.isfinite(loss):
        return
    where = {"epoch": position.epoch, "step": position.step, "loss": str(loss), "keys": list(batch.keys)}
    write_json(run / "diverged.json", where)
    raise MesmError(
        f"the loss is {loss} at epoch {position.epoch}, step {position.step}; the batch is written down in "
        f"{run / 'diverged.json'}. A smaller optim.lr or optim.clip_norm=1 may help; --resume goes back to the last "
        "checkpoint"
    )


def end_epoch(
    setup: Setup,
    run: Path,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
    journal: Journal,
    watcher: Watcher,
) -> None:
    """Validate, choose thresholds, remember the best, save."""
    answers = answer(setup, "valid")
    limits = metrics.thresholds(answers.logits, answers.labels, setup.config.eval.thresholds)
    found = score(setup, answers, limits)
    value = found["mean"][setup.config.eval.select_by]
    better = value is not None and value > position.best
    journal.append(
        {"kind": "valid", "epoch": position.epoch, "step": position.total, "loss": answers.loss, "metrics": found}
    )
    mark = " *" if better else ""
    watcher.say(f"epoch {position.epoch}: valid loss {answers.loss:.4f}, macro F1 {found['mean']['f1'] or 0:.3f}{mark}")
    if better:
        position.best, position.best_epoch = float(value), position.epoch
    position.epoch, position.step = position.epoch + 1, 0
    patience = setup.config.optim.patience
    waited = position.epoch - 1 - position.best_epoch
    position.finished = position.epoch >= setup.config.optim.epochs or (patience > 0 and waited >= patience)
    save(setup, run, optimizer, scaler, position, best=better)


def save(
    setup: Setup,
    run: Path,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
    *,
    best: bool,
) -> None:
    """A checkpoint of everything that the rest of the run depends on."""
    state = {"position": asdict(position), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    checkpoint.save(run / "checkpoints", position.total, setup.model.state_dict(), state, best=best)


def resume(
    setup: Setup,
    run: Path,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    position: Position,
    journal: Journal,
) -> None:
    """Go back to the last checkpoint, if there is one; forget what was written after it."""
    found = checkpoint.load(run / "checkpoints", "last")
    if found:
        weights, state = found
        setup.model.load_state_dict(weights)
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        for name, value in state["position"].items():
            setattr(position, name, value)
    journal.rewind(
        lambda record: (
            record["step"] < position.total
            or (record["step"] == position.total and (record["kind"] == "train" or record["epoch"] < position.epoch))
        )
    )


def finish(setup: Setup, run: Path, position: Position, journal: Journal, watcher: Watcher) -> None:
    """The best epoch on the test part, with the thresholds that the valid part chose; written down whole."""
    found = checkpoint.load(run / "checkpoints", "best")
    if found is None:
        raise MesmError(f"no epoch of {run} has a validation score: no class of the valid part has positives")
    setup.model.load_state_dict(found[0])
    valid = answer(setup, "valid")
    limits = metrics.thresholds(valid.logits, valid.labels, setup.config.eval.thresholds)
    classes = list(setup.view.classes)
    chosen = {"classes": classes, "thresholds": limits.tolist(), "epoch": position.best_epoch, "part": "valid"}
    write_json(run / "thresholds.json", chosen)
    write_predictions(run / "predictions-valid.parquet", setup, valid)
    journal.rewind(lambda record: record["kind"] != "test")
    if not setup.keys.get("test"):
        return
    test = answer(setup, "test")
    write_predictions(run / "predictions-test.parquet", setup, test)
    result = score(setup, test, limits)
    journal.append(
        {"kind": "test", "epoch": position.best_epoch, "step": position.total, "loss": test.loss, "metrics": result}
    )
    mean, floor = result["mean"], result["floor"]
    watcher.say(
        f"test (epoch {position.best_epoch}): macro F1 {mean['f1'] or 0:.3f}, constant answer {floor['f1'] or 0:.3f}; "
        f"accuracy {mean['accuracy']:.3f}, always no {floor['accuracy']:.3f}"
    )
