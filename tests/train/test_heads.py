"""A view gets the head that its loss is for, each loss is the published one, and what does not fit is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from neutral import neutral_statistics
from torch.nn import functional

from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.corpus import CorpusSchema
from mesm_train.config.recipe_files import load_recipe
from mesm_train.data.input_spec import distinct_meanings
from mesm_train.data.labels import Heads, resolve_heads
from mesm_train.training.losses import TargetStatistics, batch_loss

IEMOCAP = built_in_schema("iemocap")
SINGLE = CorpusSchema.parse(
    {
        "name": "mine",
        "labels": {"emotion": {"type": "category", "values": ["up", "down", "none"]}},
        "views": {"mood": {"label": "emotion", "task": "single"}},
    },
    "mine.toml",
)


def data(heads: Heads, count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and targets that every kind of head can have."""
    random = np.random.default_rng(1)
    outputs, targets = random.normal(size=(count, len(heads.outputs))), np.zeros((count, len(heads.outputs)))
    for head in heads.heads:
        width = len(head.outputs)
        if head.kind == "number":
            targets[:, head.columns] = random.uniform(1, 5, (count, width))
        else:
            targets[:, head.columns] = np.eye(width)[random.integers(0, width, count)]
    return torch.tensor(outputs, dtype=torch.float32), torch.tensor(targets, dtype=torch.float32)


def loss_of(heads: Heads, statistics: TargetStatistics | None = None) -> float:
    outputs, targets = data(heads)
    return float(
        batch_loss(heads, outputs, targets, statistics or neutral_statistics(len(heads.outputs)), len(outputs))
    )


@pytest.mark.parametrize(
    ("labels", "loss", "kinds", "losses"),
    [
        ("six", "auto", ["binary"], ["bce"]),
        ("six", "softmax", ["multiclass"], ["softmax"]),
        ("soft", "focal", ["binary"], ["focal"]),
        ("dimensions", "auto", ["number"], ["mae"]),
        ("six+dimensions", "auto", ["binary", "number"], ["bce", "mae"]),
        ("four+dimensions", "softmax+ccc", ["multiclass", "number"], ["softmax", "ccc"]),
    ],
)
def test_the_loss_determines_the_head(labels: str, loss: str, kinds: list[str], losses: list[str]) -> None:
    heads = resolve_heads(IEMOCAP, labels, loss)
    assert [head.kind for head in heads.heads] == kinds
    assert [head.loss for head in heads.heads] == losses
    widths = [len(head.view.classes) for head in heads.heads]
    assert heads.heads[0].columns == slice(0, widths[0])
    assert heads.heads[-1].columns.stop == sum(widths)
    assert len(set(heads.outputs)) == sum(widths)


def test_a_view_of_one_category_a_row_is_a_softmax() -> None:
    [head] = resolve_heads(SINGLE, "mood").heads
    assert head.kind == "multiclass"


def test_outputs_of_two_views_that_mean_the_same_are_told_apart() -> None:
    known = distinct_meanings(IEMOCAP, resolve_heads(IEMOCAP, "soft+six+dimensions").heads)
    assert (known["ang"], known["six.ang"], known["dimensions.valence"]) == ("Anger", "Anger (six)", "valence")


def test_an_utterance_is_in_all_views_or_left_out() -> None:
    heads = resolve_heads(IEMOCAP, "four+dimensions")
    labels: dict[str, Any] = {"emotion": "exc", "valence": 4.0, "activation": 3.5, "dominance": 2.0}
    target = heads.target(labels)
    assert target is not None
    assert target.tolist() == [0, 1, 0, 0, 4.0, 3.5, 2.0]
    assert heads.outputs[4:] == ("dimensions.valence", "dimensions.activation", "dimensions.dominance")
    assert heads.target({**labels, "emotion": "fru"}) is None
    assert heads.target({**labels, "valence": None}) is None


