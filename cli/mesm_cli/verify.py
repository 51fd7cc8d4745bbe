"""mesm-data verify."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import MesmError


def verify(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    full: Annotated[
        bool, typer.Option("--full", help="Decode everything too, and read every shard with webdataset.")
    ] = False,
    against: Annotated[Path | None, typer.Option(help="Compare every sample with a recipe.lock.")] = None,
) -> None:
    """Hash every member of every shard again and compare with the manifest. Exit code 1 if anything differs.

    --full also decodes each sample and clip: content digests, durations, times of crops and words, labels. The first
    difference of a sample is printed.

    \b
    Examples:
      mesm-data verify /data/iemocap
      mesm-data verify /data/iemocap --full
      mesm-data verify /data/iemocap --against recipe.lock
    """
    from mesm_data.dataset.dataset_dir import read_dataset_info
    from mesm_data.features.verification import total_bytes, verify_features
    from mesm_data.integrity import lock_reader as locked
    from mesm_data.integrity import rebuild_check as rebuild
    from mesm_data.integrity.verify import verify as check
    from mesm_data.media.faces.detector import EXACT_DETECTORS

    said = read_dataset_info(path)
    lock = locked.read(against) if against else None
    total = sum(file["size"] for files in (said["shards"], said["video"]) for file in files.values())
    differences = show(lambda step: check(path, step), "verify", total, "B")
    if size := total_bytes(path):
        differences += show(lambda step: verify_features(path, step), "features", size, "B")
    if full and not differences:  # what is not as recorded need not make sense
        from mesm_data.integrity.content_check import check as decode

        differences = show(lambda step: decode(path, step), "decode", 2 * said["counts"]["ok"], "sample")
    if differences:
        raise MesmError(f"{path} differs from its manifest in {differences} places, the first is named above")
    counts = said["counts"]
    console.say(f"{path}: all {counts['ok']} samples are as recorded, root {said['root']}")
    if (detector := said["recipe"].get("face_detector", "mtcnn")) not in EXACT_DETECTORS:
        console.say(
            f"note: the faces were found by {detector!r:.40} ({said['recipe'].get('face_library')!r:.40}), "
            "whose arithmetic is not exact: a build on another machine can be equivalent only, not identical. With "
            "recipe.lock (build --lock) faces are cut where they were found, and the build can be identical"
        )
    if lock:
        found = rebuild.check_shards(path, lock)
        for key, verdict, what in found:
            if verdict != locked.SAME:
                console.show(f"{verdict}: {key}: {what}")
        console.say(f"against {against}: {rebuild.summary(found, lock, said)}")
        if different := sum(verdict == locked.DIFFERENT for _, verdict, _ in found):
            raise MesmError(f"{different} of {len(found)} samples are different from the lock")


def show(differences: Callable[[Callable[[int], object]], Iterator[str]], what: str, total: int, unit: str) -> int:
    """Print differences as they are found, below a bar that is gone at the end; returns how many there are."""
    from tqdm import tqdm

    number = 0
    with tqdm(total=total, unit=unit, unit_scale=True, desc=what, dynamic_ncols=True, leave=False) as bar:
        for difference in differences(bar.update):
            bar.clear()
            console.show(difference)
            number += 1
    return number
