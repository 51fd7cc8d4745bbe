"""Published lists of ids: where they lie on this machine, and whether they are what was published.

Lists lie in <place>/<corpus>/<split>/ under the names of their files, as they were published. They are checked against
their sha256 and their number of ids before they are put there and whenever they are used.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path

from mesm_data.errors import InputError, MesmError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.lists import Lists, once, parse
from mesm_data.splits.rules import NamedSplit, named_splits
from mesm_data.storage.files import home_folder


def place() -> Path:
    """The folder of all fetched lists: $MESM_SPLITS, else $XDG_DATA_HOME/mesm/splits (~/.local/share/mesm/splits)."""
    if given := os.environ.get("MESM_SPLITS"):
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(home) if home.startswith("/") else home_folder("MESM_SPLITS") / ".local" / "share"
    return base / "mesm" / "splits"


def folder_of(split: NamedSplit) -> Path:
    """Where the lists of a split lie unless the user says otherwise."""
    return place() / split.corpus / split.name


def published(schema: CorpusSchema, name: str) -> NamedSplit:
    """The published list `name` of a corpus. Raises InputError if there is none, or it is a rule."""
    known = named_splits(schema, {})
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{schema.name} has no split {name!r}: {hint}There are {', '.join(known)}")
    if known[name].is_rule:
        raise InputError(f"split {name} is a rule: there is nothing to fetch, `--split {name}` works as it is")
    return known[name]


def name_of(schema: CorpusSchema, digests: Mapping[str, str]) -> str | None:
    """The name of the published split whose files have these digests, by part."""
    for name, spec in schema.splits.items():
        if spec.parts and digests == {part: entry.sha256 for part, entry in spec.parts.items()}:
            return name
    return None


def checked(split: NamedSplit, contents: Mapping[str, bytes]) -> Lists:
    """The lists in the files of a published split. Raises MesmError if a file or a list is not the published one."""
    for file, part in split.files.items():
        found = sha256(contents[file]).hexdigest()
        if found != part.sha256:
            raise MesmError(
                f"{split.corpus} {split.name}: {file} is not the published file: its sha256 is {found}, "
                f"published was {part.sha256}"
            )
    lists = once(parse({part: (entry.file, contents[entry.file]) for part, entry in split.spec.parts.items()}))
    for name, expected in split.spec.parts.items():
        if (number := len(lists.get(name, ()))) != expected.lines:
            raise MesmError(
                f"{split.corpus} {split.name}: {expected.file} has {number} ids for {name}, "
                f"published were {expected.lines}"
            )
    return lists


def stored(split: NamedSplit) -> Lists:
    """The lists of a published split from where they were put. Raises InputError if they are not there, or altered."""
    again = f"`mesm-data splits fetch {split.corpus} {split.name}`"
    try:
        contents = {name: (folder_of(split) / name).read_bytes() for name in split.files}
    except OSError:
        raise InputError(
            f"split {split.name} is a published list that is not shipped, and not in {folder_of(split)}: get it with "
            f"{again}, or give the folder that holds it as the split"
        ) from None
    try:
        return checked(split, contents)
    except MesmError as error:
        raise InputError(f"{folder_of(split)}: {error}. Get it again with {again}") from None


def is_stored(split: NamedSplit) -> bool:
    """Whether its lists are where they belong, as published."""
    try:
        return bool(stored(split))
    except InputError:
        return False
