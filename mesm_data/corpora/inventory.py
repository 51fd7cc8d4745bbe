"""What a build is made from: the source files, with sizes and times, and what the scan says of each utterance."""

from hashlib import sha256
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.recordings import SYNTHETIC_MARKER, Corpus, Recording, Utterance
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.machine_errors import raise_resource_error

SourceSizes = dict[str, int]  # path relative to the corpus root -> bytes
SourceTimes = dict[str, int]  # path relative to the corpus root -> modification time in ns
UtteranceDigests = dict[str, str]  # key -> sha256 of all that the scan says of the utterance
Stamp = tuple[int, int]  # size in bytes, modification time in ns
Stamps = dict[str, Stamp]  # path relative to the corpus root -> stamp


def source_files(recording: Recording, utterance: Utterance) -> set[str]:
    """Return the files from which an utterance can be built, without the single images of a folder."""
    names = {*utterance.annotation_files, *(source.path for source in utterance.audio)}
    names.update([recording.video] if recording.video else [])
    clip = utterance.clip_source
    names.update([clip.path] if clip and clip.rate is None else [])
    return names


def source_sizes(corpus: Corpus) -> SourceSizes:
    """Return the size of every source file."""
    names: set[str] = set()
    for recording in corpus.recordings:
        for utterance in recording.utterances:
            names |= source_files(recording, utterance)
    return {name: (corpus.root / name).stat().st_size for name in sorted(names)}


def source_times(corpus: Corpus) -> SourceTimes:
    """Return the modification time of every source file and image folder."""
    names = {name for recording in corpus.recordings for name in recording_files(recording)}
    return {name: stamp[1] for name in sorted(names) if (stamp := file_stamp(corpus.root / name))}


def utterance_digests(corpus: Corpus) -> UtteranceDigests:
    """Digest each scanned utterance: labels, text, times, flags, and which files it is built from.

    A table of labels can be edited without another size, and is no source file of an utterance in every corpus.
    """
    return {utterance.key: sha256(ascii(utterance).encode()).hexdigest() for utterance in corpus.utterances()}


def recording_files(recording: Recording) -> set[str]:
    """Return the files and image folders of a recording."""
    names = {name for utterance in recording.utterances for name in source_files(recording, utterance)}
    return names | {utterance.clip_source.path for utterance in recording.utterances if utterance.clip_source}


def file_stamps(root: Path, recording: Recording) -> Stamps:
    """Return the stamps of a recording's existing files and image folders, to detect that one was replaced."""
    return {name: stamp for name in sorted(recording_files(recording)) if (stamp := file_stamp(root / name))}


def file_stamp(path: Path) -> Stamp | None:
    """Return the size and modification time of a file or folder; None if it does not exist."""
    try:
        status = path.stat()
    except OSError as error:
        raise_resource_error(error)
        return None
    return status.st_size, status.st_mtime_ns


def describe_source(corpus: Corpus, sizes: SourceSizes, digests: UtteranceDigests) -> dict[str, Any]:
    """Return the `source` record of dataset.json: the number of files, their bytes, digests of both and of the scan."""
    return {
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "listing_sha256": sha256(canonical_json([list(item) for item in sizes.items()])).hexdigest(),
        "synthetic": (corpus.root / SYNTHETIC_MARKER).exists(),
        "scan_sha256": sha256(canonical_json(digests)).hexdigest(),
    }


def changed_files(before: SourceSizes, now: SourceSizes) -> dict[str, str]:
    """Return the files that are new or have another size, each with a description of the change.

    Raises InputError if a file is missing.
    """
    missing = sorted(before.keys() - now.keys())
    if missing:
        raise InputError(
            f"{len(missing)} files of the build are missing, such as {missing[0]} (an unmounted disk?): "
            "nothing was changed. Restore them, or build again with --overwrite"
        )
    changes = {}
    for name, size in now.items():
        if name not in before:
            changes[name] = f"new, {size} bytes"
        elif before[name] != size:
            changes[name] = f"{before[name]} bytes then, {size} now"
    return changes
