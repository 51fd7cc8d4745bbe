"""One utterance of a dataset."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mesm_data.errors import MesmError
from mesm_data.storage.json_files import parse_json

MAX_RECORD = 8 * 2**20  # bytes: ten hours of one utterance


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sample:
    """One utterance. Its arrays are read-only views of the shard; a pickled sample has copies.

    Attributes:
        key: The key of the utterance.
        faces: uint8 (n, size, size, 3) RGB.
        samples: int16 (n,) at `sample_rate` Hz.
        sample_rate: The sample rate in Hz.
        text: The transcript.
        json: The bytes of the JSON member. `record` parses them, which takes longer than all the rest.
    """

    key: str
    faces: NDArray[np.uint8]
    samples: NDArray[np.int16]
    sample_rate: int
    text: str
    json: memoryview

    @property
    def record(self) -> dict[str, Any]:
        """The record: labels, times, words, sources. Raises MesmError if it is not a JSON object, or too long."""
        try:
            if len(self.json) > MAX_RECORD:
                raise ValueError(f"more than {MAX_RECORD >> 20} MiB")
            record = parse_json(bytes(self.json))
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise MesmError(f"sample {self.key} is damaged: its json is not a record ({error})") from None
        return record

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 40 else f"{self.text[:39]}…"
        seconds = len(self.samples) / self.sample_rate
        return f"Sample({self.key:.40}: {len(self.faces)} faces, {seconds:.1f} s, {text!r})"

    def __reduce__(self) -> tuple[Callable[..., "Sample"], tuple[Any, ...]]:
        return _rebuild, (self.key, self.faces, self.samples, self.sample_rate, self.text, bytes(self.json))


def _rebuild(
    key: str, faces: NDArray[np.uint8], samples: NDArray[np.int16], rate: int, text: str, json: bytes
) -> Sample:
    return Sample(key=key, faces=faces, samples=samples, sample_rate=rate, text=text, json=memoryview(json))
