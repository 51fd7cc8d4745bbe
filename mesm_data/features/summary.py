"""What feature sets a dataset has. For `mesm-data inspect`."""

from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows
from mesm_data.errors import InputError
from mesm_data.features.feature_set import check_dataset, open_set, set_names


def summarise_features(path: Path) -> dict[str, dict[str, Any]]:
    """The summary of each feature set of the dataset at `path`, by name; {"problem": why} of one that cannot be used.

    Raises InputError if `path` is not a dataset.
    """
    info = read_dataset_info(path)
    result: dict[str, dict[str, Any]] = {}
    for name in set_names(path):
        try:
            features = open_set(path, name)
            built = [row["key"] for row in read_manifest_rows(path, info) if row["status"] == "ok"]
            check_dataset(features, info["root"], built)
            result[name] = features.summary()
        except InputError as error:
            result[name] = {"problem": str(error)}
    return result
