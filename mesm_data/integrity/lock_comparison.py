"""Compares a dataset with a lock, sample by sample: identical, equivalent or different.

After a build by a lock, the result is kept beside the dataset as rebuild.csv:

    key,verdict,what
    Ses01F_impro01_F003,different,sound

`what` names what differs. For `different`, parts of the content (sound, picture, boxes, text, words, labels, record,
clip), or that the sample is missing on one side; for `equivalent`, only its form (json, the source of the sound or the
picture).
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.integrity.lock_reader import Lock
from mesm_data.integrity.lock_writer import KEYED_FIELDS, LOCK_NAME, lock_entries, lock_header
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import read_json
from mesm_data.storage.progress import Step, no_step

REBUILD_NAME = "rebuild.csv"

IDENTICAL, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"
AAC_SLACK = 2  # packets by which encoders differ at the ends of the audio
_SOURCES = {"sound": "audio", "picture": "video"}


class SampleComparison(NamedTuple):
    """The result for one sample: IDENTICAL, EQUIVALENT or DIFFERENT, and what differs. A row of rebuild.csv."""

    key: str
    verdict: str
    what: str


def compare_build(out: Path, lock: Lock) -> list[SampleComparison]:
    """Compare the dataset that was just built in `out`, by its own recipe.lock, and write OUT/rebuild.csv."""
    built = read_json(out / LOCK_NAME)
    comparisons = compare_samples(lock, built["samples"], built["failed"])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((SampleComparison._fields, *comparisons))
    with atomic_write(out / REBUILD_NAME) as file:
        file.write(text.getvalue().encode())
    return comparisons


def compare_dataset(path: Path, lock: Lock, step: Step = no_step) -> list[SampleComparison]:
    """Compare a dataset by its shards, whose bytes are hashed again. Calls `step(1)` for each of its samples.

    Raises InputError if it is of another corpus.
    """
    dataset = Dataset(path, check=True)
    if dataset.info["corpus"] != lock.recipe.corpus:
        raise InputError(f"{lock.path} is of {lock.recipe.corpus}, {path} of {dataset.info['corpus']}")
    return compare_samples(lock, lock_entries(dataset, step), lock_header(dataset)["failed"])


def summarize(comparisons: Iterable[SampleComparison], lock: Lock, root: str) -> str:
    """The number of samples per verdict, and whether `root` is the lock's, as one sentence."""
    counts = Counter(comparison.verdict for comparison in comparisons)
    expected = lock.header["root"]
    roots = f"the same root {root}" if root == expected else f"root {root}, the lock says {expected}"
    return f"{', '.join(f'{counts[name]} {name}' for name in (IDENTICAL, EQUIVALENT, DIFFERENT))}; {roots}"


def compare_samples(
    lock: Lock, samples: Iterable[Mapping[str, Any]], failed: Iterable[str] = ()
) -> list[SampleComparison]:
    """Compare all samples of a lock and of a dataset, in the order of their keys.

    Args:
        lock: The lock.
        samples: The entries of the dataset, as from `lock_writer.lock_entries`.
        failed: The keys of the dataset's failed utterances.
    """
    failed = set(failed)
    comparisons = {}
    for entry in samples:
        key = entry["id"]
        if key in lock.samples:
            comparisons[key] = compare_sample(lock.samples[key], entry)
        else:
            what = "failed there" if key in lock.header["failed"] else "not in the lock"
            comparisons[key] = SampleComparison(key, DIFFERENT, what)
    for key in lock.samples.keys() - comparisons.keys():
        what = "failed here" if key in failed else "not here"
        comparisons[key] = SampleComparison(key, DIFFERENT, what)
    return [comparisons[key] for key in sorted(comparisons)]


def compare_sample(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> SampleComparison:
    """Compare two entries of one key: identical (equal bytes), equivalent (equal content in other bytes) or different.

    Keyed values can be compared only if both samples have the same key, that is, the same audio (or face pixels).
    """
    key = expected["id"]
    content = [name for name, digest in (("sound", "pcm"), ("picture", "pixels")) if _differ(expected, actual, digest)]
    content += ["boxes"] if expected["faces"] != actual["faces"] else []
    content += ["clip"] if clips_differ(expected.get("clip"), actual.get("clip")) else []
    form = [name for name, digest in (("wav", "wav"), ("faces.npy", "faces")) if _differ(expected, actual, digest)]
    sources = [
        f"source of the {name}" for name, part in _SOURCES.items() if _source(expected, part) != _source(actual, part)
    ]
    form += sources
    not_compared = []
    key_origin = {"sound": "sound", "picture": "picture"}.get(str(expected.get("key")))
    if expected["keyed"] and actual["keyed"] and key_origin not in content:
        differs = [name for name in KEYED_FIELDS if expected["keyed"][name] != actual["keyed"][name]]
        content += [name for name in differs if name != "json"]
        form += ["json"] if "json" in differs else []
    elif expected["keyed"] or actual["keyed"]:
        not_compared = [f"text and record cannot be compared without the same {key_origin or 'sound'}"]
    else:
        not_compared = ["text and record are not in the lock (no key could be derived)"]
    if content:
        return SampleComparison(key, DIFFERENT, "; ".join(content + sources + not_compared))
    return SampleComparison(key, EQUIVALENT if form else IDENTICAL, "; ".join(form + not_compared))


def clips_differ(expected: Mapping[str, Any] | None, actual: Mapping[str, Any] | None) -> bool:
    """Whether two clips differ in frames, times or audio. False if one of the datasets has no clips."""
    if expected is None or actual is None:
        return False
    names = ("width", "height", "frames", "times_sha256")
    is_other_video = any(expected.get(name) != actual.get(name) for name in names)
    return is_other_video or abs(int(expected["sound"]) - int(actual["sound"])) > AAC_SLACK


def _differ(expected: Mapping[str, Any], actual: Mapping[str, Any], digest: str) -> bool:
    return bool(expected["sha256"][digest] != actual["sha256"][digest])


def _source(entry: Mapping[str, Any], part: str) -> Any:
    return (entry.get(part) or {}).get("source")
