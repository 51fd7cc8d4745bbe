"""Guarantee: an invalid dataset is refused in a sentence, without harm; earlier findings stay fixed."""

import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile import DATASET, run, write

from mesm_data.dataset.dataset_dir import dataset_root, read_clip_index, read_dataset_info, read_manifest_rows
from mesm_data.dataset.manifest import (
    clip_index_schema,
    manifest_schema,
    read_table,
    read_table_rows,
    rows_digest,
    write_table,
)
from mesm_data.dataset.members import decode_faces, encode_faces
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import MAX_RECORD
from mesm_data.dataset.summary import inspect
from mesm_data.dataset.tar import BLOCK, tar_header
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.verify import verify
from mesm_data.schema.built_in import built_in_schema
from mesm_data.splits.resolve import resolve_split
from mesm_data.storage.json_files import MAX_JSON, parse_json, read_json

SCHEMA = manifest_schema(built_in_schema("iemocap"))

FILE = {"size": 1, "samples": 1, "sha256": "0" * 64}
KEY = "Ses02F_impro01_M001"  # the third row


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "base"
    write(path)
    return path


@pytest.fixture
def own(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "own"))


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change the manifest's rows, and the number of rows in dataset.json with them."""
    rows, info = read_table_rows(path / "manifest.parquet"), read_json(path / "dataset.json")
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), path / "manifest.parquet")
    info["manifest"]["rows"] = len(rows)
    (path / "dataset.json").write_text(json.dumps(info))


def test_the_unchanged_dataset_is_valid(base: Path) -> None:
    dataset = Dataset(base, check=True)
    assert [len(dataset[key].faces) for key in dataset.keys] == [0, 1, 2, 3]
    assert len(dataset.info["shards"]) > 1
    assert list(verify(base)) == []


def test_a_hundred_invalid_datasets_are_refused_without_harm(tmp_path: Path) -> None:
    assert list(run(100, 7, tmp_path, subjects={DATASET: 1}, workers=1)) == []


@pytest.mark.parametrize(("subject", "cases"), [("lock", 100), ("part", 30), ("run", 6), ("server", 10), ("csd", 4)])
def test_other_invalid_files_are_refused_without_harm(tmp_path: Path, subject: str, cases: int) -> None:
    assert list(run(cases, 7, tmp_path, subjects={subject: 1}, workers=1)) == []


@pytest.mark.slow
def test_twenty_thousand_invalid_datasets_are_refused_without_harm(tmp_path: Path) -> None:
    assert list(run(20_000, 1, tmp_path)) == []


def test_escape_sequences_of_a_dataset_do_not_reach_the_terminal(own: Path) -> None:
    """Neither in what is data on stdout, nor in what is a message on stderr."""
    text = "\x1b]0;owned\x07 \x9b2J \u202etxt.exe"
    rewrite(own, lambda rows: [row.update(reason=text, status="failed") for row in rows if row["status"] == "failed"])
    info = read_json(own / "dataset.json")
    info["notes"] = [text]
    info["manifest"]["sha256"] = rows_digest(read_table_rows(own / "manifest.parquet"))
    info["root"] = dataset_root(info["manifest"]["sha256"], info["shards"])  # an attacker can compute it
    (own / "dataset.json").write_text(json.dumps(info))
    for arguments in (("inspect", own), ("inspect", own, "--json"), ("verify", own)):
        command = [sys.executable, "-c", "from mesm_cli.data import main; main()", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, check=False)
        output = (done.stdout + done.stderr).decode()
        assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202e]", output), output
        assert "Traceback" not in output
        assert r"\u001b]0;owned" in output or arguments[0] == "verify"


