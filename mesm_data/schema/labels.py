"""Label schemes: the type and the allowed values of a label.

The terms follow audformat: a scheme describes a label; raters assign their own values to it.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mesm_data.errors import InputError

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]  # of corpora, labels, classes, views, splits
Text = Annotated[str, Field(max_length=10_000)]
MISSING_CELLS = frozenset({"", "na", "n/a", "nan", "none", "null", "nat"})  # cells without a value, in lower case


def pairs_to_mapping(items: Any, default: Any) -> dict[str, Any]:
    """Convert a list of names, or of [name, content] pairs, to a mapping in the same order.

    Raises ValueError if a name occurs twice.
    """
    mapping: dict[str, Any] = {}
    for item in items:
        name, content = item if isinstance(item, list | tuple) and len(item) == 2 else (item, default)
        if not isinstance(name, str):
            raise ValueError(f"{name!r:.60} is not a name")
        if name in mapping:
            raise ValueError(f"{name!r:.60} occurs twice")
        mapping[name] = content
    return mapping


class LabelScheme(BaseModel):
    """One label: a category, a number, or several categories at once (multilabel).

    Attributes:
        values: the categories in order, each with its meaning ("" if the word is self-explanatory).
        minimum, maximum: the range of a number, inclusive.
        column: the column of the table, if its name differs; for multilabel, one column with a separator.
        columns: for multilabel, one column of 0 and 1 per category, in the order of `values`.
        separator: the separator of the categories in a multilabel cell.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["category", "number", "multilabel"]
    title: Text = ""
    values: dict[Text, Text] = Field(default_factory=dict, max_length=10_000)
    minimum: float | None = None
    maximum: float | None = None
    column: Text | None = None
    columns: tuple[Text, ...] = ()
    separator: str = ";"

    @field_validator("values", mode="before")
    @classmethod
    def _values_as_mapping(cls, values: Any) -> Any:
        # ["angry", "happy"] is short for { angry = "", happy = "" }; in JSON, [["ang", "Anger"]] preserves the order.
        return pairs_to_mapping(values, "") if isinstance(values, list | tuple) else values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.type == "number" and self.values:
            raise ValueError("a number has no 'values': give 'minimum' and 'maximum', or type = \"category\"")
        if self.type != "number" and (self.minimum is not None or self.maximum is not None):
            raise ValueError("'minimum' and 'maximum' require type = \"number\"")
        if self.columns and (self.type != "multilabel" or len(self.columns) != len(self.values)):
            raise ValueError("'columns' must name one column for each value of a multilabel")
        return self

    def parse(self, cell: Any) -> Any:
        """Parse a cell of a table to str, float or a list of str; an empty cell to None.

        Raises InputError that says what was expected.
        """
        text = "" if cell is None else str(cell).strip()
        if text.lower() in MISSING_CELLS and text not in self.values:
            return None
        if self.type == "number":
            return self._number(text)
        if self.type == "multilabel":
            return [self._category(part.strip()) for part in text.split(self.separator) if part.strip()]
        return self._category(text)

    def find_problem(self, value: Any) -> str | None:
        """Return what is wrong with a stored value, as words after the label's name; None if it is valid or null."""
        if value is None:
            return None
        if self.type == "number":
            return None if isinstance(value, int | float) and not isinstance(value, bool) else f"is {value!r:.40}"
        if not isinstance(value, list if self.type == "multilabel" else str):
            return f"is {value!r:.40}"
        names = value if isinstance(value, list) else [value]
        odd = next((name for name in names if self.values and name not in self.values), None)
        return None if odd is None else f"{odd!r:.40} is none of {', '.join(self.values)}"

    def _category(self, text: str) -> str:
        if self.values and text not in self.values:
            raise InputError(f"{text!r:.60} is none of {', '.join(list(self.values)[:12])}")
        return text

    def _number(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise InputError(f"{text!r:.60} is not a number") from None
        low, high = self.minimum, self.maximum
        if not math.isfinite(value) or (low is not None and value < low) or (high is not None and value > high):
            raise InputError(
                f"{text!r:.60} is outside {low if low is not None else '…'} to {high if high is not None else '…'}"
            )
        return value
