"""The state of a run without its model. Checkpoints contain it, and a run resumes from it."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from mesm_data.errors import MesmError, first_line
from mesm_data.storage.json_shapes import NUMBER, mismatch
from mesm_train.training import checkpoint
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.optimizer import averaged_model, param_groups
from mesm_train.training.setup import Setup


@dataclass(slots=True)
class Position:
    """The position of a run: before step `step` of epoch `epoch`, after `total` updates in all."""

    epoch: int = 0
    step: int = 0
    total: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    finished: bool = False


POSITION = {"epoch": int, "step": int, "total": int, "best": NUMBER, "best_epoch": int, "finished": bool}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The state that the loop changes. `mean`: the exponential moving average of the weights, if there is one."""

    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    mean: AveragedModel | None
    position: Position

    @classmethod
    def start(cls, setup: Setup) -> "RunState":
        """The state before the first step."""
        config = setup.config.optim
        return cls(
            optimizer=torch.optim.AdamW(
                param_groups(setup.model, config), betas=config.betas, fused=setup.device.type == "cuda"
            ),
            scaler=torch.amp.GradScaler(setup.device.type, enabled=config.precision == "fp16"),
            mean=averaged_model(setup.model, config.ema),
            position=Position(),
        )

    def save(self, setup: Setup, run: Path, *, score: float | None = None) -> None:
        """Write a checkpoint, with everything that the rest of the run depends on. Rank 0 writes it.

        Args:
            setup: Model, data and settings of the run.
            run: The folder of the run.
            score: The validation score, if the epoch is the best so far.

        Raises:
            MesmError: The weights are not finite (the earlier checkpoint is better), or differ between ranks.
        """
        ranks, parameters = setup.ranks, setup.model.parameters()
        sums = ranks.gather([float(sum(p.detach().double().sum() for p in parameters))])[:, 0].tolist()
        if not math.isfinite(sums[0]) or len(set(sums)) > 1:
            diverged = not math.isfinite(sums[0])
            what = "not finite: the training diverged" if diverged else "not the same on all ranks"
            ranks.raise_first_error(
                MesmError(f"{run}: the weights are {what} (step {self.position.total}). They are not saved")
            )
        state: dict[str, Any] = {
            "position": asdict(self.position),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        weights = setup.model.state_dict()
        if self.mean is not None:  # a checkpoint's weights are those that are evaluated; training resumes from its own
            state |= {"weights": weights, "averaged": int(self.mean.n_averaged)}
            weights = self.mean.module.state_dict()
        with ranks.same_error_everywhere():
            if ranks.first:
                folder, keep = run / "checkpoints", setup.config.keep_best
                checkpoint.save(folder, self.position.total, weights, state, score=score, keep=keep)

    def _load(self, setup: Setup, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        if problem := mismatch(state["position"], POSITION):
            raise ValueError(f"position: {problem}")
        if self.mean is not None:
            self.mean.module.load_state_dict(weights)
            self.mean.n_averaged.fill_(state["averaged"])
            weights = state["weights"]
        setup.model.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        for name in POSITION:
            setattr(self.position, name, state["position"][name])

    def resume(self, setup: Setup, run: Path, metrics_log: MetricsLog) -> None:
        """Restore the last checkpoint, if there is one, and remove later lines of the metrics log."""
        position = self.position
        last = checkpoint.load(run / "checkpoints", "last")
        if last:
            weights, state = last
            try:
                self._load(setup, weights, state)
            except Exception as error:  # a damaged state raises different exceptions, depending on where it is damaged
                raise MesmError(
                    f"{run / 'checkpoints'}: the last checkpoint is not of this run ({first_line(error)}): --resume "
                    "cannot use it"
                ) from None
        step, epoch = position.total, position.epoch
        metrics_log.rewind(
            lambda line: (
                line["step"] < step or (line["step"] == step and (line["kind"] == "train" or line["epoch"] < epoch))
            )
        )
