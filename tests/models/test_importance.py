"""Which tiles matter: the Taylor criterion against gradients of a scale for each tile, and when it is learned."""

import pytest
import torch
from test_sparse import TEXT, Forced, inputs, stack
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models.importance import FLOOR, RATE, Importance, update_importance
from mesm_train.models.kernels import Kernels, Sites
from mesm_train.models.sparse import SparseBlock
from mesm_train.models.streams import SiteSelection, Steps
from mesm_train.models.tiles import TiledBlock, TiledStack


def importances(model: nn.Module) -> list[Tensor]:
    return [module.value.clone() for module in model.modules() if isinstance(module, Importance)]


def annealed(**changes: object) -> Forced:
    """In the middle of annealing; grids of 8x12 and of 4x6 sites, which is not a multiple of the tiles of 4x4."""
    model = stack("cpp", **{"kind": "gate", "p": 0.3, "tile": 4, "anneal_epochs": 2.0, **changes})  # type: ignore[arg-type]
    model.set_epoch(1.0, 40)
    return model


@pytest.mark.parametrize("tile", [1, 4])
def test_importance_is_the_squared_gradient_of_a_scale_of_each_tile_in_each_picture(tile: int) -> None:
    """Of two micro-batches; averaged over the pictures that keep a tile, or a site, relative to the mean over them."""
    model = annealed(tile=tile)
    before, scales = importances(model), list[list[Tensor]]()

    class Scaled(TiledBlock):
        def steps(self, x: Tensor, text: Tensor, ops: Kernels) -> Steps[tuple[Tensor, SiteSelection]]:
            scale = torch.ones(len(x), *self.importance.value.shape, dtype=x.dtype, requires_grad=True)
            scales[-1].append(scale)
            sites = scale.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : x.shape[2], : x.shape[3]]
            return super().steps(x * sites.unsqueeze(1), text, ops)

    class ScaledSites(SparseBlock):
        def steps(
            self, rows: Tensor, sites: Sites, text: Tensor, ops: Kernels
        ) -> Steps[tuple[Tensor, Sites, SiteSelection]]:
            scale = torch.ones(sites.active.shape, dtype=rows.dtype, requires_grad=True)
            scales[-1].append(scale)
            return super().steps(rows * scale.flatten()[sites.places, None], sites, text, ops)

    for block in model.blocks:
        block.__class__ = Scaled if tile > 1 else ScaledSites
    kept: list[list[Tensor]] = []
    for seed, count in ((1, 3), (2, 2)):
        scales.append([])
        vectors, selections = model(*inputs(count, seed))
        kept.append([selection.kept[:, ::tile, ::tile] for selection in selections])
        vectors.square().sum().backward()
    update_importance(model.modules(), None)
    for n, (old, new) in enumerate(zip(before, importances(model), strict=True)):
        effects: dict[tuple[int, int], list[float]] = {}
        for part in range(2):
            for picture, y, x in kept[part][n].nonzero().tolist():
                gradient = scales[part][n].grad
                assert gradient is not None
                effects.setdefault((y, x), []).append(float(gradient[picture, y, x]) ** 2)
        means = {place: sum(values) / len(values) for place, values in effects.items()}
        assert 1 < len(means) < old.numel() or n  # the first block drops some tiles in all pictures
        total = sum(means.values()) / len(means)
        goal = old.clone()
        for place, mean in means.items():
            goal[place] = (1 - RATE) * old[place] + RATE * mean / total
        torch.testing.assert_close(new, goal, rtol=1e-9, atol=0)


def test_an_even_importance_leaves_the_choice_and_the_vectors_as_they_are() -> None:
    settings = ModelSettings(kind="mesm", channels=(3, 4), hidden=8, dim=8, heads=2, sparse=SparseSettings(p=0.5))
    torch.manual_seed(0)
    model = TiledStack(settings, 3, (16, 24), TEXT, "the stack").double().eval()
    assert all(torch.equal(value, torch.ones_like(value)) for value in importances(model))
    pictures, text = inputs(3)
    vectors, (selection,) = model(pictures, text)
    assert selection.weights.max() == selection.weights.min()
    for module in model.modules():
        if isinstance(module, Importance):
            module.value.fill_(0.37)
    again, (other,) = model(pictures, text)
    assert torch.equal(selection.kept, other.kept)
    torch.testing.assert_close(again, vectors)


@pytest.mark.parametrize(
    ("selection", "tile", "epoch", "training", "learns"),
    [
        ("gate", 4, 1.0, True, True), ("straight", 4, 0.0, True, True), ("gate", 4, 2.0, True, False),
        ("published", 4, 1.0, True, False), ("gate", 4, 1.0, False, False),
        ("gate", 1, 1.0, True, True), ("straight", 1, 2.0, True, False), ("straight", 1, 1.0, False, False),
    ],
)  # fmt: skip
def test_importance_is_learned_in_training_while_p_is_annealed_where_the_choice_learns(
    selection: str, tile: int, epoch: float, training: bool, learns: bool
) -> None:
    model = annealed(kind=selection, tile=tile).train(training)
    model.set_epoch(epoch, 40)
    before = importances(model)
    model(*inputs(3))[0].square().sum().backward()
    update_importance(model.modules(), None)
    assert [not torch.equal(*pair) for pair in zip(before, importances(model), strict=True)] == [learns] * 2


@pytest.mark.parametrize(("selection", "epochs"), [("published", 2.0), ("gate", 0.0)])
def test_single_sites_whose_importance_is_never_measured_have_none(selection: str, epochs: float) -> None:
    """So checkpoints of the published model are as they were."""
    model = annealed(kind=selection, tile=1, anneal_epochs=epochs)
    assert not importances(model)
    assert not any("importance" in name for name in model.state_dict())


def test_a_tile_without_any_effect_can_be_brought_back_after_any_number_of_updates() -> None:
    module = Importance(4, 8, 8)
    for _ in range(5000):
        module.update(torch.tensor([[[1.0, 1], [1, 0]], [[1, 1], [1, 1]]], dtype=torch.float64))
    torch.testing.assert_close(module.prior().exp(), torch.tensor([[4 / 3, 4 / 3], [4 / 3, FLOOR]]))


def test_a_tile_without_a_finite_measurement_keeps_its_importance() -> None:
    """No picture keeps it, no gradient at all, and a gradient that overflowed in half precision."""
    module = Importance(4, 8, 12)
    module.value.uniform_(0.5, 2)
    before = module.value.clone()
    count = torch.ones(2, 3, dtype=torch.float64)
    module.update(torch.stack([torch.zeros(2, 3, dtype=torch.float64), count]))
    module.update(torch.stack([torch.full((2, 3), torch.inf, dtype=torch.float64), count]))
    assert torch.equal(module.value, before)
    module.update(torch.tensor([[[1.0, 0, 0], [3, 0, 0]], [[1, 0, 0], [1, 0, 0]]], dtype=torch.float64))
    assert torch.equal(module.value[:, 1:], before[:, 1:])
    torch.testing.assert_close(module.value[:, 0], torch.lerp(before[:, 0], torch.tensor([0.5, 1.5]), RATE))
