"""The streams that model.py measures: FE2E's, MESM's, and the dense stacks of torch's own layers."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings, SparseSettings
from mesm_train.models.fe2e_mesm import make_stack
from mesm_train.models.streams import Stack

SIZES = {"v": (3, (48, 48), 9), "a": (1, (128, 32), 12)}  # channels, height and width, pictures of an utterance
TEXT = 768


class Plain(nn.Sequential):
    """The dense stack of torch's own layers, nothing fused: the baseline."""

    def __init__(self, settings: ModelSettings, channels: int, size: tuple[int, int]) -> None:
        width = settings.channels[0]
        layers: list[nn.Module] = [*conv(channels, width, 5), nn.MaxPool2d(2)]
        for _ in range(2 * settings.stem_blocks):
            layers += conv(width, width, 3)
        for i, o in zip(settings.channels, settings.channels[1:], strict=False):
            layers += [*conv(i, o, 3), *conv(o, o, 3), nn.MaxPool2d(2)]
        side = len(settings.channels)
        flat = settings.channels[-1] * (size[0] >> side) * (size[1] >> side)
        head = [nn.Linear(flat, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, settings.dim)]
        super().__init__(*layers, nn.Flatten(), *head)


def conv(inputs: int, outputs: int, size: int) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    return [nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs), nn.ReLU()]


def inputs(device: torch.device, utterances: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Pictures and text vectors."""
    generator = torch.Generator().manual_seed(1)
    pictures_and_texts = {}
    for m, (channels, size, count) in SIZES.items():
        pictures = torch.randn(utterances * count, channels, *size, generator=generator)
        text = torch.randn(utterances, TEXT, generator=generator).repeat_interleave(count, 0)
        pictures_and_texts[m] = (pictures.to(device), text.to(device))
    return pictures_and_texts


def variants(options: argparse.Namespace, engines: list[str]) -> dict[str, Callable[[str], nn.Module]]:
    """Name to what makes the stack of a modality."""
    learned = load_file(options.prior) if options.prior else {}

    def sparse(p: float, tile: int, engine: Any, m: str) -> nn.Module:
        sparse = SparseSettings(
            p=p, tile=tile, engine=engine, selection=options.selection, anneal_epochs=0, init="published"
        )
        stack = make_stack(ModelSettings(kind="mesm", sparse=sparse), m, TEXT)
        for n, block in enumerate(stack.blocks):
            if learned:
                block.importance.value.copy_(learned[f"stacks.{m}.blocks.{n}.importance.value"])
        return stack

    def fe2e(engine: str, m: str) -> nn.Module:
        return Stack(ModelSettings(sparse=SparseSettings(engine=engine)), *SIZES[m][:2])  # type: ignore[arg-type]

    def plain(m: str, layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
        return Plain(ModelSettings(), *SIZES[m][:2]).to(memory_format=layout)

    makers: dict[str, Callable[[str], nn.Module]] = {
        "dense": plain,
        "dense, channels_last": partial(plain, layout=torch.channels_last),
    }
    for engine in engines:
        makers[f"fe2e, {engine}"] = partial(fe2e, engine)
        makers[f"mesm p = 1, {engine}"] = partial(sparse, 1.0, 1, engine)
        for tile in options.tile:
            for p in options.p:
                square = f" in {tile}x{tile}" if tile > 1 else ""
                makers[f"mesm p = {p:g}{square}, {engine}"] = partial(sparse, p, tile, engine)
    return makers
