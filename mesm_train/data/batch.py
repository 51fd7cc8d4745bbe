"""The packed batch, which the loader makes and the models take: items of all utterances are concatenated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

MODALITY_NAMES = {"t": "text", "v": "faces", "a": "sound"}  # letter: name, in the order of the fusion


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRows:
    """The features of N utterances in one modality, behind each other.

    Attributes:
        values: float32 (rows, d).
        counts: int64 (N,) on the CPU, summing to the rows.
    """

    values: Tensor
    counts: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Batch:
    """N utterances with F faces and S audio samples in total; each of N, F, S may be 0, in any combination.

    Only `tokens` is padded, with any valid token id. A count of 0 means that the utterance lacks that modality. Counts
    and masks stay on the CPU, because their values determine shapes: a model on a GPU does not wait for them.
    """

    keys: tuple[str, ...]
    faces: Tensor  # uint8 (F, 48, 48, 3) RGB; another size for models without faces
    face_counts: Tensor  # int64 (N,), summing to F
    samples: Tensor  # int16 (S,) PCM, 16 kHz
    sample_counts: Tensor  # int64 (N,), summing to S
    tokens: Tensor  # int64 (N, L)
    token_counts: Tensor  # int64 (N,), each at most L
    labels: Tensor  # float32 (N, classes)
    masks: Tensor | None = None  # int64 (N, 4), of augmented sound: see MelPieces
    features: Mapping[str, FeatureRows] = field(default_factory=dict)  # by modality, for two-phase systems

    def __repr__(self) -> str:
        faces, seconds = len(self.faces), len(self.samples) / 16_000
        tokens, classes = self.tokens.shape[1], self.labels.shape[1]
        return f"Batch({len(self.keys)} utterances: {faces} faces, {seconds:.1f} s, {tokens} tokens, {classes} classes)"

    def to(self, device: torch.device | str) -> "Batch":
        """The batch with its contents on `device`; the copy is asynchronous from pinned memory."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in pinned memory."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            faces=change(self.faces),
            samples=change(self.samples),
            tokens=change(self.tokens),
            labels=change(self.labels),
            features={m: replace(rows, values=change(rows.values)) for m, rows in self.features.items()},
        )

    def split(self) -> list["Batch"]:
        """One batch per utterance, without padding."""
        faces = torch.split(self.faces, self.face_counts.tolist())
        samples = torch.split(self.samples, self.sample_counts.tolist())
        lengths = self.token_counts.tolist()
        rows = {m: torch.split(each.values, each.counts.tolist()) for m, each in self.features.items()}
        return [
            Batch(
                keys=(key,),
                faces=faces[i],
                face_counts=self.face_counts[i : i + 1],
                samples=samples[i],
                sample_counts=self.sample_counts[i : i + 1],
                tokens=self.tokens[i : i + 1, : lengths[i]],
                token_counts=self.token_counts[i : i + 1],
                labels=self.labels[i : i + 1],
                masks=None if self.masks is None else self.masks[i : i + 1],
                features={
                    m: FeatureRows(values=rows[m][i], counts=each.counts[i : i + 1])
                    for m, each in self.features.items()
                },
            )
            for i, key in enumerate(self.keys)
        ]


def item_positions(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For counts int64 (N,): the utterance of each packed item, and its position in it, both int64 (sum,)."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    first = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - first[owner]
