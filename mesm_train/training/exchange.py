"""What ranks exchange in each step beside gradients: a few numbers and the statistics of batch norm."""

import torch
from torch import Tensor, distributed, nn
from torch.distributed import Work

from mesm_train.training.distributed import Ranks

STATISTICS = ("running_mean", "running_var")


class Exchange:
    """Gathers a few numbers of every rank and averages the running statistics of batch norm, in one collective.

    It starts before the backward pass and is finished after it, so it costs no time. A rank without items in a step
    contributes its old statistics to the mean. Afterwards the statistics are equal on all ranks, so what is evaluated
    and saved does not depend on the rank.
    """

    def __init__(self, ranks: Ranks, row: Tensor, model: nn.Module) -> None:
        """Start the collective. `row`: float32 (k,) on the device of the model; k is the same on all ranks."""
        self._ranks, self._statistics = ranks, list[Tensor]()
        self._work: Work | None = None
        rows = row.new_zeros(ranks.world, len(row))
        rows[ranks.rank] = row
        self._shape, self._sums = rows.shape, rows.flatten()
        if ranks.world > 1:
            self._statistics = [value for name, value in model.named_buffers() if name.endswith(STATISTICS)]
            self._sums = torch.cat([self._sums, *(value.flatten() for value in self._statistics)])
            with ranks.backend_errors():
                self._work = distributed.all_reduce(self._sums, async_op=True)

    def finish(self) -> Tensor:
        """Wait for the collective, update the statistics in place, and return the rows of all ranks, (world, k)."""
        if self._work is not None:
            with self._ranks.backend_errors():
                self._work.wait()
        sizes = [self._shape.numel(), *(value.numel() for value in self._statistics)]
        rows, *means = torch.split(self._sums, sizes)
        for value, mean in zip(self._statistics, means, strict=True):
            value.copy_(mean.view_as(value) / self._ranks.world)
        return rows.view(self._shape)
