"""Readers of splits by lists of ids, in the usual formats.

a folder       {train,valid,test}_split.txt (as in the paper's repository), {train,valid,test}.txt, or names such as
               mosei_official_train_videos.txt, with one id per line; or one .py file
a .py file     three lists of strings, like the folds in the SDK of CMU-MOSEI; parsed, never executed
a .yaml or .json file    {train: [ids], valid: [ids], test: [ids]}
"""

import ast
import json
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from mesm_data.errors import InputError
from mesm_data.storage.files import open_regular_file

PARTS = ("train", "valid", "test")
SUFFIXES = (".py", ".yaml", ".yml", ".json")

Lists = dict[str, list[str]]


class ListedId(NamedTuple):
    """An id and its place in a file, for messages."""

    place: str
    id: str


ListedIds = dict[str, list[ListedId]]  # by part

_PART = re.compile(r"(?<![a-z])(train|valid|test)(?![a-z])")


def read_lists(path: Path) -> tuple[Lists, dict[str, str]]:
    """Read lists of ids from a folder or a file.

    Returns:
        The sorted ids and the sha256 of their file, both by part.

    Raises:
        InputError: an id occurs twice, a part is unknown, or a file cannot be read. Names the file and line.
    """
    files = part_files(path) if path.is_dir() else dict.fromkeys(PARTS, path)
    data = {file: _read_bytes(file) for file in set(files.values())}
    listed = parse_lists({part: (str(file), data[file]) for part, file in files.items()})
    return sorted_unique_ids(listed), {part: sha256(data[files[part]]).hexdigest() for part in listed}


def part_files(folder: Path) -> dict[str, Path]:
    """Return the file of each part in a folder. Raises InputError if there is none, or two for one part."""
    files: dict[str, Path] = {}
    for file in sorted(folder.glob("[!.]*.txt")):
        part = _part(file.stem)
        if part in files:
            names = f"{files[part].name} and {file.name}"
            raise InputError(f"{folder} contains both {names}: remove one of them")
        if part:
            files[part] = file
    sources = sorted(folder.glob("[!.]*.py"))
    if not files and len(sources) == 1:
        return dict.fromkeys(PARTS, sources[0])
    if not files:
        raise InputError(f"{folder} contains no lists: expected train_split.txt, valid_split.txt and test_split.txt")
    return {part: files[part] for part in PARTS if part in files}


def _part(name: str) -> str | None:
    """Return the part in a name such as train_split or standard_valid_fold; None if it contains none or several."""
    parts = set(_PART.findall(name.lower()))
    return parts.pop() if len(parts) == 1 else None


def parse_lists(files: Mapping[str, tuple[str, bytes]]) -> ListedIds:
    """Parse the ids of each part from its file, passed as (name, content). One file may contain several parts."""
    listed: ListedIds = {}
    for part, (name, data) in files.items():
        if Path(name).suffix not in SUFFIXES:
            listed[part] = _parse_lines(name, data)
        elif not listed:
            listed = _parse_python(name, data) if name.endswith(".py") else _parse_mapping(name, data)
    return listed


def sorted_unique_ids(listed: ListedIds) -> Lists:
    """Return the sorted ids of each part. Raises InputError if an id occurs twice."""
    places: dict[str, str] = {}
    for entries in listed.values():
        for place, id_ in entries:
            if id_ in places:
                raise InputError(f"{place}: {id_} occurs also in {places[id_]}; an id may be in one part, once")
            places[id_] = place
    return {part: sorted(id_ for _, id_ in entries) for part, entries in listed.items()}


def _read_bytes(file: Path) -> bytes:
    try:
        with open_regular_file(file) as opened:
            return opened.read()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror})") from None


def _parse_lines(name: str, data: bytes) -> list[ListedId]:
    # Ses03F_impro03_F018
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} cannot be read as text ({error}): expected one id per line") from None
    return [
        ListedId(f"{name}:{number}", line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]


def _parse_python(name: str, data: bytes) -> ListedIds:
    # standard_train_fold=['hh04W3xXa5s', 'GdFP_p4eQX0', '4iG0ffmnCOw']
    expected = f"{name}: expected Python lists of ids, assigned to names with train, valid and test in them"
    try:
        body = ast.parse(data).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{expected}; it cannot be read ({error})") from None
    listed: ListedIds = {}
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
        if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
            raise InputError(f"{expected}; {target} in line {node.lineno} is not a list of strings")
        if part in listed:
            raise InputError(f"{expected}; there are two lists for {part}")
        listed[part] = [ListedId(f"{name}, {target}", id_) for id_ in ids]
    if not listed:
        raise InputError(expected)
    return {part: listed[part] for part in PARTS if part in listed}


def _parse_mapping(name: str, data: bytes) -> ListedIds:
    import yaml

    expected = f"{name}: expected lists of ids under train, valid and test"
    try:
        text = data.decode("utf-8-sig")
        # BaseLoader reads every scalar as a string, also ids of CMU-MOSEI that look like numbers (116213_2).
        content = json.loads(text) if name.endswith(".json") else yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{expected}; it cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not content:
        raise InputError(expected)
    for part, ids in content.items():
        if part not in PARTS:
            raise InputError(f"{expected}; found the part {part!r}")
        if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
            raise InputError(f"{expected}; {part} is not a list of ids")
    return {part: [ListedId(f"{name}, {part}", id_) for id_ in content[part]] for part in PARTS if part in content}
