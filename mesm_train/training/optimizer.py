"""What the loop does with gradients: parameter groups, learning rate, precision, the update."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mesm_data.storage.json_shapes import NUMBER
from mesm_train.config.settings import OptimConfig
from mesm_train.models.baselines.make import AnyModel

PRECISION = {"bf16": torch.bfloat16, "fp16": torch.float16}


def param_groups(model: AnyModel, config: OptimConfig) -> list[dict[str, Any]]:
    """The optimizer's groups: pretrained encoders learn at rates of their own; vectors (norms, biases) do not decay.

    Frozen parameters are in none. The output layer of a frozen text encoder learns at the rate of all others.
    """
    text = (model.text_parameters(), config.text_lr_factor or 1.0)
    branches = (text, *model.encoder_parameters(), (model.other_parameters(), 1.0))
    groups = []
    for parameters, factor in branches:
        trainable = [parameter for parameter in parameters if parameter.requires_grad]
        vectors = [parameter for parameter in trainable if parameter.ndim < 2]
        matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
        for chosen, decay in ((matrices, config.weight_decay), (vectors, 0.0)):
            if chosen:
                groups.append({"params": chosen, "lr": config.lr, "factor": factor, "weight_decay": decay})
    return groups


@dataclass(slots=True)
class Plateau:
    """What the schedule plateau remembers of the validation losses: that of torch's ReduceLROnPlateau.

    Attributes:
        best: The lowest loss; one is lower if it is so by more than 1e-4 of it, torch's default.
        epochs_since_best: Epochs since then, or since the last reduction.
        factor: What the learning rate is multiplied with.
    """

    best: float = math.inf
    epochs_since_best: int = 0
    factor: float = 1.0

    def update(self, loss: float, config: OptimConfig) -> None:
        """Add the validation loss of an epoch."""
        if loss < self.best * (1 - 1e-4):
            self.best, self.epochs_since_best = loss, 0
            return
        self.epochs_since_best += 1
        if self.epochs_since_best > config.plateau_patience:
            self.factor, self.epochs_since_best = self.factor * config.plateau_factor, 0


PLATEAU = {"best": NUMBER, "epochs_since_best": int, "factor": NUMBER}


def learning_rate(config: OptimConfig, step: int, total: int, factor: float = 1.0) -> float:
    """Linear warm-up, then constant (times the `factor` of a plateau) or half a cosine down to 0 at the last step."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule != "cosine":
        return config.lr * factor
    done = (step - config.warmup_steps) / max(1, total - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The forward pass' precision; weights and loss stay float32."""
    return torch.autocast(device.type, PRECISION[precision]) if precision in PRECISION else nullcontext()


def averaged_model(model: torch.nn.Module, decay: float) -> AveragedModel | None:
    """The exponential moving average of a model's weights over its updates; None if `decay` is 0.

    Each update keeps `ema_decay` of the average. It starts with the weights after the first update, and statistics of
    batch norm are the model's own.
    """
    if not decay:
        return None

    def average(means: Any, weights: Any, updates: Tensor | int) -> None:
        # Counted on the CPU: `updates` is on the device of the weights, and reading it would wait for the card.
        rate = ema_decay(decay, int(averaged.n_averaged))
        get_ema_multi_avg_fn(rate)(means, weights, updates)  # type: ignore[no-untyped-call]

    averaged = AveragedModel(model, multi_avg_fn=average)
    return averaged


def ema_decay(decay: float, updates: int) -> float:
    """The decay after so many updates: (1 + n) / (10 + n) until that reaches `decay`.

    A constant .999 would leave two thirds of the average to the first weights after 400 updates.
    """
    return min(decay, (1 + updates) / (10 + updates))


def optimizer_step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, config: OptimConfig
) -> Tensor:
    """One step of the optimizer on the gradients that have come together; returns their norm before clipping, ()."""
    scaler.unscale_(optimizer)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if config.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), config.clip_norm, norm)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return norm
