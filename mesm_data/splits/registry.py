"""Published lists of ids: their folder on this machine, and their verification.

The files of a split are stored unchanged in $MESM_SPLITS/<corpus>/<split>/. Their sha256 and number of ids are verified
before they are saved and whenever they are used.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from mesm_data.errors import InputError, MesmError, did_you_mean
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.lists import Lists, parse_lists, sorted_unique_ids
from mesm_data.splits.rules import NamedSplit, named_splits
from mesm_data.storage.files import home_folder


def splits_dir() -> Path:
    """Return the folder of all lists: $MESM_SPLITS, else $XDG_DATA_HOME/mesm/splits (~/.local/share/mesm/splits)."""
    if folder := os.environ.get("MESM_SPLITS"):
        return Path(folder)
    home = os.environ.get("XDG_DATA_HOME", "")
    # By the XDG specification, a relative path is ignored.
    base = Path(home) if home.startswith("/") else home_folder("MESM_SPLITS") / ".local" / "share"
    return base / "mesm" / "splits"


def split_dir(split: NamedSplit) -> Path:
    """Return the default folder of a split's lists."""
    return splits_dir() / split.corpus / split.name


def published_split(schema: CorpusSchema, name: str) -> NamedSplit:
    """Return a published split of a corpus. Raises InputError if there is none with this name, or it is a rule."""
    known = named_splits(schema, {})
    if name not in known:
        hint = did_you_mean(name, known)
        raise InputError(f"{schema.name} has no split {name!r}: {hint}There are {', '.join(known)}")
    if known[name].is_rule:
        raise InputError(f"split {name} is a rule and needs no download: `--split {name}` works already")
    return known[name]


def published_name(schema: CorpusSchema, digests: Mapping[str, str]) -> str | None:
    """Return the name of the published split whose files have these digests, by part; None if there is none."""
    for name, spec in schema.splits.items():
        if spec.parts and digests == {part: entry.sha256 for part, entry in spec.parts.items()}:
            return name
    return None


def verify_lists(split: NamedSplit, contents: Mapping[str, bytes]) -> Lists:
    """Parse and verify the files of a published split. Raises MesmError if a file or list is not the published one."""
    for file, part in split.files.items():
        digest = sha256(contents[file]).hexdigest()
        if digest != part.sha256:
            raise MesmError(
                f"{split.corpus} {split.name}: {file} is not the published file: its sha256 is {digest}, "
                f"expected {part.sha256}"
            )
    lists = sorted_unique_ids(
        parse_lists({part: (entry.file, contents[entry.file]) for part, entry in split.spec.parts.items()})
    )
    for name, expected in split.spec.parts.items():
        if (number := len(lists.get(name, ()))) != expected.lines:
            raise MesmError(
                f"{split.corpus} {split.name}: {expected.file} has {number} ids for {name}, expected {expected.lines}"
            )
    return lists


def read_stored_lists(split: NamedSplit) -> Lists:
    """Read the downloaded lists of a published split. Raises InputError if they are missing or changed."""
    command = f"`mesm-data splits fetch {split.corpus} {split.name}`"
    try:
        contents = {name: (split_dir(split) / name).read_bytes() for name in split.files}
    except OSError:
        raise InputError(
            f"split {split.name} is a published list that must be downloaded, and {split_dir(split)} lacks it: run "
            f"{command}, or pass the folder that contains it as the split"
        ) from None
    try:
        return verify_lists(split, contents)
    except MesmError as error:
        raise InputError(f"{split_dir(split)}: {error}. Download it again with {command}") from None


def is_stored(split: NamedSplit) -> bool:
    """Whether the lists of a split were downloaded and are unchanged."""
    try:
        return bool(read_stored_lists(split))
    except InputError:
        return False
