"""Splits by lists of ids, in the forms that people have them.

a folder       {train,valid,test}_split.txt (as the paper's authors name them), {train,valid,test}.txt, or names such as
               mosei_official_train_videos.txt, an id a line; or one .py file
a .py file     three lists of texts, as the SDK of CMU-MOSEI has its folds; parsed, never executed
a .yaml or .json file    {train: [ids], valid: [ids], test: [ids]}
"""

import ast
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from mesm_data.errors import InputError
from mesm_data.storage.files import open_regular_file

PARTS = ("train", "valid", "test")
SUFFIXES = (".py", ".yaml", ".yml", ".json")

Lists = dict[str, list[str]]
Found = dict[str, list[tuple[str, str]]]  # by part: where an id was found, for messages, and the id

_PART = re.compile(r"(?<![a-z])(train|valid|test)(?![a-z])")


def read_lists(path: Path) -> tuple[Lists, dict[str, str]]:
    """Sorted lists of ids from a folder or a file, and by part the sha256 of the file that its list is from.

    Raises InputError that names the file and line if an id stands twice, a part is unknown, or it cannot be read.
    """
    files = part_files(path) if path.is_dir() else dict.fromkeys(PARTS, path)
    data = {file: _bytes(file) for file in set(files.values())}
    found = parse({part: (str(file), data[file]) for part, file in files.items()})
    return once(found), {part: sha256(data[files[part]]).hexdigest() for part in found}


def part_files(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder. Raises InputError if there are none, or two for a part."""
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("[!.]*.txt")):
        part = _part(file.stem)
        if part in files:
            names = f"{files[part].name} and {file.name}"
            raise InputError(f"{folder} holds both {names}: remove the one that is not meant")
        if part:
            files[part] = file
    sources = sorted(folder.glob("[!.]*.py"))
    if not files and len(sources) == 1:
        return dict.fromkeys(PARTS, sources[0])
    if not files:
        raise InputError(f"{folder} holds no lists: expected train_split.txt, valid_split.txt and test_split.txt")
    return {part: files[part] for part in PARTS if part in files}


def _part(name: str) -> str | None:
    """The part in a name such as train_split or standard_valid_fold; None if it names none, or several."""
    said = set(_PART.findall(name.lower()))
    return said.pop() if len(said) == 1 else None


def parse(files: Mapping[str, tuple[str, bytes]]) -> Found:
    """The ids of each part in its file, given as (name, content); one file may hold several parts."""
    found: Found = {}
    for part, (name, data) in files.items():
        if Path(name).suffix not in SUFFIXES:
            found[part] = _lines(name, data)
        elif not found:
            found = _literals(name, data) if name.endswith(".py") else _mapping(name, data)
    return found


def once(found: Found) -> Lists:
    """The ids of each part, sorted. Raises InputError if one stands twice."""
    places: dict[str, str] = {}
    for entries in found.values():
        for place, key in entries:
            if key in places:
                raise InputError(f"{place}: {key} stands also in {places[key]}; an id may be in one part, once")
            places[key] = place
    return {part: sorted(key for _, key in entries) for part, entries in found.items()}


def _bytes(file: Path) -> bytes:
    try:
        with open_regular_file(file) as opened:
            return opened.read()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from None


def _lines(name: str, data: bytes) -> list[tuple[str, str]]:
    # Ses03F_impro03_F018
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} cannot be read as text ({error}): expected an id on each line") from None
    return [(f"{name}:{number}", line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _literals(name: str, data: bytes) -> Found:
    # standard_train_fold=['hh04W3xXa5s', 'GdFP_p4eQX0', '4iG0ffmnCOw']
    wanted = f"{name}: expected Python lists of ids, assigned to names with train, valid and test in them"
    try:
        body = ast.parse(data).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{wanted}; it cannot be read ({error})") from None
    found: Found = {}
    for node in body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        target = node.targets[0].id
        part = _part(target)
        if part is None:
            continue
        try:
            ids = ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            ids = None
        if not isinstance(ids, list) or not all(isinstance(key, str) for key in ids):
            raise InputError(f"{wanted}; {target} in line {node.lineno} is not a list of texts")
        if part in found:
            raise InputError(f"{wanted}; there are two lists for {part}")
        found[part] = [(f"{name}, {target}", key) for key in ids]
    if not found:
        raise InputError(wanted)
    return {part: found[part] for part in PARTS if part in found}


def _mapping(name: str, data: bytes) -> Found:
    import yaml

    wanted = f"{name}: expected lists of ids under train, valid and test"
    try:
        text = data.decode("utf-8-sig")
        # BaseLoader: every scalar is text, also the ids of CMU-MOSEI that look like numbers (116213_2).
        said = json.loads(text) if name.endswith(".json") else yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{wanted}; it cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(said, dict) or not said:
        raise InputError(wanted)
    for part, keys in said.items():
        if part not in PARTS:
            raise InputError(f"{wanted}; found the part {part!r}")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InputError(f"{wanted}; {part} is not a list of ids")
    return {part: [(f"{name}, {part}", key) for key in said[part]] for part in PARTS if part in said}
