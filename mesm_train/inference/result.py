"""What a model predicts of a clip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_train.inference.clips import ClipInput

if TYPE_CHECKING:
    import pandas as pd

MODALITIES = {"t": "text", "v": "faces", "a": "sound"}
_BAR = 20  # characters of a bar


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prediction:
    """The outputs of a model for one clip.

    Attributes:
        path, start, end: the clip, in seconds of its file.
        text: what the model read.
        speaker: who speaks, as subtitles name them.
        task: the task of the label view: one_vs_rest (a probability for each class, of its own), single (probabilities
            that sum to 1) or number (values on the scale of the labels).
        values: class -> probability, or the name of a label -> number.
        logits: class -> output of the model before the sigmoid or softmax; empty for numbers.
        thresholds: class -> the probability from which on the class is predicted; empty for other tasks.
        meanings: class -> its name in full, where the class is an abbreviation.
        branches: modality (text, faces, sound) -> class -> the logit of that branch, before the fusion.
        missing: modality -> why the clip lacks it. Its branch is left out of the fusion.
        notes: what a reader should know, one sentence each.
        input: the decoded clip; None if it was not kept.
    """

    path: Path
    start: float
    end: float
    text: str
    task: str
    values: Mapping[str, float]
    logits: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    branches: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    speaker: str | None = None
    input: ClipInput | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs, in the model's order."""
        return tuple(self.values)

    @property
    def best(self) -> str | None:
        """The class with the highest probability; None for numbers."""
        return None if self.task == "number" else max(self.values, key=self.values.__getitem__)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes that are predicted, most probable first: those at or above their threshold, or the best one."""
        if self.task == "number":
            return ()
        if self.task == "single":
            return (str(self.best),)
        above = [name for name, value in self.values.items() if value >= self.thresholds[name]]
        return tuple(sorted(above, key=lambda name: -self.values[name]))

    def meaning(self, name: str) -> str:
        """The name of a class in full."""
        return self.meanings.get(name, name)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, one object a clip."""
        return {
            "path": str(self.path),
            "start": self.start,
            "end": self.end,
            "speaker": self.speaker,
            "text": self.text,
            "task": self.task,
            "labels": list(self.labels),
            "values": dict(self.values),
            "logits": dict(self.logits),
            "thresholds": dict(self.thresholds),
            "missing": dict(self.missing),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        lines = [f"{self.path.name} {self.start:.2f}-{self.end:.2f} s"]
        lines[0] += f"  {self.text!r:.60}" if self.text else ""
        names = {name: self.meaning(name) for name in self.values}
        width = max(map(len, names.values()))
        labels = self.labels
        for name, value in sorted(self.values.items(), key=lambda item: -item[1]):
            if self.task == "number":
                lines.append(f"  {names[name]:<{width}}  {value:.2f}")
                continue
            bar = "█" * round(_BAR * value)
            limit = f"  (from {self.thresholds[name]:.2f})" if name in self.thresholds else ""
            mark = "*" if name in labels else " "
            lines.append(f"{mark} {names[name]:<{width}}  {value:.2f}  {bar:<{_BAR}}{limit}")
        lines += [f"  without {modality}: {reason}" for modality, reason in self.missing.items()]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(line.rstrip() for line in lines)


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
        for one in self:
            if one.task == "number":
                found = ", ".join(f"{one.meaning(name)} {value:.2f}" for name, value in one.values.items())
            else:
                found = ", ".join(f"{one.meaning(name)} {one.values[name]:.2f}" for name in one.labels) or "-"
            lines.append(f"  {one.start:8.2f}-{one.end:8.2f} s  {found:<40}  {one.text!r:.60}".rstrip())
        return "\n".join(lines)

    def to_pandas(self) -> "pd.DataFrame":
        """One row a prediction: its start, end, text and labels, and a column for each class or number."""
        import pandas as pd

        rows = [
            {"start": one.start, "end": one.end, "text": one.text, "labels": ";".join(one.labels), **one.values}
            for one in self
        ]
        return pd.DataFrame(rows)
