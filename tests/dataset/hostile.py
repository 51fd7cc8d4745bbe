"""Thousands of invalid files: a seeded mutator, and what may happen when such a file is read.

Here are datasets; what else strangers may send (.csd files, locks, runs, parts, web servers) is in hostile_files.py.

    python tests/dataset/hostile.py --cases 20000 --seed 1        (PYTHONPATH as for the tests)

Each case is a copy of a tiny dataset with one to three lies in it. All that reads a dataset is run on it, in a process
that may take 2 GiB of addresses and write no byte to any file. It may succeed or raise MesmError (InputError is one);
`verify` may find differences. Anything else (another exception, the end of the process, 20 s) is a finding.
"""

import argparse
import json
import multiprocessing
import random
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, process
from contextlib import suppress
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.dataset.dataset_dir import dataset_root, schema_from_info, write_dataset
from mesm_data.dataset.manifest import manifest_schema, read_table_rows, rows_digest, write_table
from mesm_data.dataset.members import encode_faces
from mesm_data.dataset.parts import PartWriter, open_part
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.summary import inspect
from mesm_data.dataset.tar import BLOCK
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.verify import verify
from mesm_data.media.wav import encode_wav
from mesm_data.schema.built_in import built_in_schema
from mesm_data.splits.resolve import resolve_split
from mesm_data.storage.json_files import canonical_json

SCHEMA = manifest_schema(built_in_schema("iemocap"))

ADDRESSES = 2 * 2**30
SECONDS = 20
SIZE = 4  # pixels of a crop

Mutation = Callable[[random.Random, Path], None]

# Numbers, texts and values that break what was not thought of.
NUMBERS = [-1, 0, 1, 3, 511, 512, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, -(2**63), 10_000_000_000]
FLOATS = [float("nan"), float("inf"), -float("inf"), -0.0, 1e308, -1.0]
TEXTS = [
    "",
    "..",
    "../../x",
    "/etc/passwd",
    "a.b",
    "a/b",
    "\0",
    "\x1b[2J",
    "é",
    "x" * 300,
    "ok",
    "failed",
    "Ses09",
    "nan",
]
VALUES = [None, True, [], {}, [[]], {"a": None}, 0.5, *NUMBERS, *TEXTS]


def write(folder: Path, count: int = 4, face_size: int = SIZE) -> None:
    """A dataset of `count` samples with clips, and a row that failed, as `mesm-data build` writes them."""
    rows = write_parts(folder / "parts", count, face_size)
    rows.append({**row("Ses01F_impro02_F000", 9), "status": "failed", "reason": "Session1/a.wav: broken"})
    facts = {
        "corpus": "iemocap", "synthetic": True, "notes": [], "findings": [],
        "recipe": {"face_size": face_size, "sample_rate": 16_000, "frame_interval": "0.5"},
        "source": {}, "toolchain": {}, "schema": built_in_schema("iemocap").as_dict(),
    }  # fmt: skip
    rows.sort(key=lambda one: one["key"])
    write_dataset(folder, folder / "parts", rows, facts, limit=9_000, step=lambda _: None)
    shutil.rmtree(folder / "parts")


def write_parts(parts: Path, count: int, face_size: int) -> list[dict[str, Any]]:
    """The part `p` of `count` samples with clips, and its rows."""
    rows = []
    parts.mkdir(parents=True)
    with open_part(parts, "p", clips=True) as part:
        for number in range(count):
            key = f"Ses0{number % 5 + 1}F_impro01_M{number:03d}"
            rows.append({**row(key, number), **_built(part, key, number, face_size)})
    return rows


def row(key: str, number: int) -> dict[str, Any]:
    """What a manifest says of any utterance."""
    numbers = {"valence": 2.0, "activation": None, "dominance": 3.0}
    rater = {"rater": "E1", "self": False, "comment": "", "emotion": ["Anger"], **numbers}
    return {
        "key": key, "id": key, "status": "ok", "reason": None, "dialog": key[:14], "speaker": key[:6],
        "recording": key[:14],
        "session": key[4], "split": None, "start": 1.0 * number, "end": number + 2.0, "flags": ["no_alignment"],
        "group": "all", "source": "p",
        "labels": {"emotion": "ang", **numbers, "raters": [rater]},
    }  # fmt: skip


