"""The models of dataset.json, which may come from another machine, and of the entries of its files."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_models import Count, JsonModel, Sha256, validate_json

SHARD_FORMAT = 2
CROISSANT_FILE = "croissant.json"  # beside dataset.json: its description for machines
STATUSES = ("ok", "failed", "excluded")
SHARD_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}\.tar"

ShardName = Annotated[str, Field(pattern=f"^{SHARD_NAME}$")]


class FileEntry(JsonModel):
    """Size and sha256 of a file."""

    size: Count
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> "FileEntry":
        """The entry of the file at `path`, which is read."""
        return cls(size=path.stat().st_size, sha256=sha256_file(path))


class ShardEntry(FileEntry):
    """An archive of samples or clips."""

    samples: Count


class ManifestEntry(JsonModel):
    """The rows of manifest.parquet, and their digest."""

    rows: Count
    sha256: Sha256


class Counts(JsonModel):
    """Utterances by status."""

    total: Count
    ok: Count
    failed: Count
    excluded: Count


class ReaderOptions(JsonModel):
    """The options of a recipe on which readers rely."""

    model_config = ConfigDict(regex_engine="python-re")  # the default engine has no (?=

    face_size: int = Field(ge=1, le=4096)
    sample_rate: int = Field(ge=1, le=2**20)
    frame_interval: str = Field(pattern=r"\A(?=.*[1-9])[0-9]{1,4}(\.[0-9]{1,9})?\Z")  # more than 0 seconds


class DatasetInfo(JsonModel):
    """dataset.json. Further keys describe the build and are not used by readers."""

    corpus: str
    synthetic: bool
    notes: list[str]
    recipe: ReaderOptions
    counts: Counts
    manifest: ManifestEntry
    shards: dict[ShardName, ShardEntry]
    video: dict[ShardName, ShardEntry]
    root: Sha256
    corpus_schema: CorpusSchema = Field(alias="schema")

    @model_validator(mode="after")
    def _schema_is_of_the_corpus(self) -> Self:
        if self.corpus_schema.name != self.corpus:
            raise ValueError("'schema' is not that of the corpus")
        return self


def validate_info(info: Any, where: str) -> dict[str, Any]:
    """Return the parsed JSON `info` if it is a dataset.json of this version. Raises InputError if it is not."""
    if not isinstance(info, dict) or "format" not in info:
        raise InputError(f"{where} does not describe a dataset of mesm")
    if type(info["format"]) is not int or info["format"] != SHARD_FORMAT:
        raise InputError(
            f"{where} has shard format {info['format']!r:.40}; this version of mesm reads format {SHARD_FORMAT}. "
            "Install the version of mesm that wrote it, or build it anew"
        )
    validate_json(info, DatasetInfo, where)
    return info
