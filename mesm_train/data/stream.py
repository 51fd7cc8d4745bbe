"""Training samples read by webdataset: shards sequentially, from a disk or a remote store, never by key."""

import tarfile
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.errors import MesmError
from mesm_train.data.plan import derive_seed

SHUFFLE_BUFFER = 500  # samples, about 100 MB
COMPRESSION_MAGIC = (
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"\x28\xb5\x2f\xfd",
)  # tarfile would decompress such a file to any size

STREAM_NOTE = (
    "loader.source=webdataset reads shards sequentially. On one rank an uninterrupted epoch has every sample once; on "
    "several ranks, and after --resume, some samples of an epoch occur twice and others not at all, and a resumed run "
    "differs from an uninterrupted one. loader.source=index (the default) guarantees both"
)


class ShardStream:
    """An endless stream of the samples `keys`: shards in a seeded random order, through a shuffle buffer.

    Each of `world` ranks reads its own shards. When it has read all of them, shards are assigned again.
    """

    def __init__(self, dataset: Dataset, keys: Sequence[str], *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.dataset, self._seed, self._rank, self._world = dataset, seed, rank, world
        self.shards: dict[str, set[str]] = {}  # shard -> keys
        for key in sorted(keys, key=dataset.shard):
            self.shards.setdefault(dataset.shard(key), set()).add(key)

    def samples(self, epoch: int, steps: int) -> Iterator[Sample]:
        """The samples of an epoch that has `steps` steps left: after a resume, they differ from an uninterrupted run.

        Raises MesmError if a shard cannot be read, lacks a sample or contains a damaged one.
        """
        cycle = 0
        while True:
            seed_path = (epoch, steps, cycle)
            order = list(self.shards)
            Random(derive_seed(self._seed, "shards", *seed_path)).shuffle(order)
            yield from self._read(
                order[self._rank :: self._world], derive_seed(self._seed, "stream", self._rank, *seed_path)
            )
            cycle += 1

    def _read(self, shards: Sequence[str], seed: int) -> Iterator[Sample]:
        import webdataset

        members = webdataset.shuffle(SHUFFLE_BUFFER, rng=Random(seed))(self._members(shards))
        return (
            self.dataset.decode_members(sample["__key__"], [sample[ext] for ext in EXTENSIONS]) for sample in members
        )

    def _members(self, shards: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The members of each sample of the stream: extension -> bytes, and `__key__`."""
        from webdataset.tariterators import group_by_keys, tar_file_expander

        for name in shards:
            source, missing = self.dataset.store.source(name), set(self.shards[name])
            try:
                with self.dataset.store.stream(name) as stream:
                    if stream.peek(6)[:6].startswith(COMPRESSION_MAGIC):
                        raise ValueError("it is compressed")
                    for sample in group_by_keys(tar_file_expander([{"url": name, "stream": stream}])):
                        if sample["__key__"] in missing and sample.keys() >= set(EXTENSIONS):
                            missing.discard(sample["__key__"])
                            yield sample
            except MesmError as error:
                raise type(error)(error.args[0]) from None  # webdataset appends its own arguments
            except (OSError, ValueError, tarfile.TarError) as error:
                raise MesmError(f"{source} cannot be read ({error.args[0] or type(error).__name__})") from None
            if missing:
                raise MesmError(
                    f"{source} lacks {len(missing)} samples of the manifest, the first is {min(missing)}; `mesm-data "
                    "verify` on this dataset lists all damage"
                )
