"""FE2E and MESM in plain torch operators, for one utterance: what other programs can run.

The models of `mesm_train.models` take packed batches and choose kernels by the device. Here the same weights compute
the same logits, but for rounding, from arrays of one utterance, in operators that torch.export and ONNX know. Batch
norms are folded into the convolutions. A sparse block works on whole grids with a mask of its kept sites, which saves
nothing.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.data.mel import COLUMNS, HOP, LOG_FLOOR, MELS, WINDOW, htk_filters
from mesm_train.models.fe2e_mesm import FACE, Model
from mesm_train.models.norm import BatchNorm
from mesm_train.models.sequence import SequenceBranch
from mesm_train.models.sparse import SparseBlock
from mesm_train.models.streams import Block, ConvNorm, Stack

# Of a weight of 1: weights that are equal but for rounding are taken in the order of their places. 2**26 counted others
# as equal too and took them in another order than torch: logits of 147 utterances differed by .002 in one model and .05
# in another; with 2**40 by 1e-7 and 5e-4. Times the sites of a grid it must stay below 2**53.
STEPS = 2.0**40


class PortableModel(nn.Module):
    """Arrays of one utterance to its logits, (outputs,).

    Inputs, of which the model's modalities are taken, in this order:
        tokens: int64 (1, L), L >= 1, special tokens included.
        faces: uint8 (n, 48, 48, 3) RGB; none: the utterance lacks them.
        samples: int16 (n,) at 16 kHz, at least 201 of them.
    """

    def __init__(self, model: Model) -> None:
        """Raises NotImplementedError if the model has parts that only run in mesm."""
        super().__init__()
        if model.sound is not None or model.faces is not None:
            raise NotImplementedError("its pretrained encoders of sound or faces have no portable form")
        self.modalities = model.settings.modalities
        self.is_guided = model.settings.kind == "mesm"
        self.text = model.text
        self.stacks = nn.ModuleDict({name: portable_stack(stack) for name, stack in model.stacks.items()})
        self.sequences = model.sequences
        self.mel = Mel(log=model.settings.log_mel)
        self.register_buffer("face_mean", model.face_mean, persistent=False)
        self.register_buffer("face_std", model.face_std, persistent=False)
        fusion = model.fusion.weight[0] if model.fusion is not None else torch.ones(1)
        self.register_buffer("fusion", fusion.detach().clone(), persistent=False)

    face_mean: Tensor
    face_std: Tensor
    fusion: Tensor

    def forward(self, *arrays: Tensor) -> Tensor:
        """Logits float32 (outputs,)."""
        inputs, guide, branches = dict(zip(self.modalities, arrays, strict=True)), None, []
        if self.text is not None:
            tokens = inputs["t"]
            states = self.text.encoder(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
            guide = states[:, 0]
            branches.append(self.text.out(guide)[0])
        if "v" in self.stacks:
            faces = inputs["v"].permute(0, 3, 1, 2).to(torch.float32)
            branches.append(self._branch("v", (faces - self.face_mean) / self.face_std, guide))
        if "a" in self.stacks:
            branches.append(self._branch("a", self.mel(inputs["a"]), guide))
        fused: Tensor = (torch.stack(branches) * self.fusion[:, None]).sum(0)
        return fused

    def _branch(self, name: str, pictures: Tensor, guide: Tensor | None) -> Tensor:
        stack, sequence = self.stacks[name], self.sequences[name]
        assert isinstance(sequence, SequenceBranch)
        vectors = stack(pictures, guide) if self.is_guided else stack(pictures)
        items = torch.cat([sequence.cls.expand(1, -1), vectors]).unsqueeze(0)
        logits: Tensor = sequence.out(sequence.encoder(items)[:, 0])[0]
        some = torch.ones_like(vectors[:, 0]).sum().clamp(max=1)  # 0 if there is no picture, without a branch
        return logits * some


def example_inputs(
    modalities: Sequence[str], *, tokens: int = 7, faces: int = 3, samples: int = 20_000, seed: int = 0
) -> dict[str, tuple[Tensor, int]]:
    """Name -> random values of an input of `PortableModel` and its dynamic axis, in the order of its arguments."""
    random = torch.Generator().manual_seed(seed)
    known = {
        "t": ("tokens", torch.randint(4, 30, (1, tokens), generator=random), 1),
        "v": ("faces", torch.randint(0, 256, (faces, FACE, FACE, 3), generator=random).to(torch.uint8), 0),
        "a": ("samples", torch.randint(-9000, 9000, (samples,), generator=random).to(torch.int16), 0),
    }
    chosen = [known[modality] for modality in modalities]
    return {name: (example, axis) for name, example, axis in chosen}


def folded(conv: nn.Conv2d, norm: BatchNorm) -> nn.Conv2d:
    """A convolution followed by a batch norm with running statistics, as one convolution."""
    assert norm.running_mean is not None and norm.running_var is not None  # noqa: PT018
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    before = conv.bias.double() if conv.bias is not None else torch.zeros_like(scale)
    result = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=conv.kernel_size[0] // 2)
    result.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float(), requires_grad=False)
    bias = (before - norm.running_mean.double()) * scale + norm.bias.double()
    result.bias = nn.Parameter(bias.float(), requires_grad=False)
    return result


def portable_layers(layer: ConvNorm) -> list[nn.Module]:
    """A dense convolution with its batch norm, ReLU and pooling."""
    return [folded(layer.conv, layer.norm), nn.ReLU(), *([nn.MaxPool2d(2)] if layer.pool else [])]


def portable_stack(stack: nn.Module) -> nn.Module:
    """A stack of torch's own modules with the same weights."""
    assert isinstance(stack, Stack)
    stem = nn.Sequential(
        *(part for m in stack.stem.modules() if isinstance(m, ConvNorm) for part in portable_layers(m))
    )
    if any(isinstance(block, SparseBlock) for block in stack.blocks):
        return PortableSparseStack(stem, stack)
    layers: list[nn.Module] = [stem]
    for block in stack.blocks:
        if not isinstance(block, Block):
            raise NotImplementedError(f"its blocks of the kind {type(block).__name__} have no portable form yet")
        layers += [*portable_layers(block.first), *portable_layers(block.second)]
    return nn.Sequential(*layers, stack.head)


