"""What a step gives a graphics card to do, counted without one: so few launches that the host keeps up."""

import math
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from launches import Host, recorded
from packaging.version import Version
from torch import nn

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.data import device as accelerator
from mesm_train.data.batch import Batch
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.kernels import functions
from mesm_train.models.kernels.native import NativeKernels
from mesm_train.models.kernels.pure import PureKernels
from mesm_train.models.norm import BatchNorm

Name = Literal["fe2e", "sites", "tiles"]
SPARSE: dict[str, Any] = {
    "fe2e": {},
    "sites": {"selection": "gate", "tile": 1, "anneal_epochs": 0},
    "tiles": {"selection": "straight", "tile": 4},
}
OPTIMIZER = 40  # launches of the gradients' norm, clipping and fused AdamW at most: they take many tensors at once


def model(name: Name) -> Model:
    """The published model with narrow layers, whose number is what counts; MESM chooses single sites, or tiles."""
    from transformers import AlbertConfig, AlbertModel

    torch.manual_seed(0)
    encoder = AlbertModel(
        AlbertConfig(
            vocab_size=50, embedding_size=8, hidden_size=16, num_attention_heads=2, intermediate_size=16,
            num_hidden_layers=12, hidden_act="gelu_pytorch_tanh",
        )
    )  # fmt: skip
    sizes: dict[str, Any] = {"channels": (4, 4, 4, 4), "hidden": 8, "dim": 8, "heads": 2, "feedforward": 8}
    sparse = SparseSettings(p=0.8, engine="torch", **SPARSE[name])
    return Model(ModelSettings(kind="fe2e" if name == "fe2e" else "mesm", sparse=sparse, **sizes), encoder)


def batch(utterances: int = 8) -> Batch:
    """Texts of different lengths, two faces and two pieces of sound each."""
    g = torch.Generator().manual_seed(0)
    host = {
        "face_counts": torch.full((utterances,), 2),
        "sample_counts": torch.full((utterances,), 9000),
        "token_counts": torch.tensor([12, 9] * (utterances // 2)),
    }
    return Batch(
        keys=tuple(map(str, range(utterances))),
        faces=torch.randint(0, 256, (2 * utterances, 48, 48, 3), dtype=torch.uint8, generator=g),
        samples=torch.randint(-9000, 9000, (9000 * utterances,), dtype=torch.int16, generator=g),
        tokens=torch.randint(4, 50, (utterances, 12), generator=g),
        labels=torch.zeros(utterances, 6),
        **{name: counts.as_subclass(Host) for name, counts in host.items()},
    )


@pytest.mark.parametrize("dense", [math.inf, 0.0])
@pytest.mark.parametrize(("name", "most", "waits"), [("fe2e", 1800, 0), ("sites", 2600, 6), ("tiles", 2600, 6)])
def test_a_step_has_few_launches_and_waits_only_for_the_number_of_kept_sites(
    name: Name, most: int, waits: int, dense: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward of the published architecture; mesm waits once in each of its six sparse blocks.

    Their convolutions are those of few pictures, dense, and those of many, gathered.
    """
    monkeypatch.setattr(functions, "DENSE_OPERATIONS", dense)
    mesm, data = model(name).train(), batch()
    with recorded() as forward:
        loss = mesm(data).sum()
    with recorded() as backward:
        loss.backward()
    assert forward.counts.pop("wait", 0) == waits
    assert backward.counts.pop("wait", 0) == 0
    total = forward.counts.total() + backward.counts.total() + OPTIMIZER
    most += 20 * (Version(torch.__version__) < Version("2.13"))  # 2.6 computes some operators by others
    assert most / 2 < total <= most, (forward.counts.most_common(20), backward.counts.most_common(20))


def test_to_measure_which_tiles_matter_takes_200_launches_more_while_p_is_annealed() -> None:
    mesm, data, counts = model("tiles").train(), batch(), []
    for epoch in (1, 9):  # of 18; p is reached after four
        mesm.set_epoch(epoch, 18)
        mesm.zero_grad()
        with recorded() as step:
            mesm(data).sum().backward()
            mesm.end_update(None)
        counts.append(step.counts.total())
    assert 100 < counts[0] - counts[1] <= 200


@pytest.mark.parametrize("name", ["fe2e", "sites", "tiles"])
def test_in_bfloat16_the_streams_write_half_the_bytes(name: Name) -> None:
    """Of convolutions, batch norms, ReLUs and gathers, forward and backward."""
    streams = {
        "convolution", "convolution_backward", "native_batch_norm", "native_batch_norm_backward", "relu_",
        "threshold_backward", "index_select",
    }  # fmt: skip
    written = []
    for low in (True, False):
        mesm, data = model(name).train(), batch()
        with torch.autocast("cpu", torch.bfloat16, enabled=low), recorded() as forward:
            loss = mesm(data).sum()
        with recorded() as backward:
            loss.backward()
        written.append(sum((forward.bytes + backward.bytes)[name] for name in streams))
    assert written[0] < 0.55 * written[1]


@pytest.mark.parametrize(("name", "dense"), [("fe2e", 0.0), ("sites", 0.0), ("sites", math.inf), ("tiles", 0.0)])
@pytest.mark.parametrize("training", [True, False])
def test_the_way_with_few_launches_gives_the_same(
    name: Name, dense: float, training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits, gradients and running statistics; in float64, where rounding chooses no other sites.

    Without Winograd's way, which leaves 1e-22 where a sum is 0, and ReLU passes a gradient there.
    """
    for engine in (NativeKernels, PureKernels):
        monkeypatch.setattr(engine, "min_windows", 10**9)
    monkeypatch.setattr(functions, "DENSE_OPERATIONS", dense)
    runs = []
    for few in (True, False):
        mesm, data = model(name).double(), batch(4)
        for module in mesm.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        mesm = mesm.train(training)
        data = replace(data, token_counts=torch.tensor([12, 0, 9, 12]).as_subclass(Host))
        if few:
            with recorded():
                logits = mesm(data)
                logits.square().sum().backward()
        else:
            logits = mesm(data)
            logits.square().sum().backward()
        gradients = {key: p.grad for key, p in mesm.named_parameters() if p.grad is not None}
        runs.append({"logits": logits, **gradients, **dict(mesm.named_buffers())})
    assert runs[0].keys() == runs[1].keys()
    for key, value in runs[1].items():
        torch.testing.assert_close(runs[0][key], value, rtol=1e-6, atol=1e-9, msg=lambda text, n=key: f"{n}: {text}")


@pytest.mark.parametrize("rows", [0, 1])
def test_batch_norm_of_less_than_two_rows_takes_the_running_statistics(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = BatchNorm(3).train()
    norm.running_mean.fill_(0.5)  # type: ignore[union-attr]
    x = torch.randn(rows, 3)
    expected = norm(x, PureKernels())
    monkeypatch.setattr(accelerator, "is_accelerator", lambda device: True)
    torch.testing.assert_close(norm(x, PureKernels()), expected)
    assert norm.running_mean is not None
    assert norm.running_mean.tolist() == [0.5] * 3
