"""The convolutional stacks: a picture (a face, a piece of sound) to a vector. Dense here, sparse in sparse.py."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.models.settings import ModelSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What one sparse block chose, for B pictures of H x W sites at its input."""

    active: Tensor  # bool (B, H, W): the sites that it could choose from
    weights: Tensor  # float (B, H, W): their attention, summing to 1 per picture, 0 where not active; detached
    kept: Tensor  # bool (B, H, W): its choice


class BatchNorm(nn.BatchNorm2d):
    """Batch norm over rows (n, C) or pictures (B, C, H, W).

    With fewer than two values per channel there is no variance to take: then the running statistics are used and left
    as they are, so that an empty modality passes. Statistics are summed in float32 also for bfloat16 input.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The same shape and dtype."""
        batch = self.training and input.numel() > self.num_features
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, batch, self.momentum or 0.0, self.eps
        )


class Block(nn.Sequential):
    """Twice Conv3x3 BN ReLU, at a constant size of the grid."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for i in (inputs, outputs):
            layers += [nn.Conv2d(i, outputs, 3, padding=1), BatchNorm(outputs), nn.ReLU()]
        super().__init__(*layers)


class Stack(nn.Module):
    """Stem, blocks that halve the grid, perceptron. FE2E's blocks are dense; a subclass can take others.

    Conv5x5 BN ReLU MaxPool2, `stem_blocks` x Block, then (Block MaxPool2) up to each further entry of `channels`,
    flattened as (channel, y, x), Linear ReLU Linear.
    """

    def __init__(self, settings: ModelSettings, channels: int, size: tuple[int, int]) -> None:
        """`channels` and `size` (height, width) are the pictures'."""
        super().__init__()
        width = settings.channels[0]
        self.size = size
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 5, padding=2),
            BatchNorm(width),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *(Block(width, width) for _ in range(settings.stem_blocks)),
        )
        self.blocks = self.make_blocks(settings)
        height, length = (side >> len(settings.channels) for side in size)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(settings.channels[-1] * height * length, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.dim),
        )

    def make_blocks(self, settings: ModelSettings) -> nn.ModuleList:
        """One block per step of `channels`."""
        steps = zip(settings.channels, settings.channels[1:], strict=False)
        return nn.ModuleList(nn.Sequential(Block(i, o), nn.MaxPool2d(2)) for i, o in steps)

    def forward(self, pictures: Tensor, text: Tensor | None) -> tuple[Tensor, Sequence[Trace]]:
        """(B, channels, H, W) and the text vector of each picture's utterance (B, width) to (B, dim).

        The dense stack does not look at the text. The second value is what a sparse stack chose, block by block.
        """
        x = self.stem(pictures)
        for block in self.blocks:
            x = block(x)
        return self.head(x), ()
