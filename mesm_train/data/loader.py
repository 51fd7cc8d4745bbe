"""Shards to packed batches. Threads, not processes: a sample costs less to decode than to pass between processes."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_data.shards.reader import Dataset
from mesm_train.config import AugmentConfig, LoaderConfig
from mesm_train.data.augment import augment
from mesm_train.data.batch import Batch
from mesm_train.data.memory import Memory
from mesm_train.models.text import tokenize


class Loader:
    """Batches of a dataset's utterances. `targets` holds the label vector, float32 (classes,), of each key.

    Members are checked against the manifest's digests when they are first read: a damaged shard raises MesmError that
    names the sample. With `augmentation`, batches of an epoch (of training) are changed by it, drawn from `seed`.
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
    ) -> None:
        self.dataset, self.targets, self.settings = dataset, targets, settings
        self._tokenizer, self._max_tokens = tokenizer, max_tokens
        self._memory = Memory()
        size = dataset.info["recipe"]["face_size"]
        self._no_faces = np.zeros((0, size, size, 3), np.uint8)
        self._augmentation, self._seed, self._pin = augmentation, seed, pin

    def batches(self, steps: Sequence[Sequence[str]], *, epoch: int | None = None) -> Iterator[Batch]:
        """One batch a step, in order; `prefetch` of them are made ready ahead of use. `epoch`: of training."""
        self.dataset.expect(key for keys in steps for key in keys)
        with ThreadPoolExecutor(self.settings.threads) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for keys in steps:
                    waiting.append(pool.submit(self.batch, keys, epoch=epoch))
                    if len(waiting) > self.settings.prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def batch(self, keys: Sequence[str], *, epoch: int | None = None) -> Batch:
        """The utterances `keys`, packed; there may be none. Raises MesmError that names a sample that is damaged."""
        samples = [self.dataset[key] for key in keys]
        faces, texts = [sample.faces for sample in samples], [sample.text for sample in samples]
        sounds = [sample.samples for sample in samples]
        masks = None
        if self._augmentation is not None and epoch is not None:
            changed = [
                augment(self._augmentation, s.faces, s.text, len(s.samples), seed=self._seed, epoch=epoch, key=s.key)
                for s in samples
            ]
            faces, texts = [one.faces for one in changed], [one.text for one in changed]
            masks = torch.from_numpy(np.array([one.masks for one in changed], np.int64).reshape(-1, 4))
        if self._tokenizer is None:
            tokens, counts = torch.zeros(len(keys), 0, dtype=torch.int64), torch.zeros(len(keys), dtype=torch.int64)
        else:
            tokens, counts = tokenize(self._tokenizer, texts, self._max_tokens)
        classes = len(next(iter(self.targets.values())))
        batch = Batch(
            keys=tuple(keys),
            faces=torch.from_numpy(self._memory.concatenate([self._no_faces, *faces])),
            face_counts=torch.tensor([len(crops) for crops in faces], dtype=torch.int64),
            samples=torch.from_numpy(self._memory.concatenate([np.zeros(0, np.int16), *sounds])),
            sample_counts=torch.tensor([len(sound) for sound in sounds], dtype=torch.int64),
            tokens=tokens,
            token_counts=counts,
            labels=torch.from_numpy(np.array([self.targets[key] for key in keys], np.float32).reshape(-1, classes)),
            masks=masks,
        )
        return batch.pinned() if self._pin else batch
