"""The settings of a run as a reference: key, type, default and help, from the declarations in config.py."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_type_hints

from mesm_data.errors import InputError
from mesm_train.config.model_settings import field_help
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import expected


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingHelp:
    """One setting or section. `headline` is its key, with type and default if it is a setting."""

    key: str
    headline: str
    help: str


def all_settings() -> list[SettingHelp]:
    """All settings and sections in the order of their declaration."""
    return list(_settings(RunConfig, ""))


def find_settings(key: str | None) -> list[SettingHelp]:
    """The setting `key`, or the section `key` with all that is in it; None: everything.

    Raises InputError that names similar keys if there is no such setting.
    """
    settings = all_settings()
    if key is None:
        return settings
    chosen = [setting for setting in settings if setting.key == key or setting.key.startswith(f"{key}.")]
    if not chosen:
        keys = [setting.key for setting in settings]
        similar = [known for known in keys if known.endswith(f".{key}")] or get_close_matches(key, keys, n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "`mesm-train settings` shows all"
        raise InputError(f"there is no setting {key!r}: {hint}")
    return chosen


def _settings(section: type, prefix: str) -> Iterator[SettingHelp]:
    types, texts = get_type_hints(section), field_help(section)
    for field in dataclasses.fields(section):
        key, kind, text = f"{prefix}{field.name}", types[field.name], " ".join(texts[field.name].split())
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield SettingHelp(key=key, headline=f"{key}: a section", help=text)
            yield from _settings(kind, f"{key}.")
        else:
            yield SettingHelp(key=key, headline=f"{key}: {expected(kind)}; {_default(field)}", help=text)


def _default(field: "dataclasses.Field[Any]") -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    return f"default {field.default if isinstance(field.default, str) else json.dumps(field.default)}"