def test_each_loss_is_that_of_torch_or_of_its_definition() -> None:
    heads = resolve_heads(IEMOCAP, "six")
    outputs, targets = data(heads)
    weights = torch.tensor([1.0, 2.0, 3.0, 0.5, 5.0, 4.0])
    weighted = TargetStatistics(pos_weight=weights, offset=torch.zeros(6), scale=torch.ones(6))
    expected = functional.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights)
    assert loss_of(heads, weighted) == pytest.approx(float(expected), rel=1e-5)
    expected = functional.cross_entropy(outputs, targets.argmax(dim=1))
    assert loss_of(resolve_heads(IEMOCAP, "six", "softmax")) == pytest.approx(float(expected), rel=1e-5)
    p = torch.sigmoid(outputs)
    of_truth = torch.where(targets > 0, p, 1 - p)
    expected = (-((1 - of_truth) ** 2) * of_truth.log()).mean()
    assert loss_of(resolve_heads(IEMOCAP, "six", "focal")) == pytest.approx(float(expected), rel=1e-5)

    numbers = resolve_heads(IEMOCAP, "dimensions")
    outputs, targets = data(numbers)
    assert loss_of(numbers) == pytest.approx(float((outputs - targets).abs().mean()), rel=1e-5)
    x, y = outputs.double().numpy(), targets.double().numpy()
    covariance = ((x - x.mean(0)) * (y - y.mean(0))).mean(0)
    ccc = 2 * covariance / (x.var(0) + y.var(0) + (x.mean(0) - y.mean(0)) ** 2)
    assert loss_of(resolve_heads(IEMOCAP, "dimensions", "ccc")) == pytest.approx(float((1 - ccc).mean()), rel=1e-5)


def test_numbers_are_trained_in_standard_deviations_and_predicted_in_their_units() -> None:
    heads = resolve_heads(IEMOCAP, "dimensions")
    outputs, targets = data(heads)
    statistics = TargetStatistics(pos_weight=torch.ones(3), offset=targets.mean(0), scale=targets.std(0))
    predicted = statistics.in_units(outputs)
    expected = ((predicted - targets).abs() / targets.std(0)).mean()
    assert loss_of(heads, statistics) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("loss", ["bce+mae", "softmax+mae", "focal+mae"])
def test_the_losses_of_the_ranks_add_up_to_the_mean_of_the_step(loss: str) -> None:
    heads = resolve_heads(IEMOCAP, "six+dimensions", loss)
    outputs, targets = data(heads)
    statistics = neutral_statistics(9)
    whole = batch_loss(heads, outputs, targets, statistics, 12)
    owns = (slice(0, 5), slice(5, 5), slice(5, 12))
    parts = [batch_loss(heads, outputs[own], targets[own], statistics, 12) for own in owns]
    assert float(sum(parts)) == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("loss", ["mae", "ccc"])
def test_a_rank_with_no_or_one_utterance_has_a_finite_loss_and_gradient(loss: str, count: int) -> None:
    heads = resolve_heads(IEMOCAP, "dimensions", loss)
    outputs = torch.ones(count, 3, requires_grad=True)
    value = batch_loss(heads, outputs, torch.full((count, 3), 2.0), neutral_statistics(3), 4)
    value.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(value)
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()


@pytest.mark.parametrize(
    ("labels", "loss", "problem"),
    [
        ("dimensions", "bce", r"loss bce cannot train label view 'dimensions' of numbers: choose mae, ccc"),
        ("six", "ccc", r"loss ccc cannot train label view 'six' of classes: choose bce, focal, softmax"),
        ("soft", "softmax", "loss softmax needs exactly one class .*'soft'"),
        ("majority", "softmax", "loss softmax needs exactly one class .*'majority'"),
        ("six+six", "auto", "give each label view once"),
        ("six+dimensions", "bce+mae+mae", "one loss, or one for each"),
        ("sixx", "auto", "no label view 'sixx': did you mean six"),
    ],
)
def test_a_view_that_its_head_cannot_take_is_refused_by_name(labels: str, loss: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        resolve_heads(IEMOCAP, labels, loss)


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        (["loss=hinge"], "loss is 'hinge'; it must be one of auto, bce"),
        (["loss=bce+hinge"], "loss is 'bce.hinge'"),
        (["sampler=class-balanced", "loader.source=webdataset"], "sampler is 'class-balanced'; it must be plain with"),
        (["checkpoint_seconds=-1"], "checkpoint_seconds is -1.0; it must be 0 or more"),
        (["faces.lr_factor=-1"], "faces.lr_factor is -1.0; it must be 0 or more"),
        (["sound.revision=main"], "sound.revision is 'main'; it must be null without an encoder"),
        (["sampler=balanced"], "expected one of plain, class-balanced"),
        (["eval.select_by=weighted_accuracy"], "expected one of auto, loss, f1, auc, balanced_accuracy"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_any_data(sets: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        load_recipe("demo-fe2e", sets)
