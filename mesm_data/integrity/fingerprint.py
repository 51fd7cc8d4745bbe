"""Identifies a copy of a corpus: sha256 and size of every relevant source file, and comparison with another copy.

Paths are relative to the root of the corpus. A file under another path is `moved`, which does not count as a
difference. A recipe.lock names no files: each utterance's files are searched there by their digest.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.corpora import inventory
from mesm_data.dataset.info import FileEntry
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.lock_reader import Lock, read_lock
from mesm_data.media.image_sequence import numbered_images
from mesm_data.schema.recordings import Corpus, Recording, Utterance
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json
from mesm_data.storage.json_models import JsonModel, validate_json
from mesm_data.storage.parallel import available_cpus
from mesm_data.storage.progress import Step, no_step

FINGERPRINT_VERSION = 1
FileTable = Mapping[str, Mapping[str, Any]]  # path -> {"sha256": ..., "size": ...}


class FingerprintFile(JsonModel):
    """A fingerprint: the files by path."""

    files: dict[str, FileEntry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One file that differs.

    Attributes:
        kind: missing, altered, extra or moved.
        path: Where the file lies here, or where it lay there if it is missing.
        what: A description.
    """

    kind: str
    path: str
    what: str


def all_source_sizes(corpus: Corpus) -> dict[str, int]:
    """Path -> bytes of all relevant files, including the single images of folders."""
    sizes = dict(inventory.source_sizes(corpus))
    excerpts = [utterance.clip_source for utterance in corpus.utterances()]
    for folder, images in sorted({(each.path, each.images) for each in excerpts if each and each.rate is not None}):
        for name in _images(corpus.root / folder, images):
            sizes[f"{folder}/{name}"] = (corpus.root / folder / name).stat().st_size
    return dict(sorted(sizes.items()))


def _images(folder: Path, prefix: str) -> list[str]:
    return list(numbered_images((path.name for path in folder.iterdir()), prefix).values()) if folder.is_dir() else []


def fingerprint(
    corpus: Corpus,
    sizes: Mapping[str, int],
    step: Step = no_step,
    threads: int | None = None,
) -> dict[str, Any]:
    """Hash the files of a scanned corpus.

    Args:
        corpus: The scanned corpus.
        sizes: The result of `all_source_sizes`.
        step: Called with the number of bytes of each file.
        threads: Threads that hash; by default two per core, at most 16. Hashing releases the interpreter lock.

    Returns:
        The content of a fingerprint file.

    Raises:
        MesmError: A file cannot be read.
    """

    def digest(path: str) -> str:
        try:
            return sha256_file(corpus.root / path)
        except OSError as error:
            raise MesmError(f"{corpus.root / path} cannot be read ({error.strerror})") from None
        finally:
            step(sizes[path])

    with ThreadPoolExecutor(threads or min(16, 2 * available_cpus())) as pool:
        digests = list(pool.map(digest, sizes))
    table = {
        path: {"sha256": digest, "size": size} for (path, size), digest in zip(sizes.items(), digests, strict=True)
    }
    return {
        "fingerprint": FINGERPRINT_VERSION,
        "corpus": corpus.name,
        "notes": list(corpus.notes),
        "files": table,
        "sha256": sha256("".join(sha256sum_lines(table)).encode()).hexdigest(),
    }


def sha256sum_lines(table: FileTable) -> Iterator[str]:
    """The files by path as `sha256sum` lists them: `sha256sum -c` checks them in the root of the corpus."""
    for path, file in sorted(table.items()):
        yield f"{file['sha256']}  {path}\n"


