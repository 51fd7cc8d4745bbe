"""What `verify --full` checks beyond the bytes: the content of every sample, and that standard readers see it.

Everything is decoded again: members and content digests, durations, frame times, words, labels and clips. Each shard is
also read with webdataset, whose samples must equal ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.dataset_dir import read_clip, read_clip_index, schema_from_info
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import MesmError
from mesm_data.integrity.sample_checks import clip_problems, sample_problems
from mesm_data.media.wav import encode_wav
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.files import open_regular_file
from mesm_data.storage.progress import Step, no_step


def check_content(path: Path, step: Step = no_step) -> Iterator[str]:
    """Yield the first problem of each sample, as a sentence; nothing if there is none.

    Args:
        path: The folder of a dataset.
        step: Called twice per sample: when it has been decoded, and when webdataset has read it.

    Raises:
        InputError: `path` is not a dataset.
    """
    dataset = Dataset(path, check=True)
    schema = schema_from_info(path, dataset.info)
    interval = float(dataset.info["recipe"]["frame_interval"])
    clips = {}
    if dataset.info["video"]:
        clips = {row["key"]: row for row in read_clip_index(path, dataset.info)}
    keys = sorted(dataset.keys, key=dataset.shard)
    dataset.prefetch(keys)
    for key in keys:
        problem = next(_problems(dataset, key, clips.get(key), schema, interval), None)
        if problem:
            yield f"sample {key}: {problem}"
        step(1)
    dataset.prefetch(keys)
    yield from webdataset_problems(dataset, step)


def _problems(
    dataset: Dataset, key: str, clip: dict[str, Any] | None, schema: CorpusSchema, interval: float
) -> Iterator[str]:
    """Yield the problems of one sample, the most severe first. `clip` is its row of video/index.parquet."""
    try:
        sample = dataset[key]
        yield from sample_problems(sample, dataset.rows[key], schema, interval)
        if clip:
            yield from clip_problems(sample, read_clip(dataset.path, clip))
    except (MesmError, OSError) as error:
        yield str(error)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield f"its record is not of this format ({type(error).__name__}: {error})"


def webdataset_problems(dataset: Dataset, step: Step) -> Iterator[str]:
    """Read every shard with webdataset, and compare: the same samples in the same order with the same content."""
    import webdataset
    from webdataset.tariterators import group_by_keys, tar_file_expander

    keys_by_shard: dict[str, list[str]] = {name: [] for name in dataset.info["shards"]}
    for key in sorted(dataset.keys, key=lambda key: int(dataset.rows[key]["faces_offset"])):
        keys_by_shard.setdefault(dataset.rows[key]["shard"], []).append(key)
    for name, keys in sorted(keys_by_shard.items()):
        try:
            # Not by its path, which WebDataset takes for a URL: "#" or "?" in the name of a folder would end it.
            with open_regular_file(dataset.path / "shards" / name) as file:
                samples = group_by_keys(tar_file_expander([{"url": name, "stream": file}]))
                for key, other in zip_longest(keys, webdataset.decode()(samples)):
                    yield from _webdataset_differences(dataset, name, key, other)
                    step(1)
        except Exception as error:  # any exception of another library's reader is a finding
            yield f"shards/{name}: webdataset cannot read it ({type(error).__name__}: {str(error).splitlines()[0]})"


def _webdataset_differences(
    dataset: Dataset, shard: str, key: str | None, other: Mapping[str, Any] | None
) -> Iterable[str]:
    """Compare one sample as webdataset returns it with ours."""
    if key is None or other is None or other["__key__"] != key:
        actual = other["__key__"] if other else "nothing"
        return [f"shards/{shard}: webdataset reads {actual} where the manifest has {key or 'nothing'}"]
    ours = dataset[key]
    is_equal = {
        "faces.npy": np.array_equal(other["faces.npy"], ours.faces),
        "json": other["json"] == ours.record,
        "txt": other["txt"] == ours.text,
        "wav": other["wav"] == encode_wav(ours.samples, ours.sample_rate),
    }
    different = [name for name, equal in is_equal.items() if not equal]
    return [f"sample {key}: webdataset reads another {different[0]}"] if different else []