class PortableSparseStack(nn.Module):
    """MESM's stack on whole grids with masks."""

    def __init__(self, stem: nn.Module, stack: Stack) -> None:
        super().__init__()
        self.stem, self.head = stem, stack.head
        self.blocks = nn.ModuleList(PortableSparseBlock(block) for block in stack.blocks)

    def forward(self, pictures: Tensor, guide: Tensor) -> Tensor:
        """(B, channels, H, W) and the text vector (1, width) to (B, dim)."""
        x = self.stem(pictures)
        active = torch.ones_like(x[:, 0])
        for block in self.blocks:
            x, active = block(x, active, guide)
        vectors: Tensor = self.head(x)
        return vectors


class PortableSparseBlock(nn.Module):
    """A sparse block on whole grids; see `mesm_train.models.sparse.SparseBlock`."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        assert isinstance(block, SparseBlock)
        self.p, self.selection, self.attention = block.p, block.selection, block.attention
        self.convs = nn.ModuleList()
        for layer, norm in zip(block.convs, block.norms, strict=True):
            weight = layer.weight
            assert isinstance(weight, Tensor) and isinstance(norm, BatchNorm)  # noqa: PT018
            conv = nn.Conv2d(weight.shape[1], weight.shape[2], 3, padding=1, bias=False)
            conv.weight = nn.Parameter(weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1), requires_grad=False)
            self.convs.append(folded(conv, norm))

    def forward(self, x: Tensor, active: Tensor, guide: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), 0 or 1 (B, H, W) and (1, width) to (B, C', H/2, W/2) and (B, H/2, W/2)."""
        weights = self._attention(x, active, guide)
        kept = self._nucleus(weights, active) if self.p < 1 else active
        if self.selection == "gate":
            relative = weights * active.sum((1, 2), keepdim=True)
            x = x * (2 * relative / (1 + relative)).to(x.dtype).unsqueeze(1)
        mask = kept.unsqueeze(1)
        x = x * mask
        for conv in self.convs:
            x = conv(x).relu() * mask
        return F.max_pool2d(x, 2), F.max_pool2d(mask, 2).squeeze(1)

    def _attention(self, x: Tensor, active: Tensor, guide: Tensor) -> Tensor:
        """float64 (B, H, W), as the exact kernels compute it: the choice of sites hangs on it."""
        a = self.attention
        sites = F.linear(x.permute(0, 2, 3, 1).double(), a.site.weight.double(), a.site.bias.double())
        sites = sites + F.linear(guide.double(), a.text.weight.double())[:, None, None]
        scores = F.linear(torch.tanh(sites), a.score.weight.double(), a.score.bias.double()).squeeze(-1)
        scores = torch.where(active > 0, scores, -1e30)
        weights = scores.flatten(1).softmax(1).view_as(scores)
        return weights * active

    def _nucleus(self, weights: Tensor, active: Tensor) -> Tensor:
        """The fewest active sites, heaviest first, whose weights reach p."""
        # Equal weights are common (the zeros that fill a piece of sound), and the first of them goes first. ONNX has no
        # stable sort, and another program's rounding may tell equal ones apart: whole numbers that count in the place.
        flat, count = weights.flatten(1), weights.shape[1] * weights.shape[2]
        place = torch.arange(count - 1, -1, -1, dtype=flat.dtype, device=flat.device)
        keys = torch.where(active.flatten(1) > 0, (flat * STEPS).round() * count + place, -1.0)
        order = keys.topk(count, dim=1).indices
        before = F.pad(flat.gather(1, order).cumsum(1)[:, :-1], (1, 0))
        chosen = (before < self.p).to(active.dtype)
        kept = torch.zeros_like(chosen).scatter(1, order, chosen).view_as(active)
        return kept * active


