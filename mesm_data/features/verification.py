"""Are the feature sets of a dataset what their descriptions say? For `mesm-data verify`."""

from collections.abc import Iterator
from pathlib import Path

from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows
from mesm_data.errors import MesmError
from mesm_data.features import feature_set
from mesm_data.integrity.verify import Member, ShardMembers, verify_shard
from mesm_data.storage.json_files import read_json
from mesm_data.storage.progress import Step, no_step


def verify_features(path: Path, step: Step = no_step) -> Iterator[str]:
    """Yield one sentence per difference between the feature sets of the dataset at `path` and their descriptions.

    `step` is called with the bytes read.
    """
    info = read_dataset_info(path)
    for name in feature_set.set_names(path):
        try:
            features = feature_set.open_set(path, name)
            built = [row["key"] for row in read_manifest_rows(path, info) if row["status"] == "ok"]
            feature_set.check_dataset(features, info["root"], built)
            if more := len(features.rows) - len(built):
                yield f"features/{name}: {more} utterances more than the dataset has"
            tar = "values.tar"
            samples = [
                ShardMembers(row["key"], tar, [Member(f"{row['key']}.npy", row["offset"], row["size"], row["sha256"])])
                for row in features.table.to_pylist()
            ]
            digest = features.info["tar"]["sha256"]
            with (features.path / tar).open("rb") as file:
                yield from verify_shard(f"features/{name}/{tar}", file, samples, digest, step)
        except OSError as error:
            yield f"features/{name}: cannot be read ({error.strerror})"
        except MesmError as error:
            yield str(error)


def total_bytes(path: Path) -> int:
    """The bytes that `verify_features` reads of the dataset at `path`."""
    infos = [read_json(path / feature_set.FOLDER / name / "features.json") for name in feature_set.set_names(path)]
    return sum(int(info["tar"]["size"]) for info in infos)
