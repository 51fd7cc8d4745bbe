"""Writer for TOML, which the standard library can only read."""

import json
import re
from typing import Any


def to_toml(data: dict[str, Any]) -> str:
    """Convert a dictionary of strings, numbers, booleans, lists and dictionaries to TOML."""
    return "\n".join(_toml_lines(data, ())) + "\n"


def _toml_lines(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = [f"{_toml_key(key)} = {_toml_value(value)}" for key, value in plain.items() if value is not None]
    if path and (lines or not table):
        lines = ["", f"[{'.'.join(map(_toml_key, path))}]", *lines]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _toml_lines(value, (*path, key))
    return lines


def _toml_key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
