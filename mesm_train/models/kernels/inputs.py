"""Tables whose convolutions read other rows than those of their sites: all sites of the grids, kept or not.

A convolution's gradient goes the other way, from the sites to what they have read: that is a table, too.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import Table


def all_inputs(table: Table) -> Table:
    """The same sites and pooled sites; what is read are all sites of the grids, B * H * W rows."""
    batch, height, width = table.shape
    rank = torch.arange(batch * height * width, dtype=torch.int32, device=table.sites.device)
    near = neighbours(rank.view(table.shape), table.sites)
    return replace(table, near=near, inputs=rank, sources=None, plans={})


def transposed(table: Table) -> Table:
    """The table of what `table` reads, whose neighbours are its sites; made once. Without pooled sites."""
    if table.inputs is None:
        return table
    if "transposed" not in table.plans:
        sites = torch.nonzero_static(table.inputs >= 0, size=table.inputs.numel()).squeeze(1)
        rank = rank_of(table)
        near = neighbours(rank.view(table.shape), sites)
        table.plans["transposed"] = Table(shape=table.shape, sites=sites, near=near, pool=table.pool[:0], inputs=rank)
    other: Table = table.plans["transposed"]
    return other


def rank_of(table: Table) -> Tensor:
    """int32 (B * H * W,): the row of each site of a table, -1 where it has none; made once."""
    if "rank" not in table.plans:
        batch, height, width = table.shape
        rows = torch.arange(len(table.sites), dtype=torch.int32, device=table.sites.device)
        rank = torch.full((batch * height * width,), -1, dtype=torch.int32, device=rows.device)
        table.plans["rank"] = rank.index_copy_(0, table.sites, rows)
    rank = table.plans["rank"]
    assert isinstance(rank, Tensor)
    return rank


def neighbours(rank: Tensor, sites: Tensor) -> Tensor:
    """int32 (n, 9): what `rank`, int32 (B, H, W), says of the 3x3 neighbours of sites int64 (n,); -1 beyond an edge."""
    _, height, width = rank.shape
    framed = functional.pad(rank, (1, 1, 1, 1), value=-1)
    line = width + 2
    picture = sites // (height * width)
    # In the framed grid, a picture begins 2 * line + 2 * height later than in the plain one, a line 2 later.
    centre = sites + picture * (2 * line + 2 * height) + (sites // width - picture * height) * 2 + line + 1
    taps = torch.arange(-1, 2, device=sites.device)
    offsets = (taps[:, None] * line + taps).flatten()
    return framed.flatten()[centre[:, None] + offsets]
