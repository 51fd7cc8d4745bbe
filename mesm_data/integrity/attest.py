"""A small statement of which data a dataset is, for a paper, a reviewer, or another lab to compare with.

It holds digests, counts and versions, nothing of the corpus. docs/proof.md says what each means.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset import dataset_dir as dataset
from mesm_data.dataset import manifest, merkle
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity import lock_writer as locks
from mesm_data.integrity.verify import verify
from mesm_data.splits.resolve import Split, resolve_all_splits
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import canonical_json, read_json

VERSION = 1
# What the data are. The rest says how they were made, which may differ: the point is that the result does not.
DATA = ("corpus", "synthetic", "format", "root", "samples", "merkle", "counts")
MADE = ("mesm", "toolchain", "recipe", "lock")


def attest(path: Path, progress: Callable[[int], object] | None = None) -> dict[str, Any]:
    """The statement on a dataset. All of shards/ is hashed first: MesmError, naming the first, if anything differs.

    `progress` is told of the bytes read. InputError if `path` is not a dataset.
    """
    said = dataset.describe(path)
    for difference in verify(path, progress, clips=False):
        raise MesmError(f"{path} is not what its manifest says, so nothing is stated of it: {difference}")
    rows = {row["key"]: row for row in manifest.read(path / "manifest.parquet")}
    splits = {
        name: {
            "lists": split.digest,
            "parts": {
                part: {"count": len(keys), "samples": merkle.samples(rows[key] for key in keys)}
                for part, keys in split.parts.items()
            },
        }
        for name, split in resolve_all_splits(rows.values(), dataset.schema_of(path, said)).items()
        if isinstance(split, Split)
    }
    lock = path / locks.NAME
    return {
        "attest": VERSION,
        "corpus": said["corpus"],
        "synthetic": said["synthetic"],
        "format": said["format"],
        "root": said["root"],
        "samples": merkle.samples(row for row in rows.values() if row["status"] == "ok"),
        "merkle": {"root": said["merkle"]["root"], "groups": said["merkle"]["groups"]},
        "counts": said["counts"],
        "splits": splits,
        "mesm": said["toolchain"]["mesm"],
        "toolchain": digest(said["toolchain"]),
        "recipe": digest(said["recipe"]),
        "lock": sha256_file(lock) if lock.exists() else None,
    }


def digest(value: Any) -> str:
    """sha256 of a value as canonical JSON."""
    return sha256(canonical_json(value)).hexdigest()


def read(path: Path) -> dict[str, Any]:
    """A statement that another lab made. Raises InputError if the file is none."""
    said = read_json(path)
    if not isinstance(said, dict) or said.get("attest") != VERSION or not isinstance(said.get("splits"), dict):
        raise InputError(f"{path} is not what `mesm-data attest` writes, version {VERSION}")
    return said


def differences(there: dict[str, Any], here: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(what of the data differs, what of their making does), one sentence each.

    `samples` is the same however the files are grouped, where `root` and `merkle` are not. Splits are compared if both
    name them: whether a published list was fetched is no property of the data.
    """
    data = [f"{name}: {here[name]} here, {there.get(name)} there" for name in DATA if here[name] != there.get(name)]
    for name in sorted(here["splits"].keys() & there["splits"].keys()):
        ours, theirs = here["splits"][name], there["splits"][name]
        if ours != theirs:
            known = theirs.get("parts") if isinstance(theirs, dict) else None
            known = known if isinstance(known, dict) else {}
            parts = [part for part in ours["parts"] if ours["parts"][part] != known.get(part)]
            data.append(f"split {name}: {', '.join(parts) if parts else 'its lists'} differ")
    return data, [
        f"{name}: {here[name]} here, {there.get(name)} there" for name in MADE if here[name] != there.get(name)
    ]
