"""JSON files with one canonical spelling, and a strict parser for JSON of any origin."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write, open_regular_file

MAX_JSON = 64 * 2**20  # bytes; the largest files of ours (parts of a long build, a list of source files) have a few MB


def canonical_json(value: Any) -> bytes:
    """UTF-8, sorted keys, no spaces: equal values give equal bytes. Raises ValueError for NaN and infinities."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file for people: sorted keys, two spaces of indentation."""
    with atomic_write(path) as file:
        file.write(json.dumps(value, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n")


def write_compact_json(path: Path, value: Any) -> None:
    """Write a JSON file for programs: one line, which is ten times faster to write."""
    with atomic_write(path) as file:
        file.write(canonical_json(value) + b"\n")


def parse_json(data: bytes) -> Any:
    """Parse JSON strictly.

    Raises ValueError if it is not JSON, and for duplicate keys, numbers beyond float64, lone surrogates and too deep
    nesting: no file of ours contains them.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig"),
            object_pairs_hook=_reject_duplicate_keys,
            parse_constant=_finite_float,
            parse_float=_finite_float,
        )
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        duplicate = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {duplicate!r} occurs twice")
    return result


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is not a number that float64 holds")
    return number


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises InputError that names the file if it is missing, larger than MAX_JSON, or not JSON."""
    try:
        with open_regular_file(path) as file:
            if len(data := file.read(MAX_JSON + 1)) > MAX_JSON:
                raise InputError(f"{path} has more than {MAX_JSON >> 20} MiB: it is not a JSON file of mesm")
        return parse_json(data)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except PermissionError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error})") from None
