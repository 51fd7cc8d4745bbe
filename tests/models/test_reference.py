"""Weights of the published code give its logits: against a plain form of its two models under its names and shapes.

The forms compute on whole grids; the sparse one masks them. What they share with the product is torch and the mel
pieces. Block 1 is put right: each feature at its own site.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from oracle import oracle_nucleus
from test_model import albert, pack, utterance
from torch import Tensor, nn

from mesm_data.errors import InputError
from mesm_train.config.model_settings import Modality, ModelSettings, SparseSettings
from mesm_train.data.batch import Batch
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.published_weights import from_reference

torch.set_num_threads(1)
CHANNELS, DIM, HIDDEN, CLASSES, WIDTH, P = (6, 8, 10, 12), 8, 16, 3, 12, 0.8
GRID = {"v": (3, 3), "a": (8, 2)}


def text_encoder() -> nn.Module:
    sizes = {"embedding_size": 8, "hidden_size": WIDTH, "intermediate_size": 16}
    return albert(vocab_size=50, num_attention_heads=2, num_hidden_layers=2, **sizes)


class Vgg(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.bn2(self.conv2(x)).relu()  # type: ignore[no-any-return]


def low_level(inputs: int) -> list[nn.Module]:
    first = CHANNELS[0]
    start = [nn.Conv2d(inputs, first, 5, padding=2), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2)]
    return [*start, Vgg(first, first), Vgg(first, first)]


class SubmanifoldWeight(nn.Module):
    """SparseConvNet's: taps in the order (y, x), groups, inputs, outputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9, 1, inputs, outputs) / (4.5 * inputs) ** 0.5)


