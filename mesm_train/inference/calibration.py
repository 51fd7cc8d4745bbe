"""From the outputs of a model to probabilities and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mesm_data.errors import InputError
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.data.input_spec import InputSpec
from mesm_train.training.run_files import THRESHOLDS


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCalibration:
    """(outputs,) each.

    Attributes:
        thresholds: probabilities of yes/no questions; 0.5 for other outputs, which need none.
        scale, offset: a number is output * scale + offset; 1 and 0 for classes.
    """

    thresholds: Sequence[float]
    scale: Sequence[float]
    offset: Sequence[float]

    @classmethod
    def neutral(cls, count: int) -> "OutputCalibration":
        """That of a run which has not chosen any yet."""
        return cls(thresholds=(0.5,) * count, scale=(1.0,) * count, offset=(0.0,) * count)

    @classmethod
    def parse(cls, content: Mapping[str, Any], count: int) -> "OutputCalibration":
        """That of the content of thresholds.json. Raises ValueError if its lists are not of `count` outputs."""
        neutral = cls.neutral(count)
        lists = {name: tuple(content.get(name, getattr(neutral, name))) for name in ("thresholds", "scale", "offset")}
        if any(len(values) != count for values in lists.values()):
            raise ValueError(f"expected {count} values of each")
        return cls(**lists)

    def values(self, logits: Tensor, spec: InputSpec) -> Tensor:
        """Outputs of the model (n, outputs) to probabilities and numbers, float64 (n, outputs)."""
        values, first = logits.double().clone(), 0
        for head in spec.heads:
            columns = slice(first, first + len(head.outputs))
            first = columns.stop
            if head.kind == "binary":
                values[:, columns] = values[:, columns].sigmoid()
            elif head.kind == "multiclass":
                values[:, columns] = values[:, columns].softmax(1)
            else:
                scale, offset = (values.new_tensor(list(each[columns])) for each in (self.scale, self.offset))
                values[:, columns] = values[:, columns] * scale + offset
        return values


def read_calibration(run: Path, spec: InputSpec) -> OutputCalibration:
    """The calibration of a run; a neutral one if it has not ended. Raises InputError if it is of other outputs."""
    path, outputs = run / "thresholds.json", list(spec.outputs)
    if not path.exists():
        return OutputCalibration.neutral(len(outputs))
    content = read_checked_json(path, THRESHOLDS)
    try:
        if content["classes"] != outputs:
            raise ValueError(f"its classes are {', '.join(content['classes'])}")
        return OutputCalibration.parse(content, len(outputs))
    except ValueError as error:
        raise InputError(f"{path} is not of this run: {error}") from None
