"""What identifies a source without reading it: the paths and sizes of the files that matter."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.recordings import SYNTHETIC, Corpus, Recording, Utterance
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.machine_errors import raise_resource_error

Listing = dict[str, int]  # path relative to the corpus root -> bytes
Stamps = dict[str, tuple[int, int]]  # path relative to the corpus root -> bytes, time of the last change in ns


def files(recording: Recording, utterance: Utterance) -> set[str]:
    """The files that an utterance can be made of. The single images of a folder are not among them."""
    names = {*utterance.texts, *(source.path for source in utterance.audio)}
    names.update([recording.video] if recording.video else [])
    names.update([utterance.excerpt.path] if utterance.excerpt and utterance.excerpt.rate is None else [])
    return names


def listing(corpus: Corpus) -> Listing:
    """The size of every file that matters."""
    names: set[str] = set()
    for recording in corpus.recordings:
        for utterance in recording.utterances:
            names |= files(recording, utterance)
    return {name: (corpus.root / name).stat().st_size for name in sorted(names)}


def stamps(root: Path, recording: Recording) -> Stamps:
    """What tells whether a recording's files were exchanged; without those that are not there."""
    names = {name for utterance in recording.utterances for name in files(recording, utterance)}
    names |= {utterance.excerpt.path for utterance in recording.utterances if utterance.excerpt}
    return {name: found for name in sorted(names) if (found := stamp(root / name))}


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change of a file or folder; None if it is not there."""
    try:
        found = path.stat()
    except OSError as error:
        raise_resource_error(error)
        return None
    return found.st_size, found.st_mtime_ns


def fingerprint(corpus: Corpus, found: Listing) -> dict[str, Any]:
    """What dataset.json says of the source: how many files and bytes, and a digest of the paths and sizes."""
    return {
        "files": len(found),
        "bytes": sum(found.values()),
        "listing_sha256": sha256(canonical_json([list(item) for item in found.items()])).hexdigest(),
        "synthetic": (corpus.root / SYNTHETIC).exists(),
        **({"table_sha256": corpus.table_sha256} if corpus.table_sha256 else {}),
    }


def changes(before: Listing, now: Listing) -> dict[str, str]:
    """The files that are new or have another size, each with what changed in words. InputError if one is gone."""
    gone = sorted(before.keys() - now.keys())
    if gone:
        raise InputError(
            f"{len(gone)} files that were there at the build are gone, {gone[0]} among them (an unmounted disk?): "
            "nothing was changed. Bring them back, or build anew with --overwrite"
        )
    said = {name: f"{before[name]} bytes then, {size} now" for name, size in now.items() if name in before}
    said |= {name: f"new, {size} bytes" for name, size in now.items() if name not in before}
    return {name: words for name, words in said.items() if before.get(name) != now[name]}
