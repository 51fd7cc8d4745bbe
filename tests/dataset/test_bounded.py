"""Guarantee: memory is bounded by what is read, whatever the size of the dataset and whatever its tables claim."""

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mesm_data.dataset.manifest import manifest_schema, read_table, write_table
from mesm_data.dataset.members import encode_faces
from mesm_data.dataset.parquet_pages import memory_bound
from mesm_data.dataset.tar import BLOCK, padded_size, tar_end, tar_header
from mesm_data.errors import InputError
from mesm_data.media.wav import encode_wav
from mesm_data.schema.built_in import built_in_schema
from mesm_data.storage.json_files import canonical_json

SCHEMA = manifest_schema(built_in_schema("iemocap"))

SHARDS, SAMPLES, SECONDS = 12, 4, 250  # 32 MB a shard, 384 MB in all


def sparse_dataset(out: Path) -> None:
    """A dataset of long silent sounds, which take no room on disk."""
    (out / "shards").mkdir(parents=True)
    wave = np.zeros(16_000 * SECONDS, np.int16)
    wave[:4000] = np.arange(4000)  # a sound that has no two values makes no key
    wav, faces = encode_wav(wave), encode_faces(np.zeros((0, 4, 4, 3), np.uint8))
    rows: list[dict[str, Any]] = []
    shards = {}
    for shard in range(SHARDS):
        name, at = f"all-{shard:06d}.tar", 0
        with (out / "shards" / name).open("wb") as file:
            for number in range(SAMPLES * shard, SAMPLES * (shard + 1)):
                key = f"Ses01F_impro01_M{number * 7 % (SHARDS * SAMPLES):03d}"  # not in the order of shards
                rows.append({**hostile.row(key, number), "shard": name, "n_samples": len(wave), "n_faces": 0})
                for extension, data in {"faces.npy": faces, "json": record(key), "txt": b"Yes", "wav": wav}.items():
                    stem = extension.partition(".")[0]
                    file.seek(at)
                    file.write(tar_header(f"{key}.{extension}", len(data)) + data[:10_000])
                    rows[-1] |= {f"{stem}_offset": at + BLOCK, f"{stem}_size": len(data)}
                    rows[-1][f"{stem}_sha256"] = sha256(data).hexdigest()
                    at += BLOCK + padded_size(len(data))
            file.truncate(at + len(tar_end(at)))
        shards[name] = {"sha256": "0" * 64, "size": at + len(tar_end(at)), "samples": SAMPLES}
    rows.sort(key=lambda row: str(row["key"]))
    table = write_table(out / "manifest.parquet", rows, SCHEMA)
    info = {
        "format": 2, "corpus": "iemocap", "schema": built_in_schema("iemocap").as_dict(),
        "synthetic": True, "notes": [],
        "recipe": {"face_size": 4, "sample_rate": 16_000, "frame_interval": "0.5"}, "toolchain": {},
        "counts": {"total": len(rows), "ok": len(rows), "failed": 0, "excluded": 0}, "shards": shards, "video": {},
        "manifest": {"rows": len(rows), "sha256": table}, "root": "0" * 64,
    }  # fmt: skip
    (out / "dataset.json").write_text(json.dumps(info))


def record(key: str) -> bytes:
    faces: dict[str, list[Any]] = {"times": [], "boxes": [], "scores": [], "detected": [], "counts": []}
    source = {"role": "sound", "path": "a.wav", "sha256": "0" * 64, "span": None}
    return canonical_json(
        {"id": key, "words": [], "labels": {}, "sources": [source], "audio": {"status": "ok"}, "faces": faces}
    )


WRITE = """
import sys
from pathlib import Path
from mesm_data.integrity import lock_writer
from mesm_data.dataset.reader import Dataset
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
Dataset(Path(sys.argv[1]))
before = peak()
lock_writer.write_lock(Path(sys.argv[1]))
print(peak() - before)
"""


