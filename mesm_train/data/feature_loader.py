"""Feature sets to packed batches, for two-phase systems: no shard is read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.features.feature_set import FeatureSet, check_dataset
from mesm_data.features.remote_sets import open_set_of
from mesm_train.config.model_settings import MODALITIES
from mesm_train.config.settings import AugmentConfig, LoaderConfig, RunConfig
from mesm_train.data.batch import Batch, FeatureRows
from mesm_train.data.loader import Loader, run_ahead


class FeatureLoader(Loader):
    """Batches of the features of a dataset's utterances; faces, sound and tokens of a batch are empty."""

    def __init__(
        self,
        dataset: Dataset,
        targets: Mapping[str, NDArray[np.float32]],
        sets: Mapping[str, FeatureSet],
        settings: LoaderConfig,
        *,
        pin: bool = False,
    ) -> None:
        """`sets`: the feature set of each modality."""
        super().__init__(dataset, targets, None, 0, settings, pin=pin)
        self.sets = sets

    def batches(self, steps: Sequence[Sequence[str]], *, epoch: int | None = None) -> Iterator[Batch]:
        """One batch a step, in order; `prefetch` of them are made ready ahead of use."""
        calls = [partial(self.batch, keys, epoch=epoch) for keys in steps]
        return run_ahead(calls, threads=self.settings.threads, prefetch=self.settings.prefetch)

    def batch(self, keys: Sequence[str], *, epoch: int | None = None) -> Batch:
        """The utterances `keys`, packed; there may be none. Raises MesmError that names features that are damaged."""
        empty = self._pack([], epoch)
        classes = empty.labels.shape[1]
        nothing = torch.zeros(len(keys), dtype=torch.int64)
        targets = np.array([self.targets[key] for key in keys], np.float32).reshape(len(keys), classes)
        batch = Batch(
            keys=tuple(keys),
            faces=empty.faces, face_counts=nothing, samples=empty.samples, sample_counts=nothing,
            tokens=torch.zeros(len(keys), 0, dtype=torch.int64), token_counts=nothing,
            labels=torch.from_numpy(targets),
            features={modality: self._rows(each, keys) for modality, each in self.sets.items()},
        )  # fmt: skip
        return batch.pinned() if self._pin else batch

    def _rows(self, features: FeatureSet, keys: Sequence[str]) -> FeatureRows:
        parts = [np.zeros((0, features.dim), np.float32), *(features.values(key) for key in keys)]
        counts = torch.tensor([features.rows[key] for key in keys], dtype=torch.int64)
        return FeatureRows(values=torch.from_numpy(self._buffers.concatenate(parts)), counts=counts)


def open_sets(config: RunConfig, dataset: Dataset) -> dict[str, FeatureSet]:
    """The feature set of each modality of a two-phase system.

    Raises InputError if one is missing or of another dataset, or if a setting goes with raw data only.
    """
    if config.augment != AugmentConfig():
        raise InputError(f"augment changes faces, sound and words; model.kind {config.model.kind} reads features")
    if config.loader.undetected != "keep":
        raise InputError(f"loader.undetected leaves out face crops; model.kind {config.model.kind} reads features")
    if config.loader.source != "index":
        raise InputError(f"loader.source {config.loader.source} reads shards; model.kind {config.model.kind} does not")
    names = config.model.two_phase.features
    sets: dict[str, FeatureSet] = {
        modality: open_set_of(dataset, names.name(modality)) for modality in config.model.modalities
    }
    for features in sets.values():
        check_dataset(features, dataset.info["root"], dataset.keys)
    return sets


def with_feature_widths(config: RunConfig, dataset: Dataset) -> RunConfig:
    """The settings with the widths of the feature sets that they name. Raises as `open_sets`."""
    sets, features = open_sets(config, dataset), config.model.two_phase.features
    t, v, a = (sets[m].dim if m in sets else features.dim(m) for m in MODALITIES)
    two_phase = replace(config.model.two_phase, features=replace(features, dims=(t, v, a)))
    return replace(config, model=replace(config.model, two_phase=two_phase))


def class_vectors(config: RunConfig, dataset: Dataset, classes: Sequence[str]) -> torch.Tensor:
    """The word vector of each class, float32 (classes, d), from the feature set of the text.

    Raises InputError if the set holds no word vectors, or none of a class' word.
    """
    features = open_set_of(dataset, config.model.two_phase.features.t)
    vectors = features.info.get("word_vectors")
    if not vectors:
        raise InputError(
            f"emo-embs compares with word vectors of the emotions, and {features.path} has none: take a set of "
            "`mesm-data features --with glove` as model.two_phase.features.t"
        )
    words = config.model.two_phase.emo_embs.words or tuple(name.lower() for name in classes)
    if len(words) != len(classes):
        raise InputError(
            f"model.two_phase.emo_embs.words has {len(words)} words for the classes {', '.join(classes)}: give one each"
        )
    for name, word in zip(classes, words, strict=True):
        if word not in vectors:
            raise InputError(
                f"{features.path} has no vector of {word!r}, the word of class {name}: choose a word with "
                f"model.two_phase.emo_embs.words, among {', '.join(sorted(vectors))}"
            )
    return torch.tensor([vectors[word] for word in words], dtype=torch.float32)


def statistics(features: FeatureSet, keys: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each number over all rows of `keys`, float32 (d,) each; 0 and 1 without rows."""
    count, origin, total, squares = 0, np.zeros(features.dim), np.zeros(features.dim), np.zeros(features.dim)
    for key in keys:
        values = features.values(key).astype(np.float64)
        if not count and len(values):
            origin = values[0]  # from which all are measured: or a number that never changes would vary by rounding
        values = values - origin
        count, total, squares = count + len(values), total + values.sum(axis=0), squares + (values**2).sum(axis=0)
    if not count:
        return torch.zeros(features.dim), torch.ones(features.dim)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return torch.from_numpy((origin + mean).astype(np.float32)), torch.from_numpy(deviation.astype(np.float32))
