"""What a model predicts of a clip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_train.data.input_spec import HeadSpec
from mesm_train.inference.clips import Clip, ClipInput

if TYPE_CHECKING:
    import pandas as pd

_BAR = 20  # characters of a bar


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prediction:
    """The outputs of a model for one clip.

    Attributes:
        path: the file.
        start: where the clip begins, in seconds of the file.
        end: where it ends.
        text: what the model read.
        speaker: who speaks, as subtitles name them.
        heads: what the outputs are; those of the first are the primary ones.
        values: output -> probability of the class, or number on the scale of the labels.
        logits: output -> output of the model, before sigmoid, softmax or scaling.
        thresholds: class of a binary head -> the probability from which on it is predicted.
        meanings: output -> its name in full, where it is an abbreviation.
        branches: modality (text, faces, sound) -> output -> the logit of that branch, before the fusion.
        missing: modality -> why the clip lacks it. Its branch is left out of the fusion.
        notes: what a reader should know, one sentence each.
        input: the decoded clip; None if it was not kept.
    """

    path: Path
    start: float
    end: float
    text: str
    heads: Sequence[HeadSpec]
    values: Mapping[str, float]
    logits: Mapping[str, float]
    thresholds: Mapping[str, float] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    branches: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    speaker: str | None = None
    input: ClipInput | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that are predicted, head by head, the most probable first; none of a head of numbers."""
        return tuple(name for head in self.heads for name in self._labels(head))

    @property
    def best(self) -> str | None:
        """The most probable class of the primary head; None if it has numbers."""
        head = self.heads[0]
        return None if head.kind == "number" else self._by_value(head)[0]

    def meaning(self, name: str) -> str:
        """The name of an output in full."""
        return self.meanings.get(name, name)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, one object a clip."""
        return {
            "path": str(self.path),
            "start": self.start,
            "end": self.end,
            "speaker": self.speaker,
            "text": self.text,
            "labels": list(self.labels),
            "values": dict(self.values),
            "logits": dict(self.logits),
            "thresholds": dict(self.thresholds),
            "missing": dict(self.missing),
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        """The predicted classes with their probabilities, and the numbers, on one line."""
        numbers = [name for head in self.heads if head.kind == "number" for name in head.outputs]
        parts = [f"{self.meaning(name)} {self.values[name]:.2f}" for name in (*self.labels, *numbers)]
        return ", ".join(parts) or "none above its threshold"

    def _labels(self, head: HeadSpec) -> list[str]:
        if head.kind == "number":
            return []
        if head.kind == "multiclass":
            return self._by_value(head)[:1]
        return [name for name in self._by_value(head) if self.values[name] >= self.thresholds[name]]

    def _by_value(self, head: HeadSpec) -> list[str]:
        return sorted(head.outputs, key=lambda name: -self.values[name])

    def __repr__(self) -> str:
        title = f"{self.path.name} {self.start:.2f}-{self.end:.2f} s"
        lines = [f"{title}  {self.text!r:.60}" if self.text else title]
        width = max(len(self.meaning(name)) for name in self.values)
        for head in self.heads:
            labels = self._labels(head)
            for name in head.outputs if head.kind == "number" else self._by_value(head):
                mark, value = "*" if name in labels else " ", self.values[name]
                bar = "" if head.kind == "number" else f"  {'█' * round(_BAR * value):<{_BAR}}"
                limit = f"  (from {self.thresholds[name]:.2f})" if name in self.thresholds else ""
                lines.append(f"{mark} {self.meaning(name):<{width}}  {value:.2f}{bar}{limit}")
        lines += [f"  without {modality}: {reason}" for modality, reason in self.missing.items()]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A clip of which nothing is predicted, and why."""

    clip: Clip
    reason: str


class Timeline(Sequence[Prediction]):
    """Predictions of windows or subtitles of one file, in the order of time."""

    def __init__(self, predictions: Sequence[Prediction]) -> None:
        self._predictions = tuple(predictions)

    def __len__(self) -> int:
        return len(self._predictions)

    def __getitem__(self, index: Any) -> Any:
        return self._predictions[index]

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._predictions)

    def __repr__(self) -> str:
        lines = [f"Timeline of {len(self)} predictions"]
        for prediction in self:
            times = f"{prediction.start:8.2f}-{prediction.end:8.2f} s"
            lines.append(f"  {times}  {prediction.summary():<40}  {prediction.text!r:.60}".rstrip())
        return "\n".join(lines)

    def to_pandas(self) -> "pd.DataFrame":
        """One row a prediction: its start, end, text and labels, and a column for each class or number."""
        import pandas as pd

        rows = [
            {"start": row.start, "end": row.end, "text": row.text, "labels": ";".join(row.labels), **row.values}
            for row in self
        ]
        return pd.DataFrame(rows)
