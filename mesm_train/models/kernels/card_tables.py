"""The choice of sites and its tables on a CUDA card, by triton_tables.py."""

import struct

import torch
from torch import Tensor

from mesm_train.models.kernels import Table, triton_tables
from mesm_train.models.kernels.launch import start

MOST_SITES = 4096  # of a picture: all of them are in the registers of one program


def nucleus(weights: Tensor, active: Tensor, p: float) -> Tensor:
    """See nucleus.py. float32 weights of pictures with at most MOST_SITES sites."""
    pictures, height, width = active.shape
    kept = torch.empty_like(active)
    (bits,) = struct.unpack("<q", struct.pack("<d", p))
    start(
        triton_tables.nucleus_kernel, (pictures,), (weights.contiguous(), active, kept.view(torch.int8)),
        (bits, height * width), (block_of(height * width),),
    )  # fmt: skip
    return kept


def tables(kept: Tensor, count: int, pooled: int) -> Table:
    """See Kernels.tables; of at least one site. plans["masks"] is int16 (n,), which neighbours a row has, by bits."""
    pictures, height, width = kept.shape
    shape, block = (height, width), (block_of(height * width),)
    flags = kept.contiguous().view(torch.int8)
    counts = torch.empty(2, pictures, dtype=torch.int32, device=kept.device)
    start(triton_tables.count_kernel, (pictures,), (flags, counts), (pictures, *shape), block)
    ends = counts.cumsum(1)
    rank = torch.empty(kept.shape, dtype=torch.int32, device=kept.device)
    sites = torch.empty(count, dtype=torch.int64, device=kept.device)
    start(triton_tables.rank_kernel, (pictures,), (flags, ends, rank, sites), shape, block)
    near, pool = rank.new_empty(count, 9), rank.new_empty(pooled, 4)
    masks = rank.new_empty(count, dtype=torch.int16)
    start(triton_tables.neighbours_kernel, (pictures,), (rank, ends, near, masks, pool), (pictures, *shape), block)
    return Table(shape=(pictures, height, width), sites=sites, near=near, pool=pool, plans={"masks": masks})


def block_of(sites: int) -> int:
    """The power of two that covers the sites of a picture, at least 16."""
    return max(16, 1 << (sites - 1).bit_length())
