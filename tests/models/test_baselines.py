"""The two-phase systems: published sizes, no influence between utterances, gradients, absent modalities."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from mesm_data.errors import InputError
from mesm_train.config.model_settings import ModelSettings
from mesm_train.config.two_phase_settings import (
    TWO_PHASE,
    FeatureSettings,
    LFTransformerSettings,
    MulTSettings,
    TwoPhaseSettings,
)
from mesm_train.data.batch import Batch, FeatureRows
from mesm_train.data.feature_loader import statistics
from mesm_train.models.baselines.make import make_two_phase
from mesm_train.models.baselines.mult import positions
from mesm_train.models.baselines.two_phase import Sequence, TwoPhaseModel

IEMOCAP, MOSEI = (300, 35, 144), (300, 35, 74)  # widths of t, v, a
SMALL = (6, 8, 10)
COUNTS = {"t": [3, 0, 5, 1], "v": [2, 4, 0, 0], "a": [7, 1, 0, 2]}  # rows of four utterances


def make(kind: str, dims: tuple[int, int, int], classes: int = 6, **sizes: object) -> TwoPhaseModel:
    """A model of these widths; EmoEmbs with random word vectors as wide as the text."""
    two_phase = TwoPhaseSettings(features=FeatureSettings(dims=dims), **sizes)  # type: ignore[arg-type]
    modalities = ("t", "v", "a")
    settings = ModelSettings(kind=kind, classes=classes, modalities=modalities, two_phase=two_phase)  # type: ignore[arg-type]
    torch.manual_seed(0)
    emotions = torch.randn(classes, dims[0]) if kind == "emo-embs" else None
    return make_two_phase(settings, emotions)


def small(kind: str) -> TwoPhaseModel:
    """A small model of the kind, in evaluation mode, with convolutions of several rows."""
    heads = LFTransformerSettings(heads=(2, 4, 5), feedforward=16)
    mult = MulTSettings(dim=12, layers=2, heads=3, kernels=(3, 1, 5))
    return make(kind, SMALL, 3, lf_transformer=heads, mult=mult).eval()


def batch_of(counts: dict[str, list[int]], seed: int = 1) -> Batch:
    """Random features for utterances of so many rows."""
    torch.manual_seed(seed)
    number = len(counts["t"])
    nothing = torch.zeros(number, dtype=torch.int64)
    return Batch(
        keys=tuple(f"u{index}" for index in range(number)),
        faces=torch.zeros(0, 48, 48, 3, dtype=torch.uint8), face_counts=nothing,
        samples=torch.zeros(0, dtype=torch.int16), sample_counts=nothing,
        tokens=torch.zeros(number, 0, dtype=torch.int64), token_counts=nothing,
        labels=torch.zeros(number, 3),
        features={
            m: FeatureRows(values=torch.randn(sum(rows), width), counts=torch.tensor(rows, dtype=torch.int64))
            for (m, rows), width in zip(counts.items(), SMALL, strict=True)
        },
    )  # fmt: skip


def parameters(model: TwoPhaseModel) -> int:
    """The number of parameters; buffers are none."""
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("kind", "dims", "classes", "sizes", "published"),
    [
        ("lf-lstm", IEMOCAP, 6, {}, 2_026_336),
        ("lf-lstm", MOSEI, 6, {}, 1_750_046),
        ("lf-transformer", IEMOCAP, 6, {}, 4_898_702),
        ("lf-transformer", MOSEI, 6, {}, 4_193_977),
        ("emo-embs", MOSEI, 6, {}, 5_455_903),
        ("emo-embs", IEMOCAP, 6, {}, 5_567_903),
        ("mult", MOSEI, 1, {}, 1_073_731),
        ("mult", MOSEI, 8, {}, 1_074_998),
        ("mult", MOSEI, 1, {"mult": MulTSettings(dim=40, layers=4, heads=8)}, 1_540_601),
        ("mult", MOSEI, 6, {"mult": MulTSettings(dim=40, layers=4, heads=8, kernels=(3, 3, 5))}, 1_580_446),
        ("mult", IEMOCAP, 6, {"mult": MulTSettings(dim=40, layers=4, heads=10, kernels=(3, 3, 5))}, 1_594_446),
    ],
)
def test_parameter_counts_are_those_of_the_published_code(
    kind: str, dims: tuple[int, int, int], classes: int, sizes: dict[str, object], published: int
) -> None:
    assert parameters(make(kind, dims, classes, **sizes)) == published


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_no_logit_depends_on_the_batch(kind: str) -> None:
    model, batch = small(kind), batch_of(COUNTS)
    together = model(batch)
    alone = torch.cat([model(one) for one in batch.split()])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=1e-5)
    assert together.shape == (4, 3)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", TWO_PHASE)
def test_sequences_of_equal_length_in_lower_precision(kind: str, precision: torch.dtype) -> None:
    """Of these torch takes oneDNN's LSTM, which many CPUs have in float32 only."""
    model, batch = small(kind).train(), batch_of({m: [4, 4, 4] for m in ("t", "v", "a")})
    with torch.autocast("cpu", precision):
        logits = model(batch)
    logits.sum().backward()
    assert logits.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_the_order_of_rows_counts_where_the_system_has_an_order(kind: str) -> None:
    model, batch = small(kind), batch_of({"t": [6], "v": [0], "a": [0]})
    rows = batch.features["t"]
    turned = FeatureRows(values=rows.values.flip(0), counts=rows.counts)
    batch_turned = batch.split()[0]
    batch_turned.features["t"] = turned  # type: ignore[index]
    difference = (model(batch) - model(batch_turned)).abs().max()
    assert (difference < 1e-6) == (kind == "lf-transformer")  # it has no positions


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_an_absent_modality_adds_exactly_nothing(kind: str) -> None:
    model, batch = small(kind), batch_of(COUNTS)
    details = model.forward_details(batch)
    for modality, logits in details.branches.items():
        absent = torch.tensor(COUNTS[modality]) == 0
        assert (logits[absent] == 0).all()
        assert (logits[~absent] != 0).all()
    assert {m: present.tolist() for m, present in details.present.items()} == {
        m: [count > 0 for count in counts] for m, counts in COUNTS.items()
    }


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_every_parameter_learns_and_every_row_counts(kind: str) -> None:
    model, batch = small(kind).train(), batch_of({"t": [3, 5], "v": [4, 2], "a": [6, 3]})
    for rows in batch.features.values():
        rows.values.requires_grad_()
    model(batch).square().sum().backward()
    unreached = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()]
    assert not [name for name in unreached if "in_proj_bias" not in name]
    for rows in batch.features.values():
        assert rows.values.grad is not None
        assert (rows.values.grad.abs().sum(dim=1) > 0).all()


