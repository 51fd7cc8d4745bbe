"""Splits in the schema of a corpus: by a rule over its columns, or by published lists with their digests."""

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
    """One part of a published list: its URL and its digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url
    sha256: Digest
    lines: int = Field(ge=0, lt=2**31)
    labels: dict[Name, int] = Field(default_factory=dict)

    @property
    def file(self) -> str:
        """The file name at the end of the URL."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @model_validator(mode="after")
    def _plain_file_name(self) -> Self:
        # The file is saved under this name: %2F in a URL must not point outside the folder.
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._ -]*", self.file):
            raise ValueError(f"the URL must end in a plain file name, not {self.file!r:.60}")
        return self


class SplitSpec(BaseModel):
    """One entry under [splits]. A rule with folds defines several splits, NAME-1 … NAME-n (or NAME-<group>).

    Attributes:
        rule: column (the table's own `split` column), hash (80 % train, 10 % valid, 10 % test by sha256 of the group),
            leave_one_out (each group is the test part once), group_kfold (groups in `k` folds of about equal size),
            folds (the groups listed in `folds`), lists (published lists of ids).
        group: the unit that is never divided between parts; `id` assigns single utterances, which leaks speakers.
        values: the groups of leave_one_out in the order in which they validate, for datasets that lack some.
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
                raise ValueError(f"{field!r} and rule = {rule!r} need each other")
        if self.rule in ("leave_one_out", "group_kfold", "folds") and self.group in (None, "id"):
            raise ValueError(f'rule = {self.rule!r} needs group = "speaker", "session" or "dialog"')
        if self.rule == "folds" and len(self.folds) < 3:
            raise ValueError(
                "'folds' needs at least three lists: one for testing, one for validation, the others for training"
            )
        return self
