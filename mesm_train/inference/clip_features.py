"""The features of a clip for two-phase systems, by the extractors of `mesm-data features`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.features.base import ExtractSample, replace_not_finite
from mesm_data.features.extractors import reads_vectors, sample_extractor
from mesm_data.storage.json_files import canonical_json
from mesm_train.data.batch import MODALITY_NAMES, FeatureRows
from mesm_train.inference.clips import ClipInput


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFeatures:
    """Computes what a two-phase system reads.

    Attributes:
        extractors: modality -> the function that computes the features of a sample.
        notes: one sentence for each library whose version is not that of the training data.
    """

    extractors: Mapping[str, ExtractSample]
    notes: tuple[str, ...]

    def rows(self, inputs: Sequence[ClipInput]) -> dict[str, FeatureRows]:
        """Modality -> the features of decoded clips, behind each other."""
        samples = [as_sample(clip_input) for clip_input in inputs]
        rows = {}
        for modality, extract in self.extractors.items():
            values = [replace_not_finite(extract(sample).values) for sample in samples]
            counts = torch.tensor([len(each) for each in values], dtype=torch.int64)
            rows[modality] = FeatureRows(values=torch.from_numpy(np.concatenate(values)), counts=counts)
        return rows


def open_clip_features(sets: Mapping[str, Mapping[str, Any]], glove: Path | None = None) -> ClipFeatures | None:
    """The extractors of feature sets; None without any, for models that read raw data.

    Args:
        sets: modality -> name, kind, config and libraries of a set, see `InputSpec.features`.
        glove: the text file of GloVe, if a set was computed from one.

    Raises:
        InputError: a set was read from a file, so it cannot be computed from a clip; a library is missing; or `glove`
            is not the file that a set was computed from.
    """
    if glove is not None and not any(reads_vectors(each["kind"], each["config"]) for each in sets.values()):
        raise InputError(f"--glove {glove}: the model reads no word vectors of a text file")
    if not sets:
        return None
    extractors, notes = {}, []
    for modality, described in sets.items():
        try:
            extractor = sample_extractor(described["name"], described["kind"], described["config"], glove)
        except InputError as error:
            raise InputError(f"the model reads features of {MODALITY_NAMES[modality]}: {error}") from None
        for library, now in extractor.describe().libraries.items():
            before = described["libraries"].get(library, "another version")
            if before != now:
                notes.append(f"{described['name']}: computed by {library} {now}, in training by {before}")
        extractors[modality] = extractor.open_sample(None)
    return ClipFeatures(extractors=extractors, notes=tuple(notes))


def as_sample(clip_input: ClipInput) -> Sample:
    """A decoded clip as a sample of a dataset, with those parts of its record that extractors read."""
    words = clip_input.clip.words
    record = {
        "words": None if words is None else [{"w": word.word, "t0": word.start, "t1": word.end} for word in words],
        "faces": {
            "times": list(clip_input.times),
            "boxes": [list(box) for box in clip_input.boxes],
            "detected": [count > 0 for count in clip_input.counts],
        },
        "video": {"width": clip_input.picture_width},
    }
    return Sample(
        key=clip_input.key,
        faces=clip_input.faces,
        samples=clip_input.samples,
        sample_rate=clip_input.sample_rate,
        text=clip_input.text,
        json=memoryview(canonical_json(record)),
    )
