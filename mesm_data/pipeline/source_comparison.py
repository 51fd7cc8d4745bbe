"""Decides which utterances a retry keeps: those of which nothing was lost, and whose source is unchanged."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mesm_data.corpora.inventory import source_files
from mesm_data.dataset.parts import DamagedPart, read_part_record
from mesm_data.pipeline.records import SourceDigests
from mesm_data.schema.recordings import Recording, Utterance


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
        self._changed, self._edited, self._digests = changed, edited, SourceDigests(root)

    def is_same(self, recording: Recording, utterance: Utterance) -> bool:
        """Whether the scan says the same of an utterance, and no file that it can be made from is new or resized."""
        return utterance.key not in self._edited and not source_files(recording, utterance) & self._changed.keys()

    def has_same_digests(self, record: Mapping[str, Any]) -> bool:
        """Whether the files of a sample's record have the digests in the record."""
        return all(self._digests.of(source["path"]) == source["sha256"] for source in record["sources"])


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
