"""Reads a recipe.lock: validates it, and gives its face boxes and its recipe to a build.

A lock may come from anybody. Its boxes only say where to crop the local frames, and are used only if they lie inside
them. Nothing of a lock becomes a path, or a part of a sample other than boxes, scores and `detected`.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.recipe import Recipe, describe_difference, describe_toolchain_difference
from mesm_data.dataset.validation import is_sha256
from mesm_data.errors import InputError
from mesm_data.integrity.lock_writer import KEYED_FIELDS, LOCK_VERSION
from mesm_data.media.faces.crop import FaceBox
from mesm_data.media.options import parse_seconds
from mesm_data.schema.recordings import Corpus, Utterance
from mesm_data.splits.rules import named_splits
from mesm_data.storage.json_files import read_json

_CORPUS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_DIGESTS = ("wav", "faces", "pcm", "pixels")


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
    if not isinstance(header, dict) or "lock" not in header or not isinstance(header.get("samples"), list):
        raise InputError(
            f"{path} is not a recipe.lock: give the file that `mesm-data build` writes beside dataset.json"
        )
    if header["lock"] != LOCK_VERSION:
        version = repr(header["lock"])[:40]
        raise InputError(f"{path} has version {version}; this version of mesm reads version {LOCK_VERSION}")
    samples: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(header.pop("samples")):
        if not is_lock_entry(entry) or entry["id"] in samples:
            raise InputError(f"{path}: entry {number} of the table of samples is not valid: the file is damaged")
        samples[entry["id"]] = entry
    is_complete = (
        isinstance(header.get("toolchain"), dict)
        and isinstance(header.get("failed"), list)
        and is_sha256(header.get("root"))
    )
    if not is_complete:
        raise InputError(f"{path} lacks its toolchain, failed or root: the file is damaged")
    recipe = parse_recipe(path, header.get("recipe"))
    digest = sha256(path.read_bytes()).hexdigest()
    return Lock(path=path, digest=digest, header=header, recipe=recipe, samples=samples)


def parse_recipe(path: Path, options: Any) -> Recipe:
    """The recipe of a lock. Raises InputError if an option is missing, unknown to this version, or not valid."""
    names = {field.name for field in fields(Recipe)}
    if not isinstance(options, dict) or set(options) != names | {"detector"}:
        differs = sorted(names ^ (set(options) - {"detector"})) if isinstance(options, dict) else sorted(names)
        raise InputError(
            f"{path}: its options are not those of this version of mesm ({', '.join(differs) or 'detector'})"
        )
    split = options["split"]
    is_valid = {
        "corpus": isinstance(options["corpus"], str) and _CORPUS.fullmatch(options["corpus"]) is not None,
        "clips": isinstance(options["clips"], bool),
        "only": options["only"] is None or isinstance(options["only"], str),
        "limit": options["limit"] is None or _is_integer(options["limit"]),
        "split": split is None
        or (
            isinstance(split, dict)
            and {*split} == {"name", "digest"}
            and isinstance(split["name"], str)
            and is_sha256(split["digest"])
        ),
        **{name: _is_integer(options[name]) and options[name] < 2**40 for name in ("face_margin", "shard_bytes")},
        **{name: isinstance(options[name], str) for name in ("video_offset", "frame_interval", "detector")},
    }
    if invalid := [name for name, valid in is_valid.items() if not valid]:
        raise InputError(f"{path}: its option {invalid[0]} is {repr(options[invalid[0]])[:80]}, which is not valid")
    try:
        recipe = Recipe(**{name: options[name] for name in names})
        return replace(recipe, video_offset=parse_seconds(recipe.video_offset))
    except InputError as error:
        raise InputError(f"{path}: its option {error}") from None


def is_lock_entry(entry: Any) -> bool:
    """Whether this is a valid entry of the table of samples: every value that is used has its type."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return False
    faces, digests, keyed = entry.get("faces"), entry.get("sha256"), entry.get("keyed", "missing")
    if not isinstance(faces, dict) or not isinstance(digests, dict) or {*_DIGESTS} - {*digests}:
        return False
    lists = [faces.get(name) for name in ("boxes", "scores", "detected", "counts")]
    if not all(isinstance(each, list) for each in lists) or len({len(each) for each in lists if each is not None}) > 1:
        return False
    clip = entry.get("clip")
    return (
        all(isinstance(b, list) and len(b) == 4 and all(_is_integer(n, least=0) for n in b) for b in faces["boxes"])
        and all(isinstance(score, int | float) and 0 <= score <= 1 for score in faces["scores"])
        and all(_is_integer(count, least=0) for count in faces["counts"])
        and faces["detected"] == [count > 0 for count in faces["counts"]]
        and all(is_sha256(digests[name]) for name in _DIGESTS)
        and (keyed is None or (isinstance(keyed, dict) and all(is_sha256(keyed.get(name)) for name in KEYED_FIELDS)))
        and all(entry.get(name) is None or isinstance(entry[name], dict) for name in ("audio", "video"))
        and (clip is None or (isinstance(clip, dict) and _is_integer(clip.get("sound"), least=0)))
    )


def _is_integer(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
