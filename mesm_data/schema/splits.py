"""Splits as a corpus states them: by a rule over its own columns, or by published lists with their digests."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mesm_data.schema.labels import Name, Text

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(max_length=2000, pattern=r"^https?://")]
Group = Literal["id", "dialog", "speaker", "session"]
Rule = Literal["column", "hash", "leave_one_out", "group_kfold", "folds", "lists"]


class ListPart(BaseModel):
    """One part of a published list: where it is, and what identifies it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url
    sha256: Digest
    lines: int = Field(ge=0, lt=2**31)
    labels: dict[Name, int] = Field(default_factory=dict)

    @property
    def file(self) -> str:
        """The name of the file."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @model_validator(mode="after")
    def _plain_file_name(self) -> Self:
        # The file is stored under this name: %2F in a URL must not lead out of its folder.
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._ -]*", self.file):
            raise ValueError(f"the URL must end in a plain file name, not {self.file!r:.60}")
        return self


class SplitSpec(BaseModel):
    """One entry under [splits]; a rule with folds stands for several splits, NAME-1 … NAME-n (or NAME-<group>).

    Attributes:
        rule: column (the table's own `split` column), hash (80 % train, 10 % valid, 10 % test by sha256 of the group),
            leave_one_out (each group is tested once), group_kfold (groups dealt to `k` folds of about equal size),
            folds (groups as listed in `folds`), lists (published lists of ids).
        group: what is never divided between parts; `id` divides utterances at random, which leaks speakers.
        values: the groups of leave_one_out in the order in which they validate, if the dataset may lack some.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Rule
    title: Text = ""
    group: Group | None = None
    k: int | None = Field(default=None, ge=2, le=1000)
    folds: tuple[tuple[Text, ...], ...] = ()
    values: tuple[Text, ...] = ()
    view: Name | None = None
    licence: Text | None = None
    repository: Text | None = None
    commit: Text | None = None
    parts: dict[Literal["train", "valid", "test"], ListPart] = Field(default_factory=dict)
    counts: dict[Name, dict[str, int]] = Field(default_factory=dict)

    @field_validator("parts", mode="after")
    @classmethod
    def _in_order(cls, parts: dict[str, ListPart]) -> dict[str, ListPart]:
        return {part: parts[part] for part in ("train", "valid", "test") if part in parts}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needed = {"group_kfold": "k", "folds": "folds", "lists": "parts"}
        for rule, field in needed.items():
            if bool(getattr(self, field)) != (self.rule == rule):
                raise ValueError(f"{field!r} belongs to rule = {rule!r}, and rule = {rule!r} needs it")
        if self.rule in ("leave_one_out", "group_kfold", "folds") and self.group in (None, "id"):
            raise ValueError(f'rule = {self.rule!r} needs group = "speaker", "session" or "dialog"')
        if self.rule == "folds" and len(self.folds) < 3:
            raise ValueError("'folds' needs three lists or more: one tests, one validates, the others train")
        return self
