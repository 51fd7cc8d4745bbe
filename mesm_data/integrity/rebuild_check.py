"""Is what was built here what a lock says? One verdict a sample, kept beside the dataset as rebuild.csv.

    key,verdict,what
    Ses01F_impro01_F003,different,sound

`what` names what differs: parts of the content (sound, picture, boxes, text, words, labels, record, clip), of an
`equivalent` sample only its form (json, the source of the sound or the picture), or that it is not on both sides.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.integrity import lock_writer as locks
from mesm_data.integrity.lock_reader import DIFFERENT, EQUIVALENT, SAME, Lock, compare
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import read_json

NAME = "rebuild.csv"


def check(out: Path, lock: Lock) -> list[tuple[str, str, str]]:
    """The verdicts on the dataset that was just built in `out`, from its own recipe.lock; writes OUT/rebuild.csv."""
    said = read_json(out / locks.NAME)
    found = compare(lock, said["samples"], said["failed"])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((("key", "verdict", "what"), *found))
    with atomic_write(out / NAME) as file:
        file.write(text.getvalue().encode())
    return found


def check_shards(path: Path, lock: Lock) -> list[tuple[str, str, str]]:
    """The verdicts on a dataset from its shards themselves, each sample's bytes hashed again."""
    from mesm_data.dataset.reader import Dataset

    dataset = Dataset(path, check=True)
    if dataset.info["corpus"] != lock.recipe.corpus:
        raise InputError(f"{lock.path} is of {lock.recipe.corpus}, {path} of {dataset.info['corpus']}")
    return compare(lock, locks.entries(dataset), locks.head(dataset)["failed"])


def summary(found: Iterable[tuple[str, str, str]], lock: Lock, said: Mapping[str, Any]) -> str:
    """The counts, and whether the roots are the same, as one sentence."""
    counts = Counter(verdict for _, verdict, _ in found)
    same = said["root"] == lock.said["root"]
    root = f"the same root {said['root']}" if same else f"root {said['root']}, the lock says {lock.said['root']}"
    return f"{', '.join(f'{counts[name]} {name}' for name in (SAME, EQUIVALENT, DIFFERENT))}; {root}"