class Mel(nn.Module):
    """`mesm_train.data.mel.MelPieces` for one utterance, with the Fourier transform as a convolution."""

    def __init__(self, *, log: bool) -> None:
        super().__init__()
        self.log = log
        time, bins = torch.arange(WINDOW, dtype=torch.float64), torch.arange(WINDOW // 2 + 1, dtype=torch.float64)
        angle = 2 * math.pi * bins[:, None] * time / WINDOW
        window = torch.hann_window(WINDOW, periodic=True, dtype=torch.float64)
        waves = torch.cat([angle.cos() * window, angle.sin() * window]).float()
        self.register_buffer("waves", waves.unsqueeze(1), persistent=False)
        self.register_buffer("filters", htk_filters(), persistent=False)

    waves: Tensor
    filters: Tensor

    def forward(self, samples: Tensor) -> Tensor:
        """int16 (n,) to float32 (pieces, 1, 128, 32)."""
        wave = (samples.to(torch.float32) / 32768)[None, None]
        wave = F.pad(wave, (WINDOW // 2, WINDOW // 2), mode="reflect")
        real, imaginary = F.conv1d(wave, self.waves, stride=HOP)[0].chunk(2)
        columns = (real * real + imaginary * imaginary).t() @ self.filters
        # Filled up to whole pieces with zeros: one piece more than can be needed, cut again.
        pieces = (columns.shape[0] + COLUMNS - 1) // COLUMNS
        columns = F.pad(columns, (0, 0, 0, COLUMNS))[: pieces * COLUMNS]
        if self.log:
            columns = torch.log(columns + LOG_FLOOR)
        return columns.reshape(pieces, COLUMNS, MELS).transpose(1, 2).unsqueeze(1)