class SparseNorm(nn.Module):
    """SparseConvNet's: no count of batches."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))


class Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_affine = nn.Linear(channels, channels)
        self.y_affine = nn.Linear(WIDTH, channels, bias=False)
        self.attn_weight_affine = nn.Linear(channels, 1)


class SparseStackForm(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.low_level = nn.Sequential(*low_level(inputs))
        steps = list(pairwise(CHANNELS))
        self.sparse_layers = nn.ModuleList(
            nn.Sequential(nn.Sequential(SubmanifoldWeight(i, o), SparseNorm(o), SubmanifoldWeight(o, o), SparseNorm(o)))
            for i, o in steps
        )
        self.attn_layers = nn.ModuleList(Attention(i) for i, _ in steps)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        x = self.low_level(x)
        active = torch.ones(len(x), *x.shape[2:], dtype=torch.bool)
        for attend, layers in zip(self.attn_layers, self.sparse_layers, strict=True):
            assert isinstance(attend, Attention)
            sites = attend.channel_affine(x.permute(0, 2, 3, 1)) + attend.y_affine(text)[:, None, None]
            scores = attend.attn_weight_affine(sites.tanh()).squeeze(-1).masked_fill(~active, -torch.inf)
            kept = oracle_nucleus(scores.flatten(1).softmax(1).view_as(scores), active, P)
            mask = kept[:, None]
            x = x * mask
            for layer in layers[0]:
                if isinstance(layer, SubmanifoldWeight):
                    x = F.conv2d(x, layer.weight[:, 0].unflatten(0, (3, 3)).permute(3, 2, 0, 1), padding=1)
                else:
                    mean, var = layer.running_mean, layer.running_var
                    x = F.batch_norm(x, mean, var, layer.weight, layer.bias, eps=1e-4).relu() * mask
            x, active = F.max_pool2d(x, 2), F.max_pool2d(mask.float(), 2)[:, 0] > 0
        return x


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(DIM, 2, 16), 2, enable_nested_tensor=False)
        self.cls_emb = nn.Embedding(1, DIM)

    def forward(self, items: Tensor, counts: list[int]) -> Tensor:
        """One utterance at a time: nothing is padded."""
        return torch.cat([self.encoder(torch.cat([self.cls_emb.weight, each]))[:1] for each in items.split(counts)])


class Published(nn.Module):
    """MME2E or MME2E_Sparse, by the names of its modules."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.T = nn.ModuleDict({"albert": text_encoder()})
        self.mtcnn = nn.ModuleDict({"pnet": nn.Conv2d(3, 10, 3)})
        for modality, inputs in (("v", 3), ("a", 1)):
            dense = [m for i, o in pairwise(CHANNELS) for m in (Vgg(i, o), nn.MaxPool2d(2))]
            stack = SparseStackForm(inputs) if kind == "mesm" else nn.Sequential(*low_level(inputs), *dense)
            height, width = GRID[modality]
            flat = CHANNELS[-1] * height * width
            self.add_module(modality.upper(), stack)
            flatten = nn.Sequential(nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM))
            self.add_module(f"{modality}_flatten", flatten)
            self.add_module(f"{modality}_transformer", Transformer())
            self.add_module(f"{modality}_out", nn.Linear(DIM, CLASSES))
        self.t_out = nn.Linear(WIDTH, CLASSES)
        self.weighted_fusion = nn.Linear(3, 1, bias=False)

    def forward(self, batch: Batch, pieces: Tensor, piece_counts: Tensor) -> dict[str, Tensor]:
        """The logits of each branch, and fused."""
        mask = torch.arange(batch.tokens.shape[1]) < batch.token_counts[:, None]
        states = self.T["albert"](input_ids=batch.tokens, attention_mask=mask.long()).last_hidden_state
        text = states[:, 0]
        logits = {"t": self.t_out(text)}
        mean, std = torch.tensor([159.0, 111, 102]).double(), torch.tensor([37.0, 33, 32]).double()
        faces = ((batch.faces - mean) / std).permute(0, 3, 1, 2)
        for modality, pictures, counts in (("v", faces, batch.face_counts), ("a", pieces, piece_counts)):
            guide = (text.repeat_interleave(counts, 0),) if self.kind == "mesm" else ()
            x = self.get_submodule(modality.upper())(pictures, *guide)
            x = self.get_submodule(f"{modality}_flatten")(x.flatten(1))
            x = self.get_submodule(f"{modality}_transformer")(x, counts.tolist())
            logits[modality] = self.get_submodule(f"{modality}_out")(x)
        fused = self.weighted_fusion(torch.stack([logits[m] for m in "tva"], dim=-1)).squeeze(-1)
        return {**logits, "fused": fused}


def published(kind: str) -> Published:
    """With weights and running statistics none of which is at its start, and an attention that prefers some sites."""
    torch.manual_seed(5)
    model = Published(kind).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias")):
                value.normal_(0, 0.3)
            elif name.endswith("weight") and value.dim() == 1:  # of norms
                value.uniform_(0.5, 1.5)
            elif "attn_weight" in name or "fusion" in name:
                value.normal_()
            elif name.endswith("num_batches_tracked"):
                value.fill_(7)
    return model


