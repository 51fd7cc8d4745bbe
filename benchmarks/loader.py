"""Decoded samples a second from the same media: our loader, stock webdataset, litdata, and a plain read of the bytes.

    python benchmarks/loader.py [--samples 1500] [--rounds 5]

Writes a synthetic dataset (noise; durations lognormal, mean 4.4 s; a face per 500 ms) in a temporary folder, about 200
kB a sample, and reads it in turns, all in one process and from the page cache. A sample is decoded when its faces
(uint8), samples (int16) and text lie in a packed batch of 8. The ratios are of CPU time (user and system), which other
work on the machine disturbs least; all numbers are of the best round.

raw         every byte of the shards by readinto, 1 MiB at a time
ours        Loader: index and memory maps, in the order of an epoch's plan; 1 thread ahead of use
ours, checked   the same with the sha256 of every member compared, as in a run's first epoch
webdataset  WebDataset(...).decode() from front to back, soundfile for the wav; it decodes the json too
stock loop  the loop of docs/api.md: the same, shuffled, packed by mesm_train.collate, no workers
loader.source   loader.source=webdataset: the Loader of a run on a stream, sha256 of every member compared
litdata     StreamingDataset of the same arrays, unshuffled, if it is installed
"""

import argparse
import io
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mesm_train
from mesm_data.dataset.dataset_dir import write_dataset
from mesm_data.dataset.members import encode_faces
from mesm_data.dataset.parts import open_part
from mesm_data.dataset.reader import Dataset
from mesm_data.media.wav import encode_wav
from mesm_data.schema.built_in import built_in_schema
from mesm_data.storage.json_files import canonical_json
from mesm_train.config.settings import LoaderConfig
from mesm_train.data.loader import Loader
from mesm_train.data.plan import plan
from mesm_train.data.stream import ShardStream
from mesm_train.training.setup import plan_samples

BATCH = 8
EMOTIONS = ("ang", "exc", "fru", "hap", "neu", "sad")  # in turn: benchmarks/gpu trains on these samples too


