"""Guarantee: reading a .csd file gives its content or a sentence; no other file is read, and the process never dies."""

import json
import os
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from mosei_trees import write_csd

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.ratings import ITEMS
from mesm_data.errors import MesmError

SECRET = "-----BEGIN OPENSSH PRIVATE KEY-----"
ROW = ([[b"yes"]], [[0.0, 1.0]])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(SECRET)
    return tmp_path / "CMU_MOSEI_TimestampedWords.csd"


def odd(path: Path, change: Any) -> None:
    """A file with the healthy video "good"; `change` makes the group "odd"."""
    write_csd(path, {"good": ROW}, ["word"], "words")
    with h5py.File(path, "r+") as file:
        change(file["words/data"].create_group("odd"), file)


def external_storage(group: h5py.Group, _: h5py.File) -> None:
    place = Path(group.file.filename).with_name("secret")
    group.create_dataset("features", (1, 1), "S35", external=[(str(place), 0, 35)])
    group["intervals"] = [[0.0, 1.0]]


def external_link(group: h5py.Group, _: h5py.File) -> None:
    other = Path(group.file.filename).with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["secret"] = [[SECRET.encode()]]
    group["features"] = h5py.ExternalLink(str(other), "secret")
    group["intervals"] = [[0.0, 1.0]]


def virtual_dataset(group: h5py.Group, _: h5py.File) -> None:
    other = Path(group.file.filename).with_name("other.h5")
    with h5py.File(other, "w") as file:
        file["secret"] = np.array([[SECRET.encode()]])
    layout = h5py.VirtualLayout((1, 1), "S35")
    layout[...] = h5py.VirtualSource(str(other), "secret", (1, 1))
    group.create_virtual_dataset("features", layout)
    group["intervals"] = [[0.0, 1.0]]


def soft_link(group: h5py.Group, _: h5py.File) -> None:
    group["features"] = h5py.SoftLink("/words/data/good/features")
    group["intervals"] = [[0.0, 1.0]]


def unfolds_to_gigabytes(group: h5py.Group, _: h5py.File) -> None:
    group.create_dataset("features", (2**28, 1), "S16", chunks=(2**16, 1), compression="gzip")
    group.create_dataset("intervals", (2**28, 2), "f8", chunks=(2**16, 2), compression="gzip")


def huge_chunk(group: h5py.Group, _: h5py.File) -> None:
    group.create_dataset("features", (1, 1), "S16", chunks=(2**27, 1), maxshape=(None, 1), compression="gzip")
    group["intervals"] = [[0.0, 1.0]]


def references(group: h5py.Group, file: h5py.File) -> None:
    group.create_dataset("features", (1, 1), h5py.ref_dtype)[0, 0] = file.ref
    group["intervals"] = [[0.0, 1.0]]


def a_group_of_that_name(group: h5py.Group, _: h5py.File) -> None:
    group.create_group("features")
    group["intervals"] = [[0.0, 1.0]]


def three_dimensions(group: h5py.Group, _: h5py.File) -> None:
    group["features"] = np.zeros((1, 1, 1))
    group["intervals"] = [[0.0, 1.0]]


def empty(group: h5py.Group, _: h5py.File) -> None:
    group["features"] = h5py.Empty("f4")
    group["intervals"] = [[0.0, 1.0]]


def infinite_times(group: h5py.Group, _: h5py.File) -> None:
    group["features"] = [[b"x"]]
    group["intervals"] = [[0.0, float("inf")]]


@pytest.mark.parametrize(
    "change",
    [external_storage, external_link, virtual_dataset, soft_link, unfolds_to_gigabytes, huge_chunk, references,
     a_group_of_that_name, three_dimensions, empty, infinite_times],
)  # fmt: skip
def test_an_invalid_table_is_noted_and_the_others_are_read(path: Path, change: Any) -> None:
    odd(path, change)
    words, problems = csd.read_words(path)
    assert [word.word for word in words.pop("good")] == ["yes"]
    assert words == {}
    assert len(problems) == 1
    assert problems[0].startswith("odd: ")
    assert SECRET not in str(problems)


def test_without_the_check_the_attack_reads_another_file(path: Path) -> None:
    """The file of the test above is not rejected for another reason."""
    for change in (external_storage, external_link, virtual_dataset):
        path.unlink(missing_ok=True)
        odd(path, change)
        with h5py.File(path) as file:
            assert file["words/data/odd/features"][0, 0].decode() == SECRET


def test_a_group_or_root_behind_a_link_is_not_followed(path: Path) -> None:
    write_csd(path.with_name("other.csd"), {"secret": ROW}, ["word"], "words")
    odd(
        path,
        lambda group, file: group.parent.__setitem__("linked", h5py.ExternalLink("other.csd", "/words/data/secret")),
    )
    words, problems = csd.read_words(path)
    assert set(words) == {"good"}
    assert any(problem.startswith("linked: ") for problem in problems)
    with h5py.File(path, "w") as file:
        file["words"] = h5py.ExternalLink("other.csd", "/words")
    with pytest.raises(MesmError, match="0 groups in it contain `data`"):
        csd.read_words(path)


def test_texts_of_variable_length_are_read_and_the_metadata_may_be_one_text(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["words/data/v[0]/features"] = ["naïve", "sp"]
        file["words/data/v[0]/intervals"] = [[0.0, 1.0], [1.0, 2.0]]
        file["words/metadata/dimension names"] = json.dumps(["word"])
    words, problems = csd.read_words(path)
    assert ([word.word for word in words["v"]], problems) == (["naïve"], [])


def test_a_pipe_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csd")
    with pytest.raises(MesmError, match="not a regular file"):
        csd.read_words(tmp_path / "x.csd")


def test_numbers_in_place_of_words_and_words_in_place_of_numbers_are_noted(path: Path) -> None:
    write_csd(path, {"v": ([[b"x"] * 7], [[0.0, 1.0]]), "w": ([[1.0] * 7], [[0.0, 1.0]])}, ITEMS, "All Labels")
    rated, problems = csd.read_labels(path)
    assert (list(rated), problems) == (["w"], ["v: its features are not 7 numbers a row"])
    assert csd.read_words(path)[0] == {}


def test_damaged_files_are_reported_in_a_sentence(path: Path) -> None:
    """The HDF5 library loops endlessly or crashes on some of them: each is read in a subprocess."""
    write_csd(path, {f"v{number}": ROW for number in range(3)}, ["word"], "words")
    whole, choose = path.read_bytes(), random.Random(1)
    for _ in range(10):
        data = bytearray(whole)
        for _ in range(choose.choice([1, 2, 8])):
            data[choose.randrange(len(data))] = choose.choice([0, 1, 255, choose.randrange(256)])
        path.write_bytes(data)
        with suppress(MesmError):
            csd.read_words(path)
