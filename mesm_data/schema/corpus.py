"""The schema of a corpus: parsed from TOML or dataset.json, validated, and resolved into views."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mesm_data.errors import InputError, did_you_mean
from mesm_data.schema.labels import LabelScheme, Name, Text, pairs_to_mapping
from mesm_data.schema.splits import SplitSpec
from mesm_data.schema.views import Target, View, ViewSpec
from mesm_data.storage.json_models import describe_validation_error

ORDERED_FIELDS = ("labels", "views", "splits")
RESERVED_LABELS = frozenset({"raters"})  # keys of a labels record that no scheme may have
DEFAULT_TARGETS: dict[str, Target] = {"category": "category", "multilabel": "multilabel", "number": "number"}


class Licence(BaseModel):
    """The terms under which the corpus may be shared. Without a licence nothing may be redistributed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Text = ""
    issuer: Text = ""
    terms: Text = ""
    form: Text | None = None
    request: Text | None = None
    redistribution: bool = False


class CorpusSchema(BaseModel):
    """The description of a corpus in dataset.json: all that training, inspection and publishing need.

    Attributes:
        ratings: the label schemes for which `labels.raters` has the value of each rater.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    title: Text = ""
    reference: Text = ""
    homepage: Text = ""
    release: Text = ""
    licence: Licence = Licence()
    labels: dict[Name, LabelScheme] = Field(default_factory=dict, max_length=1000)
    ratings: tuple[Name, ...] = ()
    views: dict[Name, ViewSpec] = Field(default_factory=dict, max_length=1000)
    splits: dict[Name, SplitSpec] = Field(default_factory=dict, max_length=1000)

    @field_validator(*ORDERED_FIELDS, mode="before")
    @classmethod
    def _entries_as_mapping(cls, entries: Any) -> Any:
        return pairs_to_mapping(entries, {}) if isinstance(entries, list | tuple) else entries

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if taken := RESERVED_LABELS & self.labels.keys():
            raise ValueError(f"a label cannot be named {sorted(taken)[0]!r}")
        for name in self.ratings:
            if name not in self.labels:
                raise ValueError(f"ratings: there is no label {name!r}")
        for name in self.views:
            self._resolve(name)
        return self

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str) -> "CorpusSchema":
        """Parse `data`, the content of the file `where`. Raises InputError that names the entry and the problem."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InputError(f"{where}: {describe_validation_error(error)}") from None

    def as_mapping(self) -> dict[str, Any]:
        """Return the schema for TOML: as people write it, without default values."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the schema for JSON.

        Ordered mappings become lists of [name, content] pairs, because programs may sort the keys of an object.
        """
        data = self.as_mapping()
        for scheme in data.get("labels", {}).values():
            if "values" in scheme:
                scheme["values"] = [list(pair) for pair in scheme["values"].items()]
        for view in data.get("views", {}).values():
            if "classes" in view:
                view["classes"] = [list(pair) for pair in view["classes"].items()]
        return data | {name: [list(pair) for pair in data[name].items()] for name in ORDERED_FIELDS if name in data}

    def view(self, name: str) -> View:
        """Resolve the view `name`. Raises InputError that lists all views, the closest name first, if there is none."""
        if name not in self.views:
            hint = did_you_mean(name, self.views)
            raise InputError(
                f"{self.name} has no label view {name!r}: {hint}There are {', '.join(self.views) or 'none'}"
            )
        return self._resolve(name)

    def _resolve(self, name: str) -> View:
        """Resolve a view. Raises ValueError (reported by pydantic) if it contradicts the label schemes."""
        spec, where = self.views[name], f"views.{name}"
        names = (spec.label,) if spec.label else spec.labels
        for label in names:
            if label not in self.labels:
                raise ValueError(f"{where}: there is no label {label!r}; there are {', '.join(self.labels) or 'none'}")
        target = spec.target or (DEFAULT_TARGETS[self.labels[names[0]].type] if names else "positive")
        task = spec.task or ("number" if target == "number" else "one_vs_rest")
        classes = dict(spec.classes)
        if target == "number":
            classes = {label: (label,) for label in names}
        elif not classes and spec.label:
            classes = {value: (value,) for value in self.labels[spec.label].values}
        if not classes:
            raise ValueError(f"{where}: no classes: list them under [{where}.classes], or the label's values")
        self._check_sources(where, spec, target, task, classes)
        return View(
            corpus=self.name, name=name, label=spec.label, classes=tuple(classes), sources=tuple(classes.values()),
            target_rule=target, task=task, none=spec.none,
        )  # fmt: skip

    def _check_sources(
        self, where: str, spec: ViewSpec, target: str, task: str, classes: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Raise ValueError if the classes of a view do not fit the label schemes that they name."""
        if (target == "number") != (task == "number"):
            raise ValueError(f'{where}: task = "number" needs target = "number", and the other way round')
        if task == "single" and (target != "category" or spec.none):
            raise ValueError(f"{where}: task = \"single\" needs one category a row, and no 'none'")
        if target in ("positive", "share", "number"):
            kinds, known = {"number"}, {name for name, scheme in self.labels.items() if scheme.type == "number"}
        else:
            if not spec.label:
                raise ValueError(f"{where}: target = {target!r} needs 'label'")
            scheme = self.labels[spec.label]
            kinds = {"multilabel"} if target == "multilabel" else {"category"}
            known = set(scheme.values)
            if scheme.type not in kinds:
                raise ValueError(f"{where}: target = {target!r} needs a {kinds.pop()}, {spec.label} is a {scheme.type}")
            if target == "rater_share":
                if spec.label not in self.ratings:
                    raise ValueError(f'{where}: target = "rater_share" needs {spec.label!r} among the ratings')
                return  # raters use their own words
        for value in (*(value for values in classes.values() for value in values), *spec.none):
            if known and value not in known:
                raise ValueError(f"{where}: {value!r} is none of {', '.join(sorted(known)[:12])}")
