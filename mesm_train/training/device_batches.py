"""The batches of this rank on its device, with the time that the loop waited for each."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from mesm_data.errors import MesmError
from mesm_train.data.batch import Batch
from mesm_train.training.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBatch:
    """A batch of this rank on its device. `wait`: seconds that the loop waited for it; `error`: why it is empty."""

    batch: Batch
    wait: float
    error: MesmError | None


def device_batches(setup: Setup, shares: list[tuple[str, ...]], epoch: int) -> Iterator[DeviceBatch]:
    """Yield the batches of this rank in order.

    If a batch cannot be read, it and all later ones are empty and have its error: the other ranks continue until all
    ranks have received the error.
    """
    batches, error = setup.loader.batches(shares, epoch=epoch), None
    for _ in shares:
        start = time.monotonic()
        try:
            batch = next(batches) if error is None else setup.loader.batch(())
        except MesmError as caught:
            batch, error = setup.loader.batch(()), caught
        yield DeviceBatch(batch=batch.to(setup.device), wait=time.monotonic() - start, error=error)
