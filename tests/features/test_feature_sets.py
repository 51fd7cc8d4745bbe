"""A feature set on disk: the same bytes, resumable, checked, refused where it does not belong."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.features import feature_set, writer
from mesm_data.features.extractors.hog import HOG
from mesm_data.features.extractors.table import Table
from mesm_data.features.verification import verify_features
from mesm_data.pipeline.features import compute_features
from mesm_data.publishing.dataset_page import render_dataset
from mesm_data.storage.files import sha256_file

Command = Callable[..., object]


@pytest.fixture
def table(own: Dataset, tmp_path: Path) -> Table:
    """Features of all utterances but the last, with a number that is not finite."""
    random = np.random.default_rng(0)
    arrays = {key: random.normal(size=(3, 2)).astype(np.float32) for key in own.keys[:-1]}
    arrays[own.keys[0]][1, 0] = np.nan
    np.savez(tmp_path / "own.npz", **arrays)
    return Table(file=str(tmp_path / "own.npz"), hop=0.25)


@pytest.fixture
def fresh(own: Dataset) -> Dataset:
    """The dataset without features."""
    shutil.rmtree(own.path / feature_set.FOLDER, ignore_errors=True)
    return own


def files(path: Path) -> dict[str, str]:
    """The sha256 of each file of a set."""
    return {file.name: sha256_file(file) for file in sorted(path.iterdir())}


def test_a_set_contains_the_values_of_the_extractor(fresh: Dataset, table: Table) -> None:
    features = writer.write_features(fresh, table, "own")
    arrays = np.load(table.file)
    for key in fresh.keys[1:-1]:
        np.testing.assert_array_equal(features[key].values, arrays[key])
        assert features[key].times is not None
        np.testing.assert_allclose(features[key].times, [0, 0.25, 0.5])
    assert features[fresh.keys[-1]].values.shape == (0, 2)
    assert features[fresh.keys[0]].values[1, 0] == 0
    assert features.info["counts"] == {
        "utterances": len(fresh), "rows": 3 * len(fresh) - 3, "empty": 1, "not_finite": 1,
    }  # fmt: skip
    assert features.info["synthetic"]
    assert "terms" in features.info["licence"]
    assert feature_set.set_names(fresh.path) == ["own"]
    assert list(verify_features(fresh.path)) == []


def test_webdataset_reads_a_set_by_the_same_keys(fresh: Dataset, table: Table) -> None:
    import webdataset

    features = writer.write_features(fresh, table, "own")
    url = str(features.path / "values.tar")
    samples = {each["__key__"]: each["npy"] for each in webdataset.WebDataset(url, shardshuffle=False).decode()}
    assert samples.keys() == set(fresh.keys)
    np.testing.assert_array_equal(samples[fresh.keys[1]], features[fresh.keys[1]].values)


def test_workers_and_a_stop_change_no_byte(fresh: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHUNK", 8)
    whole = files(compute_features(fresh, HOG(), "hog", workers=2).path)
    shutil.rmtree(fresh.path / feature_set.FOLDER)

    class Stopped(Exception):
        pass

    done: list[int] = []

    def stop(number: int) -> None:
        done.append(number)
        raise Stopped

    with pytest.raises(Stopped):
        writer.write_features(fresh, HOG(), "hog", step=stop)
    parts = fresh.path / feature_set.FOLDER / "hog" / ".parts"
    [part] = sorted(parts.glob("*.npz"))
    assert feature_set.set_names(fresh.path) == []
    stamp = part.stat().st_mtime_ns
    seen: list[int] = []

    def look(number: int) -> None:
        seen.append(part.stat().st_mtime_ns if part.exists() else stamp)

    assert files(writer.write_features(fresh, HOG(), "hog", step=look).path) == whole
    assert set(seen) == {stamp}  # what was done is not computed again
    assert not parts.exists()


def test_a_damaged_part_is_computed_again(fresh: Dataset, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = files(writer.write_features(fresh, table, "own").path)
    shutil.rmtree(fresh.path / feature_set.FOLDER)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    pack_parts = writer.pack_parts
    monkeypatch.setattr(writer, "pack_parts", stop)
    with pytest.raises(KeyboardInterrupt):
        writer.write_features(fresh, table, "own")
    monkeypatch.setattr(writer, "pack_parts", pack_parts)
    [part] = (fresh.path / feature_set.FOLDER / "own" / ".parts").glob("*.npz")
    part.write_bytes(part.read_bytes()[:-100])
    assert files(writer.write_features(fresh, table, "own").path) == whole


def test_an_existing_set_is_overwritten_only_on_request(fresh: Dataset, table: Table) -> None:
    features = writer.write_features(fresh, table, "own")
    before = files(features.path)
    assert files(writer.write_features(fresh, table, "own").path) == before  # the same again: nothing to do
    other = Table(file=table.file, hop=0.5)
    with pytest.raises(InputError, match="--overwrite replaces them"):
        writer.write_features(fresh, other, "own")
    assert files(features.path) == before
    assert writer.write_features(fresh, other, "own", overwrite=True).info["hop"] == 0.5


def test_a_file_that_changes_between_two_calls_is_read_again(fresh: Dataset, table: Table) -> None:
    writer.write_features(fresh, table, "own")
    np.savez(table.file, **{key: np.full((1, 2), 7, np.float32) for key in fresh.keys})
    features = writer.write_features(fresh, table, "own", overwrite=True)
    assert all((features.values(key) == 7).all() for key in fresh.keys)


def test_a_worker_that_dies_is_named_and_the_parts_stay(fresh: Dataset, table: Table) -> None:
    def run(function: Callable[..., None], jobs: object) -> Iterator[tuple[writer.Job, object]]:
        [job] = jobs  # type: ignore[misc]
        yield job, RuntimeError("the worker process died")

    first = min(fresh.keys, key=lambda key: (fresh.rows[key]["recording"], fresh.rows[key]["start"]))
    with pytest.raises(MesmError, match=f"own: the worker process died on the utterances {first} to"):
        writer.write_features(fresh, table, "own", run=run)  # type: ignore[arg-type]
    assert feature_set.set_names(fresh.path) == []
    assert len(writer.write_features(fresh, table, "own").rows) == len(fresh)


def test_verify_names_every_damaged_file(fresh: Dataset, table: Table, mesm_data: Command) -> None:
    features = writer.write_features(fresh, table, "own")
    tar = features.path / "values.tar"
    data = bytearray(tar.read_bytes())
    data[512 + 128] ^= 1
    tar.write_bytes(data)
    problems = list(verify_features(fresh.path))
    assert len(problems) == 2
    assert "sha256" in problems[0]
    assert "dataset.json" not in problems[1]  # features.json records the digest of the tar
    damaged = feature_set.open_set(fresh.path, "own")
    first = next(iter(damaged.rows))
    with pytest.raises(MesmError, match=f"the features of {first} are damaged"):
        damaged.values(first)
    done = mesm_data("verify", fresh.path, check=False)
    assert done.returncode == 1  # type: ignore[attr-defined]
    assert "features/own/values.tar" in done.stdout  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info: info.pop("columns"), "columns is missing"),
        (lambda info: info["columns"].append("more"), "contradicts features.json"),
        (lambda info: info["tar"].update(size=600), "contradicts features.json"),
        (lambda info: info.update(index="0" * 64), "is not the table that features.json names"),
        (lambda info: info.update(features=2), "has format 2"),
    ],
)
def test_an_invalid_description_is_refused(
    fresh: Dataset, table: Table, change: Callable[[dict[str, object]], None], message: str
) -> None:
    file = writer.write_features(fresh, table, "own").path / "features.json"
    info = json.loads(file.read_text())
    change(info)
    file.write_text(json.dumps(info))
    with pytest.raises(InputError, match=message):
        feature_set.open_set(fresh.path, "own")


def test_features_of_another_dataset_are_refused_by_name(fresh: Dataset, table: Table) -> None:
    features = writer.write_features(fresh, table, "own")
    with pytest.raises(InputError, match=r"own was computed of another dataset \(root"):
        feature_set.check_dataset(features, "0" * 64, fresh.keys)
    with pytest.raises(InputError, match="lacks 1 utterances of the dataset, the first is other"):
        feature_set.check_dataset(features, fresh.info["root"], [*fresh.keys, "other"])
    with pytest.raises(InputError, match=r"has no features 'hog' \(there are: own\)"):
        feature_set.open_set(fresh.path, "hog")


def test_the_command_computes_and_lists_sets_and_shows_the_licence(
    fresh: Dataset, tmp_path: Path, mesm_data: Command
) -> None:
    (tmp_path / "mine.csv").write_text("key,x\n" + "".join(f"{key},1\n" for key in fresh.keys))
    done = mesm_data("features", fresh.path, "--with", tmp_path / "mine.csv")
    assert "note: Computed elsewhere" in done.stderr  # type: ignore[attr-defined]
    listed = mesm_data("features", fresh.path)
    expected = f"mine: {len(fresh)} rows of 1 numbers for {len(fresh)} utterances, 0 of them without any (own)"
    assert listed.stdout.strip() == done.stdout.strip() == expected  # type: ignore[attr-defined]


def test_inspect_and_its_page_show_the_sets_their_licences_and_what_cannot_be_used(
    fresh: Dataset, table: Table, mesm_data: Command
) -> None:
    writer.write_features(fresh, table, "own")
    file = writer.write_features(fresh, table, "other").path / "features.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "features": 2}))
    text = mesm_data("inspect", fresh.path).stdout  # type: ignore[attr-defined]
    assert f"{3 * len(fresh) - 3} rows of 2 numbers, one row per 0.25 s for {len(fresh)} utterances, 1 of them" in text
    assert "1 numbers that are not finite replaced by 0 (own). Computed elsewhere" in text
    assert f"cannot be used: {fresh.path}/features/other has format 2" in text
    listed = mesm_data("features", fresh.path).stdout.splitlines()  # type: ignore[attr-defined]
    assert [line.split(" has ")[0] for line in listed if "cannot" in line] == [
        f"other: cannot be used: {fresh.path}/features/other"
    ]
    assert len(listed) == 2
    as_json = json.loads(mesm_data("inspect", fresh.path, "--json").stdout)  # type: ignore[attr-defined]
    summary = feature_set.open_set(fresh.path, "own").summary()
    assert as_json["features"]["own"] == summary
    page = " ".join(re.sub(r"<[^>]*>", " ", render_dataset(fresh.path, media=False)).split())
    facts = (
        f"{summary['utterances']}, 1 without any {summary['rows']} 2 0.25 {summary['digest'][:12]} Computed elsewhere"
    )
    assert f"own own {facts}" in page
    assert f"other cannot be used: {fresh.path}/features/other has format 2" in page
