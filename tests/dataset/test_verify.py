"""Guarantee: verify finds any change of any byte, and names the first sample that differs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesm_data.dataset.manifest import manifest_schema, read_table_rows, rows_digest, write_table
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.verify import verify
from mesm_data.schema.built_in import built_in_schema

SCHEMA = manifest_schema(built_in_schema("iemocap"))


@pytest.fixture
def own(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "own"))


def first_shard(path: Path) -> Path:
    return min((path / "shards").iterdir())


def test_a_dataset_as_built_has_no_differences(dataset: Path) -> None:
    assert list(verify(dataset)) == []


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_detected_and_its_sample_is_named(own: Path, data: st.DataObject) -> None:
    shard = data.draw(st.sampled_from(sorted([*(own / "shards").glob("*.tar"), *(own / "video").glob("*.tar")])))
    whole = shard.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    with shard.open("r+b") as file:
        file.seek(place)
        file.write(bytes([whole[place] ^ (1 << bit)]))
    differences = list(verify(own))
    shard.write_bytes(whole)
    assert differences
    assert all(f"{shard.parent.name}/{shard.name}" in difference for difference in differences)
    if shard.parent.name == "shards":
        rows = [row for row in Dataset(own).rows.values() if row["shard"] == shard.name]
        inside = [
            row
            for row in rows
            if row["faces_offset"] - 512 <= place < row["wav_offset"] + -(-row["wav_size"] // 512) * 512
        ]
        if inside:
            assert f"sample {inside[0]['key']}:" in differences[0]


@pytest.mark.parametrize("cut", [1, 10_240, 100_000])
def test_a_truncated_or_longer_shard_is_detected(own: Path, cut: int) -> None:
    shard = first_shard(own)
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-cut])
    assert list(verify(own))
    shard.write_bytes(whole + b"\0" * cut)
    assert list(verify(own))


def test_missing_and_additional_shards_are_detected(own: Path) -> None:
    shard = first_shard(own)
    shutil.copy(shard, shard.with_name("all-000099.tar"))
    assert any("all-000099.tar: is not part of this dataset" in difference for difference in verify(own))
    shard.unlink()
    assert any(f"{shard.name}: cannot be read" in difference for difference in verify(own))


def test_a_wrong_manifest_is_detected(own: Path) -> None:
    rows = read_table_rows(own / "manifest.parquet")
    rows[0]["speaker"] = "Ses09X"
    write_table(own / "manifest.parquet", rows, SCHEMA)
    assert any("manifest.parquet: the table has sha256" in difference for difference in verify(own))


def exchange_labels(path: Path) -> None:
    """Give two utterances of the manifest at `path` each other's labels."""
    rows = read_table_rows(path)
    first = next(row for row in rows if row["status"] == "ok")
    other = next(row for row in rows if row["status"] == "ok" and row["labels"] != first["labels"])
    first["labels"], other["labels"] = other["labels"], first["labels"]
    write_table(path, rows, SCHEMA)


def test_a_checked_dataset_with_exchanged_labels_is_not_opened(own: Path) -> None:
    """Whoever reports the root in dataset.json has read the labels that it stands for."""
    Dataset(own, check=True)
    exchange_labels(own / "manifest.parquet")
    with pytest.raises(InputError, match=r"own/manifest\.parquet is not the table that dataset\.json names .*verify"):
        Dataset(own, check=True)
    with pytest.raises(InputError, match="is not the table"):
        inspect(own)
    info = json.loads((own / "dataset.json").read_text())
    info["manifest"]["sha256"] = rows_digest(read_table_rows(own / "manifest.parquet"))
    (own / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(InputError, match=r"own/dataset\.json contradicts itself: its root is"):
        Dataset(own, check=True)


def test_changed_numbers_in_dataset_json_are_detected(own: Path) -> None:
    info = json.loads((own / "dataset.json").read_text())
    info["counts"]["ok"] += 1
    info["root"] = "0" * 64
    (own / "dataset.json").write_text(json.dumps(info))
    differences = list(verify(own))
    assert any("counts" in difference for difference in differences)
    assert any("root" in difference for difference in differences)


def test_verify_reports_differences_with_its_exit_code(own: Path, mesm_data: Callable[..., "object"]) -> None:
    assert mesm_data("verify", own).returncode == 0  # type: ignore[attr-defined]
    row = next(row for row in Dataset(own).rows.values() if row["shard"] == first_shard(own).name)
    with first_shard(own).open("r+b") as file:
        file.seek(row["wav_offset"] + 100)
        file.write(b"\x13\x37")
    done = mesm_data("verify", own, check=False)
    assert done.returncode == 1  # type: ignore[attr-defined]
    assert f"sample {row['key']}: {row['key']}.wav: sha256 is" in done.stdout.splitlines()[0]  # type: ignore[attr-defined]


def test_the_reader_names_damaged_samples(own: Path) -> None:
    row = next(row for row in Dataset(own).rows.values() if row["shard"] == first_shard(own).name)
    with first_shard(own).open("r+b") as file:
        file.seek(row["faces_offset"])
        file.write(b"not a npy")
    with pytest.raises(MesmError, match=f"sample {row['key']} is damaged"):
        Dataset(own)[row["key"]]