# An invalid manifest


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("key", "../../x", "cannot be a sample key"),
        ("key", "a.b", "cannot be a sample key"),
        ("key", "\x1b[2J", "cannot be a sample key"),
        ("key", None, "cannot be a sample key"),
        ("key", "Ses01F_impro01_M000", "has two rows"),
        ("status", "fine", "the status is none of"),
        ("dialog", None, f"{KEY}: dialog is null"),
        ("start", float("nan"), f"{KEY}: start holds NaN"),
        ("end", float("inf"), f"{KEY}: end holds NaN, an infinity"),
        ("flags", [None], f"{KEY}: flags holds NaN, an infinity, or null in a list"),
        ("labels", {"valence": float("nan")}, f"{KEY}: labels holds NaN"),
        ("labels", {"raters": [None]}, f"{KEY}: labels holds NaN, an infinity, or null"),
        ("shard", "../all-000000.tar", f"{KEY}: .*dataset.json has no such shard"),
        ("shard", "/etc/passwd", f"{KEY}: .*dataset.json has no such shard"),
        ("wav_offset", 2**62, f"{KEY}: .*outside its shard"),
        ("wav_offset", -512, f"{KEY}: .*outside its shard"),
        ("wav_size", 10_000_000_000, f"{KEY}: .*outside its shard"),
        ("wav_size", 2**63 - 1, f"{KEY}: .*outside its shard"),
        ("json_size", -1, f"{KEY}: .*outside its shard"),
        ("txt_size", None, f"{KEY}: txt_size is null"),
        ("txt_offset", 512, f"{KEY}: its members do not follow each other"),
        ("n_faces", 2**62, f"{KEY}: n_faces is not what its member holds"),
        ("n_samples", -1, f"{KEY}: n_samples is not what its member holds"),
    ],
)
def test_an_invalid_row_is_named(own: Path, column: str, value: object, sentence: str) -> None:
    rewrite(own, lambda rows: rows[2].update({column: value}))
    for use in (Dataset, inspect, lambda path: list(verify(path))):
        with pytest.raises(InputError, match=sentence) as refused:
            use(own)
        assert "manifest.parquet" in str(refused.value)


def test_a_manifest_with_more_samples_than_fit_into_its_shards_is_refused(own: Path) -> None:
    """Every copy has the position of the first row, so none overlaps another."""

    def more(rows: list[dict[str, Any]]) -> None:
        rows += [{**rows[2], "key": f"x{number}", "id": f"x{number}"} for number in range(1000)]

    rewrite(own, more)
    with pytest.raises(InputError, match="does not lie where the sample before it ends"):
        Dataset(own)


def test_samples_missing_from_the_manifest_are_detected(own: Path) -> None:
    rewrite(own, lambda rows: rows.pop(2))
    with pytest.raises(InputError, match=r"does not lie where|does not end as it should|0 samples in all-"):
        Dataset(own)


@pytest.mark.parametrize("kind", [pa.float64(), pa.large_string(), pa.binary(), pa.null(), None])
def test_other_columns_are_refused_by_name(own: Path, kind: pa.DataType | None) -> None:
    table = pq.read_table(own / "manifest.parquet")
    column = pa.nulls(len(table), kind) if kind else None
    number = table.column_names.index("wav_size")
    table = table.set_column(number, "wav_size", column) if kind else table.drop_columns(["wav_size"])
    pq.write_table(table, own / "manifest.parquet")
    difference = r"other columns than this format's: wav_size is (missing or repeated|\w+, not int64)"
    with pytest.raises(InputError, match=difference):
        Dataset(own)