def compare_files(there: FileTable, here: FileTable) -> list[Difference]:
    """The differences of the files `here` from those `there`, by path."""
    differences = []
    extra = {path: file["sha256"] for path, file in here.items() if path not in there}
    extra_by_digest: dict[str, list[str]] = {}
    for path, digest in sorted(extra.items(), reverse=True):
        extra_by_digest.setdefault(digest, []).append(path)
    for path, file in sorted(there.items()):
        local = here.get(path)
        if local is None and extra_by_digest.get(file["sha256"]):
            new_path = extra_by_digest[file["sha256"]].pop()
            extra.pop(new_path)
            differences.append(Difference(kind="moved", path=new_path, what=f"lies at {path} there"))
        elif local is None:
            differences.append(Difference(kind="missing", path=path, what=f"{file['size']} bytes there"))
        elif local["sha256"] != file["sha256"]:
            what = f"sha256 {local['sha256']}, {file['sha256']} there"
            if local["size"] != file["size"]:
                what = f"{local['size']} bytes, {file['size']} there"
            differences.append(Difference(kind="altered", path=path, what=what))
    differences += [Difference(kind="extra", path=path, what=f"{here[path]['size']} bytes") for path in extra]
    return sorted(differences, key=lambda difference: difference.path)


def compare_lock(lock: Lock, corpus: Corpus, here: FileTable) -> list[Difference]:
    """The files here that differ from those that the audio and video of a lock's utterances were made of.

    A lock does not describe text files, nor files that no sample was made of; so no file is extra.
    """
    by_key = {u.key: (recording, u) for recording in corpus.recordings for u in recording.utterances}
    altered: dict[str, list[str]] = {}  # path -> keys
    missing = []
    for key, entry in lock.samples.items():
        candidates = media_digests(*by_key[key], here) if key in by_key else {}
        for part in ("audio", "video"):
            source = (entry.get(part) or {}).get("source")
            if source is None or source in candidates.values():
                continue
            paths = [path for path in _media_paths(part, *by_key[key]) if path in candidates] if candidates else []
            if paths:
                altered.setdefault(paths[0], []).append(key)
            else:
                missing.append(f"({part} of {key})")
    differences = [
        Difference(kind="altered", path=path, what=f"another one than {keys[0]} {_more(keys)}was made of")
        for path, keys in sorted(altered.items())
    ]
    what = "no such utterance or file here"
    return differences + [Difference(kind="missing", path=path, what=what) for path in sorted(missing)]


def _more(keys: list[str]) -> str:
    return f"and {len(keys) - 1} more " if len(keys) > 1 else ""


def media_digests(recording: Recording, utterance: Utterance, here: FileTable) -> dict[str, str]:
    """Path -> sha256 of all files that an utterance's audio and video can be made of.

    The digest of a folder of images is over the `sha256sum` lines of its images.
    """
    names = inventory.source_files(recording, utterance) - set(utterance.annotation_files)
    digests = {name: here[name]["sha256"] for name in sorted(names) if name in here}
    if utterance.clip_source and utterance.clip_source.rate is not None:
        folder, prefix = utterance.clip_source.path, utterance.clip_source.images
        image_names = [path.rpartition("/")[2] for path in here if path.startswith(f"{folder}/{prefix}")]
        lines = [
            f"{here[f'{folder}/{name}']['sha256']}  {name}\n"
            for name in numbered_images(iter(image_names), prefix).values()
        ]
        digests[folder] = sha256("".join(lines).encode()).hexdigest()
    return digests


def _media_paths(part: str, recording: Recording, utterance: Utterance) -> list[str]:
    """The paths for the audio or the video of an utterance, in order of preference."""
    if part == "audio":
        return [source.path for source in utterance.audio]
    return [path for path in (recording.video, utterance.clip_source.path if utterance.clip_source else None) if path]


def read_reference(path: Path) -> dict[str, dict[str, Any]] | Lock:
    """Read what to compare with: the files of a fingerprint, or a lock. Raises InputError if it is neither."""
    content = read_json(path)
    if isinstance(content, dict) and "lock" in content:
        return read_lock(path)
    if not isinstance(content, dict) or content.get("fingerprint") != FINGERPRINT_VERSION:
        raise InputError(f"{path} is neither a fingerprint of version {FINGERPRINT_VERSION} nor a recipe.lock")
    validate_json(content, FingerprintFile, str(path))
    return dict(content["files"])