def synthetic(count: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Samples of noise with the members and sizes of real ones."""
    random = np.random.default_rng(0)
    for number in range(count):
        seconds = float(np.clip(random.lognormal(1.3, 0.6), 0.6, 34))
        faces = random.integers(0, 256, (int(2 * seconds) + 1, 48, 48, 3)).astype(np.uint8)
        words = [{"w": "word", "t0": 0.1 * i, "t1": 0.1 * i + 0.1} for i in range(int(3 * seconds))]
        yield (
            f"s{number:06d}",
            {
                "faces.npy": encode_faces(faces),
                "json": canonical_json(
                    {"labels": {"raters": []}, "words": words, "times": [0.5 * i for i in range(len(faces))]}
                ),
                "txt": " ".join(["word"] * len(words)).encode(),
                "wav": encode_wav(random.integers(-9000, 9000, int(16_000 * seconds)).astype(np.int16)),
            },
        )


def write(folder: Path, count: int) -> Dataset:
    """Shards of about 64 MiB, as mesm-data writes them."""
    rows: list[dict[str, Any]] = []
    (folder / "parts").mkdir()
    with open_part(folder / "parts", "all", clips=False) as part:
        for key, members in synthetic(count):
            counts = {"n_faces": len(members["faces.npy"]) // 6912, "n_samples": len(members["wav"]) // 2 - 22}
            described = {
                "group": "all",
                "dialog": "d",
                "speaker": "Ses01F",
                "start": 0.0,
                "end": 1.0,
                "flags": [],
                "labels": {"raters": [], "emotion": EMOTIONS[len(rows) % len(EMOTIONS)]},
                "id": key,
                "session": None,
                "split": None,
                "recording": key,
            }
            placed = {"status": "ok", "source": "all", **part.add(key, members)}
            rows.append({"key": key, **described, **placed, **counts})
    recipe = {"face_size": 48, "sample_rate": 16_000, "frame_interval": "0.5"}
    schema = built_in_schema("iemocap").as_dict()
    facts = {"corpus": "iemocap", "schema": schema, "recipe": recipe, "synthetic": True, "notes": []}
    write_dataset(folder / "data", folder / "parts", rows, facts, limit=64 * 2**20, step=lambda _: None)
    return Dataset(folder / "data")


def raw(dataset: Dataset) -> int:
    """Every byte of every shard."""
    block, total = bytearray(2**20), 0
    for name in dataset.info["shards"]:
        with (dataset.path / "shards" / name).open("rb", buffering=0) as file:
            while size := file.readinto(block):
                total += size
    return len(dataset)


def open_loader(dataset: Dataset) -> Loader:
    """A loader, as a run opens it once."""
    return Loader(dataset, {key: np.zeros(6, np.float32) for key in dataset.keys}, None, 100, LoaderConfig(threads=1))


def ours(loader: Loader) -> int:
    """Batches of an epoch, in the order of its plan."""
    dataset = loader.dataset
    steps = plan(plan_samples(dataset, dataset.keys, "va"), seed=0, epoch=0, batch=BATCH).shares(0, 1)
    return sum(len(batch.keys) for batch in loader.batches(steps))


def stock(dataset: Dataset) -> int:
    """Packed batches out of stock webdataset."""
    import soundfile
    import webdataset

    urls = [str(dataset.path / "shards" / name) for name in sorted(dataset.info["shards"])]
    samples = webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode()
    decoded = ((s["faces.npy"], soundfile.read(io.BytesIO(s["wav"]), dtype="int16")[0], s["txt"]) for s in samples)
    return _packed(decoded)


def stock_loop(dataset: Dataset) -> int:
    """Batches of the loop in docs/api.md."""
    import webdataset

    urls = [str(dataset.path / "shards" / name) for name in sorted(dataset.info["shards"])]
    stream = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(500).decode()
    batches = stream.batched(BATCH, collation_fn=partial(mesm_train.collate, target=lambda labels: np.zeros(6)))
    return sum(len(batch.keys) for batch in batches)


def streamed(dataset: Dataset) -> int:
    """Batches of an epoch with loader.source=webdataset."""
    targets = {key: np.zeros(6, np.float32) for key in dataset.keys}
    stream = ShardStream(dataset, dataset.keys, seed=0)
    loader = Loader(dataset, targets, None, 100, LoaderConfig(threads=1, source="webdataset"), stream=stream)
    steps = plan(plan_samples(dataset, dataset.keys, "va"), seed=0, epoch=0, batch=BATCH).shares(0, 1)
    return sum(len(batch.keys) for batch in loader.batches(steps, epoch=0))


def litdata(folder: Path) -> int:
    """Packed batches out of a StreamingDataset."""
    from litdata import StreamingDataset

    return _packed((s["faces"], s["samples"], s["text"]) for s in StreamingDataset(str(folder), shuffle=False))


def _packed(samples: Any) -> int:
    count = 0
    while group := list(islice(samples, BATCH)):
        torch.from_numpy(np.concatenate([faces for faces, _, _ in group]))
        torch.from_numpy(np.concatenate([sound for _, sound, _ in group]))
        count += len(group)
    return count


def arrays(sample: Any) -> dict[str, Any]:
    """What litdata is given of a sample."""
    return {"faces": np.array(sample.faces), "samples": np.array(sample.samples), "text": sample.text}


def cpu() -> float:
    """Seconds of CPU of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Write, read in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="mesm-bench-") as name:
        folder = Path(name)
        dataset = write(folder, options.samples)
        size = sum(shard["size"] for shard in dataset.info["shards"].values())
        print(f"{len(dataset)} samples, {size / 1e6:.0f} MB, {size / len(dataset) / 1e3:.0f} kB a sample")
        loader = open_loader(dataset)
        readers: dict[str, Callable[[], int]] = {
            "raw": lambda: raw(dataset),
            "ours": lambda: ours(loader),
            "ours, checked": lambda: ours(open_loader(Dataset(dataset.path, check=True))),
            "webdataset": lambda: stock(dataset),
            "stock loop": lambda: stock_loop(dataset),
            "loader.source": lambda: streamed(Dataset(dataset.path, check=True)),
        }
        if _write_litdata(dataset, folder / "litdata"):
            readers["litdata"] = lambda: litdata(folder / "litdata")
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        for _ in range(options.rounds):
            for name, read in readers.items():
                began, used = time.perf_counter(), cpu()
                count = read()
                assert count == len(dataset), f"{name} read {count} of {len(dataset)}"
                measured[name].append(((cpu() - used) / count, (time.perf_counter() - began) / count))
        report(measured)


def _write_litdata(dataset: Dataset, folder: Path) -> bool:
    try:
        from litdata.streaming.writer import BinaryWriter
    except ImportError:
        return False
    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="64MB")
    for number, sample in enumerate(dataset):
        writer[number] = arrays(sample)
    writer.done()
    writer.merge()
    return True


def report(measured: dict[str, list[tuple[float, float]]]) -> None:
    """A line a reader: CPU time and speed of the best round, and both beside stock webdataset and the plain read."""
    cost = {name: min(used for used, _ in rounds) for name, rounds in measured.items()}
    wall = {name: min(seconds for _, seconds in rounds) for name, rounds in measured.items()}
    print(
        "              CPU us/sample  samples/s (fastest)  x webdataset CPU (wall)  share of the plain read CPU (wall)"
    )
    for name in measured:
        print(
            f"{name:14} {cost[name] * 1e6:12.1f} {1 / wall[name]:20.0f} "
            f"{cost['webdataset'] / cost[name]:14.1f} ({wall['webdataset'] / wall[name]:.1f})"
            f"{cost['raw'] / cost[name]:20.0%} ({wall['raw'] / wall[name]:.0%})"
        )
    print(json.dumps({name: round(value * 1e6, 1) for name, value in cost.items()}))


if __name__ == "__main__":
    main()
