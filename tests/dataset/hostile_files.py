"""Invalid files and servers of other kinds: .csd files, locks, runs, parts of a build, and web servers.

Each subject is written once, then copied and changed for each case, as datasets are in hostile.py, which runs them. The
same holds for them: what reads them succeeds or raises MesmError.
"""

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hostile import NUMBERS, TEXTS, edit_bytes, edit_json, write_parts

from mesm_data.dataset.dataset_dir import write_dataset
from mesm_data.errors import MesmError
from mesm_data.integrity.verify import verify

DIGEST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`write` makes a folder, `change` damages it, `read` reads it. `writes`: reading it writes files."""

    write: Callable[[Path], None]
    change: Callable[[random.Random, Path], None]
    read: Callable[[random.Random, Path], object]
    writes: bool = False
    seconds: float = 20


def _change_json(choose: random.Random, file: Path) -> None:
    """A value in a JSON file, or its bytes."""
    data = bytearray(file.read_bytes())
    if choose.random() < 0.3:
        edit_bytes(choose, data)
        file.write_bytes(data)
        return
    lines = data.splitlines() if file.suffix == ".jsonl" else [bytes(data)]
    at = choose.randrange(len(lines))
    value = json.loads(lines[at])
    for _ in range(choose.choice([1, 1, 3])):
        edit_json(choose, value)
    lines[at] = json.dumps(value).encode()
    file.write_bytes(b"\n".join(lines) + b"\n")


def _tolerate(*uses: Callable[[], object]) -> None:
    """Each may be refused in a sentence."""
    for use in uses:
        try:
            use()
        except MesmError as error:
            text = str(error)
            text.encode()
            assert text.strip()
            assert len(text) < 100_000


# .csd files


def write_csd(folder: Path) -> None:
    import h5py

    folder.mkdir(parents=True)
    with h5py.File(folder / "words.csd", "w") as file:
        for video in range(3):
            file[f"words/data/v{video}/features"] = [[b"yes"], [b"sp"], [b"no"]]
            file[f"words/data/v{video}/intervals"] = [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
        file["words/metadata/dimension names"] = [json.dumps(["word"])]


def change_csd(choose: random.Random, folder: Path) -> None:
    import h5py

    file = folder / "words.csd"
    if choose.random() < 0.6:
        data = bytearray(file.read_bytes())
        edit_bytes(choose, data)
        file.write_bytes(data)
        return
    with h5py.File(file, "r+") as opened:
        group = opened[f"words/data/v{choose.randrange(3)}"]
        name = choose.choice(["features", "intervals"])
        del group[name]
        match choose.randrange(6):
            case 0:
                group[name] = h5py.ExternalLink(choose.choice(["/etc/passwd", "words.csd", "../x"]), "/words")
            case 1:
                group[name] = h5py.SoftLink(choose.choice(["/words", "/", "/words/data/v0/features", "nowhere"]))
            case 2:
                group.create_dataset(name, (3, 1), "S64", external=[("/etc/passwd", 0, 192)])
            case 3:
                size = choose.choice([number for number in NUMBERS if 0 < number <= 2**40])
                group.create_dataset(name, (size, 2), choose.choice(["f8", "i1", "S16"]), chunks=(64, 2))
            case 4:
                kinds = [
                    np.zeros(3),
                    np.zeros((3, 2, 2)),
                    np.full((3, 2), np.nan),
                    np.zeros((0, 2)),
                    5,
                    "text",
                    b"\xff",
                ]
                group[name] = choose.choice(kinds)
            case _:
                group.create_group(name)


def read_csd(_: random.Random, folder: Path) -> None:
    from mesm_data.corpora import csd

    def read_words() -> None:
        words, problems = csd.read_words(folder / "words.csd")
        assert "root:" not in str(words) + str(problems)

    _tolerate(read_words, lambda: csd.read_labels(folder / "words.csd"))


# recipe.lock


def _entry(number: int) -> dict[str, Any]:
    digests = dict.fromkeys(("wav", "faces", "pcm", "pixels"), DIGEST)
    return {
        "id": f"Ses01F_impro01_F{number:03d}", "audio": {"source": DIGEST, "samples": [0, 9]},
        "video": {"source": DIGEST, "span": [0.0, 1.0], "times": [0.0]},
        "faces": {"boxes": [[0, 0, 9, 9]], "scores": [0.5], "detected": [True]}, "sha256": digests, "key": "sound",
        "keyed": dict.fromkeys(("json", "text", "words", "labels", "record"), DIGEST),
        "clip": {"width": 2, "height": 2, "frames": 1, "times_sha256": DIGEST, "sound": 1},
    }  # fmt: skip


def write_lock(folder: Path) -> None:
    from mesm_data.dataset.recipe import Recipe

    folder.mkdir(parents=True)
    recipe = {**asdict(Recipe(corpus="iemocap")), "detector": DIGEST, "split": {"name": "session-5", "digest": DIGEST}}
    lock = {"lock": 1, "format": 1, "corpus": "iemocap", "synthetic": True, "recipe": recipe, "toolchain": {"av": "1"},
            "root": DIGEST, "failed": [], "samples": [_entry(0), _entry(1)]}  # fmt: skip
    (folder / "recipe.lock").write_text(json.dumps(lock))


def read_lock(_: random.Random, folder: Path) -> None:
    from mesm_data.dataset.recipe import Recipe
    from mesm_data.integrity.lock_comparison import compare_samples
    from mesm_data.integrity.lock_reader import read_lock

    def use() -> None:
        lock = read_lock(folder / "recipe.lock")
        _tolerate(lambda: lock.split_name, lambda: lock.check_recipe(Recipe(corpus="iemocap")))
        lock.toolchain_difference({"av": "1"})
        compare_samples(lock, [_entry(0), _entry(2)], ["Ses01F_impro01_F001"])

    _tolerate(use)


# Runs


def write_run(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    import torch

    from mesm_data.storage.json_files import write_json
    from mesm_train.evaluation.scores import binary_scores
    from mesm_train.training import checkpoint

    classes = ["ang", "hap", "sad"]
    truth = np.eye(3)[[0, 1, 2, 0]]
    scores = binary_scores(truth + 0.1, truth, [0.5] * 3, classes, exclusive=True)
    lines = [{"kind": "train", "epoch": 0, "step": 1, "loss": 0.5, "lr": 1e-3, "seconds": 0.1}]
    lines += [{"kind": kind, "epoch": 0, "step": 1, "loss": 0.5, "metrics": scores} for kind in ("valid", "test")]
    settings = {"name": "x", "model": {"kind": "mesm", "sparse": {"p": 0.5, "selection": "published"}}}
    provenance = {
        "dataset": {"corpus": "iemocap", "root": DIGEST, "format": 1, "synthetic": False, "counts": {"ok": 4}},
        "split": {"name": "session-5", "digest": DIGEST, "counts": {"train": 2}, "missing": {"failed": 1},
                  "leaks": {"speakers": 1, "dialogs": 0, "overlaps": 0}},
        "labels": {"view": "six", "classes": classes}, "config": settings, "seed": 0,
    }  # fmt: skip
    operations = {"input": {"faces": 9}, "models": {"fe2e": {"v.stem": 5}, "mesm": {"v.stem": 2}}, "kept": {"v": [0.5]}}
    write_json(folder / "provenance.json", provenance)
    write_json(folder / "thresholds.json", {"classes": classes, "thresholds": [0.5] * 3, "epoch": 0, "part": "valid"})
    write_json(folder / "operations.json", operations)
    model = {"kind": "mesm", "modalities": ["t"], "parameters": 5, "trainable_parameters": 5}
    results = {
        "schema": "mesm-run-results/1", "name": "x", "model": model, "seed": 0, "scores": {"test": scores},
        "training": {"best_epoch": 0, "seconds": 1.5},
    }  # fmt: skip
    write_json(folder / "results.json", results)
    columns = {f"{kind}_{name}": truth[:, n] for n, name in enumerate(classes) for kind in ("logit", "label")}
    pq.write_table(pa.table({"key": list("abcd"), **columns}), folder / "predictions-test.parquet")
    (folder / "config.yaml").write_text(json.dumps({**settings, "data": "x"}))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    checkpoint.save(folder / "checkpoints", 1, {"w": torch.zeros(2)}, {"position": {"total": 1}}, score=0.5)


def change_run(choose: random.Random, folder: Path) -> None:
    files = sorted(file for file in folder.rglob("*") if file.suffix in (".json", ".jsonl", ".yaml"))
    if choose.random() < 0.1:
        file = choose.choice(sorted(folder.rglob("step-*/*")))
        data = bytearray(file.read_bytes())
        edit_bytes(choose, data)
        file.write_bytes(data)
        return
    _change_json(choose, choose.choice(files))


def read_run(_: random.Random, folder: Path) -> None:
    from mesm_train.analysis.compare import compare
    from mesm_train.analysis.compare_tables import summary_table
    from mesm_train.analysis.sweep import read_row
    from mesm_train.analysis.systems import read_systems
    from mesm_train.config.recipe_files import load_recipe
    from mesm_train.report.page import render_report
    from mesm_train.report.record import read_record
    from mesm_train.runs.evaluate import recorded_scores
    from mesm_train.training import checkpoint

    assert render_report(read_record(folder))
    _tolerate(
        lambda: summary_table(compare(read_systems([folder]))),
        lambda: recorded_scores(folder, "test"), lambda: read_row("run", 0, folder).cells(),
        lambda: load_recipe(str(folder / "config.yaml")), lambda: checkpoint.load(folder / "checkpoints", "best"),
        lambda: checkpoint.load(folder / "checkpoints", "last"),
        lambda: checkpoint.best_checkpoints(folder / "checkpoints"),
    )  # fmt: skip


# Parts of a build


def write_part(folder: Path) -> None:
    from mesm_data.dataset.parts import finish_part

    rows = write_parts(folder, 4, 4)
    finish_part(folder, "p", [{name: value for name, value in row.items() if name != "source"} for row in rows])


def change_part(choose: random.Random, folder: Path) -> None:
    file = choose.choice(sorted(folder.iterdir()))
    if file.suffix == ".json" and choose.random() < 0.7:
        value = json.loads(file.read_bytes())
        edit_json(choose, value["rows"])
        if choose.random() < 0.1:
            file.write_text(json.dumps(value))
            return
    data = bytearray(file.read_bytes())
    edit_bytes(choose, data)
    file.write_bytes(data)


def pack_part(_: random.Random, folder: Path) -> None:
    """A part is made again, or is packed and is then what was written; the dataset is never another one."""
    from mesm_data.dataset.parts import read_part

    rows = read_part(folder, "p")
    if rows is None:
        return
    facts = {"corpus": "iemocap", "synthetic": True, "notes": [], "findings": [], "recipe": {"face_size": 4},
             "source": {}, "toolchain": {}}  # fmt: skip
    out = folder / "out"

    def pack() -> None:
        packed_rows = sorted(({**row, "source": "p", "group": "all"} for row in rows), key=lambda row: row["key"])
        write_dataset(out, folder, packed_rows, facts, limit=9_000, step=lambda _: None)
        assert list(verify(out)) == []

    _tolerate(pack)


# Web servers


def _answer(choose: random.Random, port: int) -> bytes:
    places = [
        "/b", "//127.0.0.1:1/x", "file:///etc/passwd", "ftp://127.0.0.1:1/x", "", f"http://127.0.0.1:{port}/c",
        "http://[", "x" * 70_000, "http://127.0.0.1:99999999/", "s3://bucket/x", "\udcff", "javascript:x", *TEXTS,
    ]  # fmt: skip
    status = choose.choice([200, 200, 206, 301, 302, 303, 307, 308, 304, 401, 404, 416, 429, 500, 999, 100])
    length = choose.choice([None, 4, 0, -1, 10**30, "x", 3, 5])
    head = f"HTTP/1.1 {status} OK\r\nLocation: {choose.choice(places)}\r\n"
    head += "" if length is None else f"Content-Length: {length}\r\n"
    head += choose.choice(["", "Transfer-Encoding: chunked\r\n", "Content-Encoding: gzip\r\n", "X: " + "y" * 10**5])
    body = choose.choice([b"data", b"", b"4\r\ndata\r\n0\r\n\r\n", b"ffffffffffff\r\n", b"z" * 10**5])
    data = bytearray(head.encode("utf-8", "surrogateescape") + b"\r\n" + body)
    if choose.random() < 0.3:
        edit_bytes(choose, data)
    return bytes(data)


@contextmanager
def _server(choose: random.Random) -> Iterator[str]:
    """A server of one seeded answer after the other, each on a connection of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection, suppress(OSError):
                        connection.settimeout(1)
                        connection.recv(65_536)
                        connection.sendall(_answer(choose, port))

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{port}/a"
        listening.shutdown(socket.SHUT_RDWR)


def read_server(choose: random.Random, _: Path) -> None:
    from mesm_data.storage import remote, remote_bytes

    remote_bytes.FIRST_PAUSE, remote_bytes.CONNECT_TIMEOUT, remote_bytes.STALL_TIMEOUT = 0.0, 0.5, 0.2
    with _server(choose) as url:

        def get() -> None:
            assert b"root:" not in remote.read_bytes(url, limit=1000)

        _tolerate(get)


SUBJECTS = {
    # The HDF5 library may loop on a damaged file until its process has used all its time.
    "csd": Subject(write=write_csd, change=change_csd, read=read_csd, seconds=200),
    "lock": Subject(
        write=write_lock, change=lambda choose, folder: _change_json(choose, folder / "recipe.lock"), read=read_lock
    ),
    "run": Subject(write=write_run, change=change_run, read=read_run),
    "part": Subject(write=write_part, change=change_part, read=pack_part, writes=True),
    "server": Subject(write=Path.mkdir, change=lambda choose, folder: None, read=read_server),
}
