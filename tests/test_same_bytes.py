"""Guarantee: the same bytes on any engine and after any kill."""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.recipe import Recipe
from mesm_data.pipeline.build import build_dataset
from mesm_data.storage.files import sha256_file

# A part of each dialog, and shards small enough that there are several.
RECIPE = Recipe(corpus="iemocap", only="*_[FM]00[01]", shard_bytes=2**19)
# Without vector instructions a build takes ten times as long: one utterance of each speaker of one dialog.
FEW = Recipe(corpus="iemocap", only="Ses01*_[FM]000", shard_bytes=2**16)


def content(path: Path) -> dict[str, object]:
    """All that is promised to be the same: the bytes of shards/, the table of the manifest."""
    shards = {shard.name: sha256_file(shard) for shard in sorted((path / "shards").iterdir())}
    assert len(shards) > 1
    return {**shards, "manifest": pq.read_table(path / "manifest.parquet").to_pylist()}


@pytest.fixture(scope="module")
def reference(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> dict[str, object]:
    """One worker, in this process."""
    path = once(
        "same-bytes-reference",
        lambda path: build_dataset(scan_corpus("iemocap", corpus), path, RECIPE, workers=1) and None,
    )
    return content(path)


def test_workers_folder_file_times_and_umask_change_no_byte(
    tmp_path: Path, corpus: Path, reference: dict[str, object]
) -> None:
    copy = tmp_path / "IEMOCAP full release (copy)"
    shutil.copytree(corpus, copy)
    for number, path in enumerate(sorted(copy.rglob("*"))):
        os.utime(path, (number, number))
    mask = os.umask(0o077)
    try:
        build_dataset(scan_corpus("iemocap", copy), tmp_path / "out", RECIPE, workers=4)
    finally:
        os.umask(mask)
    assert content(tmp_path / "out") == reference
    assert all(shard.stat().st_mode & 0o777 == 0o644 for shard in (tmp_path / "out" / "shards").iterdir())


@pytest.mark.parametrize("number", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_kills_and_resumptions_change_no_byte(
    tmp_path: Path, corpus: Path, reference: dict[str, object], number: int
) -> None:
    """SIGKILL to the whole process group at random moments; then once to the end."""
    out = tmp_path / "out"
    program = "import sys, test_same_bytes as t; t.build_dataset(t.scan_corpus('iemocap', t.Path(sys.argv[1])), "
    program += "t.Path(sys.argv[2]), t.RECIPE, workers=2)"
    guarded = f"if __name__ == '__main__':\n    {program}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OPENBLAS_NUM_THREADS": "1"}
    moments = random.Random(7)
    kills = 0
    while kills < number:
        command = [sys.executable, "-c", guarded, str(corpus), str(out)]
        process = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            assert process.wait(timeout=moments.uniform(1.5, 4)) == 0
            (out / "dataset.json").unlink()  # it was quicker than the kill: pack again
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        kills += 1
        assert not (out / "dataset.json").exists() or content(out) == reference
    build_dataset(scan_corpus("iemocap", corpus), out, RECIPE, workers=2)
    assert content(out) == reference
    assert sorted(path.name for path in out.iterdir()) == [
        ".build", "dataset.json", "manifest.parquet", "recipe.lock", "shards", "video",
    ]  # fmt: skip
    assert [path.name for path in (out / ".build").iterdir() if path.suffix == ".tmp"] == []


PLAIN_CPU = """
import ctypes, glob, os, sys
from pathlib import Path
import av
folder = Path(av.__file__).parents[1] / "av.libs"
[library] = glob.glob(str(folder / "libavutil*"))
libavutil = ctypes.CDLL(library)
assert libavutil.av_get_cpu_flags() != 0
libavutil.av_force_cpu_flags(0)
assert libavutil.av_get_cpu_flags() == 0
import test_same_bytes as t
t.build_dataset(t.scan_corpus("iemocap", Path(sys.argv[1])), Path(sys.argv[2]), t.FEW, workers=1)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="switches off x86 instruction sets")
def test_the_vector_instructions_of_the_cpu_change_no_byte(tmp_path: Path, corpus: Path) -> None:
    """The SIMD code of the decoder (`-cpuflags 0`), of torch, of numpy and of the BLAS is switched off or changed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Prescott",
        "OPENBLAS_NUM_THREADS": "2",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_ICL AVX512_CLX AVX512_SKX AVX512CD AVX512F AVX2 FMA3",
    }
    command = [sys.executable, "-c", PLAIN_CPU, str(corpus), str(tmp_path / "out")]
    subprocess.run(command, env=environment, check=True)
    build_dataset(scan_corpus("iemocap", corpus), tmp_path / "reference", FEW, workers=1)
    assert content(tmp_path / "out") == content(tmp_path / "reference")
