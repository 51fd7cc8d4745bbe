"""A run says what it was made of, the same in a checkout and outside, and nothing about who made it where."""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.dataset.dataset_dir import read_dataset_info, write_dataset
from mesm_data.schema.built_in import built_in_schema
from mesm_data.splits.resolve import resolve_split
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import to_dict
from mesm_train.data.labels import resolve_heads
from mesm_train.training.provenance import code_version, provenance, provenance_differences

IEMOCAP = built_in_schema("iemocap")
ROWS = [
    {"key": f"Ses0{n}F_impro01_F000", "id": f"Ses0{n}F_impro01_F000", "dialog": f"Ses0{n}F_impro01"}
    | {
        "recording": f"Ses0{n}F_impro01",
        "speaker": f"Ses0{n}F",
        "session": str(n),
        "start": 0.0,
        "end": 1.0,
        "flags": [],
        "labels": {"raters": []},
    }
    for n in range(1, 6)
]


@pytest.fixture
def info(tmp_path: Path) -> dict[str, Any]:
    """What dataset.json says; no sample could be built."""
    facts = {
        "corpus": "iemocap",
        "schema": IEMOCAP.as_dict(),
        "recipe": {"face_size": 48, "sample_rate": 16_000, "frame_interval": "0.5"},
        "source": {},
        "synthetic": True,
        "toolchain": {},
        "notes": [],
    }
    rows = [{**row, "status": "failed", "reason": "no audio, no video"} for row in ROWS]
    write_dataset(tmp_path / "shards", tmp_path, rows, facts, limit=2**20, step=lambda number: None)
    return read_dataset_info(tmp_path / "shards")


def made(info: dict[str, Any], config: RunConfig, name: str = "session-5", labels: str = "six") -> dict[str, Any]:
    rows = [{**row, "status": "ok", "reason": None} for row in ROWS]
    rows[0].update(status="failed", reason="no audio, no video")
    rows[1].update(speaker=rows[2]["speaker"])
    return provenance(info, resolve_split(rows, IEMOCAP, name), resolve_heads(IEMOCAP, labels), config, device="cpu")


