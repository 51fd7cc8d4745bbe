"""Which copy of a corpus is this? sha256 and size of every source file that matters, and comparison with others.

Paths are relative to the corpus root, wherever that lies. A file that lies elsewhere under the root is `moved`, which
is no difference. Against a recipe.lock, which names no files, each utterance's files are looked for by their digest.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import source_files, source_sizes
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.lock_reader import Lock, is_digest, read
from mesm_data.media.image_sequence import numbered_images
from mesm_data.schema.recordings import Corpus, Recording, Utterance
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json

VERSION = 1
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One file. `kind`: missing, altered, extra or moved; `path` where it lies here, or lay there; `what` in words."""

    kind: str
    path: str
    what: str


def sizes(corpus: Corpus) -> dict[str, int]:
    """Path -> bytes of all files that matter, the single images of folders too."""
    found = dict(source_sizes(corpus))
    excerpts = [utterance.clip_source for utterance in corpus.utterances()]
    for folder, images in sorted({(each.path, each.images) for each in excerpts if each and each.rate is not None}):
        for name in _images(corpus.root / folder, images):
            found[f"{folder}/{name}"] = (corpus.root / folder / name).stat().st_size
    return dict(sorted(found.items()))


def _images(folder: Path, prefix: str) -> list[str]:
    return list(numbered_images((path.name for path in folder.iterdir()), prefix).values()) if folder.is_dir() else []


def fingerprint(
    corpus: Corpus, found: Mapping[str, int], progress: Progress = lambda size: None, threads: int | None = None
) -> dict[str, Any]:
    """The fingerprint of a scanned corpus, whose files are `found` (see `sizes`); `progress` is told of bytes.

    Files are hashed by several threads (default: two per core, at most 16: hashing lets others run). Raises MesmError
    if a file cannot be read.
    """

    def digest(path: str) -> str:
        try:
            return sha256_file(corpus.root / path)
        except OSError as error:
            raise MesmError(f"{corpus.root / path} cannot be read ({error.strerror})") from None
        finally:
            progress(found[path])

    with ThreadPoolExecutor(threads or min(16, 2 * (os.cpu_count() or 1))) as pool:
        digests = list(pool.map(digest, found))
    table = {
        path: {"sha256": digest, "size": size} for (path, size), digest in zip(found.items(), digests, strict=True)
    }
    return {
        "fingerprint": VERSION,
        "corpus": corpus.name,
        "notes": list(corpus.notes),
        "files": table,
        "sha256": sha256("".join(lines(table)).encode()).hexdigest(),
    }


def lines(table: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The files as `sha256sum` lists them, by path: `sha256sum -c` checks them in the corpus root."""
    for path, file in sorted(table.items()):
        yield f"{file['sha256']}  {path}\n"


def compare(there: Mapping[str, Mapping[str, Any]], here: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """How the files `here` differ from those `there`, by path."""
    said = []
    extra = {path: file["sha256"] for path, file in here.items() if path not in there}
    by_digest: dict[str, list[str]] = {}
    for path, digest in sorted(extra.items(), reverse=True):
        by_digest.setdefault(digest, []).append(path)
    for path, file in sorted(there.items()):
        now = here.get(path)
        if now is None and by_digest.get(file["sha256"]):
            moved = by_digest[file["sha256"]].pop()
            extra.pop(moved)
            said.append(Difference(kind="moved", path=moved, what=f"lies at {path} there"))
        elif now is None:
            said.append(Difference(kind="missing", path=path, what=f"{file['size']} bytes there"))
        elif now["sha256"] != file["sha256"]:
            what = f"sha256 {now['sha256']}, {file['sha256']} there"
            if now["size"] != file["size"]:
                what = f"{now['size']} bytes, {file['size']} there"
            said.append(Difference(kind="altered", path=path, what=what))
    said += [Difference(kind="extra", path=path, what=f"{here[path]['size']} bytes") for path in extra]
    return sorted(said, key=lambda difference: difference.path)


def compare_lock(lock: Lock, corpus: Corpus, here: Mapping[str, Mapping[str, Any]]) -> list[Difference]:
    """The utterances of a lock whose sound or picture was made of a file that is another one here, or is not here.

    A lock says nothing of texts and of files that no sample was made of; nothing can be extra.
    """
    kept = {u.key: (recording, u) for recording in corpus.recordings for u in recording.utterances}
    said: dict[tuple[str, str], list[str]] = {}
    for key, entry in lock.samples.items():
        candidates = media(*kept[key], here) if key in kept else {}
        for what in ("audio", "video"):
            source = (entry.get(what) or {}).get("source")
            if source is None or source in candidates.values():
                continue
            names = [path for path in _of(what, *kept[key]) if path in candidates] if candidates else []
            place = ("altered", names[0]) if names else ("missing", f"({what} of {key})")
            said.setdefault(place, []).append(key)
    return [
        Difference(kind=kind, path=path, what=f"another one than {keys[0]} {_more(keys)}was made of")
        if kind == "altered"
        else Difference(kind=kind, path=path, what="no such utterance or file here")
        for (kind, path), keys in sorted(said.items())
    ]


def _more(keys: list[str]) -> str:
    return f"and {len(keys) - 1} more " if len(keys) > 1 else ""


def media(recording: Recording, utterance: Utterance, here: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Path -> sha256 of what an utterance's sound and picture can be made of; of a folder, that over its images."""
    names = source_files(recording, utterance) - set(utterance.annotation_files)
    found = {name: here[name]["sha256"] for name in sorted(names) if name in here}
    if utterance.clip_source and utterance.clip_source.rate is not None:
        folder, prefix = utterance.clip_source.path, utterance.clip_source.images
        inside = [path.rpartition("/")[2] for path in here if path.startswith(f"{folder}/{prefix}")]
        text = "".join(
            f"{here[f'{folder}/{name}']['sha256']}  {name}\n" for name in numbered_images(iter(inside), prefix).values()
        )
        found[folder] = sha256(text.encode()).hexdigest()
    return found


def _of(what: str, recording: Recording, utterance: Utterance) -> list[str]:
    """The paths for the sound or the picture of an utterance, in order of preference."""
    if what == "audio":
        return [source.path for source in utterance.audio]
    return [path for path in (recording.video, utterance.clip_source.path if utterance.clip_source else None) if path]


def read_other(path: Path) -> dict[str, dict[str, Any]] | Lock:
    """What to compare with: the files of a fingerprint, or a lock. Raises InputError if it is neither."""
    said = read_json(path)
    if isinstance(said, dict) and "lock" in said:
        return read(path)
    if not isinstance(said, dict) or said.get("fingerprint") != VERSION or not isinstance(said.get("files"), dict):
        raise InputError(f"{path} is neither a fingerprint of version {VERSION} nor a recipe.lock")
    for name, file in said["files"].items():
        if not isinstance(file, dict) or not is_digest(file.get("sha256")) or not isinstance(file.get("size"), int):
            raise InputError(f"{path}: the entry of {name!r} is not understood: the file is damaged")
    return dict(said["files"])
