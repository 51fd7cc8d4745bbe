"""The files of a publication, and the validation of published.json."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.dataset.description import FileEntries, parse_file_entries, parse_json_object
from mesm_data.dataset.validation import is_sha256
from mesm_data.errors import InputError
from mesm_data.integrity.lock_writer import LOCK_NAME

PUBLICATION_VERSION = 1
CARD_NAME, SPLITS_NAME, INDEX_NAME = "README.md", "splits.json", "published.json"
TIERS = ("recipe", "gated", "private")
_HEADER = ("tier", "corpus", "synthetic", "root", "date", "statement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The content of published.json. `statement` is that of the licence holder, None where none is needed."""

    tier: str
    corpus: str
    synthetic: bool
    root: str
    date: str
    statement: dict[str, str] | None
    files: FileEntries

    def as_dict(self) -> dict[str, Any]:
        """The publication as JSON values."""
        files = {name: file.as_dict() for name, file in self.files.items()}
        return {
            "publication": PUBLICATION_VERSION,
            **{name: getattr(self, name) for name in _HEADER},
            "files": files,
        }


def read_publication(data: bytes, where: str) -> Publication:
    """Parse published.json. Raises InputError unless all values that are used are valid.

    Args:
        data: The content of the file.
        where: The redacted URL of the file, for messages.
    """
    content = parse_json_object(data, where)
    if content.get("publication") != PUBLICATION_VERSION:
        version = content.get("publication")
        raise InputError(
            f"{where} is publication {version!r:.40}; this version of mesm reads publication {PUBLICATION_VERSION}"
        )
    is_valid = (
        content.get("tier") in TIERS
        and all(isinstance(content.get(name), str) for name in ("corpus", "date"))
        and isinstance(content.get("synthetic"), bool)
        and is_sha256(content.get("root"))
        and _is_statement(content.get("statement"))
        and isinstance(content.get("files"), dict)
    )
    if not is_valid:
        raise InputError(f"{where} is damaged: it lacks the tier, the root or the files of a publication")
    return Publication(
        **{name: content[name] for name in _HEADER},
        files=parse_file_entries(content["files"], where),
    )


def _is_statement(value: Any) -> bool:
    """Whether this is a result of `terms.licence_statement`."""
    if value is None:
        return True
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("corpus", "terms", "date"))


def extra_files(path: Path, info: Mapping[str, Any]) -> Iterator[str]:
    """The names of a dataset's files other than dataset.json, shards and clips; nothing of .build/.

    Args:
        info: The content of dataset.json.
    """
    yield "manifest.parquet"
    if info["video"]:
        yield "video/index.parquet"
    for file in sorted(path.iterdir()):
        if file.name in ("failures.csv", LOCK_NAME):
            yield file.name
