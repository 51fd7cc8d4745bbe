"""3x3 convolutions of some rows by their pairs of active neighbours, in PyTorch on a CPU.

In chunks of rows that stay in the cache: one gather, a product a tap, one segmented sum. It computes active pairs only.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mesm_train.models.kernels import Table

CHUNK = 2048  # rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows and their pairs, ordered by tap. They are the same pairs for the mirrored taps."""

    rows: Tensor  # int64 (r,)
    source: Tensor  # int64 (pairs,): rows of the input
    target: Tensor  # int64 (pairs,): rows of the output
    spans: tuple[tuple[int, int, int], ...]  # tap, begin, end
    order: Tensor  # int64 (pairs,): the pairs by output row
    offsets: Tensor  # int64 (r,): where each row's begin in `order`


def chunks(table: Table, rows: Tensor) -> list[Chunk]:
    """Of `rows`, int64 (n,), ascending."""
    if not len(rows):
        return []
    near = table.near.index_select(0, rows)
    there = near >= 0
    count = -(-len(rows) // CHUNK)
    padded = functional.pad(there, (0, 0, 0, count * CHUNK - len(rows))).view(count, CHUNK, 9)
    by_tap = padded.transpose(1, 2)
    chunk, tap, place = by_tap.nonzero(as_tuple=True)
    row = chunk * CHUNK + place
    source, target = near.flatten()[row * 9 + tap].long(), rows[row]
    # A pair's place among its chunk's, by tap; read in the order of rows.
    number = torch.empty_like(by_tap, dtype=torch.int64).masked_scatter_(by_tap, torch.arange(len(target)))
    order = number.transpose(1, 2)[padded]
    starts = functional.pad(there.sum(1).cumsum(0)[:-1], (1, 0))
    chunks_of_rows, begin = [], 0
    for i, counts in enumerate(padded.sum(1).tolist()):
        some, end, spans, at = slice(i * CHUNK, (i + 1) * CHUNK), begin + sum(counts), [], 0
        for k, pairs in enumerate(counts):
            if pairs:
                spans.append((k, at, at + pairs))
            at += pairs
        chunks_of_rows.append(
            Chunk(
                rows=rows[some],
                source=source[begin:end],
                target=target[begin:end],
                spans=tuple(spans),
                order=order[begin:end] - begin,
                offsets=starts[some] - begin,
            )
        )
        begin = end
    return chunks_of_rows


def conv(x: Tensor, weight: Tensor, plan: list[Chunk], y: Tensor) -> None:
    """The convolution of x (n, Cin) with a weight (9, Cin, Cout) into those rows of y."""
    for chunk in plan:
        gathered = x.index_select(0, chunk.source)
        products = x.new_empty(len(gathered), weight.shape[2])
        for k, begin, end in chunk.spans:
            torch.mm(gathered[begin:end], weight[k], out=products[begin:end])
        y.index_copy_(0, chunk.rows, functional.embedding_bag(chunk.order, products, chunk.offsets, mode="sum"))


def conv_weight(x: Tensor, dy: Tensor, plan: list[Chunk], dw: Tensor) -> None:
    """Add to dw (9, Cin, Cout) the gradient of the weight by those rows of dy (n, Cout)."""
    for chunk in plan:
        inputs, outputs = x.index_select(0, chunk.source), dy.index_select(0, chunk.target)
        for k, begin, end in chunk.spans:
            dw[k].addmm_(inputs[begin:end].t(), outputs[begin:end])