def test_provenance_contains_everything_that_identifies_a_run(info: dict[str, Any]) -> None:
    config = load_recipe("demo-mesm", ["seed=7"])
    result = made(info, config)
    rows = [{**row, "status": "ok"} for row in ROWS]
    assert result["dataset"] == {
        "corpus": "iemocap",
        "root": info["root"],
        "format": 2,
        "synthetic": True,
        "counts": {"total": 5, "ok": 0, "failed": 5, "excluded": 0},
        "licence": IEMOCAP.as_dict()["licence"],
    }
    assert result["split"] == {
        "name": "session-5",
        "of": "utterances",
        "digest": resolve_split(rows, IEMOCAP, "session-5").digest,
        "counts": {"train": 3, "valid": 0, "test": 1},
        "missing": {"failed": 1, "excluded": 0, "absent": 0},
        "leaks": {"speakers": 0, "dialogs": 0, "overlaps": 0},
    }
    heads = [{"view": "six", "loss": "bce", "kind": "binary"}]
    classes = ["ang", "exc", "fru", "hap", "neu", "sad"]
    assert result["labels"] == {"view": "six", "classes": classes, "heads": heads}
    assert result["config"] == to_dict(config)
    assert result["seed"] == 7
    environment = result["environment"]
    assert environment["python"] == platform.python_version()
    assert environment["torch"] == torch.__version__
    assert environment["numpy"] == np.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert environment["gpu"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_provenance_names_no_user_host_or_folder(info: dict[str, Any]) -> None:
    sets = ["data=/home/somebody/shards-1", "text.encoder=~/models/albert-x", "name=a/b", "text.revision=~somebody"]
    for place in (sets, ["data=s3://key:word@somehost/somebody/shards-2?token=1"], [f"data={Path.home()}"]):
        result = json.dumps(made(info, load_recipe("demo-fe2e", place)))
        assert not [word for word in ("somebody", "somehost", "token=", "word@", "models") if word in result]
        assert f'"{Path.home()}' not in result
        assert f'"{platform.node()}"' not in result
    config = made(info, load_recipe("demo-fe2e", sets))["config"]
    assert (config["data"], config["text"]["encoder"], config["name"]) == ("shards-1", "albert-x", "a/b")


# A checkout


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(folder: Path, *arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        command = ["git", *identity, "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    return run


@pytest.fixture
def checkout(tmp_path: Path, git: Any) -> Path:
    """One of our files, committed."""
    file = tmp_path / "checkout" / "package" / "ours.py"
    file.parent.mkdir(parents=True)
    file.write_text("one = 1\n")
    (file.parents[1] / ".gitignore").write_text(".venv/\n")
    git(file.parents[1], "init")
    git(file.parents[1], "add", ".")
    git(file.parents[1], "commit", "-m", "one")
    return file


def test_in_a_checkout_the_commit_and_changes_are_recorded(checkout: Path, git: Any) -> None:
    commit = git(checkout.parent, "rev-parse", "HEAD")
    assert (code_version(checkout)["commit"], code_version(checkout)["modified"]) == (commit, False)
    (checkout.parent / "new.txt").write_text("an untracked file is no change of the code")
    assert code_version(checkout)["modified"] is False
    checkout.write_text("one = 2\n")
    assert (code_version(checkout)["commit"], code_version(checkout)["modified"]) == (commit, True)


def test_outside_a_checkout_only_the_version_is_recorded(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone; in the .venv of somebody else's checkout; where GIT_DIR points elsewhere; and where there is no git."""
    alone = tmp_path / "alone" / "ours.py"
    inside = checkout.parents[1] / ".venv" / "ours.py"
    for file in (alone, inside):
        file.parent.mkdir()
        file.write_text("one = 1\n")
    none = {"version": code_version()["version"], "commit": None, "modified": None}
    assert none["version"]
    assert code_version(alone) == code_version(inside) == none
    monkeypatch.setenv("GIT_DIR", str(checkout.parents[1] / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "alone"))
    assert code_version(alone) == none
    assert code_version(checkout)["commit"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(checkout) == none


# Two runs


def test_a_run_does_not_differ_from_itself(info: dict[str, Any]) -> None:
    result = made(info, load_recipe("demo-fe2e"))
    assert provenance_differences(result, json.loads(json.dumps(result))) == []


def test_differences_are_listed_in_the_order_of_importance(info: dict[str, Any]) -> None:
    before = made(info, load_recipe("demo-fe2e", ["seed=1"]))
    now = made(
        {**info, "root": "0" * 64, "synthetic": False},
        load_recipe("demo-fe2e", ["seed=2", "optim.lr=.5"]),
        "session-4",
        "four",
    )
    del now["environment"]["cpu"]
    result = provenance_differences(before, now)
    assert result[:2] == [
        f'the dataset\'s root: "{info["root"]}" before, "{"0" * 64}" now',
        "whether the data are synthetic: true before, false now",
    ]
    starts = [
        "the split's lists (digest): ",
        "the split's name: ",
        "the label view: ",
        "the classes: ",
        "the seed: 1 before, 2 now",
    ]
    for sentence, start in zip(result[2:7], starts, strict=True):
        assert sentence.startswith(start)
    assert "config.optim.lr: 0.001 before, 0.5 now" in result
    assert any(line.startswith("environment.cpu: ") and line.endswith("before, not recorded now") for line in result)
    assert not any("config.seed" in sentence for sentence in result)


trees = st.recursive(
    st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from(["a", "b", "seed", "code", "commit"]), inner, max_size=3),
)


@given(
    st.dictionaries(st.sampled_from(["a", "seed", "code"]), trees),
    st.dictionaries(st.sampled_from(["a", "seed", "code"]), trees),
)
def test_records_differ_exactly_if_a_difference_is_listed(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Whatever another version of mesm wrote."""
    assert bool(provenance_differences(one, two)) == (one != two)
    assert len(provenance_differences(one, two)) == len(provenance_differences(two, one))
