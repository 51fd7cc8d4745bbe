"""The files of a publication, and the model of published.json."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from mesm_data.dataset.description import parse_json_at
from mesm_data.dataset.info import SHARD_NAME, FileEntry
from mesm_data.errors import InputError
from mesm_data.integrity.lock_writer import LOCK_NAME
from mesm_data.storage.json_models import JsonModel, Sha256, validate_json

PUBLICATION_VERSION = 1
CARD_NAME, SPLITS_NAME, INDEX_NAME = "README.md", "splits.json", "published.json"
FileName = Annotated[
    str,
    Field(
        pattern=r"^(dataset\.json|manifest\.parquet|failures\.csv|recipe\.lock|README\.md|splits\.json|"
        rf"(shards|video)/{SHARD_NAME}|video/index\.parquet)$"
    ),
]

Tier = Literal["recipe", "gated", "private"]


class LicenceStatement(JsonModel):
    """What the publisher states about the licence of the corpus, and the terms that were shown."""

    corpus: str
    terms: str
    date: str
    issuer: str = ""


class Publication(JsonModel):
    """published.json. `statement` is that of the licence holder, None where none is needed."""

    publication: int = PUBLICATION_VERSION
    tier: Tier
    corpus: str
    synthetic: bool
    root: Sha256
    date: str
    statement: LicenceStatement | None
    files: dict[FileName, FileEntry]


def read_publication(data: bytes, where: str) -> Publication:
    """Parse published.json. Raises InputError unless all values that are used are valid.

    Args:
        data: The content of the file.
        where: The redacted URL of the file, for messages.
    """
    content = parse_json_at(data, where)
    version = content.get("publication") if isinstance(content, dict) else None
    if version != PUBLICATION_VERSION:
        raise InputError(
            f"{where} is publication {version!r:.40}; this version of mesm reads publication {PUBLICATION_VERSION}"
        )
    return validate_json(content, Publication, where)


def extra_files(path: Path, info: Mapping[str, Any]) -> Iterator[str]:
    """The names of a dataset's files other than dataset.json, shards and clips; nothing of .build/.

    Args:
        path: The folder of the dataset.
        info: The content of dataset.json.
    """
    yield "manifest.parquet"
    if info["video"]:
        yield "video/index.parquet"
    for file in sorted(path.iterdir()):
        if file.name in ("failures.csv", LOCK_NAME):
            yield file.name
