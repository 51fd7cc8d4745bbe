"""FE2E and MESM in plain torch operators, for one utterance: what other programs can run.

The models of `mesm_train.models` take packed batches and choose kernels by the device. Here the same weights compute
the same logits, but for rounding, from arrays of one utterance, in operators that torch.export and ONNX know. Batch
norms are folded into the convolutions. portable_sparse.py has the sparse blocks.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.data.batch import Batch
from mesm_train.data.mel import COLUMNS, HOP, LOG_FLOOR, MELS, WINDOW, htk_filters
from mesm_train.inference.portable_sparse import PortableSparseStack, folded
from mesm_train.models.fe2e_mesm import FACE, Model
from mesm_train.models.sequence import SequenceBranch
from mesm_train.models.sparse import SparseStack
from mesm_train.models.streams import Block, ConvNorm, Stack


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
    model: Model, *, tokens: int = 7, faces: int = 3, samples: int = 20_000, seed: int = 0
) -> dict[str, tuple[Tensor, int]]:
    """Name -> random values of an input of `PortableModel` and its dynamic axis, in the order of its arguments."""
    random = torch.Generator().manual_seed(seed)
    config: Any = None if model.text is None else model.text.encoder.config
    words = 30 if config is None else min(30, config.vocab_size)
    known = {
        "t": ("tokens", torch.randint(min(4, words - 1), words, (1, tokens), generator=random), 1),
        "v": ("faces", torch.randint(0, 256, (faces, FACE, FACE, 3), generator=random).to(torch.uint8), 0),
        "a": ("samples", torch.randint(-9000, 9000, (samples,), generator=random).to(torch.int16), 0),
    }
    chosen = [known[modality] for modality in model.settings.modalities]
    return {name: (example, axis) for name, example, axis in chosen}


def example_batch(inputs: Mapping[str, tuple[Tensor, int]]) -> Batch:
    """What `example_inputs` makes as a batch of one utterance, for the model that the portable form comes from."""
    arrays = {name: example for name, (example, _) in inputs.items()}
    faces = arrays.get("faces", torch.zeros(0, FACE, FACE, 3, dtype=torch.uint8))
    samples = arrays.get("samples", torch.zeros(0, dtype=torch.int16))
    tokens = arrays.get("tokens", torch.zeros(1, 0, dtype=torch.int64))
    return Batch(
        keys=("example",), labels=torch.zeros(1, 0), faces=faces, face_counts=torch.tensor([len(faces)]),
        samples=samples, sample_counts=torch.tensor([len(samples)]),
        tokens=tokens, token_counts=torch.tensor([tokens.shape[1]]),
    )  # fmt: skip


def portable_layers(layer: ConvNorm) -> list[nn.Module]:
    """A dense convolution with its batch norm, ReLU and pooling."""
    return [folded(layer.conv, layer.norm), nn.ReLU(), *([nn.MaxPool2d(2)] if layer.pool else [])]


def portable_stack(stack: nn.Module) -> nn.Module:
    """A stack of torch's own modules with the same weights."""
    assert isinstance(stack, Stack)
    stem = nn.Sequential(
        *(part for m in stack.stem.modules() if isinstance(m, ConvNorm) for part in portable_layers(m))
    )
    if isinstance(stack, SparseStack):
        return PortableSparseStack(stem, stack)
    layers: list[nn.Module] = [stem]
    for block in stack.blocks:
        assert isinstance(block, Block)
        layers += [*portable_layers(block.first), *portable_layers(block.second)]
    return nn.Sequential(*layers, stack.head)


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
