"""The splits that the manifests of the corpora name: rules, and published lists with where they are fetched from.

Lists lie in <place>/<corpus>/<split>/ under the names of their files, as they were published. They are checked against
their sha256 and their number of ids before they are put there and whenever they are used.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import mesm_manifests

from mesm_data.errors import InputError, MesmError
from mesm_data.files import home_folder
from mesm_data.splits.lists import Lists, once, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A list of a published split: the file it is in (which may hold several), and how many ids it has."""

    url: str
    sha256: str
    lines: int

    @property
    def file(self) -> str:
        """The name of the file."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A split that a corpus' manifest names. A rule has no parts; `counts` is what a full release gives."""

    corpus: str
    name: str
    kind: str  # rule or list
    title: str
    licence: str | None
    counts: Mapping[str, int]
    parts: Mapping[str, Part]

    @property
    def files(self) -> dict[str, Part]:
        """Each file by its name."""
        return {part.file: part for part in self.parts.values()}

    @property
    def folder(self) -> Path:
        """Where its lists lie unless the user says otherwise."""
        return place() / self.corpus / self.name


def place() -> Path:
    """The folder of all fetched lists: $MESM_SPLITS, else $XDG_DATA_HOME/mesm/splits (~/.local/share/mesm/splits)."""
    if given := os.environ.get("MESM_SPLITS"):
        return Path(given)
    home = os.environ.get("XDG_DATA_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    base = Path(home) if home.startswith("/") else home_folder("MESM_SPLITS") / ".local" / "share"
    return base / "mesm" / "splits"


def corpora() -> list[str]:
    """The corpora that have a manifest."""
    return mesm_manifests.names()


@cache
def registered(corpus: str) -> Mapping[str, Registered]:
    """The splits of a corpus by name. Raises InputError for an unknown corpus."""
    try:
        said = mesm_manifests.load(corpus).get("splits", {})
    except ValueError as error:
        raise InputError(str(error)) from None
    return {name: _registered(corpus, name, entry) for name, entry in said.items()}


def _registered(corpus: str, name: str, said: dict[str, Any]) -> Registered:
    parts = {
        part: Part(url=entry["url"], sha256=entry["sha256"], lines=entry["lines"])
        for part, entry in said.get("parts", {}).items()
    }
    counts = said.get("counts") or {part: entry.lines for part, entry in parts.items()}
    return Registered(
        corpus=corpus, name=name, kind=said["kind"], title=said["title"], licence=said.get("licence"), counts=counts,
        parts=parts,
    )  # fmt: skip


def published(corpus: str, name: str) -> Registered:
    """The list `name` of a corpus. Raises InputError if there is none, or it is a rule."""
    known = registered(corpus)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{corpus} has no split {name!r}: {hint}There are {', '.join(known)}")
    if known[name].kind != "list":
        raise InputError(f"split {name} is a rule: there is nothing to fetch, `--split {name}` works as it is")
    return known[name]


def name_of(corpus: str, digests: Mapping[str, str]) -> str | None:
    """The name of the published split whose files have these digests, by part."""
    for name, entry in registered(corpus).items():
        if entry.parts and digests == {part: said.sha256 for part, said in entry.parts.items()}:
            return name
    return None


def checked(split: Registered, contents: Mapping[str, bytes]) -> Lists:
    """The lists in the files of a published split. Raises MesmError if a file or a list is not the published one."""
    for file, part in split.files.items():
        found = sha256(contents[file]).hexdigest()
        if found != part.sha256:
            raise MesmError(
                f"{split.corpus} {split.name}: {file} is not the published file: its sha256 is {found}, "
                f"published was {part.sha256}"
            )
    lists = once(parse({part: (said.file, contents[said.file]) for part, said in split.parts.items()}))
    for name, expected in split.parts.items():
        if (number := len(lists.get(name, ()))) != expected.lines:
            raise MesmError(
                f"{split.corpus} {split.name}: {expected.file} has {number} ids for {name}, "
                f"published were {expected.lines}"
            )
    return lists


def stored(split: Registered) -> Lists:
    """The lists of a published split from where they were put. Raises InputError if they are not there, or altered."""
    again = f"`mesm-data splits fetch {split.corpus} {split.name}`"
    try:
        contents = {name: (split.folder / name).read_bytes() for name in split.files}
    except OSError:
        raise InputError(
            f"split {split.name} is a published list that is not shipped, and not in {split.folder}: get it with "
            f"{again}, or give the folder that holds it as the split"
        ) from None
    try:
        return checked(split, contents)
    except MesmError as error:
        raise InputError(f"{split.folder}: {error}. Get it again with {again}") from None


def is_stored(split: Registered) -> bool:
    """Whether its lists are where they belong, as published."""
    try:
        return bool(stored(split))
    except InputError:
        return False
