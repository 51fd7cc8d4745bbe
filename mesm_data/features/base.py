"""What an extractor is, and what it returns for one utterance."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample

Floats = NDArray[np.float32]
Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The rows of one utterance, in the order of time.

    Attributes:
        values: float32 (n, d); n may be 0.
        times: float64 (n,): where each row begins, in seconds from the utterance's start. None if that is not known,
            as for words without an alignment.
    """

    values: Floats
    times: Times | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What a feature set says of itself.

    Attributes:
        columns: A name for each number of a row.
        hop: Seconds between two rows, None if that varies.
        licence: One sentence: under which terms these features can be used.
        config: All that decides the values: options, and the sha256 of files that they come from.
        libraries: Versions of the libraries that computed them.
    """

    columns: tuple[str, ...]
    hop: float | None
    licence: str
    config: dict[str, Any]
    libraries: dict[str, str] = field(default_factory=dict)


Extract = Callable[[Dataset, str], Features]
ExtractSample = Callable[[Sample], Features]


class Extractor(ABC):
    """Computes the features of utterances. It is pickled to worker processes, so it holds settings only."""

    kind: str
    parallel = True  # False: one process, as where each would read the same large table
    isolated = False  # True: never in this process, which a library may crash

    @abstractmethod
    def describe(self) -> Description:
        """The set that this extractor makes. Raises InputError if a library or a file is missing."""

    def prepare(self, dataset: Dataset, folder: Path) -> None:  # noqa: B027  # most need nothing
        """Compute what all utterances need, once, into the empty folder `folder`."""

    @abstractmethod
    def open(self, folder: Path) -> Extract:
        """The function that computes one utterance; called once in each process, after `prepare`."""

    def extra(self, folder: Path) -> dict[str, Any]:
        """Further facts for features.json, after `prepare`."""
        return {}


class SampleExtractor(Extractor):
    """Computes features from a sample and nothing else, so that those of any clip can be computed too."""

    @abstractmethod
    def open_sample(self, folder: Path | None) -> ExtractSample:
        """The function that computes one sample.

        Args:
            folder: What `prepare` wrote for a dataset; None: for samples of which it has seen none.
        """

    def open(self, folder: Path) -> Extract:
        """The same for the utterances of a dataset."""
        extract = self.open_sample(folder)
        return lambda dataset, key: extract(dataset[key])


def replace_not_finite(values: Floats) -> Floats:
    """The values with 0 for infinities and NaN, as a feature set stores them."""
    return np.where(np.isfinite(values), values, np.float32(0))


def pool(features: Features, window: float, statistics: tuple[str, ...] = ("mean",)) -> Features:
    """Pool rows over windows of so many seconds from the utterance's start.

    Args:
        features: Rows with times.
        window: The width of a window; windows without a row are left out.
        statistics: "mean", "std" (of the population), one after the other in each row.

    Returns:
        One row per window, at the window's start. It holds each statistic of all columns in turn.
    """
    assert features.times is not None
    if not len(features.values):
        empty = np.zeros((0, len(statistics) * features.values.shape[1]), np.float32)
        return Features(values=empty, times=np.zeros(0))
    # Half a microsecond: 3 x 0.1 is above 0.3 in binary, and would fall into the window before.
    number, owner = np.unique(np.floor((features.times + 5e-7) / window).astype(np.int64), return_inverse=True)
    counts = np.bincount(owner).astype(np.float64)[:, None]
    wide = features.values.astype(np.float64)
    mean = _sums(wide, owner, len(number)) / counts
    by_name = {"mean": mean}
    if "std" in statistics:
        by_name["std"] = np.sqrt(_sums((wide - mean[owner]) ** 2, owner, len(number)) / counts)
    values = np.concatenate([by_name[name] for name in statistics], axis=1)
    return Features(values=values.astype(np.float32), times=np.asarray(number * window, np.float64))


def _sums(values: NDArray[np.float64], owner: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    total = np.zeros((count, values.shape[1]))
    np.add.at(total, owner, values)
    return total
