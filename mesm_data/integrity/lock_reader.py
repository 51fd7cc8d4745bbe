"""A recipe.lock that is read: checked before it is believed, then asked for boxes and compared with what was built.

A lock may come from anybody. Its boxes only say where to cut the local frames, and are used only if they lie inside
them; nothing of it becomes a path or a part of a sample other than boxes, scores and `detected`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.dataset.manifest import manifest_row
from mesm_data.dataset.recipe import Recipe, describe_difference, describe_toolchain_difference
from mesm_data.errors import InputError
from mesm_data.integrity.lock_writer import KEYED, VERSION
from mesm_data.media.faces.crop import FaceBox
from mesm_data.media.options import parse_seconds
from mesm_data.schema.recordings import Corpus, Utterance
from mesm_data.splits.rules import named_splits
from mesm_data.storage.json_files import read_json

SAME, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"
AAC_SLACK = 2  # packets by which encoders differ at the ends of a sound
_CORPUS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_HEX = re.compile(r"[0-9a-f]{64}")
_DIGESTS = ("wav", "faces", "pcm", "pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """`said` is what the file says without its table, `samples` the table by key, `digest` the file's sha256."""

    path: Path
    digest: str
    said: dict[str, Any]
    recipe: Recipe
    samples: dict[str, dict[str, Any]]

    def places(self, utterances: Iterable[Utterance]) -> dict[str, tuple[FaceBox, ...]]:
        """Where the faces of these utterances are cut, one for each crop; without those that the lock does not hold."""
        found = {}
        for utterance in utterances:
            if utterance.key in self.samples:
                faces = self.samples[utterance.key]["faces"]
                each = zip(faces["boxes"], faces["scores"], faces["counts"], strict=True)
                found[utterance.key] = tuple(
                    FaceBox(box=tuple(box), score=score, count=count) for box, score, count in each
                )
        return found

    def check(self, recipe: Recipe) -> None:
        """Raises InputError if a recipe, and with it the corpus and the split, is not the lock's, but for clips."""
        theirs = asdict(replace(self.recipe, clips=recipe.clips))
        if differs := describe_difference(theirs, asdict(recipe)):
            raise InputError(f"{self.path} was made with other options: {differs}")

    def split(self, corpus: Corpus) -> str | None:
        """The split that groups the files, one of those that the corpus' schema names; None without one.

        Raises InputError if it is neither a rule nor a published list: a lock names no place on this machine.
        """
        name = (self.recipe.split or {}).get("name")
        if name is None:
            return None
        rows = {said.key: manifest_row(said, "ok", None) for said in corpus.utterances()}  # which folds there are
        if name not in named_splits(corpus.schema, rows):
            raise InputError(
                f"{self.path} groups the files by the split {name[:80]!r}, which is not published: give its lists "
                "with --split"
            )
        return name

    def other_tools(self, now: dict[str, str]) -> str | None:
        """The first version that matters and differs between the lock's toolchain and `now`, as words."""
        return describe_toolchain_difference(self.said["toolchain"], now)


def read(path: Path) -> Lock:
    """Read and check a lock. Raises InputError that names the file, and what is wrong, if it cannot be used."""
    said = read_json(path)
    if not isinstance(said, dict) or "lock" not in said or not isinstance(said.get("samples"), list):
        raise InputError(f"{path} is no recipe.lock: give the file that `mesm-data build` wrote beside dataset.json")
    if said["lock"] != VERSION:
        raise InputError(f"{path} has version {repr(said['lock'])[:40]}; this version of mesm reads version {VERSION}")
    table: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(said.pop("samples")):
        if not is_entry(entry) or entry["id"] in table:
            raise InputError(f"{path}: sample {number} of the table is not understood: the file is damaged")
        table[entry["id"]] = entry
    head = (isinstance(said.get("toolchain"), dict), isinstance(said.get("failed"), list), is_digest(said.get("root")))
    if not all(head):
        raise InputError(f"{path} lacks its toolchain, failed or root: the file is damaged")
    return Lock(
        path=path,
        digest=sha256(path.read_bytes()).hexdigest(),
        said=said,
        recipe=recipe_of(path, said.get("recipe")),
        samples=table,
    )


def recipe_of(path: Path, said: Any) -> Recipe:
    """The options of a lock. Raises InputError if one is missing, unknown to this version, or no such option."""
    names = {field.name for field in fields(Recipe)}
    if not isinstance(said, dict) or set(said) != names | {"detector"}:
        differs = sorted(names ^ (set(said) - {"detector"})) if isinstance(said, dict) else sorted(names)
        raise InputError(
            f"{path}: its options are not those of this version of mesm ({', '.join(differs) or 'detector'})"
        )
    whole = ("face_margin", "shard_bytes")
    split = said["split"]
    checks = {
        "corpus": isinstance(said["corpus"], str) and _CORPUS.fullmatch(said["corpus"]) is not None,
        "clips": isinstance(said["clips"], bool),
        "only": said["only"] is None or isinstance(said["only"], str),
        "limit": said["limit"] is None or _is_whole(said["limit"]),
        "split": split is None
        or (
            isinstance(split, dict)
            and {*split} == {"name", "digest"}
            and isinstance(split["name"], str)
            and is_digest(split["digest"])
        ),
        **{name: _is_whole(said[name]) and said[name] < 2**40 for name in whole},
        **{name: isinstance(said[name], str) for name in ("video_offset", "frame_interval", "detector")},
    }
    if wrong := [name for name, good in checks.items() if not good]:
        raise InputError(f"{path}: its option {wrong[0]} is {repr(said[wrong[0]])[:80]}, which cannot be")
    try:
        recipe = Recipe(**{name: said[name] for name in names})
        return replace(recipe, video_offset=parse_seconds(recipe.video_offset))
    except InputError as error:
        raise InputError(f"{path}: its option {error}") from None


