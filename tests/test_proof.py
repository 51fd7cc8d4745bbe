"""Guarantees of a lock: another lab with the same corpus builds the same bytes, and whatever differs is named.

Nobody without the corpus learns from a lock what is in it.
"""

import csv
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_accounting import files_of
from test_same_bytes import PLAIN_CPU

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.integrity import lock_writer as locks
from mesm_data.integrity.lock_comparison import compare_sample
from mesm_data.integrity.lock_reader import read_lock
from mesm_data.media.faces.crop import FaceBox, crop_at
from mesm_data.pipeline.build import build_dataset
from mesm_data.storage.json_files import canonical_json, read_json

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def elsewhere(tmp_path: Path) -> dict[str, Any]:
    """Another machine as far as a process can be one: its environment, folder, time zone, language, rights."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**kept, "HOME": str(home), "TZ": "Pacific/Kiritimati", "LANG": "tr_TR.UTF-8", "LC_ALL": "C"}
    return {"cwd": home, "env": {**environment, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"}, "umask": 0o077}


def verdicts(out: Path) -> dict[str, tuple[str, str]]:
    """rebuild.csv, by key."""
    return {line["key"]: (line["verdict"], line["what"]) for line in csv.DictReader((out / "rebuild.csv").open())}


@pytest.fixture(scope="module")
def rebuilt(
    once: Callable[[str, Callable[[Path], None]], Path], corpus: Path, dataset: Path, mesm_data: Command
) -> Path:
    """A folder with `their corpus`, a copy under another name, and `out`, built of it elsewhere by the lock alone."""

    def make(path: Path) -> None:
        path.mkdir()
        copy = shutil.copytree(corpus, path / "their corpus")
        for number, file in enumerate(sorted(copy.rglob("*"), reverse=True)):
            os.utime(file, (number, number))
        shutil.copy(dataset / "recipe.lock", path / "given.lock")
        arguments = ("build", "iemocap", "--source", copy, "--out", path / "out", "--lock", path / "given.lock")
        done = mesm_data(*arguments, "--workers", 1, "--no-video", **elsewhere(path))
        (path / "output").write_text(done.stderr + done.stdout)

    return once("rebuilt", make)


def test_another_machine_with_the_lock_builds_the_same_root(rebuilt: Path, dataset: Path) -> None:
    ours, theirs = read_json(dataset / "dataset.json"), read_json(rebuilt / "out" / "dataset.json")
    for name in ("root", "shards", "manifest"):
        assert theirs[name] == ours[name]
    results = verdicts(rebuilt / "out")
    assert set(results) == set(Dataset(dataset).keys)
    assert set(results.values()) == {("identical", "")}
    output = (rebuilt / "output").read_text()
    assert f"{len(results)} identical, 0 equivalent, 0 different; the same root {ours['root']}" in output


def test_exactly_the_different_samples_are_named(
    tmp_path: Path, corpus: Path, dataset: Path, mesm_data: Command
) -> None:
    """One flipped byte of sound; bytes behind a sound that change no sample; and a lock that cuts elsewhere."""
    copy = shutil.copytree(corpus, tmp_path / "copy")
    flipped, longer, moved = Dataset(dataset).keys[::7][:3]
    sound = bytearray(files_of(copy, flipped)[0].read_bytes())
    sound[5000] ^= 1
    files_of(copy, flipped)[0].write_bytes(sound)
    with files_of(copy, longer)[0].open("ab") as file:
        file.write(b"LIST\x04\0\0\0note")
    lock = read_json(dataset / "recipe.lock")
    [entry] = [entry for entry in lock["samples"] if entry["id"] == moved]
    entry["faces"]["boxes"][0][0] -= 7
    (tmp_path / "other.lock").write_text(json.dumps(lock))
    out = tmp_path / "out"
    arguments = ("build", "iemocap", "--source", copy, "--out", out, "--lock", tmp_path / "other.lock", "--no-video")
    done = mesm_data(*arguments, check=False)
    assert done.returncode == 1
    differences = {key: result for key, result in verdicts(out).items() if result != ("identical", "")}
    assert differences[flipped][0] == "different"
    assert differences[flipped][1].startswith("sound; source of the sound; ")
    assert differences[longer] == ("equivalent", "source of the sound; json")
    assert differences[moved] == ("different", "picture; record")  # cropped from the local frames where the lock says
    assert set(differences) == {flipped, longer, moved}
    assert Dataset(out)[moved].record["faces"]["boxes"][0] == entry["faces"]["boxes"][0]
    assert f"different: {flipped}: sound" in done.stderr
    checked = mesm_data("fingerprint", copy, "--against", dataset / "recipe.lock", check=False)
    names = {str(files_of(copy, key)[0].relative_to(copy)) for key in (flipped, longer)}
    assert checked.returncode == 1
    assert {line.split(maxsplit=1)[1].split(":")[0] for line in checked.stdout.splitlines()} == names


def test_verify_against_a_lock_shows_how_far_it_is(dataset: Path, mesm_data: Command) -> None:
    """All shards are read a second time for it."""
    done = mesm_data("verify", dataset, "--against", dataset / "recipe.lock")
    count = len(Dataset(dataset).keys)
    assert f"{count} identical, 0 equivalent, 0 different" in done.stderr
    assert re.search(f"against: +0%.* 0/{count} ", done.stderr)


def test_a_lock_contains_only_ids_digests_and_numbers(dataset: Path) -> None:
    lock_content = read_json(dataset / "recipe.lock")
    assert set(lock_content) == {
        "lock", "format", "corpus", "synthetic", "recipe", "toolchain", "root", "failed", "samples",
    }  # fmt: skip

    def texts(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in texts(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in texts(inner)]
        return [value] if isinstance(value, str) else []

    for entry in lock_content["samples"]:
        assert set(entry) == {"id", "audio", "video", "clip", "faces", "sha256", "key", "keyed"}
        others = [text for text in texts(entry) if not re.fullmatch("[0-9a-f]{64}", text)]
        assert sorted(others) == sorted([entry["id"], entry["key"]])
    raw = (dataset / "recipe.lock").read_text()
    assert str(Path.home()) not in raw
    assert os.uname().nodename not in texts(lock_content)


def test_guessable_values_are_keyed_by_the_sound(dataset: Path) -> None:
    """The same label has another digest in each sample; a holder of the sound can check it with standard tools."""
    ours, lock_content = Dataset(dataset), read_json(dataset / "recipe.lock")
    digests = [entry["keyed"]["labels"] for entry in lock_content["samples"]]
    assert len(set(digests)) == len(digests)
    raw = (dataset / "recipe.lock").read_text()
    for entry in lock_content["samples"]:
        row = ours.rows[entry["id"]]
        sample = ours[entry["id"]]
        key = hashlib.sha256(b"mesm recipe.lock 1 sound\0" + sample.samples.tobytes()).digest()
        for name, data in (("text", sample.text.encode()), ("json", canonical_json(sample.record))):
            assert entry["keyed"][name] == hmac.new(key, name.encode() + b"\0" + data, "sha256").hexdigest()
        assert not {row["txt_sha256"], row["json_sha256"], row["text_sha256"]} & set(re.findall("[0-9a-f]{64}", raw))


def test_digital_silence_gives_no_key() -> None:
    silence, noise = np.zeros(16_000, np.int16), np.arange(16_000, dtype=np.int16)
    black, picture = np.zeros((2, 4, 4, 3), np.uint8), np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    assert locks.derive_key(noise, black)[0] == "sound"
    assert locks.derive_key(silence, picture)[0] == "picture"
    assert locks.derive_key(silence[:0], black) == (None, None)


def test_clips_are_compared_by_their_frames_times_and_sound(dataset: Path) -> None:
    entry = read_json(dataset / "recipe.lock")["samples"][0]
    assert entry["clip"]["frames"] > 10
    one_packet_more = {**entry["clip"], "sound": entry["clip"]["sound"] + 1}
    assert compare_sample(entry, {**entry, "clip": one_packet_more}).verdict == "identical"
    for name, value in (("frames", 3), ("times_sha256", "0" * 64), ("width", 2), ("sound", 1)):
        _, verdict, what = compare_sample(entry, {**entry, "clip": {**entry["clip"], name: value}})
        assert (verdict, what) == ("different", "clip")


@pytest.mark.parametrize("name", locks.KEYED_FIELDS)
def test_every_keyed_field_is_compared(dataset: Path, name: str) -> None:
    entry = read_json(dataset / "recipe.lock")["samples"][0]
    other = {**entry, "keyed": {**entry["keyed"], name: "0" * 64}}
    assert compare_sample(entry, other)[1:] == ("equivalent" if name == "json" else "different", name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_lock_is_read_or_refused(dataset: Path, tmp_path: Path, data: st.DataObject) -> None:
    """One value anywhere is replaced by something else; nothing but InputError comes of it."""
    lock_content = read_json(dataset / "recipe.lock")
    lock_content["samples"] = lock_content["samples"][:2]
    place: Any = lock_content
    while True:
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[name], dict | list) or not place[name] or data.draw(st.integers(0, 3)) == 0:
            break
        place = place[name]
    place[name] = data.draw(st.sampled_from([None, -1, 10**30, "x", [], {}, [[1]], True, 0.5]))
    path = tmp_path / "damaged.lock"
    path.write_text(json.dumps(lock_content))
    with suppress(InputError):
        lock = read_lock(path)
        assert all(lock.face_boxes(SimpleNamespace(key=key) for key in lock.samples).values())  # type: ignore[misc]


def test_a_box_outside_the_local_image_is_not_cropped() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    assert crop_at(picture, FaceBox(box=(0, 0, 30, 20), score=1.0, count=1), 48) is not None
    for box in ((0, 0, 31, 20), (5, 5, 5, 9), (0, 9, 9, 3), (0, 0, 9, 21)):
        assert crop_at(picture, FaceBox(box=box, score=1.0, count=1), 48) is None


def test_options_that_contradict_a_lock_are_refused(
    tmp_path: Path, corpus: Path, dataset: Path, rebuilt: Path, mesm_data: Command
) -> None:
    lock = dataset / "recipe.lock"
    for arguments, words in (
        (("build", "iemocap", "--only", "Ses01*"), "--only cannot be given with --lock"),
        (("build", "mosei"), "is of iemocap, not of mosei"),
        (("build", "iemocap", "--video-offset", "0.5"), "--video-offset cannot be given with --lock"),
    ):
        source = ("--source", corpus, "--out", tmp_path / "out", "--lock", lock)
        done = mesm_data(*arguments, *source, check=False)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
        assert not (tmp_path / "out").exists()
    scanned, recipe = scan_corpus("iemocap", corpus), replace(read_lock(lock).recipe, clips=False)
    with pytest.raises(InputError, match="was made with other options: face_size is 48 there and 64 now"):
        build_dataset(scanned, tmp_path / "out", replace(recipe, face_size=64), lock=read_lock(lock))
    with pytest.raises(InputError, match="was begun with another lock"):
        build_dataset(scanned, rebuilt / "out", recipe)


@pytest.mark.slow
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="switches off x86 instruction sets")
def test_a_lock_is_identical_without_the_vector_instructions_of_the_cpu(
    tmp_path: Path, corpus: Path, dataset: Path
) -> None:
    program = PLAIN_CPU.replace(
        "import test_same_bytes as t\n", "import test_same_bytes as t, mesm_data.integrity.lock_reader as l\n"
    )
    call = (
        "corpus = t.scan_corpus('iemocap', Path(sys.argv[1]))\n"
        "t.build_dataset(corpus, Path(sys.argv[2]), lock.recipe, workers=1, lock=lock)\n"
    )
    program = program[: program.index("t.build_dataset(")] + "lock = l.read_lock(Path(sys.argv[3]))\n" + call
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Prescott",
        "NPY_DISABLE_CPU_FEATURES": "AVX512_ICL AVX512_CLX AVX512_SKX AVX512CD AVX512F AVX2 FMA3",
    }
    command = [sys.executable, "-c", program, corpus, tmp_path / "out", dataset / "recipe.lock"]
    subprocess.run(list(map(str, command)), env=environment, check=True)
    assert read_json(tmp_path / "out" / "dataset.json")["root"] == read_json(dataset / "dataset.json")["root"]