@pytest.mark.parametrize("kind", TWO_PHASE)
def test_no_utterances_and_no_rows_give_logits_of_that_shape(kind: str) -> None:
    model = small(kind)
    assert model(batch_of({"t": [], "v": [], "a": []})).shape == (0, 3)
    assert torch.isfinite(model(batch_of({"t": [0, 0], "v": [0, 0], "a": [0, 0]}))).all()


@pytest.mark.parametrize("kind", TWO_PHASE)
@pytest.mark.parametrize("modalities", [("t",), ("v", "a"), ("t", "a")])
def test_fewer_modalities_work(kind: str, modalities: tuple[str, ...]) -> None:
    sizes = TwoPhaseSettings(
        features=FeatureSettings(dims=SMALL), lf_transformer=LFTransformerSettings(heads=(2, 4, 5), feedforward=16)
    )
    settings = ModelSettings(kind=kind, classes=3, modalities=modalities, two_phase=sizes)  # type: ignore[arg-type]
    model = make_two_phase(settings, torch.randn(3, 6) if kind == "emo-embs" else None).eval()
    batch = batch_of(COUNTS)
    torch.testing.assert_close(model(batch), torch.cat([model(one) for one in batch.split()]), atol=2e-6, rtol=1e-5)


def test_features_are_standardised_and_a_constant_one_stays_finite() -> None:
    model, batch = small("lf-lstm"), batch_of(COUNTS)
    values = batch.features["a"].values
    expected = model(batch)
    deviation = torch.tensor([0.0, *[2.0] * 9])
    model.set_statistics("a", torch.full((10,), 5.0), deviation)
    values.mul_(torch.where(deviation > 0, deviation, 1)).add_(5)
    torch.testing.assert_close(model(batch), expected)


def test_a_causal_row_does_not_see_later_ones() -> None:
    """Of two sequences of n and m rows, row i attends to row j <= i + |m - n|."""
    model = small("mult")
    transformer = model.cross["t_from_a"]  # type: ignore[index,union-attr]
    torch.manual_seed(2)
    target, source = torch.randn(1, 3, 12), torch.randn(1, 5, 12, requires_grad=True)
    states: Tensor = transformer(
        Sequence(values=target, counts=torch.tensor([3])), Sequence(values=source, counts=torch.tensor([5]))
    )
    states[0, 0, 0].backward()
    assert source.grad is not None
    assert (source.grad[0].abs().sum(dim=1) > 0).tolist() == [True, True, True, False, False]


def test_a_row_whose_first_feature_is_zero_has_a_position() -> None:
    table = positions(4, 6, torch.zeros(1))
    assert (table.abs().sum(dim=1) > 0).all()
    assert len({tuple(row) for row in table.tolist()}) == 4


def test_macs_are_those_of_torch_for_the_transformer() -> None:
    """Counted by torch on the same model; LSTMs it cannot count."""
    from torch.utils.flop_counter import FlopCounterMode

    # With dropout torch composes attention of products; the fused one for a CPU is not counted by it.
    mult = MulTSettings(dim=12, layers=2, heads=3, kernels=(3, 1, 5), attention_dropout=(0.1, 0.1, 0.1))
    model, counts = make("mult", SMALL, 3, mult=mult).train(), {"t": [3], "v": [2], "a": [7]}
    batch = batch_of(counts)
    with FlopCounterMode(display=False) as counter:
        model(batch)
    assert 2 * sum(model.macs({m: rows[0] for m, rows in counts.items()}).values()) == counter.get_total_flops()


def test_heads_that_do_not_divide_the_features_are_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"lf_transformer\.heads .* v has 8"):
        make("lf-transformer", SMALL, lf_transformer=LFTransformerSettings(heads=(2, 5, 2)))


def test_a_number_that_is_the_same_in_all_rows_has_a_deviation_of_0() -> None:
    """Not one of rounding, by whose inverse a test utterance with another value would be multiplied."""
    row = np.array([0.1, 3000.7, 0.0], np.float32)
    lengths = {str(number): number % 13 for number in range(20_000)}
    many = {key: np.tile(row, (count, 1)) for key, count in lengths.items()}
    many["1"][0, 2] = 400.0
    features = SimpleNamespace(dim=3, values=many.__getitem__)
    mean, deviation = statistics(features, list(many))  # type: ignore[arg-type]
    together = np.concatenate(list(many.values())).astype(np.float64)
    assert deviation[:2].tolist() == [0, 0]
    np.testing.assert_allclose(mean, together.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation[2], together[:, 2].std(), rtol=1e-6)
