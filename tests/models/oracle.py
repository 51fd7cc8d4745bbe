"""A sparse stack in its plain form: whole grids with a mask of active sites. Slow, and plain to see.

A convolution runs over zeros at the inactive sites and its output is masked to the same active set, which is what a
submanifold convolution computes. It reads the parameters of a `SparseStack`, so gradients can be compared.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from mesm_train.models.norm import BatchNorm
from mesm_train.models.sparse import ChoosingBlock, SparseStack
from mesm_train.models.streams import ConvNorm, SiteSelection
from mesm_train.models.tiles import TiledBlock


def oracle_stack(
    stack: SparseStack, pictures: Tensor, text: Tensor
) -> tuple[Tensor, list[SiteSelection], list[Tensor]]:
    """What `stack(pictures, text)` must return, and the running means and variances that it must have afterwards."""
    running: list[Tensor] = []
    x = oracle_stem(stack, pictures, running)
    active = torch.ones(len(x), *x.shape[2:], dtype=torch.bool)
    selections = []
    for block in stack.blocks:
        assert isinstance(block, ChoosingBlock)
        x, active, selection = oracle_block(block, x, active, text, running)
        selections.append(selection)
    return stack.head(x), selections, running


def oracle_stem(stack: SparseStack, x: Tensor, running: list[Tensor]) -> Tensor:
    for layer in stack.stem.modules():
        if isinstance(layer, ConvNorm):
            x = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=layer.conv.padding)  # type: ignore[arg-type]
            x = batch_norm(layer.norm, x, running).relu()
            x = F.max_pool2d(x, 2) if layer.pool else x
    return x


def oracle_block(
    block: ChoosingBlock, x: Tensor, active: Tensor, text: Tensor, running: list[Tensor]
) -> tuple[Tensor, Tensor, SiteSelection]:
    """(B, C, H, W), bool (B, H, W), (B, width) to (B, C', H/2, W/2), bool (B, H/2, W/2) and the choice."""
    attention, tile = block.attention, block.tile if isinstance(block, TiledBlock) else 1
    sites = attention.site(oracle_means(x, active, tile).permute(0, 2, 3, 1))
    scores = attention.score(torch.tanh(sites + attention.text(text)[:, None, None])).squeeze(-1)
    if block.importance is not None:
        height, width = active.shape[1:]
        importance = block.importance.value.repeat_interleave(tile, 0).repeat_interleave(tile, 1)
        scores = scores + importance[:height, :width].log()
    weights = scores.masked_fill(~active, -1e30).flatten(1).softmax(1).view_as(scores).masked_fill(~active, 0)
    kept = oracle_nucleus(weights, active, block.p, tile)
    inputs = x
    relative = weights * active.sum((1, 2), keepdim=True)
    gate = 2 * relative / (1 + relative)
    if block.selection == "gate":
        x = x * gate.unsqueeze(1)
    if block.selection == "straight":
        x = x * (1 + gate - gate.detach()).unsqueeze(1)
    x = x * kept.unsqueeze(1)
    for layer, norm in zip(block.convs, block.norms, strict=True):
        assert isinstance(norm, BatchNorm)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        x = F.conv2d(x, weight.view(3, 3, *weight.shape[1:]).permute(3, 2, 0, 1), padding=1)
        picture = x.permute(0, 2, 3, 1)
        rows = batch_norm(norm, picture[kept], running).relu()
        x = torch.zeros_like(picture).index_put((kept,), rows).permute(0, 3, 1, 2)
    x = F.max_pool2d(x, 2)
    remaining = kept
    if isinstance(block, TiledBlock):
        remaining, dropped = active, ~(F.max_pool2d(kept.double().unsqueeze(1), 2).squeeze(1) > 0)
        means = F.avg_pool2d(inputs, 2).permute(0, 2, 3, 1)[dropped]
        rows = batch_norm(block.residual_norm, means @ block.residual.weight.t(), running).relu()
        x = x.permute(0, 2, 3, 1).index_put((dropped,), rows).permute(0, 3, 1, 2)
    pooled_active = F.max_pool2d(remaining.double().unsqueeze(1), 2).squeeze(1) > 0
    return x, pooled_active, SiteSelection(active=active, weights=weights.detach(), kept=kept)


def oracle_means(x: Tensor, active: Tensor, tile: int) -> Tensor:
    """Each site's features replaced by the mean over the active sites of its tile, by one big matrix of tiles."""
    height, width = x.shape[2:]
    y, z = torch.arange(height) // tile, torch.arange(width) // tile
    number = (y[:, None] * width + z).flatten()
    same = (number[:, None] == number).to(x.dtype) * active.flatten(1)[:, None]  # (B, sites, sites)
    means = torch.einsum("bcs,bts->bct", x.flatten(2), same / same.sum(2, keepdim=True).clamp(min=1))
    return means.view_as(x)


def oracle_nucleus(weights: Tensor, active: Tensor, p: float, tile: int = 1) -> Tensor:
    """Picture by picture, tile by tile."""
    kept = torch.zeros_like(active)
    weights = weights.detach()
    for picture in range(len(active)):
        corners = [(y, x) for y in range(0, active.shape[1], tile) for x in range(0, active.shape[2], tile)]
        tiles = [(picture, slice(y, y + tile), slice(x, x + tile)) for y, x in corners]
        total = 0.0
        for place in sorted((t for t in tiles if active[t].any()), key=lambda t: -float(weights[t].max())):
            if p < 1 and total >= p:
                break
            kept[place] = active[place]
            total += float(weights[place].double().sum())
    return kept


def batch_norm(norm: BatchNorm, x: Tensor, running: list[Tensor]) -> Tensor:
    """torch's own, with copies of the running statistics; rows (n, C) or pictures."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    running += [mean, variance]
    batch = norm.training and x.numel() > norm.num_features
    if not x.numel():
        return x
    return F.batch_norm(x, mean, variance, norm.weight, norm.bias, batch, norm.momentum or 0.0, norm.eps)