def _built(part: PartWriter, key: str, number: int, face_size: int) -> dict[str, Any]:
    noise = np.random.default_rng(number)
    members = {
        "faces.npy": encode_faces(noise.integers(0, 256, (number, face_size, face_size, 3)).astype(np.uint8)),
        "json": canonical_json({"id": key, "words": [{"w": "yes", "t0": 0.0, "t1": 0.5}], "sources": [], "flags": []}),
        "txt": f"Yes, {number}.".encode(),
        "wav": encode_wav(noise.integers(-99, 99, 300 * number).astype(np.int16)),
    }
    return {
        "audio": "ok", "video": "ok", "n_samples": 300 * number, "n_faces": number, "n_detected": number, "n_words": 1,
        **part.add(key, members, b"c" * 700),
    }  # fmt: skip


DATASET = "dataset"
ALL = {DATASET: 60, "lock": 12, "run": 12, "part": 8, "csd": 2, "server": 4}  # subjects and their weights


# What reads a dataset


def read(path: Path, check: bool = True) -> list[str]:
    """Everything that reads a dataset, on `path`. Returns how each part of it ended; raises what is no MesmError."""
    opened = _ended(partial(_open, path, check))
    outcome = _ended(lambda: "differs" if list(verify(path)) else "same")
    inspection = _ended(lambda: "shown" if json.dumps(inspect(path), allow_nan=False).encode() else "")
    return [opened, outcome, inspection]


def _ended(work: Callable[[], str]) -> str:
    try:
        return work()
    except MesmError as error:
        text = str(error)
    text.encode()  # it is printed
    assert text.strip()
    return f"refused: {text}"


def _open(path: Path, check: bool) -> str:
    dataset = Dataset(path, check=check)
    refused = 0
    for key in dataset.keys:
        try:
            sample = dataset[key]
            assert sample.faces.shape[1:] == (SIZE, SIZE, 3) or dataset.info["recipe"]["face_size"] != SIZE
            int(sample.faces.sum()), int(sample.samples.astype(int).sum())
            assert isinstance(sample.record, dict)
        except MesmError as error:
            named = key in str(error) or ".tar" in str(error)
            if not named:
                raise AssertionError("an error that names neither sample nor shard") from error
            refused += 1
    for name in ("session-1", "dialog"):
        with suppress(InputError):
            resolve_split(dataset.rows.values(), schema_from_info(dataset.path, dataset.info), name).summary()
    return f"{refused} samples refused" if refused else "read"


# Lies


def edit_bytes(choose: random.Random, data: bytearray, places: range | None = None) -> None:
    """Change bytes in place: bits, values, a piece cut, doubled, moved or lost at the end."""
    places = places or range(len(data))
    if not len(places):
        return
    match choose.randrange(6):
        case 0:
            for _ in range(choose.choice([1, 1, 1, 4, 32])):
                data[choose.choice(places)] ^= 1 << choose.randrange(8)
        case 1:
            for _ in range(choose.choice([1, 2, 8])):
                data[choose.choice(places)] = choose.choice([0, 1, 0x7F, 0x80, 0xFF, 0x30, 0x2E, 0x2F])
        case 2:
            del data[choose.choice(places) :]
        case 3:
            at, size = choose.choice(places), choose.choice([1, 4, 100, BLOCK])
            data[at:at] = data[at : at + size]
        case 4:
            at, size = choose.choice(places), choose.choice([1, 4, 100, BLOCK])
            del data[at : at + size]
        case _:
            at, size = choose.choice(places), choose.choice([4, 8])
            data[at : at + size] = struct.pack("<q", choose.choice(NUMBERS))[:size]


def raw(choose: random.Random, path: Path) -> None:
    """Bytes of any file."""
    file = choose.choice(sorted(one for one in path.rglob("*") if one.is_file()))
    data = bytearray(file.read_bytes())
    edit_bytes(choose, data)
    file.write_bytes(data)


