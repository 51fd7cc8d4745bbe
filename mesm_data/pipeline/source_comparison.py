"""Decides which utterances are kept: those of which nothing was lost, and whose source is unchanged."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import recording_files, source_files
from mesm_data.dataset.parts import DamagedPart, completed_parts, delete_part, read_part_record
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.media.image_sequence import ImageSequence
from mesm_data.pipeline.records import SourceDigests
from mesm_data.schema.recordings import Corpus, Recording, Utterance
from mesm_data.storage.progress import Progress


class SourceComparison:
    """Compares the source files with those that utterances were made from.

    A repaired file can have its old size, so the digests of files of the same size are compared with those in the
    records. Each file is read once, which takes a small part of the time of decoding.

    Args:
        root: The folder of the corpus.
        changed: The files that are new or have another size.
        edited: The keys of the utterances of which the scan says something else.
    """

    def __init__(self, root: Path, changed: Mapping[str, str], edited: Collection[str]) -> None:
        self._root, self._changed, self._edited, self._digests = root, changed, edited, SourceDigests(root)

    def is_same(self, recording: Recording, utterance: Utterance) -> bool:
        """Whether the scan says the same of an utterance, and no file that it can be made from is new or resized."""
        return utterance.key not in self._edited and not source_files(recording, utterance) & self._changed.keys()

    def has_same_digests(self, record: Mapping[str, Any]) -> bool:
        """Whether the files of a sample's record have the digests in the record."""
        return all(self._digest(source["path"]) == source["sha256"] for source in record["sources"])

    def _digest(self, path: str) -> str | None:
        """The digest that a record has of a source: a file, or a folder of images by a pattern."""
        folder, _, name = path.rpartition("/")
        if not name.endswith("*.jpg"):
            return self._digests.of(path)
        try:
            images = ImageSequence(self._root / folder, name.removesuffix("*.jpg"), rate=1.0).names
        except MesmError:
            return None
        return SourceDigests(self._root).of_all([f"{folder}/{image}" for image in images])


def is_lost(row: Mapping[str, Any]) -> bool:
    """Whether an utterance failed, or a part of it is missing."""
    return row["status"] == "failed" or (row["status"] == "ok" and row["reason"] is not None)


def is_part_kept(
    recording: Recording, parts: Path, name: str, rows: list[dict[str, Any]], comparison: SourceComparison
) -> bool:
    """Whether all utterances of a part are kept."""
    utterances = {utterance.key: utterance for utterance in recording.utterances}
    if not all(row["key"] in utterances and not is_lost(row) for row in rows):
        return False
    if not all(comparison.is_same(recording, utterances[row["key"]]) for row in rows):
        return False
    try:
        return all(comparison.has_same_digests(read_part_record(parts, name, row)) for row in rows)
    except DamagedPart:
        return False


def delete_replaced_parts(corpus: Corpus, out: Path, touched: Collection[str]) -> None:
    """Delete the parts of an interrupted build whose files were replaced by others of the same size.

    Args:
        corpus: The corpus.
        out: The folder of the build.
        touched: The files with another modification time. A copy of the corpus has others too: the digests decide.
    """
    comparison, parts = SourceComparison(corpus.root, {}, ()), out / ".build" / "parts"
    for recording in _touched_recordings(corpus, touched):
        for name, rows in completed_parts(recording, parts):
            if not is_part_kept(recording, parts, name, rows, comparison):
                delete_part(parts, name)


def check_same_content(corpus: Corpus, out: Path, touched: Collection[str], progress: Progress) -> None:
    """Raises InputError if a finished dataset was made from other files of the same size. Arguments as above."""
    comparison, dataset = SourceComparison(corpus.root, {}, ()), Dataset(out)
    built = set(dataset.keys)
    recordings = _touched_recordings(corpus, touched)
    total = sum(len(recording.utterances) for recording in recordings)
    step = progress("compare", total, total)
    for recording in recordings:
        for key in (utterance.key for utterance in recording.utterances if utterance.key in built):
            if not comparison.has_same_digests(dataset[key].record):
                raise InputError(
                    f"{out} was built from other files: one of {key} in {corpus.root} has another content now. "
                    f"`mesm-data retry {out}` rebuilds what that changes"
                )
        dataset.prefetch(())  # unmaps the shards: the samples of a recording are spread over all of them
        step(len(recording.utterances))


def _touched_recordings(corpus: Corpus, touched: Collection[str]) -> list[Recording]:
    """The recordings with a touched file."""
    return [recording for recording in corpus.recordings if not recording_files(recording).isdisjoint(touched)]
