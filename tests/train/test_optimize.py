"""What is learnt, at which rate, and what is averaged of it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mesm_data.errors import InputError
from mesm_train.config.model_settings import ModelSettings
from mesm_train.config.settings import OptimConfig
from mesm_train.data.device import pick_device
from mesm_train.evaluation.scores import binary_scores
from mesm_train.models.fe2e_mesm import Model
from mesm_train.training.optimizer import Plateau, averaged_model, ema_decay, learning_rate, param_groups
from mesm_train.training.throughput import peak_operations

TOKENS, COUNTS = torch.tensor([[2, 7, 9], [2, 8, 0]]), torch.tensor([3, 2])


def model_with_text() -> Model:
    """FE2E with a tiny encoder that drops half of everything while it learns."""
    from transformers import AlbertConfig, AlbertModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "embedding_size": 8, "hidden_size": 12, "num_attention_heads": 2}
    dropout = {"hidden_dropout_prob": 0.5, "attention_probs_dropout_prob": 0.5}
    encoder = AlbertModel(AlbertConfig(**sizes, **dropout, intermediate_size=16, num_hidden_layers=2))
    settings = ModelSettings(
        modalities=("t", "v"), classes=3, channels=(4, 8), stem_blocks=0, hidden=16, dim=8, layers=1, heads=2,
        feedforward=16,
    )  # fmt: skip
    return Model(settings, encoder)


def test_norms_and_biases_do_not_decay_and_everything_else_does() -> None:
    model, config = model_with_text(), OptimConfig(weight_decay=0.1, text_lr_factor=0.25)
    groups = param_groups(model, config)
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    factors = {id(p): group["factor"] for group in groups for p in group["params"]}
    norms = {
        id(p)
        for module in model.modules()
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
        for p in module.parameters()
    }
    assert norms
    for name, parameter in model.named_parameters():
        plain = id(parameter) in norms or name.endswith("bias") or name.endswith(".cls")
        assert decays.pop(id(parameter)) == (0.0 if plain else 0.1), name
        assert factors.pop(id(parameter)) == (0.25 if name.startswith("text.") else 1.0), name
    assert not decays, "each parameter is in one group"


@pytest.mark.parametrize("patience", [0, 1, 3])
def test_the_schedule_plateau_is_that_of_torch(patience: int) -> None:
    config = OptimConfig(lr=0.5, schedule="plateau", plateau_patience=patience, plateau_factor=0.3)
    optimizer, plateau = torch.optim.SGD([torch.zeros(1)], lr=0.5), Plateau()
    oracle = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=patience, eps=0)
    losses = np.random.default_rng(0).normal(size=40).cumsum() * 1e-3 + 2 - np.minimum(np.arange(40), 10) * 0.01
    losses[20] = np.nan
    rates = []
    for epoch, loss in enumerate(losses):
        plateau.update(float(loss), config)
        oracle.step(float(loss))
        rates.append(learning_rate(config, epoch, 40, plateau.factor))
        assert rates[-1] == pytest.approx(optimizer.param_groups[0]["lr"])
    assert len(set(rates)) > 2


def test_a_text_factor_of_0_freezes_the_encoder_and_its_output_layer_learns() -> None:
    model, config = model_with_text(), OptimConfig(text_lr_factor=0.0, lr=0.1, weight_decay=0.1)
    branch = model.text
    assert branch is not None
    branch.freeze_encoder()
    before = {name: value.clone() for name, value in branch.encoder.state_dict().items()}
    head = branch.out.weight.detach().clone()
    optimizer = torch.optim.AdamW(param_groups(model, config))
    model.train()
    assert torch.equal(branch(TOKENS, COUNTS)[0], branch(TOKENS, COUNTS)[0]), "no dropout"
    branch(TOKENS, COUNTS)[1].sum().backward()
    assert all(not p.requires_grad and p.grad is None for p in branch.encoder.parameters()), "nothing to all-reduce"
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in branch.encoder.state_dict().items())
    assert not torch.equal(branch.out.weight, head)
    factors = {id(p): group["factor"] for group in optimizer.param_groups for p in group["params"]}
    assert factors[id(branch.out.weight)] == 1.0
    assert not any(id(p) in factors for p in branch.encoder.parameters())


def test_a_moving_average_warms_up_and_then_keeps_its_decay() -> None:
    """With a constant .999 it would be two thirds of the first weights after 400 updates."""
    model = nn.Linear(1, 1, bias=False)
    mean = averaged_model(model, 0.999)
    assert mean is not None
    model.weight.data.fill_(1.0)
    mean.update_parameters(model)
    model.weight.data.zero_()
    for _ in range(400):
        mean.update_parameters(model)
    assert mean.module.weight.item() == pytest.approx(np.prod([(1 + n) / (10 + n) for n in range(1, 401)]), abs=1e-9)
    assert mean.module.weight.item() < 1e-6
    decays = [ema_decay(0.999, n) for n in range(1, 10_000)]
    assert all(before <= after for before, after in pairwise(decays))
    assert decays[-1] == 0.999


def test_the_weights_of_positives_do_not_change_the_most_probable_class() -> None:
    """Logits that minimise the weighted loss itself are shifted by log(pos_weight): rare classes win there."""
    shares = torch.tensor([[0.70, 0.20, 0.10], [0.46, 0.34, 0.20]])  # of each class, given one of two inputs
    counts = (1000 * shares).round().long()
    labels = torch.cat([torch.eye(3).repeat_interleave(row, dim=0) for row in counts])
    inputs = torch.arange(2).repeat_interleave(1000)
    positives = labels.sum(0)
    weight = (len(labels) - positives) / positives
    logits = torch.zeros(2, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(logits[inputs], labels, pos_weight=weight)
        value.backward()
        return value

    optimizer.step(loss)
    learned_logits = logits.detach()[inputs]
    facts = {"labels": labels, "thresholds": (0.5,) * 3, "classes": ("a", "b", "c"), "exclusive": True}
    best = float(shares[:, 0].mean())  # the first class is the most probable one for either input
    assert binary_scores(learned_logits, **facts, pos_weight=weight)["multiclass"]["accuracy"] == pytest.approx(best)
    assert binary_scores(learned_logits, **facts)["multiclass"]["accuracy"] < best - 0.1


def test_a_device_without_float64_is_refused_in_one_sentence() -> None:
    """Apple's MPS, which is not here: torch's own error on it, for any tensor of float64."""

    class WithoutFloat64(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if (kwargs or {}).get("dtype") == torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support it")
            return func(*args, **(kwargs or {}))

    assert pick_device("cpu") == torch.device("cpu")
    with WithoutFloat64(), pytest.raises(InputError, match=r"device 'cpu' cannot be used .*float64"):
        pick_device("cpu")


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA H200", 989e12),
        ("NVIDIA GH200 480GB", 989e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12), ("NVIDIA L40", None), ("NVIDIA RTX A1000", None), ("Tesla T4", None),
    ],
)  # fmt: skip
def test_the_peak_is_that_of_the_card_or_not_known(
    name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MFU is a share of it."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_operations(torch.device("cuda"), "bf16") == peak
