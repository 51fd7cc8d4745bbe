"""What a publication consists of, and the checks that published.json passes before it is believed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.dataset.description import FileEntries, parse_file_entries, parse_json_object
from mesm_data.dataset.validation import is_sha256
from mesm_data.errors import InputError

PUBLICATION = 1
CARD, SPLITS, INDEX = "README.md", "splits.json", "published.json"
LOCK = "recipe.lock"
TIERS = ("recipe", "gated", "private")


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What published.json says. `statement` is the licence holder's, None where none is needed."""

    tier: str
    corpus: str
    synthetic: bool
    root: str
    date: str
    statement: dict[str, str] | None
    files: FileEntries

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        said = {name: getattr(self, name) for name in ("tier", "corpus", "synthetic", "root", "date", "statement")}
        files = {name: file.as_dict() for name, file in self.files.items()}
        return {"publication": PUBLICATION, **said, "files": files}


def read_publication(data: bytes, where: str) -> Publication:
    """published.json from its bytes. Raises InputError unless all that is used of it is sound."""
    said = parse_json_object(data, where)
    if said.get("publication") != PUBLICATION:
        version = said.get("publication")
        raise InputError(f"{where} is publication {version!r:.40}; this version of mesm reads {PUBLICATION}")
    sound = (
        said.get("tier") in TIERS
        and all(isinstance(said.get(name), str) for name in ("corpus", "date"))
        and isinstance(said.get("synthetic"), bool)
        and is_sha256(said.get("root"))
        and _is_statement(said.get("statement"))
        and isinstance(said.get("files"), dict)
    )
    if not sound:
        raise InputError(f"{where} is damaged: it lacks the tier, the root or the files of a publication")
    names = ("tier", "corpus", "synthetic", "root", "date", "statement")
    return Publication(**{name: said[name] for name in names}, files=parse_file_entries(said["files"], where))


def _is_statement(value: Any) -> bool:
    """Whether this is what terms.statement makes, or None."""
    if value is None:
        return True
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("corpus", "terms", "date"))


def small_files(path: Path, said: Mapping[str, Any]) -> Iterator[str]:
    """The names of what a dataset's folder holds beside dataset.json, shards and clips; never what is in .build/."""
    yield "manifest.parquet"
    if said["video"]:
        yield "video/index.parquet"
    for file in sorted(path.iterdir()):
        if file.name in ("failures.csv", LOCK):
            yield file.name
