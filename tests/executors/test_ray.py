"""The same guarantees on a Ray cluster: of two nodes on this machine, one of which is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_local import die_on_seven, refuse, square

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError, MesmError
from mesm_data.pipeline.build import build_dataset
from mesm_data.pipeline.executors.base import WorkerDied
from mesm_data.pipeline.executors.ray import run_on_ray
from mesm_data.storage.json_files import read_json

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
REPOSITORY = Path(__file__).parents[2]
RECIPE = Recipe(corpus="iemocap", only="*_[FM]00[0-2]", shard_bytes=2**20)


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Nothing is reported to Ray's makers or written to the home, and nodes find our modules."""
    environment = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_raylet_start_wait_time_s": "180",  # of a busy machine
        "PYTHONPATH": os.pathsep.join(
            map(str, (REPOSITORY, REPOSITORY / "cli", REPOSITORY / "manifests", Path(__file__).parent))
        ),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(_quiet: None) -> Iterator[Any]:
    """Two nodes of one core each, which the driver has not joined yet; gone at the end. The last test kills one."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    cluster.second = cluster.add_node(**size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
    cluster.shutdown()


def test_every_item_has_one_result_and_a_crash_affects_only_its_own_item(cluster: Any) -> None:
    assert sorted(run_on_ray(square, range(20))) == [(number, number * number) for number in range(20)]
    answers = dict(run_on_ray(die_on_seven, range(12), 3))
    assert isinstance(answers.pop(7), WorkerDied)
    assert answers == {number: number * number for number in range(12) if number != 7}
    with pytest.raises(ValueError, match="is refused"):
        list(run_on_ray(refuse, range(4)))


def test_a_node_that_does_not_see_the_folders_is_named(cluster: Any, tmp_path: Path, corpus: Path) -> None:
    """Other machines cannot be had here: the folder is taken away once the work has begun."""
    import socket

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        (tmp_path / "out" / ".build" / "recipe.json").unlink()
        return lambda number: None

    with pytest.raises(MesmError, match=f"cannot be seen on {socket.gethostname()}"):
        build_dataset(scan_corpus("iemocap", corpus), tmp_path / "out", RECIPE, engine="ray", progress=progress)
    assert not list((tmp_path / "out" / ".build" / "parts").glob("*.json"))  # nobody failed for it


def test_ctrl_c_ends_a_build_on_ray_and_leaves_nothing_running(cluster: Any, tmp_path: Path, corpus: Path) -> None:
    import ray

    command = [sys.executable, "-c", "from mesm_cli.data import main; main()", "build", "iemocap", "--engine", "ray"]
    command += ["--source", str(corpus), "--out", str(tmp_path / "out"), "--only", RECIPE.only or ""]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    while not list((tmp_path / "out" / ".build").glob("parts/.*.tmp")):  # a node is at work
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[1]
    assert process.returncode == 130, output
    assert "run the same command again to resume" in output
    assert not (tmp_path / "out" / "dataset.json").exists()
    ray.init(log_to_driver=False)
    try:
        until = time.monotonic() + 60
        while ray.available_resources().get("CPU") != 2:  # the cores of cancelled tasks come back
            assert time.monotonic() < until
    finally:
        ray.shutdown()


def test_an_address_without_a_cluster_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match="no Ray cluster can be reached"):
        list(run_on_ray(square, range(2)))


def test_a_node_that_is_killed_in_the_middle_of_a_build_changes_no_byte(
    cluster: Any, tmp_path: Path, corpus: Path, once: Callable[[str, Callable[[Path], None]], Path]
) -> None:
    killed = []

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        def step(number: int) -> None:
            if what == "build" and not killed:
                cluster.remove_node(cluster.second, allow_graceful=False)
                killed.append(number)

        return step

    info = build_dataset(scan_corpus("iemocap", corpus), tmp_path / "out", RECIPE, engine="ray", progress=progress)
    assert killed
    assert killed[0] < info["counts"]["ok"]
    reference = once(
        "ray-reference", lambda path: build_dataset(scan_corpus("iemocap", corpus), path, RECIPE, workers=1) and None
    )
    assert info["root"] == read_json(reference / "dataset.json")["root"]
    assert not list((tmp_path / "out").rglob("*.tmp"))