def is_entry(entry: Any) -> bool:
    """Whether this is one sample's entry of a lock: all that is used of it has its type."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return False
    faces, digests, private = entry.get("faces"), entry.get("sha256"), entry.get("keyed", "missing")
    if not isinstance(faces, dict) or not isinstance(digests, dict) or {*_DIGESTS} - {*digests}:
        return False
    lists = [faces.get(name) for name in ("boxes", "scores", "detected", "counts")]
    if not all(isinstance(each, list) for each in lists) or len({len(each) for each in lists if each is not None}) > 1:
        return False
    good = all(isinstance(b, list) and len(b) == 4 and all(_is_whole(n, least=0) for n in b) for b in faces["boxes"])
    good &= all(isinstance(score, int | float) and 0 <= score <= 1 for score in faces["scores"])
    good &= all(_is_whole(count, least=0) for count in faces["counts"])
    good &= good and faces["detected"] == [count > 0 for count in faces["counts"]]
    good &= all(is_digest(digests[name]) for name in _DIGESTS)
    good &= private is None or (isinstance(private, dict) and all(is_digest(private.get(name)) for name in KEYED))
    good &= all(entry.get(what) is None or isinstance(entry[what], dict) for what in ("audio", "video"))
    clip = entry.get("clip")
    good &= clip is None or (isinstance(clip, dict) and _is_whole(clip.get("sound"), least=0))
    return good


def is_digest(value: Any) -> bool:
    """Whether this is a sha256 in hexadecimal."""
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def compare(lock: Lock, samples: Iterable[Mapping[str, Any]], failed: Iterable[str] = ()) -> list[tuple[str, str, str]]:
    """(key, verdict, what differs) for every sample of a lock and every one that was built, by key.

    `samples` are the entries of `lock_writer.entries` for the built dataset, `failed` its failed utterances.
    """
    found = {entry["id"]: entry for entry in samples}
    failed = set(failed)
    said = []
    for key in sorted({*lock.samples, *found}):
        if key not in found:
            said.append((key, DIFFERENT, "failed here" if key in failed else "not here"))
        elif key not in lock.samples:
            there = "failed there" if key in lock.said["failed"] else "not in the lock"
            said.append((key, DIFFERENT, there))
        else:
            said.append((key, *verdict(lock.samples[key], found[key])))
    return said


def verdict(expected: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[str, str]:
    """identical (the same bytes), equivalent (the same content in other bytes) or different; and what differs.

    What is keyed can be compared only where the key is the same, that is, where the sound is.
    """
    content = [name for name, digest in (("sound", "pcm"), ("picture", "pixels")) if _other(expected, found, digest)]
    content += ["boxes"] if expected["faces"] != found["faces"] else []
    content += ["clip"] if other_clip(expected.get("clip"), found.get("clip")) else []
    form = [name for name, digest in (("wav", "wav"), ("faces.npy", "faces")) if _other(expected, found, digest)]
    form += [
        f"source of the {name}" for name, what in _SOURCES.items() if _source(expected, what) != _source(found, what)
    ]
    unchecked = []
    lost = {"sound": "sound", "picture": "picture"}.get(str(expected.get("key")))
    if expected["keyed"] and found["keyed"] and lost not in content:
        differs = [name for name in KEYED if expected["keyed"][name] != found["keyed"][name]]
        content += [name for name in differs if name != "json"]
        form += ["json"] if "json" in differs else []
    elif expected["keyed"] or found["keyed"]:
        unchecked = ["text and record cannot be compared without the same " + str(lost or "sound")]
    else:
        unchecked = ["text and record are not in the lock (nothing to make a key of)"]
    if content:
        return DIFFERENT, "; ".join(content + [f for f in form if f.startswith("source")] + unchecked)
    return (EQUIVALENT if form else SAME), "; ".join(form + unchecked)


_SOURCES = {"sound": "audio", "picture": "video"}


def _other(expected: Mapping[str, Any], found: Mapping[str, Any], digest: str) -> bool:
    return bool(expected["sha256"][digest] != found["sha256"][digest])


def _source(entry: Mapping[str, Any], what: str) -> Any:
    return (entry.get(what) or {}).get("source")


def other_clip(expected: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> bool:
    """Whether two clips have other frames, times or sound. A dataset without clips is not compared with."""
    if expected is None or found is None:
        return False
    names = ("width", "height", "frames", "times_sha256")
    sounds = [int(clip["sound"]) for clip in (expected, found)]
    return any(expected.get(n) != found.get(n) for n in names) or abs(sounds[0] - sounds[1]) > AAC_SLACK