def footer(choose: random.Random, path: Path) -> None:
    """Bytes of a Parquet file's footer, or of its first page headers."""
    file = choose.choice([path / "manifest.parquet", path / "manifest.parquet", path / "video" / "index.parquet"])
    data = bytearray(file.read_bytes())
    size = int.from_bytes(data[-8:-4], "little")
    edit_bytes(choose, data, range(max(0, len(data) - 8 - size), len(data)) if choose.random() < 0.7 else range(4, 60))
    if choose.random() < 0.8:
        data[-4:] = b"PAR1"
    file.write_bytes(data)


def tar_header(choose: random.Random, path: Path) -> None:
    """A field of a tar header, with a checksum that fits: another name, size, type or owner."""
    file = choose.choice(sorted(path.glob("*/*.tar")))
    data = bytearray(file.read_bytes())
    heads = [at for at in range(0, len(data) - BLOCK, BLOCK) if data[at + 257 : at + 262] == b"ustar"]
    if not heads:
        return
    at = choose.choice(heads)
    match choose.randrange(5):
        case 0:
            data[at : at + 100] = choose.choice(TEXTS).encode()[:100].ljust(100, b"\0")
        case 1:
            digits = choose.choice([b"77777777777", b"00000000000", b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff", b"-1"])
            data[at + 124 : at + 136] = digits.ljust(12, b"\0")
        case 2:
            data[at + 156] = choose.choice(b"0123456LKxgSA\0")
            data[at + 157 : at + 257] = b"/etc/passwd".ljust(100, b"\0")
        case 3:
            place = at + choose.randrange(BLOCK)
            data[place] = choose.randrange(256)
        case _:
            other = choose.choice(heads)
            data[at : at + BLOCK] = data[other : other + BLOCK]
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + BLOCK])
    file.write_bytes(data)
    _agree(choose, path)


def member(choose: random.Random, path: Path) -> None:
    """The head of a member: an invalid npy, wav or record."""
    rows = read_table_rows(path / "manifest.parquet")
    row_to_change = choose.choice([row for row in rows if row["status"] == "ok"])
    stem = choose.choice(["faces", "json", "txt", "wav"])
    file, at, size = (
        path / "shards" / row_to_change["shard"],
        row_to_change[f"{stem}_offset"],
        row_to_change[f"{stem}_size"],
    )
    data = bytearray(file.read_bytes())
    lies = {
        "faces": [
            f"({a}, {b}, {c}, 3), }}".encode() for a in (0, 10**9, 10**40) for b in (0, 4) for c in (0, 4, 2**63)
        ],
        "json": [b'{"a":1e9999}', b'{"a":1,"a":2}', b'"\\ud800"', b"[" * size, b"1" * size, b"null", b"NaN", b"\xff"],
        "txt": [b"\xff\xfe", b"\xed\xa0\x80", b"\0", b"\x1b[2J"],
        "wav": [struct.pack("<I", number & 0xFFFFFFFF) for number in NUMBERS],
    }[stem]
    value = choose.choice(lies)
    where = at + {"faces": 10 + 52, "json": 0, "txt": 0, "wav": choose.choice([4, 16, 22, 24, 40])}[stem]
    room = at + (128 if stem == "faces" else size) - where
    data[where : where + room] = (
        value.ljust(room) if stem in ("faces", "json") else value + data[where + len(value) : where + room]
    )[:room]
    file.write_bytes(data)
    _agree(choose, path)


