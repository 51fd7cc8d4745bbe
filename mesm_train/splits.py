"""Splits: which utterances train, which choose the thresholds, which are tested. By a rule, or by published lists.

session-1 .. session-5   IEMOCAP, one session (two speakers) left out: session-k tests on session k and validates on
                         session (k mod 5) + 1, so no speaker is in two parts. Each session validates once
dialog                   a dialog (CMU-MOSEI: a video) falls by sha256 of its id: 80 % train, 10 % valid, 10 % test
a folder                 with {train,valid,test}_split.txt (the published lists) or {train,valid,test}.txt, an id a line
a .yaml or .json file    {train: [ids], valid: [ids], test: [ids]}
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

import mesm_manifests

from mesm_data.errors import InputError
from mesm_data.files import canonical_json, sha256_file

PARTS = ("train", "valid", "test")
SESSIONS = tuple(f"session-{number}" for number in range(1, 6))
RULES = (*SESSIONS, "dialog")

Lists = dict[str, list[str]]
Rows = Mapping[str, Mapping[str, Any]]
Found = dict[str, list[tuple[str, str]]]  # by part: where an id was found, for messages, and the id


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """An id of a list that the dataset does not hold. `status`: failed, excluded, or absent (no such utterance)."""

    key: str
    part: str
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """What two parts share, among the utterances that the dataset holds.

    `overlaps` are pairs of utterances of one dialog, in different parts, that overlap in time: the same moment is heard
    (and, with two speakers in the picture, seen) in both.
    """

    speakers: tuple[str, ...]
    dialogs: tuple[str, ...]
    overlaps: tuple[tuple[str, str], ...]

    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {"speakers": len(self.speakers), "dialogs": len(self.dialogs), "overlaps": len(self.overlaps)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Keys by part, sorted, of what the dataset holds. `digest` is that of the lists as given, with what is missing."""

    name: str
    parts: dict[str, tuple[str, ...]]
    digest: str
    missing: tuple[Missing, ...]
    leaks: Leaks

    def part(self, name: str) -> tuple[str, ...]:
        """The keys of one part. Raises InputError if the split has no such part, or nothing of it is in the dataset."""
        if not self.parts.get(name):
            raise InputError(
                f"split {self.name} has nothing in its part {name!r} that this dataset holds; "
                f"there are {', '.join(f'{part} ({len(keys)})' for part, keys in self.parts.items())}"
            )
        return self.parts[name]


def split(rows: Iterable[Mapping[str, Any]], corpus: str, name: str) -> Split:
    """The split `name` (a rule, or the path of lists) of the utterances in a manifest's `rows`.

    Raises InputError if there is no such split, the lists are not clean (an id twice), or nothing in them is held.
    """
    table = {row["key"]: row for row in rows}
    if name in SESSIONS:
        lists = _by_session(table, corpus, int(name[-1]))
    elif name == "dialog":
        lists = _by_dialog(table)
    else:
        lists, name = read_lists(Path(name), corpus)
    held = {part: tuple(key for key in keys if _status(table, key) == "ok") for part, keys in lists.items()}
    if not any(held.values()):
        some = next((key for keys in lists.values() for key in keys), "none")
        raise InputError(f"split {name}: this dataset of {corpus} holds none of its utterances (the first is {some})")
    return Split(
        name=name,
        parts=held,
        digest=sha256(canonical_json(lists)).hexdigest(),
        missing=tuple(
            Missing(key=key, part=part, status=status, reason=table.get(key, {}).get("reason"))
            for part, keys in lists.items()
            for key in keys
            if (status := _status(table, key)) != "ok"
        ),
        leaks=leaks(held, table),
    )


def _status(rows: Rows, key: str) -> str:
    return str(rows[key]["status"]) if key in rows else "absent"


def _by_session(rows: Rows, corpus: str, test: int) -> Lists:
    if corpus != "iemocap":
        raise InputError(f"split session-{test} is a rule for iemocap; for {corpus} there is `dialog`, or lists")
    valid = test % 5 + 1
    lists: Lists = {part: [] for part in PARTS}
    sessions = {key: int(row["speaker"][4]) for key, row in rows.items()}  # "Ses01F"
    for key in sorted(rows):
        lists[{test: "test", valid: "valid"}.get(sessions[key], "train")].append(key)
    if not all(lists.values()):
        there = ", ".join(map(str, sorted(set(sessions.values())))) or "none"
        raise InputError(
            f"split session-{test} needs the sessions {test} (test), {valid} (valid) and another one (train); "
            f"this dataset holds: {there}. Build those, or take the split `dialog`"
        )
    return lists


def _by_dialog(rows: Rows) -> Lists:
    lists: Lists = {part: [] for part in PARTS}
    for key in sorted(rows):
        place = int(sha256(rows[key]["dialog"].encode()).hexdigest()[:8], 16) % 100
        lists["train" if place < 80 else "valid" if place < 90 else "test"].append(key)
    if not all(lists.values()):
        empty = ", ".join(part for part, keys in lists.items() if not keys)
        dialogs = len({row["dialog"] for row in rows.values()})
        raise InputError(
            f"split dialog: of this dataset's {dialogs} dialogs none falls into: {empty}. "
            "Build more dialogs, or name another split"
        )
    return lists


