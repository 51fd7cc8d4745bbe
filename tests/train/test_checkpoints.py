"""A checkpoint is there whole whenever the process ends, and is read where its device is not."""

import os
import resource
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mesm_data.errors import MesmError
from mesm_train.inference.new_folder import new_folder
from mesm_train.training import checkpoint


def save(folder: Path, value: float, position: int) -> None:
    checkpoint.save(folder, 7, {"w": torch.full((3,), value)}, {"position": position}, score=value)


def save_and_die(folder: Path, number: int) -> None:
    """Save step 7 again, and be killed before the `number`-th call that renames or removes something."""
    calls = [0]

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    os.rename, os.replace, shutil.rmtree = killing(os.rename), killing(os.replace), killing(shutil.rmtree)  # type: ignore[assignment]
    save(folder, 2.0, 2)


def test_a_kill_while_saving_leaves_the_old_or_the_new_checkpoint(tmp_path: Path) -> None:
    values = []
    for number in range(1, 30):
        folder = tmp_path / str(number)
        save(folder, 1.0, 1)
        process = get_context("fork").Process(target=save_and_die, args=(folder, number))
        process.start()
        process.join()
        for which in ("last", "best"):
            loaded = checkpoint.load(folder, which)
            assert loaded is not None
            weights, state = loaded
            assert weights["w"].tolist() == [float(state["position"])] * 3, "one checkpoint, not a mixture"
        values.append(state["position"])
        save(folder, 3.0, 3)  # and the run goes on
        assert checkpoint.load(folder, "last") is not None
        assert [path.name for path in folder.iterdir() if path.is_dir()] == ["step-00000007"]
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    else:
        pytest.fail("no process came to its end")
    assert {1, 2} == set(values)
    assert len(values) >= 5


def test_an_old_checkpoint_that_cannot_be_deleted_does_not_end_the_run(tmp_path: Path) -> None:
    """On NFS that of a file which another process has open; here a link, which shutil.rmtree refuses."""
    (tmp_path / "elsewhere").mkdir()
    save(tmp_path / "run", 1.0, 1)
    (tmp_path / "run" / "step-00000003").symlink_to(tmp_path / "elsewhere")
    save(tmp_path / "run", 2.0, 2)
    loaded = checkpoint.load(tmp_path / "run", "last")
    assert loaded is not None
    assert loaded[1] == {"position": 2}


def test_a_checkpoint_of_a_gpu_is_loaded_without_a_gpu(tmp_path: Path) -> None:
    """The file is that of a card: torch writes the device as a word beside each storage."""
    save(tmp_path, 1.0, 1)
    place = tmp_path / "step-00000007" / "state.pt"
    torch.save({"optimizer": torch.arange(3.0)}, place)
    with zipfile.ZipFile(place) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(place, "w") as target:
        for name, data in members.items():
            cpu, card = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:3"
            assert name.rpartition("/")[2] != "data.pkl" or cpu in data
            target.writestr(name, data.replace(cpu, card))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            torch.load(place, weights_only=True)
    loaded = checkpoint.load(tmp_path, "last")
    assert loaded is not None
    assert loaded[1]["optimizer"].device == torch.device("cpu")
    assert loaded[1]["optimizer"].tolist() == [0.0, 1.0, 2.0]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_that_safetensors_or_torch_meets_is_reported_in_one_sentence(tmp_path: Path) -> None:
    """The kernel refuses alike at `ulimit -f` and at a disk quota; each library hides that in its own way."""
    small, large = {"w": torch.zeros(3)}, {"w": torch.zeros(100_000)}
    for weights, state in ((large, small), (small, large)):
        with files_of_at_most(50_000), pytest.raises(MesmError, match=r"larger than files may be.*with --resume"):
            checkpoint.save(tmp_path / "checkpoints", 1, weights, state, score=1.0)
    with (
        files_of_at_most(50_000),
        pytest.raises(MesmError, match="larger than files may be"),
        new_folder(tmp_path / "export") as folder,
    ):
        save_file(large, folder / "model.safetensors")
    assert not list(tmp_path.glob("**/*.safetensors"))