def _agree(choose: random.Random, path: Path) -> None:
    """Usually, adapt all digests to the changed bytes: an attacker can compute them."""
    if choose.random() < 0.3:
        return
    rows, info = read_table_rows(path / "manifest.parquet"), json.loads((path / "dataset.json").read_text())
    for name, facts in info["shards"].items():
        data = (path / "shards" / name).read_bytes()
        facts.update(size=len(data), sha256=sha256(data).hexdigest())
        for one in (row for row in rows if row["shard"] == name):
            for stem in ("faces", "json", "txt", "wav"):
                at = one[f"{stem}_offset"]
                one[f"{stem}_sha256"] = sha256(data[at : at + one[f"{stem}_size"]]).hexdigest()
    info["manifest"]["sha256"] = write_table(path / "manifest.parquet", rows, SCHEMA)
    info["root"] = dataset_root(info["manifest"]["sha256"], info["shards"])
    (path / "dataset.json").write_text(json.dumps(info))


def cell(choose: random.Random, path: Path) -> None:
    """A value of the manifest or of the index of clips; sometimes with a digest that fits."""
    file = choose.choice([path / "manifest.parquet"] * 3 + [path / "video" / "index.parquet"])
    table = pq.read_table(file)
    rows, name = table.to_pylist(), choose.choice(table.column_names)
    kind = table.schema.field(name).type
    for one in choose.choices(rows, k=choose.choice([1, 1, 2, len(rows)])):
        if name == "labels":
            edit_json(choose, one["labels"])
        elif pa.types.is_integer(kind) and isinstance(one[name], int):
            one[name] = choose.choice([*NUMBERS, one[name] + choose.choice([-512, -1, 1, 512]), None])
        else:
            one[name] = choose.choice([*FLOATS, None] if pa.types.is_floating(kind) else [*TEXTS, None])
            if pa.types.is_list(kind):
                one[name] = choose.choice([None, [], [None], ["x"] * 1000])
    with suppress(pa.ArrowException, TypeError, OverflowError, ValueError, AttributeError):
        _save(choose, file, pa.Table.from_pylist(rows, schema=table.schema), path)


def table(choose: random.Random, path: Path) -> None:
    """The form of the manifest: columns lost, twice, of another type or name; rows lost, twice, in another order."""
    file = choose.choice([path / "manifest.parquet"] * 3 + [path / "video" / "index.parquet"])
    table = pq.read_table(file)
    number = choose.randrange(len(table.column_names))
    name = table.column_names[number]
    match choose.randrange(7):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.append_column(name, table.column(number))
        case 2:
            with suppress(pa.ArrowException):
                kind = choose.choice([pa.float64(), pa.int32(), pa.large_string(), pa.binary(), pa.null(), pa.bool_()])
                table = table.set_column(number, name, table.column(number).cast(kind))
        case 3:
            table = table.rename_columns(
                [choose.choice(TEXTS) if column == name else column for column in table.column_names]
            )
        case 4:
            table = table.take([choose.randrange(len(table)) for _ in range(choose.choice([0, 1, len(table), 50]))])
        case 5:
            table = pa.concat_tables([table] * choose.choice([2, 300]))
        case _:
            table = table.slice(0, choose.randrange(len(table) + 1))
    _save(choose, file, table, path)


def bomb(choose: random.Random, path: Path) -> None:
    """A small file that unfolds: one long text or list that many rows have."""
    schema = SCHEMA
    count = choose.choice([10_000, 100_000])
    rows = pq.read_table(path / "manifest.parquet").slice(0, 1)
    columns = {name: pa.repeat(rows.column(name)[0], count) for name in schema.names if name not in ("labels", "flags")}
    name = choose.choice(["key", "reason", "dialog", "shard", "pcm_sha256"])
    long = "x" * choose.choice([100, 10_000])
    coded = pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([long]))
    arrays = {
        column: coded if column == name else columns.get(column, pa.nulls(count, schema.field(column).type))
        for column in schema.names
    }
    pq.write_table(pa.table(arrays), path / "manifest.parquet", compression="zstd", store_schema=False)


def _save(choose: random.Random, file: Path, table: pa.Table, path: Path) -> None:
    pq.write_table(table, file, compression=choose.choice(["zstd", "none", "snappy", "gzip"]))
    if file.name != "manifest.parquet" or choose.random() < 0.3:
        return
    info = json.loads((path / "dataset.json").read_text())
    info["manifest"]["rows"] = len(table)
    with suppress(ValueError):
        info["manifest"]["sha256"] = rows_digest(table.to_pylist())
    (path / "dataset.json").write_text(json.dumps(info))