def read_lists(path: Path, corpus: str) -> tuple[Lists, str]:
    """Sorted lists of ids from a folder or a file, and their name: of the published split that they are, or the path's.

    Raises InputError that names the file and line if an id stands twice, a part is unknown, or it cannot be read.
    """
    if path.is_dir():
        files = _files(path)
        found = {part: _lines(file) for part, file in files.items()}
        return _once(found), _published(files, corpus) or path.resolve().name
    if path.suffix in (".yaml", ".yml", ".json") and path.is_file():
        return _once(_parse(path)), path.stem
    raise _unknown(path, corpus)


def _files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for part in PARTS:
        here = [folder / name for name in (f"{part}_split.txt", f"{part}.txt") if (folder / name).is_file()]
        if len(here) > 1:
            raise InputError(f"{folder} holds both {here[0].name} and {here[1].name}: remove the one that is not meant")
        if here:
            files[part] = here[0]
    if not files:
        raise InputError(f"{folder} holds no lists: expected train_split.txt, valid_split.txt and test_split.txt")
    return files


def _lines(file: Path) -> list[tuple[str, str]]:
    # Ses03F_impro03_F018
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read as text ({error}): expected an utterance id on each line") from None
    return [(f"{file}:{number}", line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _parse(path: Path) -> Found:
    import yaml

    wanted = f"{path}: expected lists of utterance ids under train, valid and test"
    try:
        text = path.read_text(encoding="utf-8-sig")
        # BaseLoader: every scalar is text, also the ids of CMU-MOSEI that look like numbers (116213_2).
        said = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise InputError(f"{wanted}; it cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(said, dict) or not said:
        raise InputError(wanted)
    for part, keys in said.items():
        if part not in PARTS:
            raise InputError(f"{wanted}; found the part {part!r}")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise InputError(f"{wanted}; {part} is not a list of ids")
    return {part: [(f"{path}, {part}", key) for key in said[part]] for part in PARTS if part in said}


def _once(found: Found) -> Lists:
    places: dict[str, str] = {}
    for entries in found.values():
        for place, key in entries:
            if key in places:
                raise InputError(f"{place}: {key} stands also in {places[key]}; an utterance may be in one part, once")
            places[key] = place
    return {part: sorted(key for _, key in entries) for part, entries in found.items()}


def _registered(corpus: str) -> dict[str, Any]:
    try:
        return dict(mesm_manifests.load(corpus).get("splits", {}))
    except ValueError as error:
        raise InputError(str(error)) from None


def _published(files: dict[str, Path], corpus: str) -> str | None:
    """The name of the registered split whose files these are, byte for byte."""
    digests = {part: sha256_file(file) for part, file in files.items()}
    for name, entry in _registered(corpus).items():
        if digests == {part: said.get("sha256") for part, said in entry.get("parts", {}).items()}:
            return name
    return None


def _unknown(path: Path, corpus: str) -> InputError:
    name, published = str(path), list(_registered(corpus))
    if name in published:
        return InputError(
            f"split {name} is a published list that is not shipped: get it with `mesm-data splits fetch`, "
            "and give the folder that it was put in as the split"
        )
    rules = [rule for rule in RULES if corpus == "iemocap" or rule not in SESSIONS]
    near = get_close_matches(name, [*rules, *published], n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return InputError(
        f"there is no split {name!r}: {hint}Expected {', '.join(rules)}, a folder with train_split.txt, "
        "valid_split.txt and test_split.txt, or a .yaml or .json file of lists"
    )


def leaks(parts: Mapping[str, Iterable[str]], rows: Rows) -> Leaks:
    """What the parts share; `rows` must hold every key, with speaker, dialog, start and end."""
    where = {key: part for part, keys in parts.items() for key in keys}
    dialogs: dict[str, list[str]] = {}
    for key in where:
        dialogs.setdefault(rows[key]["dialog"], []).append(key)
    pairs = [pair for keys in dialogs.values() for pair in _overlapping(keys, rows) if where[pair[0]] != where[pair[1]]]
    return Leaks(
        speakers=_shared(where, rows, "speaker"), dialogs=_shared(where, rows, "dialog"), overlaps=tuple(sorted(pairs))
    )


def _shared(where: Mapping[str, str], rows: Rows, column: str) -> tuple[str, ...]:
    seen = Counter(value for value, _ in {(rows[key][column], part) for key, part in where.items()})
    return tuple(sorted(value for value, number in seen.items() if number > 1))


def _overlapping(keys: Iterable[str], rows: Rows) -> Iterable[tuple[str, str]]:
    """Pairs of utterances that share more than an instant, in the order of their starts."""
    running: list[str] = []
    for key in sorted(keys, key=lambda key: (rows[key]["start"], rows[key]["end"], key)):
        running = [other for other in running if rows[other]["end"] > rows[key]["start"]]
        yield from ((other, key) for other in running)
        running.append(key)
