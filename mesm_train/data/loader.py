"""Loads packed batches from shards, in threads: decoding a sample is cheaper than passing it between processes."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_train.config.settings import AugmentConfig, LoaderConfig
from mesm_train.data.augment import augment
from mesm_train.data.batch import Batch
from mesm_train.data.buffers import BufferPool
from mesm_train.data.collate import Utterance, pack
from mesm_train.data.stream import ShardStream


class Loader:
    """Loads batches of a dataset's utterances.

    Members are compared with the digests of the manifest when they are first read: a damaged shard raises MesmError
    that names the sample.

    Attributes:
        dataset: The dataset.
        targets: The label vector, float32 (classes,), of each key.
        settings: The settings of the loader.
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Mapping[str, NDArray[np.float32]],
        tokenizer: Any | None,
        max_tokens: int,
        settings: LoaderConfig,
        *,
        augmentation: AugmentConfig | None = None,
        seed: int = 0,
        pin: bool = False,
        stream: ShardStream | None = None,
    ) -> None:
        self.dataset, self.targets, self.settings = dataset, targets, settings
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._buffers = BufferPool()
        size = dataset.info["recipe"]["face_size"]
        self._face_shape = (size, size, 3)
        self._augmentation, self._seed, self._pin, self._stream = augmentation, seed, pin, stream

    def batches(self, steps: Sequence[Sequence[str]], *, epoch: int | None = None) -> Iterator[Batch]:
        """Yield one batch per step, in order, and prepare `prefetch` of them ahead of use.

        Args:
            steps: The keys of each batch.
            epoch: The epoch of training, which seeds the augmentation; None for evaluation. In training with a stream,
                a batch contains the next samples of the stream, as many as the step has keys.
        """
        threads, calls = self.settings.threads, list[Callable[[], Batch]]()
        if self._stream is not None and epoch is not None:
            threads, samples = 1, self._stream.samples(epoch, len(steps))
            calls = [partial(self._pack_next, samples, len(keys), epoch) for keys in steps]
        else:
            self.dataset.prefetch(key for keys in steps for key in keys)
            calls = [partial(self.batch, keys, epoch=epoch) for keys in steps]
        return run_ahead(calls, threads=threads, prefetch=self.settings.prefetch)

    def batch(self, keys: Sequence[str], *, epoch: int | None = None) -> Batch:
        """The batch of these utterances, which may be none. Raises MesmError that names a damaged sample."""
        return self._pack([self.dataset[key] for key in keys], epoch)

    def _pack_next(self, samples: Iterator[Sample], count: int, epoch: int) -> Batch:
        return self._pack(list(islice(samples, count)), epoch)

    def _pack(self, samples: Sequence[Sample], epoch: int | None) -> Batch:
        batch = pack(
            [self._utterance(sample, epoch) for sample in samples],
            face_shape=self._face_shape,
            classes=len(next(iter(self.targets.values()))),
            tokenizer=self._tokenizer,
            max_tokens=self._max_tokens,
            concatenate=self._buffers.concatenate,
        )
        return batch.pinned() if self._pin else batch

    def _utterance(self, sample: Sample, epoch: int | None) -> Utterance:
        faces, text, masks, key = sample.faces, sample.text, None, sample.key
        if self.settings.undetected == "skip" and len(faces):
            faces = faces[np.array(sample.record["faces"]["detected"], bool)]
        if self._augmentation is not None and epoch is not None:
            seed, length = self._seed, len(sample.samples)
            augmented = augment(self._augmentation, faces, text, length, seed=seed, epoch=epoch, key=key)
            faces, text, masks = augmented.faces, augmented.text, augmented.masks
        return Utterance(key=key, faces=faces, samples=sample.samples, text=text, target=self.targets[key], masks=masks)


def run_ahead(calls: Sequence[Callable[[], Batch]], *, threads: int, prefetch: int) -> Iterator[Batch]:
    """The results of `calls` in order; `prefetch` of them are computed ahead of use by `threads`."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) > prefetch:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
