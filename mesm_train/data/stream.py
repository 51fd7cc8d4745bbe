"""Training samples read by webdataset: shards from front to back, from a disk or from where they lie, never by key."""

import tarfile
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from mesm_data.dataset.members import EXTENSIONS
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.errors import MesmError
from mesm_train.data.plan import derived

SHUFFLE = 500  # samples of the buffer from which the next one is drawn: about 100 MB
COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # which tarfile would unfold to any size

STREAM_NOTE = (
    "loader.source=webdataset reads shards front to back. On one rank an uninterrupted epoch has every sample once; on "
    "several ranks, and after --resume, some samples of an epoch come twice and others not at all, and a resumed run "
    "differs from one that was not stopped. loader.source=index (the default) promises both"
)


class ShardStream:
    """The samples of some keys, in the order of shards that a seed shuffles, drawn from a buffer of SHUFFLE samples.

    Each of `world` ranks reads shards of its own. When it has read them all, shards are dealt to it anew, so the stream
    does not end.
    """

    def __init__(self, dataset: Dataset, keys: Sequence[str], *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.dataset, self._seed, self._rank, self._world = dataset, seed, rank, world
        self.shards: dict[str, set[str]] = {}  # the keys of each shard that holds any
        for key in sorted(keys, key=dataset.shard):
            self.shards.setdefault(dataset.shard(key), set()).add(key)

    def samples(self, epoch: int, steps: int) -> Iterator[Sample]:
        """The samples of an epoch of which `steps` are left: after a resume they are others than without.

        Raises MesmError if a shard cannot be read, lacks a sample or holds a damaged one.
        """
        turn = 0
        while True:
            place = (epoch, steps, turn)
            order = list(self.shards)
            Random(derived(self._seed, "shards", *place)).shuffle(order)
            yield from self._read(order[self._rank :: self._world], derived(self._seed, "stream", self._rank, *place))
            turn += 1

    def _read(self, shards: Sequence[str], seed: int) -> Iterator[Sample]:
        import webdataset

        members = webdataset.shuffle(SHUFFLE, rng=Random(seed))(self._members(shards))
        return (
            self.dataset.decode_members(sample["__key__"], [sample[ext] for ext in EXTENSIONS]) for sample in members
        )

    def _members(self, shards: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The members of each sample that belongs to the stream, as bytes by extension, with `__key__`."""
        from webdataset.tariterators import group_by_keys, tar_file_expander

        for name in shards:
            source, missing = self.dataset.store.source(name), set(self.shards[name])
            try:
                with self.dataset.store.stream(name) as stream:
                    if stream.peek(6)[:6].startswith(COMPRESSED):
                        raise ValueError("it is compressed")
                    for sample in group_by_keys(tar_file_expander([{"url": name, "stream": stream}])):
                        if sample["__key__"] in missing and sample.keys() >= set(EXTENSIONS):
                            missing.discard(sample["__key__"])
                            yield sample
            except MesmError as error:
                raise type(error)(error.args[0]) from None  # webdataset adds arguments of its own
            except (OSError, ValueError, tarfile.TarError) as error:
                raise MesmError(f"{source} cannot be read ({error.args[0] or type(error).__name__})") from None
            if missing:
                raise MesmError(
                    f"{source} lacks {len(missing)} samples of the manifest, the first is {min(missing)}; `mesm-data "
                    "verify` on this dataset lists all that is damaged"
                )
