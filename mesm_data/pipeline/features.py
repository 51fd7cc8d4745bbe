"""Compute a feature set with the processes of this machine."""

from functools import partial

from mesm_data.dataset.reader import Dataset
from mesm_data.features import writer
from mesm_data.features.base import Extractor
from mesm_data.features.feature_set import FeatureSet
from mesm_data.pipeline.executors.local import run_local, run_pool
from mesm_data.storage.parallel import available_cpus
from mesm_data.storage.progress import Step, no_step


def compute_features(
    dataset: Dataset,
    extractor: Extractor,
    name: str,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    step: Step = no_step,
) -> FeatureSet:
    """Compute the feature set `name` of a dataset, or continue where a stopped call ended. See `writer.write_features`.

    Args:
        dataset: A dataset in a local folder.
        extractor: What computes the features.
        name: The set's name.
        workers: The number of processes; by default one per core.
        overwrite: Replaces a set of that name with other settings.
        step: Is called with the number of utterances of each part that is done.

    Raises:
        InputError: The name is taken by a set with other settings, or the extractor lacks a library or a file.
        MesmError: A worker died, or there is no room.
    """
    number = (workers or available_cpus()) if extractor.parallel else 1
    run = run_pool if extractor.isolated else run_local
    return writer.write_features(
        dataset, extractor, name, run=partial(run, workers=number), overwrite=overwrite, step=step
    )  # fmt: skip
