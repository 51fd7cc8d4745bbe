"""What a publication consists of, and the checks that dataset.json and published.json pass before they are believed."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError, MesmError
from mesm_data.files import sha256_file
from mesm_data.shards import dataset, manifest

PUBLICATION = 1
CARD, SPLITS, INDEX = "README.md", "splits.json", "published.json"
LOCK = "recipe.lock"
TIERS = ("recipe", "gated", "private")
LIMIT = 64 * 2**20  # bytes of dataset.json or published.json, which name a few hundred files
TABLE = 2**28  # bytes of manifest.parquet's columns, decompressed; a synthetic IEMOCAP has 620 a row

_SHARD = r"[A-Za-z0-9][A-Za-z0-9_-]*\.tar"
_NAME = re.compile(
    rf"dataset\.json|manifest\.parquet|failures\.csv|recipe\.lock|README\.md|splits\.json|attest[A-Za-z0-9_-]*\.[a-z]+|"
    rf"(shards|video)/{_SHARD}|video/index\.parquet"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file by its bytes."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "File":
        """The file at `path`, read."""
        return cls(size=path.stat().st_size, sha256=sha256_file(path))

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {"size": self.size, "sha256": self.sha256}


Files = dict[str, File]  # by name under the dataset's folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What published.json says. `statement` is the licence holder's, None where none is needed."""

    tier: str
    corpus: str
    synthetic: bool
    root: str
    date: str
    statement: dict[str, str] | None
    files: Files

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        said = {name: getattr(self, name) for name in ("tier", "corpus", "synthetic", "root", "date", "statement")}
        files = {name: file.as_dict() for name, file in self.files.items()}
        return {"publication": PUBLICATION, **said, "files": files}


def read_dataset(data: bytes, where: str) -> dict[str, Any]:
    """dataset.json from its bytes. Raises InputError unless all that is used of it is sound: format, names, root."""
    said = _object(data, where)
    if said.get("format") != dataset.FORMAT:
        raise InputError(
            f"{where} has shard format {said.get('format')!r:.40}; this version of mesm reads format {dataset.FORMAT}"
        )
    table = said.get("manifest")
    if not isinstance(table, dict) or not _is_digest(table.get("sha256")) or not _is_size(table.get("rows")):
        raise InputError(f"{where} does not say what the manifest is: it is damaged, or not of mesm")
    files = files_of(said, where)
    if not any(name.startswith("shards/") for name in files):
        raise InputError(f"{where} names no shards: there is nothing in this dataset")
    if not isinstance(said.get("corpus"), str) or not isinstance(said.get("synthetic"), bool):
        raise InputError(f"{where} does not say which corpus it is of: it is damaged, or not of mesm")
    root = dataset.root(table["sha256"], said["shards"])
    if said.get("root") != root:
        raise InputError(f"{where} contradicts itself: its root is {said.get('root')!r:.80}, its files give {root}")
    return said


def files_of(said: Mapping[str, Any], where: str) -> Files:
    """The shards and clips that dataset.json names."""
    found: Files = {}
    for folder in ("shards", "video"):
        listed = said.get(folder)
        if not isinstance(listed, dict):
            raise InputError(f"{where} does not say what is in {folder}/: it is damaged, or not of mesm")
        found |= _files({f"{folder}/{name}": facts for name, facts in listed.items()}, where)
    return found


def read_publication(data: bytes, where: str) -> Publication:
    """published.json from its bytes. Raises InputError unless all that is used of it is sound."""
    said = _object(data, where)
    if said.get("publication") != PUBLICATION:
        version = said.get("publication")
        raise InputError(f"{where} is publication {version!r:.40}; this version of mesm reads {PUBLICATION}")
    sound = (
        said.get("tier") in TIERS
        and all(isinstance(said.get(name), str) for name in ("corpus", "date"))
        and isinstance(said.get("synthetic"), bool)
        and _is_digest(said.get("root"))
        and isinstance(said.get("statement"), dict | None)
        and isinstance(said.get("files"), dict)
    )
    if not sound:
        raise InputError(f"{where} is damaged: it lacks the tier, the root or the files of a publication")
    names = ("tier", "corpus", "synthetic", "root", "date", "statement")
    return Publication(**{name: said[name] for name in names}, files=_files(said["files"], where))


def small_files(path: Path, said: Mapping[str, Any]) -> Iterator[str]:
    """The names of what a dataset's folder holds beside dataset.json, shards and clips; never what is in .build/."""
    yield "manifest.parquet"
    if said["video"]:
        yield "video/index.parquet"
    for file in sorted(path.iterdir()):
        if file.name in ("failures.csv", LOCK) or (file.name.startswith("attest") and _NAME.fullmatch(file.name)):
            yield file.name


def check_manifest(path: Path, said: Mapping[str, Any]) -> None:
    """Raises MesmError if manifest.parquet of the folder `path` is not the table that dataset.json names."""
    import pyarrow
    import pyarrow.parquet as pq

    file = path / "manifest.parquet"
    try:
        facts = pq.read_metadata(file)
        size = sum(facts.row_group(number).total_byte_size for number in range(facts.num_row_groups))
        if facts.num_rows != said["manifest"]["rows"] or size > TABLE:
            raise MesmError(f"{file} has {facts.num_rows} rows ({size} bytes), named are {said['manifest']['rows']}")
        found = manifest.digest(manifest.read(file))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise MesmError(f"{file} cannot be read ({type(error).__name__}): it is damaged") from None
    if found != said["manifest"]["sha256"]:
        raise MesmError(f"{file} is not the table that dataset.json names: `mesm-data verify {path}` says more")


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid JSON ({error!s:.80})") from None
    if not isinstance(said, dict):
        raise InputError(f"{where} does not describe a dataset of mesm")
    return said


def _files(listed: Mapping[str, Any], where: str) -> Files:
    found = {}
    for name, facts in listed.items():
        if not _NAME.fullmatch(name):
            raise InputError(f"{where} names a file {name!r:.80}, which no dataset has: nothing of it is fetched")
        if not isinstance(facts, dict) or not _is_size(facts.get("size")) or not _is_digest(facts.get("sha256")):
            raise InputError(f"{where} does not give size and sha256 of {name}: it is damaged")
        found[name] = File(size=facts["size"], sha256=facts["sha256"])
    return found


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**50


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None
