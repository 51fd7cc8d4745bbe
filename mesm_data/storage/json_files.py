"""JSON files with one spelling, and a strict reader for JSON from anywhere."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write, open_regular_file

# The largest that is written (the parts of a long build, the list of a source's files) has a few MB.
MAX_JSON = 64 * 2**20


def canonical_json(value: Any) -> bytes:
    """UTF-8, sorted keys, no spaces: equal values give equal bytes. NaN and infinities are refused (ValueError)."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people to read: sorted keys, two spaces of indent."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n")


def write_compact_json(path: Path, value: Any) -> None:
    """Write a JSON file for programs to read: one line, ten times as fast."""
    with atomic_write(path) as file:
        file.write(canonical_json(value) + b"\n")


def parse_json(data: bytes) -> Any:
    """The value of a JSON text from anywhere. Raises ValueError on what no writer of ours can have meant.

    That is, beyond what is not JSON: a key twice in one object, numbers beyond float64, lone surrogates, deep nesting.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"), object_pairs_hook=_once, parse_constant=_finite, parse_float=_finite
        )
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a number that float64 holds")
    return number


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises InputError that names the file if it is missing, too large to be ours, or not JSON."""
    try:
        with open_regular_file(path) as file:
            if len(data := file.read(MAX_JSON + 1)) > MAX_JSON:
                raise InputError(f"{path} has more than {MAX_JSON >> 20} MiB: that is no JSON file of mesm")
        return parse_json(data)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error})") from None
