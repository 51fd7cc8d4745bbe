"""Two-phase systems on a dataset at a URL: its feature sets come into the cache of shards, and only whole ones."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_workers import journal
from small_runs import small_recipe, train_small

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.features import writer
from mesm_data.features.extractors.table import Table
from mesm_data.features.remote_sets import open_set_of
from mesm_data.storage import remote_bytes

SETTINGS = ("model.kind=lf-lstm", "model.modalities=[a]", "model.two_phase.features.a=sound", "model.heads=1",
            "model.two_phase.lf_lstm={hidden: [8, 8, 8]}", "labels=six")  # fmt: skip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def data(dataset: Path, once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The synthetic dataset with a feature set of random numbers."""

    def make(path: Path) -> None:
        shutil.copytree(dataset, path / "data", ignore=shutil.ignore_patterns("video"))
        opened, random = Dataset(path / "data"), np.random.default_rng(0)
        np.savez(path / "sound.npz", **{key: random.normal(size=(3, 4)) for key in opened.keys})
        writer.write_features(opened, Table(file=str(path / "sound.npz"), hop=0.4), "sound")

    return once("remote-features", make) / "data"


@pytest.fixture
def url(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server with a copy of the dataset in tmp_path/served; an empty cache, and little patience."""
    shutil.copytree(data, tmp_path / "served")
    monkeypatch.setenv("MESM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote_bytes, "FIRST_PAUSE", 0.01)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served")))
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_features_at_a_url_train_as_those_on_this_machine(url: str, data: Path, tmp_path: Path) -> None:
    """They are a file of the cache like a shard: counted, and kept while they are used."""
    recipe = small_recipe(tmp_path, data)
    for name, place in (("near", data), ("far", url)):
        train_small(recipe, tmp_path / name, *SETTINGS, f"data={place}")
    assert journal(tmp_path / "far") == journal(tmp_path / "near")
    provenance = [json.loads((tmp_path / name / "provenance.json").read_text()) for name in ("near", "far")]
    assert provenance[0]["features"] == provenance[1]["features"]
    [copy] = (tmp_path / "cache").glob("*/shards/*")
    assert copy.read_bytes() == (data / "features/sound/values.tar").read_bytes()
    dataset = open_dataset(url)
    features = open_set_of(dataset, "sound")
    cache = dataset.store.cache  # type: ignore[attr-defined]
    with cache.write_lock(dataset.info["root"], "other", wait=True) as writer_of_other:
        assert not cache.reserve(writer_of_other, cache.limit, force=False)
    assert len(features[dataset.keys[0]].values) == 3


def test_sets_that_are_missing_or_damaged_are_refused_and_not_kept(url: str, tmp_path: Path) -> None:
    dataset, folder = open_dataset(url), tmp_path / "served/features/sound"
    with pytest.raises(
        InputError, match=rf"features/none/.* Compute the features 'none' where .* to {url}/features/none"
    ):
        open_set_of(dataset, "none")
    content = (folder / "values.tar").read_bytes()
    (folder / "values.tar").write_bytes(content[:-600] + b"x" + content[-599:])
    with pytest.raises(MesmError, match=r"features/sound/values\.tar"):
        open_set_of(dataset, "sound")
    assert not list((tmp_path / "cache").glob("*/shards/[!.]*"))
    (folder / "values.tar").write_bytes(content)
    assert len(open_set_of(dataset, "sound").rows) == len(dataset)
    (folder / "index.parquet").write_bytes(b"no table")
    with pytest.raises(InputError, match=f"{url}/features/sound cannot be used"):
        open_set_of(dataset, "sound")