def test_a_small_file_that_expands_to_a_hundred_gigabytes_needs_little_memory(own: Path) -> None:
    """A text of 1 MB, once in a dictionary, in each of 100,000 rows."""
    schema, count = SCHEMA, 100_000
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array(["x" * 10**6]))
    columns = {name: long if name == "reason" else pa.nulls(count, schema.field(name).type) for name in schema.names}
    pq.write_table(pa.table(columns), own / "manifest.parquet", compression="zstd", store_schema=False)
    del columns, long
    assert (own / "manifest.parquet").stat().st_size < 200_000
    program = (
        "import sys\nfrom pathlib import Path\nfrom mesm_data.errors import InputError\n"
        "from mesm_data.dataset import manifest\n"
        "from mesm_data.schema.built_in import built_in_schema\n"
        "try: manifest.read_table(Path(sys.argv[1]), manifest.manifest_schema(built_in_schema('iemocap')))\n"
        "except InputError as error: print(error)\n"
        # Not ru_maxrss: that begins with the size of the process that forked this one.
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(own / "manifest.parquet")], capture_output=True, text=True
    )
    message, peak = done.stdout.splitlines()
    assert "unfolds to more memory" in message
    assert int(peak) < 1_000_000  # kB
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_a_schema_that_is_nested_a_hundred_thousand_deep_does_not_end_the_process(own: Path) -> None:
    """The footer, by hand: Thrift's compact protocol, each group of one child."""
    levels = 100_000

    def group(name: bytes) -> bytes:
        return b"\x48" + bytes([len(name)]) + name + b"\x15\x02\x00"  # 4: name; 5: num_children 1; stop

    leaf = b"\x15\x02\x38\x01a\x00"  # 1: type INT32; 4: name
    length = struct.pack("B", levels & 0x7F | 0x80) + bytes([levels >> 7 & 0x7F | 0x80, levels >> 14])
    schema = b"\x19\xfc" + length + group(b"r") * (levels - 1) + leaf
    footer = b"\x15\x02" + schema + b"\x16\x00" + b"\x19\x0c" + b"\x00"
    (own / "manifest.parquet").write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")
    program = (
        "import sys; from pathlib import Path; from mesm_data.dataset.reader import Dataset; Dataset(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(own)], capture_output=True, text=True)
    assert done.returncode == 1, done.returncode
    assert "InputError" in done.stderr
    assert "not a readable Parquet file" in done.stderr


def test_a_speaker_without_a_session_is_refused_in_a_sentence(own: Path) -> None:
    rewrite(own, lambda rows: rows[2].update(session=None))
    with pytest.raises(InputError, match=f"{KEY} has no session"):
        resolve_split(Dataset(own).rows.values(), built_in_schema("iemocap"), "session-1")


@pytest.mark.parametrize(
    ("column", "value"),
    [("offset", -1), ("size", 2**63 - 1), ("size", 10_000_000_000), ("shard", "../x.tar"), ("key", "a/b")],
)
def test_an_invalid_index_of_clips_is_refused(own: Path, column: str, value: object) -> None:
    rows = read_table_rows(own / "video" / "index.parquet")
    rows[1][column] = value
    write_table(own / "video" / "index.parquet", rows, clip_index_schema())
    with pytest.raises(InputError, match=r"index\.parquet: .*(outside its shard|no such shard|cannot be a sample key)"):
        list(verify(own))


# An invalid dataset.json, and invalid JSON


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("corpus",), "other"), (("corpus",), ["iemocap"]), (("synthetic",), 1), (("notes",), [1]), (("root",), "x"),
        (("recipe", "face_size"), True), (("recipe", "face_size"), 0), (("recipe", "face_size"), 2**40),
        (("recipe", "frame_interval"), "0.0"), (("recipe", "frame_interval"), 0.5),
        (("recipe", "sample_rate"), None), (("recipe", "sample_rate"), 0), (("recipe", "sample_rate"), 2**40),
        (("counts", "ok"), -1), (("counts", "ok"), "1"), (("manifest", "rows"), 1.5), (("manifest", "rows"), 10**30),
        (("manifest", "sha256"), None), (("shards",), []), (("shards", "all-000000.tar"), None),
        (("shards", "all-000000.tar", "size"), -1), (("shards", "all-000000.tar", "size"), 10**400),
        (("shards", "all-000000.tar", "sha256"), 5), (("shards", "../x.tar"), FILE),
        (("video", "/etc/passwd"), FILE), (("format",), True),
    ],
)  # fmt: skip
def test_an_invalid_description_is_refused(own: Path, place: tuple[str, ...], value: object) -> None:
    info = inner = read_json(own / "dataset.json")
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (own / "dataset.json").write_text(json.dumps(info))
    for use in (Dataset, inspect, lambda path: list(verify(path))):
        with pytest.raises(InputError, match=r"dataset\.json|has shard format True"):
            use(own)


@pytest.mark.parametrize(
    "text",
    ["[" * 10**6, '{"a":' * 10**5, "1" * 5000, "1e9999", "-1e9999", "NaN", "-Infinity", '"\\ud800"', '{"\\udfff": 1}',
     '{"a": 1, "a": 1}', '[{"a": 1, "a": 2}]', "", "\ufeff", '"\x00"', b"\xff\xfe\x00", b'"\xed\xa0\x80"'],
)  # fmt: skip
def test_json_beyond_the_format_is_refused(tmp_path: Path, text: str | bytes) -> None:
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(ValueError, match=r"."):
        parse_json(data)
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_json_files_have_a_maximum_size(tmp_path: Path) -> None:
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(MAX_JSON + 1)
    with pytest.raises(InputError, match="more than 64 MiB"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["dataset.json", "manifest.parquet", "shards/all-000000.tar", "video/index.parquet"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "nowhere"])
def test_pipes_folders_and_devices_are_refused_without_blocking(own: Path, name: str, kind: str) -> None:
    (own / name).unlink()
    make = {
        "pipe": os.mkfifo, "folder": Path.mkdir, "device": lambda path: path.symlink_to("/dev/zero"),
        "nowhere": lambda path: path.symlink_to("/nowhere"),
    }  # fmt: skip
    make[kind](own / name)
    try:
        differences = list(verify(own))
    except InputError as error:
        differences = [str(error)]
    assert any(name in difference or "holds no dataset.json" in difference for difference in differences)
    if name.startswith("shards"):
        with pytest.raises(MesmError, match="cannot be read"):
            list(Dataset(own))