def edit_json(choose: random.Random, value: Any) -> None:
    """Change one place in a JSON value, at any depth."""
    if isinstance(value, dict) and value:
        name = choose.choice(sorted(value))
        if isinstance(value[name], (dict, list)) and value[name] and choose.random() < 0.7:
            edit_json(choose, value[name])
        elif choose.random() < 0.2:
            del value[name]
        elif choose.random() < 0.2:
            value[choose.choice(TEXTS)] = value.pop(name)
        else:
            value[name] = choose.choice(VALUES)
    elif isinstance(value, list) and value:
        at = choose.randrange(len(value))
        if isinstance(value[at], (dict, list)) and choose.random() < 0.7:
            edit_json(choose, value[at])
        else:
            value[at] = choose.choice(VALUES)


def description(choose: random.Random, path: Path) -> None:
    """A value of dataset.json; or what JSON should not hold."""
    file = path / "dataset.json"
    info = json.loads(file.read_text())
    info.pop("features", None)
    for _ in range(choose.choice([1, 1, 2])):
        edit_json(choose, info)
    text = json.dumps(info)
    odd = choose.choice(
        ["1e9999", "-" + "9" * 5000, "NaN", '"\\ud800"', "[" * 5000, '{"a":' * 5000, '{"a":1,"a":2}', "1" * 400]
    )
    if choose.random() < 0.3:
        text = text.replace(choose.choice([": 0", ": 1", ": {", ': "']), f": {odd}", 1)
    file.write_text(text)


def folder(choose: random.Random, path: Path) -> None:
    """The files themselves: lost, exchanged, empty, folders, links to elsewhere."""
    file = choose.choice(sorted(one for one in path.rglob("*") if one.is_file()))
    other = choose.choice(sorted(one for one in path.rglob("*") if one.is_file()))
    match choose.randrange(5):
        case 0:
            file.unlink()
        case 1:
            file.write_bytes(other.read_bytes())
        case 2:
            file.write_bytes(b"")
        case 3:
            file.unlink()
            file.mkdir()
        case _:
            file.unlink()
            file.symlink_to(choose.choice(["/dev/zero", "/etc/passwd", "/nowhere", ".."]))


# Often what is cheap and finds much.
MUTATIONS: dict[Mutation, int] = {
    raw: 20, footer: 25, tar_header: 10, member: 12, cell: 25, table: 8, description: 20, folder: 4, bomb: 1,
}  # fmt: skip


def mutate(seed: str, path: Path) -> list[str]:
    """Make one to three changes in the dataset at `path`. Returns their names."""
    choose = random.Random(seed)
    mutations = choose.choices(list(MUTATIONS), list(MUTATIONS.values()), k=choose.choice([1, 1, 1, 2, 3]))
    # What no later lie must read comes last, and once: links to /dev/zero, tables that unfold to gigabytes.
    mutations = [one for one in mutations if one not in (folder, bomb)] + [
        one for one in mutations if one in (folder, bomb)
    ][:1]
    for mutation in mutations:
        with suppress(Exception):  # what an earlier lie has left may not be what this one can be told in
            mutation(choose, path)
    return [mutation.__name__ for mutation in mutations]


# Running cases


def case(bases: Path, name: str, scratch: Path) -> str | None:
    """Run the case `name` (subject:seed-number); None, or what was found."""
    from hostile_files import SUBJECTS

    kind, _, seed = name.rpartition(":")
    choose, path = random.Random(seed), Path(tempfile.mkdtemp(dir=scratch))
    try:
        if kind != DATASET:
            import_readers(kind, bases, scratch)
        shutil.copytree(bases / kind, path / "d", dirs_exist_ok=True)
        if kind == DATASET:
            applied, choose = mutate(seed, path / "d"), random.Random(seed)
            work, writes, seconds = partial(read, path / "d", choose.random() < 0.7), False, float(SECONDS)
        else:
            subject, applied = SUBJECTS[kind], [kind]
            with suppress(Exception):  # as in mutate
                subject.change(choose, path / "d")
            work, writes, seconds = partial(subject.read, choose, path / "d"), subject.writes, subject.seconds
        before = _files(path)
        try:
            limited(work, seconds, may_write=writes)
        except BaseException:
            return f"{name} {'+'.join(applied)}: {traceback.format_exc(limit=-6)}"
        return None if writes or _files(path) == before else f"{name} {'+'.join(applied)}: wrote files"
    finally:
        shutil.rmtree(path)


