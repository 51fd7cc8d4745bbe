"""Guarantees of the Python API: quick to import, documented by examples that run, the same in a worker process."""

import doctest
import importlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import mesm_data
import mesm_train
from mesm_data.dataset.manifest import rows_digest
from mesm_data.errors import InputError

PACKAGES = ("mesm_data", "mesm_train", "mesm_cli", "mesm_manifests")
NOTEBOOK = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"


@pytest.fixture
def folder(dataset: Path, corpus: Path, tmp_path: Path) -> Iterator[Path]:
    """The working directory of the examples: data/iemocap is a dataset, corpora/iemocap its corpus."""
    for name, target in (("data/iemocap", dataset), ("corpora/iemocap", corpus)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).symlink_to(target)
    with chdir(tmp_path):
        yield tmp_path


def test_importing_the_packages_imports_nothing_heavy() -> None:
    program = f"import sys, {', '.join(PACKAGES)}; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {*PACKAGES} <= {*names}
    heavy = {"numpy", "torch", "pyarrow", "pandas", "pydantic", "av", "transformers", "typer", "importlib.metadata"}
    assert not heavy & {*names}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_has_its_version_and_is_typed(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__version__ == version("mesm")
    assert (Path(package.__path__[0]) / "py.typed").is_file()
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'misspelt'"):
        _ = package.misspelt


@pytest.mark.parametrize("package", [mesm_data, mesm_train])
def test_every_public_name_is_there_and_listed(package: ModuleType) -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)


def test_no_submodule_replaces_a_public_function() -> None:
    """A submodule of the name of a function would take its place when it is imported."""
    for package in (mesm_data, mesm_train):
        submodules = {path.stem for path in Path(package.__path__[0]).iterdir()}
        assert not submodules & set(package.__all__)


