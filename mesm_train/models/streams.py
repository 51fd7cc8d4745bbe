"""The convolutional stacks: a picture (a face, a piece of sound) to a vector. Dense here, sparse in sparse.py.

Pictures lie in memory as rows of channels (torch's channels_last), which the convolutions of a CPU and of a graphics
card are faster with, and which makes batch norm, ReLU and pooling the same row-wise functions as the sparse blocks'.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data import device as accelerator
from mesm_train.models.kernels import Kernels, Table, kernels
from mesm_train.models.kernels.functions import conv, dtype_of_products
from mesm_train.models.norm import BatchNorm

FEW_PICTURES = 8  # they are not padded

T = TypeVar("T")
Steps = Generator[None, None, T]  # a computation that yields where it is about to wait for the device


def take_turns(computations: Sequence[Steps[T]]) -> list[T]:
    """The results of some computations. While one waits for the device, the next gives it more to do."""
    results, running = dict[int, T](), dict(enumerate(computations))
    while running:
        for n, computation in list(running.items()):
            try:
                next(computation)
            except StopIteration as end:
                results[n] = end.value
                del running[n]
    return [results[n] for n in range(len(computations))]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSelection:
    """What one sparse block chose, for B pictures of H x W sites at its input."""

    active: Tensor  # bool (B, H, W): the sites that it could choose from
    weights: Tensor  # float (B, H, W): their attention, summing to 1 per picture, 0 where not active; detached
    kept: Tensor  # bool (B, H, W): its choice


class ConvNorm(nn.Module):
    """A dense convolution, batch norm, ReLU, and MaxPool2 if `pool`; the size of the grid stays otherwise."""

    def __init__(self, inputs: int, outputs: int, size: int, *, pool: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2)
        self.norm = BatchNorm(outputs)
        self.pool = pool

    def forward(self, x: Tensor, ops: Kernels, table: Table | None = None, count: int | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', H, W), halved by the pooling; in channels_last.

        With `table`, of all sites, the kernels do the convolution, which must be 3x3. Pictures from `count` on are
        padding, see `padded_count`.
        """
        batch, _, height, width = x.shape
        channels = self.conv.out_channels
        count = batch if count is None else count
        padding = (batch - count) * height * width
        one_pass = self.norm.in_one_pass(count * height * width, ops)
        offset = self.conv.bias if one_pass else None
        rows: Tensor
        if table is not None:
            rows = self._by_kernels(x, table, ops)
        elif ops.batch_invariant:
            rows = self._by_products(x, ops)
        else:
            rows = self._by_torch(x, offset, ops)
        if self.pool and (ops.name == "cpp" or one_pass):
            windows = pool_windows(count, height, width, rows.device) if table is None else table.pool
            rows = self.norm(rows, ops, windows, offset, padding)
            return rows.view(batch, height // 2, width // 2, channels).permute(0, 3, 1, 2)
        rows = self.norm(rows, ops, None, offset, padding)
        x = rows.view(batch, height, width, channels).permute(0, 3, 1, 2)
        return F.max_pool2d(x, 2) if self.pool else x

    def _by_torch(self, x: Tensor, offset: Tensor | None, ops: Kernels) -> Tensor:
        """Without the bias if it is the `offset` of the batch norm."""
        if offset is not None and ops.name == "triton":
            from mesm_train.models.kernels import card_patches

            dtype = dtype_of_products(x, self.conv.weight)
            with torch.autocast(x.device.type, enabled=False):
                pictures, weight = x.to(dtype), self.conv.weight.to(dtype)
                if card_patches.fits(pictures, weight):
                    rows: Tensor = card_patches.PatchConv.apply(pictures, weight)  # type: ignore[no-untyped-call]
                    return rows
        bias = self.conv.bias if offset is None else None
        y = F.conv2d(channels_last(x), self.conv.weight, bias, padding=self.conv.padding)
        return y.permute(0, 2, 3, 1).flatten(0, 2)

    def _by_kernels(self, x: Tensor, table: Table, ops: Kernels) -> Tensor:
        weight = self.conv.weight
        taps = weight.permute(2, 3, 1, 0).reshape(9, weight.shape[1], weight.shape[0])
        return conv(x.permute(0, 2, 3, 1).flatten(0, 2), taps, table, ops, self.conv.bias)

    def _by_products(self, x: Tensor, ops: Kernels) -> Tensor:
        """With the taps of a row side by side, which few channels bear; without gradients."""
        weight, bias = self.conv.weight, self.conv.bias
        assert bias is not None
        patches = F.unfold(x, weight.shape[2:], padding=self.conv.padding).transpose(1, 2)  # type: ignore[arg-type]
        return ops.product(patches.flatten(0, 1).contiguous(), weight.flatten(1).t().contiguous()) + bias


def full_table(x: Tensor, outputs: int, ops: Kernels) -> Table | None:
    """Of all sites of x (B, C, H, W), if `ops` has the faster convolution for it; in lower precision torch has."""
    batch, channels, height, width = x.shape
    if accelerator.is_accelerator(x.device) or torch.is_autocast_enabled("cpu") or channels * outputs < ops.dense_from:
        return None
    sites = torch.ones(batch, height, width, dtype=torch.bool, device=x.device)
    return ops.tables(sites, sites.numel(), sites.numel() // 4)


def channels_last(x: Tensor) -> Tensor:
    """(B, C, H, W) in channels_last, also where C = 1: there torch takes either layout for the other.

    Its convolution would give channels_first then, copied back forward and backward (55 ms of 2.5 s; published sizes).
    """
    _, channels, height, width = x.shape
    if channels == 1:
        return x.contiguous().as_strided(x.shape, (height * width, 1, width, 1))
    return x.contiguous(memory_format=torch.channels_last)


def padded_count(count: int) -> int:
    """The next number of pictures with four binary digits, at most an eighth more: so few that a card has seen them.

    PyTorch has the card's library plan a convolution anew for each number of pictures, which differs from batch to
    batch; the plans are kept.
    """
    step = 1 << max(count.bit_length() - 4, 0)
    return -(-count // step) * step


def first(x: Tensor, count: int) -> Tensor:
    """The first `count` pictures; of all of them no slice, whose gradient would be a copy."""
    return x if len(x) == count else x[:count]


def pool_windows(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    """int32 (m, 4): the rows of each 2x2 window of full grids."""
    rows = torch.arange(batch * height * width, dtype=torch.int32, device=device)
    return rows.view(batch, height // 2, 2, width // 2, 2).transpose(2, 3).reshape(batch * height * width // 4, 4)


class Block(nn.Module):
    """Twice Conv3x3 BN ReLU, then MaxPool2 if `pool`."""

    def __init__(self, inputs: int, outputs: int, *, pool: bool = False) -> None:
        super().__init__()
        self.outputs = outputs
        self.first = ConvNorm(inputs, outputs, 3)
        self.second = ConvNorm(outputs, outputs, 3, pool=pool)

    def forward(self, x: Tensor, ops: Kernels, table: Table | None = None, count: int | None = None) -> Tensor:
        """(B, C, H, W) to (B, C', H, W), halved by the pooling. `table` is `full_table`'s, if there is one already."""
        table = table or full_table(x, self.outputs, ops)
        y: Tensor = self.second(self.first(x, ops, table, count), ops, table, count)
        return y


class Stem(nn.Module):
    """Conv5x5 BN ReLU MaxPool2, then dense blocks at a constant width."""

    def __init__(self, inputs: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, width, 5, pool=True)
        self.blocks = nn.ModuleList(Block(width, width) for _ in range(blocks))

    def forward(self, x: Tensor, ops: Kernels, count: int | None = None) -> Tensor:
        """(B, channels, H, W) to (B, width, H/2, W/2). `count`: as for ConvNorm."""
        x = self.first(x, ops, None, count)
        table = full_table(x, x.shape[1], ops)
        for block in self.blocks:
            x = block(x, ops, table, count)
        return x


class Stack(nn.Module):
    """Stem, blocks that halve the grid, perceptron. FE2E's blocks are dense; a subclass can take others.

    Conv5x5 BN ReLU MaxPool2, `stem_blocks` x Block, then (Block MaxPool2) up to each further entry of `channels`,
    flattened as (channel, y, x), Linear ReLU Linear.
    """

    def __init__(self, settings: ModelSettings, channels: int, size: tuple[int, int]) -> None:
        """`channels` and `size` (height, width) are the pictures'."""
        super().__init__()
        self.size, self.engine = size, settings.sparse.engine
        self.stem = Stem(channels, settings.channels[0], settings.stem_blocks)
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
        return nn.ModuleList(Block(i, o, pool=True) for i, o in steps)

    def kernels(self, device: torch.device) -> Kernels:
        """What computes the row-wise functions on `device`."""
        return kernels(self.engine, device)

    def forward(self, pictures: Tensor, text: Tensor | None) -> tuple[Tensor, Sequence[SiteSelection]]:
        """(B, channels, H, W) and the text vector of each picture's utterance (B, width) to (B, dim).

        The dense stack does not look at the text. The second value is what a sparse stack chose, block by block.
        """
        [result] = take_turns([self.steps(pictures, text)])
        return result

    def steps(self, pictures: Tensor, text: Tensor | None) -> Steps[tuple[Tensor, Sequence[SiteSelection]]]:
        """`forward`, for `take_turns`."""
        ops, count = self.kernels(pictures.device), len(pictures)
        x = self.stem(self.pad(pictures, ops), ops, count)
        for block in self.blocks:
            x = block(x, ops, None, count)
        yield from ()  # it waits for nothing
        return self.head(first(x, count)), ()

    def pad(self, pictures: Tensor, ops: Kernels) -> Tensor:
        """The pictures with empty ones behind them, to `padded_count`, where batch norm can leave these out."""
        count = len(pictures)
        extra = padded_count(count) - count
        if not extra or count < FEW_PICTURES or not self.stem.first.norm.in_one_pass(count, ops):
            return pictures
        return F.pad(pictures, (0, 0, 0, 0, 0, 0, 0, extra))