@cache
def import_readers(kind: str, bases: Path, scratch: Path) -> None:
    """Read a subject as it was written, once a process: what that imports may write files and take memory."""
    from hostile_files import SUBJECTS

    with tempfile.TemporaryDirectory(dir=scratch) as place:
        folder = Path(shutil.copytree(bases / kind, Path(place) / kind))
        SUBJECTS[kind].read(random.Random(0), folder)


def limited(work: Callable[[], object], seconds: float = SECONDS, *, may_write: bool = False) -> None:
    """Run `work` where it takes at most ADDRESSES and `seconds`, and can write no file, unless it `may_write`."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    # torch alone maps more than ADDRESSES
    kinds = {resource.RLIMIT_AS: max(ADDRESSES, mapped + ADDRESSES // 2), resource.RLIMIT_CORE: 0}
    kinds |= {} if may_write else {resource.RLIMIT_FSIZE: 0}
    before = {kind: resource.getrlimit(kind) for kind in kinds}
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    for kind, limit in kinds.items():
        resource.setrlimit(kind, (limit, before[kind][1]))
    try:
        work()
    finally:
        for kind, limits in before.items():
            resource.setrlimit(kind, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_long(*_: object) -> None:
    raise TimeoutError("more time than a case has")


def _files(path: Path) -> list[tuple[str, int]]:
    return sorted((str(file), file.lstat().st_size) for file in path.rglob("*"))


def batch(bases: Path, seeds: Iterable[str], scratch: Path) -> list[str]:
    """Run cases one after the other; the seed of the one at work stands in a file, should it end the process."""
    findings = []
    for seed in seeds:
        (scratch / f"at.{multiprocessing.current_process().pid}").write_text(seed)
        findings += filter(None, [case(bases, seed, scratch)])
    return findings


def run(
    cases: int, seed: int, scratch: Path, *, subjects: Mapping[str, int] = ALL, workers: int = 2, step: int = 500
) -> Iterator[str]:
    """Yield what was found in `cases` cases of the `subjects`, which have these weights."""
    from hostile_files import SUBJECTS

    bases = scratch / "bases"
    bases.mkdir()
    for kind in subjects:
        write(bases / kind) if kind == DATASET else SUBJECTS[kind].write(bases / kind)
    kinds = random.Random(seed).choices(list(subjects), list(subjects.values()), k=cases)
    names = [f"{kind}:{seed}-{number}" for number, kind in enumerate(kinds)]
    pieces = [names[at : at + step] for at in range(0, cases, step)]
    while pieces:
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(batch, bases, piece, scratch) for piece in pieces[: 4 * workers]]
            for job in jobs:
                try:
                    yield from job.result()
                except process.BrokenProcessPool:
                    yield f"a process ended, at one of {[one.read_text() for one in scratch.glob('at.*')]}"
            pieces = pieces[4 * workers :]


def main() -> None:
    """Run cases and print what was found."""
    parser = argparse.ArgumentParser(description="Files that lie.")
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--subjects", help=f"of {','.join(ALL)}")
    options = parser.parse_args()
    began, findings = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as place:
        weights = {kind: ALL[kind] for kind in options.subjects.split(",")} if options.subjects else ALL
        for one in run(options.cases, options.seed, Path(place), subjects=weights):
            findings += 1
            print(one, flush=True)
    print(f"{options.cases} cases, seed {options.seed}, {time.monotonic() - began:.0f} s: {findings} found")


if __name__ == "__main__":
    main()