@pytest.mark.parametrize(
    "name",
    [
        "mesm_data.pipeline.api",
        "mesm_data.dataset.remote_shards",
        "mesm_data.dataset.reader",
        "mesm_train.data.collate",
    ],
)
def test_the_examples_of_the_docstrings_are_true(folder: Path, name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert not results.failed


def test_the_notebook_runs(folder: Path) -> None:
    program = (
        "import json, matplotlib; matplotlib.use('Agg'); names = {'__name__': '__main__'}\n"
        f"for cell in json.load(open({str(NOTEBOOK)!r}))['cells']:\n"
        "    if cell['cell_type'] == 'code':\n"
        "        exec(compile(''.join(cell['source']), cell['id'], 'exec'), names)\n"
        "print(json.dumps(names['losses']))"
    )
    environment = {**os.environ, "HF_HOME": str(folder / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    losses = json.loads(done.stdout.splitlines()[-1])
    assert losses.keys() == {"mesm", "webdataset", "datasets"}
    assert all(len(values) == 5 and np.isfinite(values).all() for values in losses.values())


def test_the_notebook_is_stored_without_outputs() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_paths_may_be_texts_or_paths(dataset: Path) -> None:
    one, two = mesm_data.open_dataset(str(dataset)), mesm_data.open_dataset(dataset)
    assert one.keys == two.keys
    assert mesm_data.Dataset(str(dataset)).path == dataset
    assert mesm_data.verify(str(dataset)) == mesm_data.verify(dataset) == []


def test_the_repr_of_a_dataset_a_sample_a_split_or_a_batch_fits_a_line(dataset: Path) -> None:
    opened = mesm_data.open_dataset(dataset)
    assert repr(opened).startswith(f"Dataset(iemocap (synthetic): {len(opened)} of {len(opened.rows)} utterances, ")
    sample = opened[opened.keys[0]]
    split = opened.split("session-1")
    assert f"train {len(split.part('train'))}, valid" in repr(split)
    for text in (repr(opened), repr(sample), repr(split), repr(mesm_train.collate([sample]))):
        assert len(text) <= 120
        assert "\n" not in text


def test_verify_returns_the_differences_as_a_list(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    shard = min((copy / "shards").iterdir())
    data = bytearray(shard.read_bytes())
    data[600] ^= 1
    shard.write_bytes(data)
    differences = mesm_data.verify(copy, full=True)
    assert len(differences) == 2
    assert "faces.npy: sha256 is" in differences[0]
    read: list[int] = []
    assert mesm_data.verify(dataset, full=True, progress=read.append) == []
    info = mesm_data.open_dataset(dataset).info
    size = sum(file["size"] for files in (info["shards"], info["video"]) for file in files.values())
    assert sum(read) == size + 2 * info["counts"]["ok"]


def test_build_refuses_unknown_options(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"build has no option 'face_sise': there are .*face_size"):
        mesm_data.build("iemocap", tmp_path / "out", source=corpus, face_sise=96)
    with pytest.raises(InputError, match="face_size is 8"):
        mesm_data.build("iemocap", tmp_path / "out", source=corpus, face_size=8)
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_row_for_every_utterance_and_a_column_for_every_label(dataset: Path) -> None:
    opened = mesm_data.open_dataset(dataset)
    table = opened.to_pandas()
    assert list(table.index) == list(opened.rows)
    assert set(table[table.status == "ok"].index) == set(opened.keys)
    for key, row in opened.rows.items():
        assert table.loc[key, "labels.emotion"] == row["labels"]["emotion"]
        assert table.loc[key, "n_faces"] == row["n_faces"]
    assert str(table.n_faces.dtype) == "Int64"


def test_a_selection_contains_only_its_utterances_in_its_order(dataset: Path) -> None:
    opened = mesm_data.open_dataset(dataset, check=True)
    keys = opened.keys[7:2:-1]
    some = opened.select(keys)
    assert some.keys == keys
    assert [sample.key for sample in some] == keys
    assert list(some.to_pandas().index) == keys
    for sample in some:
        assert np.array_equal(sample.faces, opened[sample.key].faces)
        assert np.array_equal(sample.samples, opened[sample.key].samples)
        assert some.shard(sample.key) == opened.shard(sample.key)
    with pytest.raises(KeyError):
        _ = some[opened.keys[0]]
    with pytest.raises(InputError, match=f"{keys[0]} is selected twice"):
        opened.select([keys[0], keys[0]])
    with pytest.raises(KeyError):
        opened.select(["nobody"])


def test_an_utterance_that_was_not_built_cannot_be_selected_and_its_reason_is_in_the_table(
    corpus: Path, tmp_path: Path
) -> None:
    opened = mesm_data.build("iemocap", tmp_path / "one", source=corpus, limit=1, clips=False, workers=1)
    table = opened.to_pandas()
    left_out = table.index[table.status != "ok"][0]
    assert len(opened) == 1
    assert table.loc[left_out, "reason"] == "limit"
    with pytest.raises(KeyError, match=f"{left_out} is excluded .limit."):
        opened.select([left_out])


def test_a_split_by_name_is_that_of_the_command(dataset: Path) -> None:
    opened = mesm_data.open_dataset(dataset)
    split = opened.split("session-1")
    sessions = opened.to_pandas().session
    assert {part: {sessions[key] for key in keys} for part, keys in split.parts.items()} == {
        "train": {"3"}, "valid": {"2"}, "test": {"1"},
    }  # fmt: skip
    with pytest.raises(InputError, match="there is no split 'sesion-1': did you mean session-1"):
        opened.split("sesion-1")


def test_spawned_workers_read_a_pickled_dataset(dataset: Path) -> None:
    opened = mesm_data.open_dataset(dataset, check=True).select(mesm_data.open_dataset(dataset).keys[:6])
    _ = opened[opened.keys[0]]  # opens a memory map, which no process can send to another
    assert len(pickle.dumps(opened)) < 2000
    loader = torch.utils.data.DataLoader(
        opened, batch_size=2, sampler=opened.keys, num_workers=1, multiprocessing_context="spawn",
        collate_fn=mesm_train.collate,
    )  # fmt: skip
    seen = list(loader)
    assert [key for batch in seen for key in batch.keys] == opened.keys
    for batch in seen:
        expected = mesm_train.collate([opened[key] for key in batch.keys])
        assert torch.equal(batch.faces, expected.faces)
        assert torch.equal(batch.samples, expected.samples)


def test_a_sample_can_be_pickled(dataset: Path) -> None:
    opened = mesm_data.open_dataset(dataset)
    sample = opened[opened.keys[0]]
    copy = pickle.loads(pickle.dumps(sample))
    assert np.array_equal(copy.faces, sample.faces)
    assert np.array_equal(copy.samples, sample.samples)
    assert (copy.key, copy.text, copy.record) == (sample.key, sample.text, sample.record)


def test_a_pickled_dataset_that_was_replaced_since_is_refused(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    pickled = pickle.dumps(mesm_data.open_dataset(copy))
    assert len(pickle.loads(pickled)) > 0
    described = json.loads((copy / "dataset.json").read_text())
    described["root"] = rows_digest([{"another": "dataset"}])
    (copy / "dataset.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match="holds another dataset than when it was opened"):
        pickle.loads(pickled)