def test_writing_the_lock_maps_one_shard_at_a_time(tmp_path: Path) -> None:
    """It took the size of the dataset. Now: a shard, one sample, and what is imported."""
    out = tmp_path / "out"
    sparse_dataset(out)
    size = sum(path.stat().st_size for path in (out / "shards").iterdir())
    done = subprocess.run([sys.executable, "-c", WRITE, str(out)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < size / 3
    lock_data = json.loads((out / "recipe.lock").read_bytes())
    assert (out / "recipe.lock").read_bytes() == canonical_json(lock_data) + b"\n"
    assert [sample["id"] for sample in lock_data["samples"]] == sorted(f"Ses01F_impro01_M{n:03d}" for n in range(48))


def test_reading_a_manifest_limits_no_other_thread(tmp_path: Path) -> None:
    hostile.write(tmp_path / "data")
    path, ended, failures = tmp_path / "data" / "manifest.parquet", threading.Event(), []

    def allocate() -> None:
        while not ended.is_set():
            try:
                np.empty(3 << 30, np.uint8)  # addresses, not pages
            except MemoryError as error:
                failures.append(error)

    thread = threading.Thread(target=allocate)
    before = resource.getrlimit(resource.RLIMIT_AS)
    thread.start()
    for _ in range(50):
        read_table(path, SCHEMA)
    ended.set()
    thread.join()
    assert not failures
    assert resource.getrlimit(resource.RLIMIT_AS) == before


READ = """
import sys
from pathlib import Path
from mesm_data.errors import InputError
from mesm_data.dataset import manifest
def peak(): return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
manifest.MAX_MEMORY = 2**24  # a thirtieth, and so are the tables
before = peak()
try: manifest.read_table(Path(sys.argv[1]))
except InputError as error: print(error)
print(peak() - before)
"""


def _one_text(count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(["x" * 100_000]))


def _one_list(items: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array([0, len(items)], pa.int32()), items)


BOMBS: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Any]]]] = {
    "one text in all rows": lambda: ({"reason": _one_text(10_000)}, {}),
    "one text in all items of one row": lambda: ({"flags": _one_list(_one_text(10_000))}, {}),
    "texts that begin as the one before": lambda: (
        {"reason": [f"{'x' * 2000}{number:06d}" for number in range(20_000)]},
        {"use_dictionary": False, "column_encoding": {"reason": "DELTA_BYTE_ARRAY"}},
    ),
    "equal numbers in one row": lambda: ({"vad": _one_list(pa.array(np.zeros(2_000_000)))}, {}),
    "a long text that compresses well": lambda: ({"reason": ["x" * 20_000_000]}, {"use_dictionary": False}),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_table_that_expands_is_refused_before_it_is_decompressed(tmp_path: Path, kind: str) -> None:
    columns, options = BOMBS[kind]()
    path = tmp_path / "manifest.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False, **options)
    assert path.stat().st_size < 200_000
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    message, peak = done.stdout.splitlines()
    assert "unfolds to more memory" in message or "encoded in another way" in message
    assert int(peak) < 14_000  # kB


def test_a_truncated_or_nested_page_header_is_refused(tmp_path: Path) -> None:
    """Thrift by hand: a field 1 that is a struct of structs without an end; nothing; a number that never ends."""
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"reason": ["a", "b"]}), path)
    whole = path.read_bytes()
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset
    for head in (b"\x1c" * 40, b"\x15" + b"\xff" * 39, b"\x00" * 40):
        path.write_bytes(whole[:start] + head + whole[start + 40 :])
        with pytest.raises(InputError, match=r"not a readable Parquet file|unfolds to more"):
            read_table(path)


def test_the_computed_memory_of_valid_pages_is_that_of_their_values(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"end": np.arange(10_000.0)}), path, use_dictionary=False)
    with path.open("rb") as file:
        bound = memory_bound(file, pq.ParquetFile(path).metadata)
    assert 80_000 + 2 * 16 * 10_000 <= bound < 90_000 + 2 * 16 * 10_000
