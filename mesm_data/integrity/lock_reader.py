"""Reads a recipe.lock: validates it, and gives its face boxes and its recipe to a build.

A lock may come from anybody. Its boxes only say where to crop the local frames, and are used only if they lie inside
them. Nothing of a lock becomes a path, or a part of a sample other than boxes, scores and `detected`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.recipe import Recipe, describe_difference, describe_toolchain_difference
from mesm_data.errors import InputError
from mesm_data.integrity.lock_writer import KEYED_FIELDS, LOCK_VERSION, KeyedField
from mesm_data.media.faces.crop import FaceBox
from mesm_data.media.options import parse_seconds
from mesm_data.schema.recordings import Corpus, Utterance
from mesm_data.splits.rules import named_splits
from mesm_data.storage.json_files import read_json
from mesm_data.storage.json_models import Count, JsonModel, Sha256, validate_json

Option = Annotated[int, Field(ge=1, lt=2**40)]


class FaceEntry(JsonModel):
    """The face boxes of a sample: x0, y0, x1 and y1, score and number of detected faces per crop."""

    boxes: list[Annotated[list[Count], Field(min_length=4, max_length=4)]]
    scores: list[Annotated[float, Field(ge=0, le=1)]]
    detected: list[bool]
    counts: list[Count]

    @model_validator(mode="after")
    def _one_per_crop(self) -> Self:
        if not len(self.boxes) == len(self.scores) == len(self.counts):
            raise ValueError("boxes, scores and counts are not of the same length")
        if self.detected != [count > 0 for count in self.counts]:
            raise ValueError("detected does not fit counts")
        return self


class Digests(JsonModel):
    """The digests of a sample's members and of their content."""

    wav: Sha256
    faces: Sha256
    pcm: Sha256
    pixels: Sha256


class ClipEntry(JsonModel):
    """A clip: its packets of audio. The other values are only compared."""

    sound: Count


class LockEntry(JsonModel):
    """A sample in a lock."""

    id: str
    faces: FaceEntry
    sha256: Digests
    keyed: Annotated[dict[KeyedField, Sha256], Field(min_length=len(KEYED_FIELDS))] | None
    audio: dict[str, Any] | None = None
    video: dict[str, Any] | None = None
    clip: ClipEntry | None = None


class SplitEntry(JsonModel):
    """The split that groups the shards."""

    model_config = ConfigDict(extra="forbid")

    name: str
    digest: Sha256


class LockRecipe(JsonModel):
    """The options of a recipe, as far as `Recipe` does not check them itself."""

    corpus: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")
    only: str | None
    limit: Annotated[int, Field(ge=1)] | None
    split: SplitEntry | None
    clips: bool
    shard_bytes: Option
    face_margin: Option
    video_offset: str
    frame_interval: str
    detector: str


class LockFile(JsonModel):
    """recipe.lock."""

    recipe: LockRecipe
    toolchain: dict[str, Any]
    root: Sha256
    failed: list[str]
    samples: list[LockEntry]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({entry.id for entry in self.samples}) < len(self.samples):
            raise ValueError("an id occurs twice among the samples")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A valid recipe.lock.

    Attributes:
        path: The file.
        digest: The file's sha256.
        header: The content without the table of samples.
        recipe: The options of the build.
        samples: The entries of the table by key.
    """

    path: Path
    digest: str
    header: dict[str, Any]
    recipe: Recipe
    samples: dict[str, dict[str, Any]]

    def face_boxes(self, utterances: Iterable[Utterance]) -> dict[str, tuple[FaceBox, ...]]:
        """The face boxes of these utterances by key, one per crop; without utterances that the lock lacks."""
        boxes = {}
        for utterance in utterances:
            if utterance.key in self.samples:
                faces = self.samples[utterance.key]["faces"]
                crops = zip(faces["boxes"], faces["scores"], faces["counts"], strict=True)
                boxes[utterance.key] = tuple(
                    FaceBox(box=tuple(box), score=score, count=count) for box, score, count in crops
                )
        return boxes

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise InputError if `recipe` (with its corpus and split) is not the lock's; clips may differ."""
        expected = asdict(replace(self.recipe, clips=recipe.clips))
        if differs := describe_difference(expected, asdict(recipe)):
            raise InputError(f"{self.path} was made with other options: {differs}")

    def split_name(self, corpus: Corpus) -> str | None:
        """The name of the split that groups the shards, one of the corpus' schema; None if no split does.

        Raises InputError if it is neither a rule nor a published list: a lock cannot name a path of this machine.
        """
        name = (self.recipe.split or {}).get("name")
        if name is None:
            return None
        rows = {
            utterance.key: manifest_row(utterance, "ok", None) for utterance in corpus.utterances()
        }  # to know the folds
        if name not in named_splits(corpus.schema, rows):
            raise InputError(
                f"{self.path} groups the files by the split {name[:80]!r}, which is not published: give its lists "
                "with --split"
            )
        return name

    def toolchain_difference(self, toolchain: dict[str, str]) -> str | None:
        """The first relevant version that differs between the lock's toolchain and `toolchain`, as words."""
        return describe_toolchain_difference(self.header["toolchain"], toolchain)


def read_lock(path: Path) -> Lock:
    """Read and validate a lock. Raises InputError that names the file and the problem."""
    header = read_json(path)
    if not isinstance(header, dict) or "lock" not in header:
        raise InputError(
            f"{path} is not a recipe.lock: give the file that `mesm-data build` writes beside dataset.json"
        )
    if header["lock"] != LOCK_VERSION:
        version = repr(header["lock"])[:40]
        raise InputError(f"{path} has version {version}; this version of mesm reads version {LOCK_VERSION}")
    validate_json(header, LockFile, str(path))
    samples = {entry["id"]: entry for entry in header.pop("samples")}
    digest = sha256(path.read_bytes()).hexdigest()
    return Lock(path=path, digest=digest, header=header, recipe=parse_recipe(path, header["recipe"]), samples=samples)


def parse_recipe(path: Path, options: dict[str, Any]) -> Recipe:
    """The recipe of a lock. Raises InputError if an option is missing, unknown to this version, or not valid."""
    names = {field.name for field in fields(Recipe)}
    if differs := sorted({*options} ^ {*names, "detector"}):
        raise InputError(f"{path}: its options are not those of this version of mesm ({', '.join(differs)[:200]})")
    try:
        recipe = Recipe(**{name: options[name] for name in names})
        return replace(recipe, video_offset=parse_seconds(recipe.video_offset))
    except InputError as error:
        raise InputError(f"{path}: its option {error}") from None