def product(kind: str, modalities: tuple[Modality, ...] = ("t", "v", "a"), **sizes: Any) -> Model:
    shape: dict[str, Any] = {"channels": CHANNELS, "hidden": HIDDEN, "dim": DIM, "layers": 2, "heads": 2}
    shape |= {"sparse": SparseSettings(p=P, selection="published", tile=1, anneal_epochs=0), **sizes}
    settings = ModelSettings(
        kind=kind,  # type: ignore[arg-type]
        modalities=modalities,
        classes=CLASSES,
        feedforward=16,
        **shape,
    )
    return Model(settings, text_encoder() if "t" in modalities else None).eval()


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [("fe2e", torch.float32, 1e-4), ("fe2e", torch.float64, 1e-9), ("mesm", torch.float64, 1e-9)],
)
def test_weights_of_the_published_code_give_its_logits(kind: str, dtype: torch.dtype, tolerance: float) -> None:
    """Against float64. MESM is in it too: in float32 rounding may choose other sites."""
    theirs, mine = published(kind), product(kind)
    mine.load_state_dict(from_reference(theirs.state_dict(), mine))
    theirs, mine = theirs.double(), mine.to(dtype)
    batch = pack([utterance(2, 6500, 9, 1), utterance(3, 9000, 4, 2), utterance(1, 3000, 7, 3)])
    with torch.no_grad():
        details = mine.forward_details(batch)
        pieces, counts = mine.mel(batch.samples, batch.sample_counts)
        expected = theirs(batch, pieces.double(), counts)
    for name, logits in {**details.branches, "fused": details.logits}.items():
        torch.testing.assert_close(
            logits.double(), expected[name], rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert expected["fused"].std(0).min() > 1e-3  # utterances differ by more than the tolerance
    for selections in details.selections.values():
        assert all(0 < selection.kept.sum() < selection.active.sum() for selection in selections)


@pytest.mark.parametrize("kind", ["fe2e", "mesm"])
def test_every_published_tensor_is_used_once(kind: str) -> None:
    """Each is filled with a number of its own, so whatever arrives says where it comes from."""
    mine = product(kind)
    weights = {name: torch.full(t.shape, float(n)) for n, (name, t) in enumerate(published(kind).state_dict().items())}
    numbers = {name: n for n, name in enumerate(weights)}
    weights["T.albert.embeddings.position_ids"] = torch.arange(512)[None]
    converted = from_reference(weights, mine)
    arrived = [int(t.flatten()[0]) for name, t in converted.items() if "norms" not in name or "num_batches" not in name]
    assert sorted(arrived) == [n for name, n in numbers.items() if not name.startswith("mtcnn.")]
    mine.load_state_dict(converted)


@pytest.mark.parametrize("modalities", [("t",), ("v", "a"), ("t", "a")])
def test_branches_that_the_model_lacks_are_left_out(modalities: tuple[Modality, ...]) -> None:
    theirs, mine = published("fe2e").state_dict(), product("fe2e", modalities)
    theirs["weighted_fusion.weight"] = torch.randn(1, len(modalities))
    mine.load_state_dict(from_reference(theirs, mine))


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("fe2e", {"V.0.bias": None}, "lack V.0.bias; a model of kind fe2e takes a state_dict of MME2E of"),
        ("mesm", {"A.low_level.1.bias": None}, "lack A.low_level.1.bias; .* of kind mesm .* MME2E_Sparse of"),
        ("fe2e", {"V.99.bias": torch.ones(1)}, "have unknown V.99.bias; a model of kind fe2e"),
        ("fe2e", {"t_out.bias": torch.ones(4)}, "have other sizes than model.* for t_out.bias;"),
    ],
)
def test_weights_that_do_not_fit_are_named(kind: str, change: dict[str, Tensor | None], sentence: str) -> None:
    weights = {name: value for name, value in {**published(kind).state_dict(), **change}.items() if value is not None}
    with pytest.raises(InputError, match=sentence.replace("model.* for", re.escape("model.* for"))):
        from_reference(weights, product(kind))


@pytest.mark.parametrize(("kind", "other"), [("fe2e", "mesm"), ("mesm", "fe2e")])
def test_weights_of_the_other_kind_are_refused(kind: str, other: str) -> None:
    with pytest.raises(InputError, match=rf"lack A\..* and \d+ more; a model of kind {kind} takes"):
        from_reference(published(other).state_dict(), product(kind))


def test_the_sparse_settings_of_the_page_are_those_of_the_published_model_and_others_are_refused() -> None:
    page = (Path(__file__).parents[2] / "docs/training.md").read_text()
    (example,) = re.findall(r"^sparse = (SparseSettings\(.*\))", page, re.MULTILINE)
    weights = published("mesm").state_dict()
    from_reference(weights, product("mesm", sparse=eval(example)))
    with pytest.raises(InputError, match=r"make the model with model\.sparse\.tile 1 and anneal_epochs 0"):
        from_reference(weights, product("mesm", sparse=SparseSettings()))
