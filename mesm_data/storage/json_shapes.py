"""Structural validation of JSON files before any of their values is used.

A shape describes the values that are used, and their types:

    str, (int, float)     a value of this type, or of one of these types
    [shape]               a list of such values
    {"key": shape}        an object; a key that ends in "?" may be missing
    MapOf(shape)          an object with any keys, all of whose values have one shape

Other keys of an object are not checked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.json_files import read_json

MAX_DEPTH = 50  # levels of nesting
NUMBER = (int, float)
RECIPE_SHAPE: dict[str, Any] = {"recipe": {}, "source": {}, "toolchain": {}}  # of dataset.json and .build/recipe.json


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object with any keys, all of whose values have one shape."""

    shape: Any


def read_checked_json(path: Path, shape: Any) -> dict[str, Any]:
    """Read a JSON file that contains an object. Raises InputError that names the file and the first mismatch."""
    value = read_json(path)
    if problem := mismatch(value, shape):
        raise InputError(f"{path} is damaged, or not of mesm: {problem}")
    result: dict[str, Any] = value
    return result


def mismatch(value: Any, shape: Any, key: str = "") -> str | None:
    """Describe the first place where `value` does not have `shape`; None if there is none.

    Args:
        value: Parsed JSON.
        shape: A shape, see above.
        key: The dotted key of `value` in its file; "" for the whole file.
    """
    if not key and _is_deeper(value, MAX_DEPTH):
        return f"it is nested more than {MAX_DEPTH} levels deep"
    name = key[:200] or "it"
    if isinstance(shape, dict | MapOf):
        if not isinstance(value, dict):
            return f"{name} is not an object"
        if isinstance(shape, MapOf):
            shapes = dict.fromkeys(value, shape.shape)
        else:
            shapes = {name.removesuffix("?"): inner for name, inner in shape.items()}
            missing = [name for name in shape if not name.endswith("?") and name not in value]
            if missing:
                return f"{_dotted(key, missing[0])} is missing"
        problems = (mismatch(value[name], shapes[name], _dotted(key, name)) for name in shapes if name in value)
        return next((problem for problem in problems if problem), None)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is not a list"
        problems = (mismatch(item, shape[0], f"{name}[{index}]") for index, item in enumerate(value))
        return next((problem for problem in problems if problem), None)
    types = shape if isinstance(shape, tuple) else (shape,)
    if type(value) not in types or (type(value) is int and abs(value) >= 2**63):
        return f"{name} is not {' or '.join(_TYPE_NAMES[each] for each in types)}"
    return None


_TYPE_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in inner)


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}"[:200] if key else name[:200]
