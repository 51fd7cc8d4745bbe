"""The lock of `mesm-data build --lock`: read before the scan, compared with the dataset after the build."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_cli import console
from mesm_data.errors import InputError, MesmError

if TYPE_CHECKING:
    from mesm_data.dataset.recipe import Recipe
    from mesm_data.integrity.lock_reader import Lock

MAX_SHOWN = 10  # samples


def read_lock_for(path: Path, corpus: str, options: "Recipe", media: Iterable[str]) -> "tuple[Lock, Recipe]":
    """Read a lock and its recipe.

    Args:
        path: The lock.
        corpus: The name of a corpus, or the path of a table or corpus.toml, whose name is not known yet.
        options: The options of the command line.
        media: The names of further options on the command line.

    Raises:
        InputError: The lock is of another corpus, or an option of the command line conflicts with it.
    """
    from mesm_data.corpora.table.corpus_file import is_corpus_file
    from mesm_data.integrity.lock_reader import read_lock
    from mesm_data.media.toolchain import toolchain_versions

    lock = read_lock(path)
    if not is_corpus_file(corpus):
        check_corpus(lock, corpus)
    conflicts = {"--only": options.only, "--limit": options.limit, "--video-offset": options.video_offset != "0"}
    conflicts |= {f"--{name.replace('_', '-')}": True for name in media}
    if named := [name for name, value in conflicts.items() if value]:
        raise InputError(f"{named[0]} cannot be given with --lock: the lock says what is built")
    if differs := lock.toolchain_difference(toolchain_versions()):
        console.say(f"note: this toolchain is not the lock's ({differs}); samples that differ are listed below")
    return lock, replace(lock.recipe, clips=lock.recipe.clips and options.clips)


def check_corpus(lock: "Lock", corpus: str) -> None:
    """Raises InputError if a lock is not of this corpus."""
    if lock.recipe.corpus != corpus:
        raise InputError(f"{lock.path} is of {lock.recipe.corpus}, not of {corpus}")


def compare_with_lock(out: Path, lock: "Lock", info: dict[str, Any]) -> None:
    """Compare the dataset with the lock and write rebuild.csv. Raises MesmError if a sample is different."""
    from mesm_data.integrity.lock_comparison import DIFFERENT, REBUILD_NAME, compare_build, summarize

    comparisons = compare_build(out, lock)
    console.say(f"rebuilt by {lock.path}: {summarize(comparisons, lock, info['root'])}")
    different = [(key, what) for key, verdict, what in comparisons if verdict == DIFFERENT]
    for key, what in different[:MAX_SHOWN]:
        console.say(f"different: {key}: {what}")
    if different:
        raise MesmError(
            f"{len(different)} of {len(comparisons)} samples are different from the lock; {out / REBUILD_NAME} lists "
            "them all"
        )
