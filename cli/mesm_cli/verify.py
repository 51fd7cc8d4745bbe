"""mesm-data verify."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mesm_cli import console
from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import MesmError
from mesm_data.storage.progress import Step


def verify(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a dataset.")],
    full: Annotated[
        bool, typer.Option("--full", help="Also decode everything, and read every shard with webdataset.")
    ] = False,
    against: Annotated[Path | None, typer.Option(help="Compare every sample with this recipe.lock.")] = None,
) -> None:
    """Hash every member of every shard and compare with the manifest. Exit code 1 if anything differs.

    --full also decodes each sample and clip: content digests, durations, times of crops and words, labels. The first
    difference of each sample is printed.

    \b
    Examples:
      mesm-data verify /data/iemocap
      mesm-data verify /data/iemocap --full
      mesm-data verify /data/iemocap --against recipe.lock
    """
    from mesm_data.dataset.dataset_dir import read_dataset_info
    from mesm_data.features.verification import total_bytes, verify_features
    from mesm_data.integrity import lock_comparison
    from mesm_data.integrity.lock_reader import read_lock
    from mesm_data.integrity.verify import verify as byte_differences

    info = read_dataset_info(path)
    lock = read_lock(against) if against else None
    total = sum(file["size"] for files in (info["shards"], info["video"]) for file in files.values())
    differences = print_differences(lambda step: byte_differences(path, step), "verify", total, "B")
    if size := total_bytes(path):
        differences += print_differences(lambda step: verify_features(path, step), "features", size, "B")
    if full and not differences:  # content is only meaningful if the bytes are as recorded
        from mesm_data.integrity.content_check import check_content

        samples = 2 * info["counts"]["ok"]
        differences = print_differences(lambda step: check_content(path, step), "decode", samples, "sample")
    if differences:
        raise MesmError(f"{path} differs from its manifest in {differences} places, the first is named above")
    console.say(f"{path}: all {info['counts']['ok']} samples are as recorded, root {info['root']}")
    say_detector(info["recipe"])
    if lock:
        count = info["counts"]["ok"]
        with ProgressBar("sample", leave=False) as bar:
            comparisons = lock_comparison.compare_dataset(path, lock, bar("against", count, count))
        for key, verdict, what in comparisons:
            if verdict != lock_comparison.IDENTICAL:
                console.show(f"{verdict}: {key}: {what}")
        console.say(f"against {against}: {lock_comparison.summarize(comparisons, lock, info['root'])}")
        if different := sum(each.verdict == lock_comparison.DIFFERENT for each in comparisons):
            raise MesmError(f"{different} of {len(comparisons)} samples are different from the lock")


def say_detector(recipe: dict[str, Any]) -> None:
    """Note a face detector whose results depend on the machine."""
    from mesm_data.media.faces.detector import EXACT_DETECTORS

    if (detector := recipe.get("face_detector", "mtcnn")) not in EXACT_DETECTORS:
        console.say(
            f"note: the faces were detected by {detector!r:.40} ({recipe.get('face_library')!r:.40}), whose "
            "floating-point results depend on the machine: a build on another machine may be only equivalent, not "
            "identical. A build by recipe.lock (build --lock) uses the boxes of the lock, and can be identical"
        )


def print_differences(differences: Callable[[Step], Iterator[str]], title: str, total: int, unit: str) -> int:
    """Print differences as they are found, above a progress bar that is removed at the end; return their number."""
    count = 0
    with ProgressBar(unit, leave=False) as bar:
        for difference in differences(bar(title, total, total)):
            bar.show(difference)
            count += 1
    return count
