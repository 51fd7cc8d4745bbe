"""JSON files that are checked before anything of them is used.

A shape says what of a file is used and of which type it is: a type, a tuple of types, [shape] for a list, a dict of
shapes by key (a key that ends in "?" may be missing), or Each(shape). What a file holds beside that is kept unchecked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.json_files import read_json

DEPTH = 50  # of nesting
NUMBER = (int, float)
PLAN: dict[str, Any] = {"recipe": {}, "source": {}, "toolchain": {}}  # of dataset.json and .build/recipe.json


@dataclass(frozen=True, slots=True)
class Each:
    """An object with any keys, all of whose values have one shape."""

    shape: Any


def read_checked_json(path: Path, shape: Any) -> dict[str, Any]:
    """A JSON file with an object. Raises InputError that names it and what of it is missing or of another type."""
    value = read_json(path)
    if problem := mismatch(value, shape):
        raise InputError(f"{path} is damaged, or not of mesm: {problem}")
    found: dict[str, Any] = value
    return found


def mismatch(value: Any, shape: Any, key: str = "") -> str | None:
    """The first place where `value` is not of `shape`, as the end of a sentence; None if there is none."""
    if not key and _is_deeper(value, DEPTH):
        return f"it is nested more than {DEPTH} levels deep"
    name = key[:200] or "it"
    if isinstance(shape, dict | Each):
        if not isinstance(value, dict):
            return f"{name} is not an object"
        if isinstance(shape, Each):
            inner = dict.fromkeys(value, shape.shape)
        else:
            inner = {name.removesuffix("?"): each for name, each in shape.items()}
            missing = [name for name in shape if not name.endswith("?") and name not in value]
            if missing:
                return f"{_dotted(key, missing[0])} is missing"
        there = {name: each for name, each in inner.items() if name in value}
        problems = (mismatch(value[name], each, _dotted(key, name)) for name, each in there.items())
        return next((problem for problem in problems if problem), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is not a list"
        problems = (mismatch(item, shape[0], f"{name}[{index}]") for index, item in enumerate(value))
        return next((problem for problem in problems if problem), None)
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if type(value) not in kinds or (type(value) is int and abs(value) >= 2**63):
        return f"{name} is not {' or '.join(_KINDS[kind] for kind in kinds)}"
    return None


_KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}"[:200] if key else name[:200]