# Shards that lie


@pytest.mark.parametrize(
    "head",
    [
        tar_header(f"../{KEY}.txt", 7), tar_header(f"/{KEY}.txt", 7), tar_header(f"{KEY}.json", 7),
        tar_header(f"{KEY}.txt", 8), tar_header(f"{KEY}.txt", 8 * 2**30 - 1),
        *(tar_header(f"{KEY}.txt", 7)[:156] + kind + b"/etc/passwd".ljust(355, b"\0")
        for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"L", b"x", b"S")), bytes(BLOCK),
    ],
)  # fmt: skip
def test_a_tar_header_that_misleads_other_readers_is_detected(own: Path, head: bytes) -> None:
    """Names that lead out, links, devices, other sizes: digests of members do not cover them."""
    row = Dataset(own).rows[KEY]
    with (own / "shards" / row["shard"]).open("r+b") as file:
        file.seek(row["txt_offset"] - BLOCK)
        file.write(head)
    with pytest.raises(MesmError, match=f"sample {KEY} is damaged .txt has another tar header"):
        Dataset(own, check=True)[KEY]
    assert any(f"sample {KEY}: {KEY}.txt: its tar header" in difference for difference in verify(own))
    assert list(own.parent.iterdir()) == [own]


@pytest.mark.parametrize("cut", [0, 1, 512, 3000])
def test_a_shard_of_another_size_is_named_before_it_is_used(own: Path, cut: int) -> None:
    path = own / "shards" / "all-000000.tar"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(MesmError, match=rf"all-000000.tar has {cut} bytes, dataset.json says"):
        list(Dataset(own))
    assert any("the shard ends inside it" in difference for difference in verify(own))


def test_a_shard_with_a_huge_stated_size_is_not_read(own: Path) -> None:
    """All of dataset.json, the manifest and the index agree on 10 GB more than there are."""
    info = read_json(own / "dataset.json")
    much = 10 * 2**30 // 10240 * 10240
    rows = read_table_rows(own / "manifest.parquet")
    last = max((row for row in rows if row["shard"] == "all-000000.tar"), key=lambda row: row["wav_offset"])
    last["wav_size"] += much
    last["n_samples"] += much // 2
    info["shards"]["all-000000.tar"]["size"] += much
    write_table(own / "manifest.parquet", rows, SCHEMA)
    (own / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(MesmError, match=r"bytes, dataset\.json says"):
        list(Dataset(own))
    assert any(f"{last['key']}.wav: the shard ends inside it" in difference for difference in verify(own))


@pytest.mark.parametrize(
    "shape", ["(1, 0, 4, 3)", f"({10**40}, 0, 4, 3)", "(9, 0, 9, 3)", "(01, 4, 4, 3)", "(-1, 4, 4, 3)"]
)
def test_an_invalid_header_of_faces_is_refused(shape: str) -> None:
    whole = encode_faces(np.zeros((1, 4, 4, 3), np.uint8))
    head = (
        whole[:128].replace(b"(1, 4, 4, 3), }", f"{shape}, }}".encode()).ljust(130)[:127].rstrip(b"\n").ljust(127)
        + b"\n"
    )
    with pytest.raises(ValueError, match=r"."):
        decode_faces(head + whole[128:])


@pytest.mark.parametrize("record", [b"[1]", b"null", b'{"a": 1e999}', b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff"])
def test_an_invalid_record_is_refused_with_the_name_of_the_sample(base: Path, record: bytes) -> None:
    from dataclasses import replace

    sample = replace(Dataset(base)[KEY], json=memoryview(record))
    with pytest.raises(MesmError, match=f"sample {KEY} is damaged: its json is not a record"):
        _ = sample.record
    with pytest.raises(MesmError, match="more than 8 MiB"):
        _ = replace(sample, json=memoryview(bytes(MAX_RECORD + 1))).record


def test_the_memory_limit_is_restored_and_other_limits_are_kept(base: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    Dataset(base)
    with pytest.raises(InputError):
        read_table(base / "dataset.json")
    assert resource.getrlimit(resource.RLIMIT_AS) == before


def test_rows_and_clips_of_a_valid_dataset_are_accepted(base: Path) -> None:
    info = read_dataset_info(base)
    assert len(read_manifest_rows(base, info)) == info["counts"]["total"]
    assert len(read_clip_index(base, info)) == info["counts"]["ok"]
