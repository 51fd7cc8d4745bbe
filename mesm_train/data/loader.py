"""Shards to packed batches. Threads, not processes: a sample costs less to decode than to pass between processes."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_data.shards.reader import Dataset
from mesm_train.config import LoaderConfig
from mesm_train.data.batch import Batch
from mesm_train.models.text import tokenize

FACES = (0, 48, 48, 3)


class Loader:
    """Batches of a dataset's utterances. `targets` holds the label vector, float32 (classes,), of each key.

    Members are checked against the manifest's digests when they are first read: a damaged shard raises MesmError that
    names the sample.
    """

    def __init__(
        self,
        dataset: Dataset,
        targets: Mapping[str, NDArray[np.float32]],
        tokenizer: Any | None,
        max_tokens: int,
        settings: LoaderConfig,
    ) -> None:
        self.dataset, self.targets, self.settings = dataset, targets, settings
        self._tokenizer, self._max_tokens = tokenizer, max_tokens

    def batches(self, steps: Iterable[Sequence[str]]) -> Iterator[Batch]:
        """One batch a step, in order; `prefetch` of them are made ready ahead of use."""
        with ThreadPoolExecutor(self.settings.threads) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for keys in steps:
                    waiting.append(pool.submit(self.batch, keys))
                    if len(waiting) > self.settings.prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def batch(self, keys: Sequence[str]) -> Batch:
        """The utterances `keys`, packed. Raises MesmError that names the sample if one is damaged."""
        samples = [self.dataset[key] for key in keys]
        faces = [sample.faces for sample in samples]
        sounds = [sample.samples for sample in samples]
        if self._tokenizer is None:
            tokens, counts = torch.zeros(len(keys), 0, dtype=torch.int64), torch.zeros(len(keys), dtype=torch.int64)
        else:
            tokens, counts = tokenize(self._tokenizer, [sample.text for sample in samples], self._max_tokens)
        return Batch(
            keys=tuple(keys),
            faces=torch.from_numpy(np.concatenate([np.zeros(FACES, np.uint8), *faces])),
            face_counts=torch.tensor([len(crops) for crops in faces], dtype=torch.int64),
            samples=torch.from_numpy(np.concatenate([np.zeros(0, np.int16), *sounds])),
            sample_counts=torch.tensor([len(sound) for sound in sounds], dtype=torch.int64),
            tokens=tokens,
            token_counts=counts,
            labels=torch.from_numpy(np.stack([self.targets[key] for key in keys])),
        )
