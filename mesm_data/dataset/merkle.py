"""A tree of digests over a dataset: members -> sample -> shard -> group of shards -> dataset.

Every node is the sha256 of lines as `sha256sum` prints them, `<digest>  <name>`, one for each child, in a fixed order:
with the members in a folder, that tool alone computes any node again (docs/format.md). The tree is over the model view.
Clips are not in it, as they are not in the dataset's root.
"""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from mesm_data.dataset.manifest import member_columns
from mesm_data.dataset.members import EXTENSIONS


def node(children: Iterable[tuple[str, str]]) -> str:
    """The digest over (digest, name) pairs, in their order."""
    return sha256("".join(f"{digest}  {name}\n" for digest, name in children).encode()).hexdigest()


def sample(row: Mapping[str, Any]) -> str:
    """The digest of one sample from its manifest row: over its four members, in the order of the shard."""
    return node((row[member_columns(ext)[2]], f"{row['key']}.{ext}") for ext in EXTENSIONS)


def samples(rows: Iterable[Mapping[str, Any]]) -> str:
    """The digest of a set of samples, such as a split's part: over the samples by key, whatever shards they lie in."""
    return node((sample(row), row["key"]) for row in sorted(rows, key=lambda row: str(row["key"])))


def tree(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What dataset.json says as `merkle`: the digests of every shard, every group of shards, and all (`root`).

    `rows` are those of the manifest. Samples are taken in the order in which they stand in their shard, shards and
    groups by name.
    """
    by_shard: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] == "ok":
            by_shard.setdefault(str(row["shard"]), []).append(row)
    first = member_columns(EXTENSIONS[0])[0]
    shards = {
        name: node((sample(row), row["key"]) for row in sorted(inside, key=lambda row: row[first] or 0))
        for name, inside in sorted(by_shard.items())
    }
    by_group: dict[str, list[tuple[str, str]]] = {}
    for name, digest in shards.items():
        by_group.setdefault(group_of(name), []).append((digest, name))
    groups = {name: node(children) for name, children in sorted(by_group.items())}
    return {"shards": shards, "groups": groups, "root": node((digest, name) for name, digest in groups.items())}


def group_of(shard: str) -> str:
    """train-000012.tar -> train."""
    return shard.rpartition("-")[0]
