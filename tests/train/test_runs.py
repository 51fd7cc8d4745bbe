"""Guarantees of a run: it is reproducible, resumes exactly after any kill, and can be evaluated again exactly."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import run_command
from interrupted import ENVIRONMENT, interrupt
from safetensors.torch import load_file, save_file
from small_runs import small_recipe

from mesm_data.dataset.manifest import manifest_schema, read_table_rows, write_table
from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.storage.files import sha256_file
from mesm_train.config.recipe_files import load_recipe
from mesm_train.training.checkpoint import load
from mesm_train.training.losses import target_statistics
from mesm_train.training.selection import check_selection_score, select_data

Command = Callable[..., "subprocess.CompletedProcess[str]"]
PROGRAM = "from mesm_cli.train import main; main()"
SMALL = """
name: small
model: {modalities: [v, a], channels: [4, 8], stem_blocks: 0, hidden: 16, dim: 8, layers: 1, heads: 2, feedforward: 16}
text: {encoder: tiny, tiny: {vocabulary: 60, embedding: 8, width: 8, layers: 1, heads: 2, feedforward: 8}}
optim: {lr: 1e-3, batch: 4, epochs: 3, accumulate: 2, clip_norm: 1.0, schedule: cosine, warmup_steps: 2}
"""


def train(*arguments: object) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *map(str, arguments)]


def call(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = run_command("mesm-train", *arguments)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    return small_recipe(tmp_path_factory.mktemp("recipe"), dataset, SMALL)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    call("run", recipe, "--out", run)
    return run


def numbers(run: Path) -> list[object]:
    """What must not differ between two runs: every loss and every score, in order."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timing = ("seconds", "samples_per_s", "data_wait", "tflops", "memory_gb")
    return [{name: value for name, value in line.items() if name not in timing} for line in lines]


def weights(run: Path) -> dict[str, str]:
    return {
        which: sha256_file(run / "checkpoints" / f"step-{json.loads(text)['step']:08d}" / "model.safetensors")
        for which in ("last", "best")
        for text in [(run / "checkpoints" / f"{which}.json").read_text()]
    }


@pytest.mark.parametrize("kind", ["fe2e", "mesm"])
def test_two_runs_are_the_same_bit_for_bit(recipe: Path, tmp_path: Path, kind: str) -> None:
    """With all three modalities and a text encoder that each run makes for itself."""
    change = ("--set", "model.modalities=[t, v, a]", "--set", f"model.kind={kind}", "--set", "optim.epochs=1")
    for name in ("one", "two"):
        call("run", recipe, "--out", tmp_path / name, *change)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")
    assert weights(tmp_path / "one") == weights(tmp_path / "two")
    facts = json.loads((tmp_path / "one" / "provenance.json").read_text())
    assert facts["text"]["encoder"] == "tiny"
    assert len(facts["text"]["files"]["model.safetensors"]) == 64


def test_another_seed_is_another_run(unbroken: Path, recipe: Path, tmp_path: Path) -> None:
    call("run", recipe, "--out", tmp_path / "run", "--set", "seed=1", "--set", "optim.epochs=1")
    assert numbers(tmp_path / "run")[0] != numbers(unbroken)[0]


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_kills_do_not_change_the_result(unbroken: Path, recipe: Path, tmp_path: Path, kills: int) -> None:
    """SIGKILL after a random number of lines, with a checkpoint at every update; then to the end."""
    run = tmp_path / "run"
    moments = random.Random(3)
    command = train("run", recipe, "--out", run, "--resume", "--set", "checkpoint_seconds=0", "--log-seconds", "0")
    for _ in range(kills):
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=ENVIRONMENT
        )
        assert process.stderr is not None
        for _ in range(moments.randrange(1, 7)):
            process.stderr.readline()
        process.kill()
        process.communicate()
    with (run / "metrics.jsonl").open("a") as journal:
        journal.write('{"kind": "train", "epo')  # a torn last line
    call("run", recipe, "--out", run, "--resume")
    assert numbers(run) == numbers(unbroken)
    assert weights(run) == weights(unbroken)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_saves_a_checkpoint_and_the_run_resumes_exactly(
    unbroken: Path, recipe: Path, tmp_path: Path, number: signal.Signals
) -> None:
    run = tmp_path / "run"
    command = train("run", recipe, "--out", run, "--log-seconds", "0")
    stderr = interrupt(command, after=" step 1/", number=number)
    assert "run the same command with --resume to continue" in stderr
    steps = [line for line in numbers(run) if line["kind"] == "train"]  # type: ignore[index]
    assert len(steps) == json.loads((run / "checkpoints" / "last.json").read_text())["step"]
    call("run", recipe, "--out", run, "--resume")
    assert numbers(run) == numbers(unbroken)
    assert weights(run) == weights(unbroken)


def test_an_average_of_the_weights_and_an_annealed_p_are_resumed_exactly(recipe: Path, tmp_path: Path) -> None:
    sets = ["optim.ema=0.8", "optim.epochs=2", "model.kind=mesm", "model.modalities=[t,v]", "model.sparse.p=.5",
            "model.sparse.tile=4", "model.sparse.anneal_epochs=2"]  # fmt: skip
    change = [part for item in sets for part in ("--set", item)]
    call("run", recipe, "--out", tmp_path / "whole", *change)
    stopped = tmp_path / "stopped"
    interrupt(train("run", recipe, "--out", stopped, "--log-seconds", "0", *change), after="epoch 0 step 2/")
    call("run", recipe, "--out", stopped, "--resume", *change)
    assert numbers(stopped) == numbers(tmp_path / "whole")
    assert weights(stopped) == weights(tmp_path / "whole")
    averaged, state = load(stopped / "checkpoints", "last") or ({}, {})
    assert any(not torch.equal(value, state["weights"][name]) for name, value in averaged.items())
    assert "the same scores" in call("eval", stopped).stderr


def test_a_run_has_all_its_files(unbroken: Path, dataset: Path) -> None:
    names = {path.name for path in unbroken.iterdir()}
    assert names >= {
        "config.yaml", "provenance.json", "metrics.jsonl", "checkpoints", "thresholds.json",
        "predictions-valid.parquet", "predictions-test.parquet", "report.html",
    }  # fmt: skip
    facts = json.loads((unbroken / "provenance.json").read_text())
    assert facts["dataset"]["root"] == Dataset(dataset).info["root"]
    assert facts["dataset"]["synthetic"] is True
    assert len(facts["split"]["digest"]) == 64
    assert facts["seed"] == 0


def test_eval_computes_the_same_scores_again(unbroken: Path) -> None:
    for part in ("test", "valid"):
        done = call("eval", unbroken, "--split", part)
        assert json.loads(done.stdout)["n"] > 0
        assert "the same scores" in done.stderr
        if part == "test":
            assert json.loads(done.stdout) == numbers(unbroken)[-1]["metrics"]  # type: ignore[index]


def test_eval_reports_changed_scores(unbroken: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(unbroken, tmp_path / "run"))
    journal = (run / "metrics.jsonl").read_text().splitlines()
    last = json.loads(journal[-1])
    last["metrics"]["mean"]["f1"] = 0.99
    (run / "metrics.jsonl").write_text("\n".join([*journal[:-1], json.dumps(last)]) + "\n")
    assert "not the scores" in call("eval", run, code=1).stderr


@pytest.mark.parametrize(
    ("factor", "code", "sentence"),
    [
        (1 + 1e-5, 0, "the same scores as the run recorded"),
        (
            1.5,
            1,
            r"not the scores that the run recorded in metrics.jsonl: logits differ by up to \S+ \(tolerance 0.01",
        ),
    ],
)
def test_eval_distinguishes_rounding_from_other_predictions(
    unbroken: Path, tmp_path: Path, factor: float, code: int, sentence: str
) -> None:
    """Weights that differ in their fifth digit stand for another machine's rounding, which is smaller."""
    run = Path(shutil.copytree(unbroken, tmp_path / "run"))
    for path in run.glob("checkpoints/*/model.safetensors"):
        weights = {
            name: value * factor if value.is_floating_point() else value for name, value in load_file(path).items()
        }
        save_file(weights, path)
    assert re.search(sentence, call("eval", run, code=code).stderr)


def test_an_existing_run_is_neither_overwritten_nor_resumed_with_other_settings(unbroken: Path, recipe: Path) -> None:
    assert "--resume" in call("run", recipe, "--out", unbroken, code=2).stderr
    done = call("run", recipe, "--out", unbroken, "--resume", "--set", "optim.lr=0.5", code=2)
    assert "optim.lr" in done.stderr


def test_no_recipe_lists_the_recipes_unless_a_run_was_meant() -> None:
    assert set(call("run").stdout.split()) >= {"demo-fe2e", "demo-mesm", "iemocap-fe2e", "iemocap-mesm"}
    assert "no recipe is named" in call("run", "--set", "optim.lr=0.5", code=2).stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lrr=1", "optim.lr"),
        ("split=session-9", "session"),
        ("labels=sixx", "did you mean six"),
        ("device=cuda:7", "device"),
        ("device=meta", "device 'meta' cannot be used"),  # it makes tensors without values
        ("data=/nowhere", "/nowhere"),
        ("split=session-5", "session-5"),
    ],
)
def test_invalid_settings_are_reported_before_any_work(recipe: Path, tmp_path: Path, change: str, message: str) -> None:
    done = call("run", recipe, "--out", tmp_path / "run", "--set", change, code=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_damaged_shard_is_named_and_no_checkpoint_is_saved(recipe: Path, dataset: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(dataset, tmp_path / "own"))
    lists = Path(yaml.safe_load(recipe.read_text())["split"])
    key = yaml.safe_load(lists.read_text())["train"][-1]
    row = Dataset(own).rows[key]
    with (own / "shards" / row["shard"]).open("r+b") as file:
        file.seek(row["faces_offset"] + 5_000)
        file.write(b"\x00\xff" * 8)
    done = call("run", recipe, "--data", own, "--out", tmp_path / "run", code=1)
    assert f"sample {key} is damaged" in done.stderr
    assert row["shard"] in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_training_and_evaluation_refuse_modified_labels(
    unbroken: Path, recipe: Path, dataset: Path, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(dataset, tmp_path / "own"))
    rows = read_table_rows(own / "manifest.parquet")
    one, other = (next(row for row in rows if row["labels"]["emotion"] == label) for label in ("ang", "hap"))
    one["labels"], other["labels"] = other["labels"], one["labels"]
    write_table(own / "manifest.parquet", rows, manifest_schema(built_in_schema("iemocap")))
    for command in (("run", recipe, "--out", tmp_path / "run"), ("eval", unbroken)):
        refused = call(*command, "--data", own, code=2)
        assert f"{own}/manifest.parquet is not the table that dataset.json names" in refused.stderr


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_batch(recipe: Path, tmp_path: Path) -> None:
    done = call(
        "run", recipe, "--out", tmp_path / "run", "--set", "optim.lr=1e30", "--set", "optim.clip_norm=null",
        "--set", "optim.warmup_steps=0", code=1,
    )  # fmt: skip
    assert "the loss is" in done.stderr
    keys = json.loads((tmp_path / "run" / "diverged.json").read_text())["keys"]
    assert 1 <= len(keys) <= 4


def test_a_class_without_positives_is_refused(recipe: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(recipe.read_text())
    parts = yaml.safe_load(Path(settings["split"]).read_text())
    parts["train"] = parts["train"][:2]
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(parts))
    done = call("run", recipe, "--out", tmp_path / "run", "--set", f"split={tmp_path / 'split.yaml'}", code=2)
    assert "without positives" in done.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_class_without_negatives_is_refused(recipe: Path) -> None:
    selection = select_data(load_recipe(str(recipe)))
    always = {key: np.maximum(target, np.eye(len(target))[0]) for key, target in selection.targets.items()}
    with pytest.raises(InputError, match=r"every utterance of the train part \(\d+\) is ang: .* without negatives"):
        target_statistics(replace(selection, targets=always))


def test_a_number_that_does_not_vary_in_the_train_part_is_refused(recipe: Path) -> None:
    selection = select_data(load_recipe(str(recipe), ["labels=dimensions"]))
    same = {key: np.array([0.1, target[1], 0.1], np.float32) for key, target in selection.targets.items()}
    with pytest.raises(InputError, match=r"valence and dominance is the same number in every utterance of the train"):
        target_statistics(replace(selection, targets=same))


@pytest.mark.parametrize(
    ("sets", "lacks"),
    [
        (["eval.select_by=auc"], "select_by auc .*'six' of its 1 utterances a class is true of some utterances and"),
        (["labels=dimensions", "eval.select_by=pearson"], "select_by pearson .*'dimensions' .* a number varies"),
        (["labels=dimensions"], "select_by ccc .*'dimensions' .* a number varies"),
        (["labels=soft"], "select_by f1 .*'soft' of its 1 utterances a class is true. Choose"),
    ],
)
def test_a_score_that_no_epoch_can_have_is_refused_before_training(
    dataset: Path, recipe: Path, tmp_path: Path, sets: list[str], lacks: str
) -> None:
    """Of one utterance in the valid part; the soft one has no class with a share above one half."""
    parts = yaml.safe_load(Path(yaml.safe_load(recipe.read_text())["split"]).read_text())
    data = Dataset(dataset)
    view = data.schema.view("soft")
    shares = {key: view.target(data.rows[key]["labels"]) for key in data.keys}
    unsure = next(key for key, share in shares.items() if share is not None and (share <= 0.5).all())
    valid = unsure if sets[0] == "labels=soft" else parts["valid"][0]
    others = [key for key in data.keys if key != valid]
    parts = {"train": others[:-1], "valid": [valid], "test": others[-1:]}
    (tmp_path / "split.yaml").write_text(yaml.safe_dump(parts))
    config = load_recipe(str(recipe), [*sets, f"split={tmp_path / 'split.yaml'}"])
    with pytest.raises(InputError, match=lacks):
        check_selection_score(select_data(config))


def test_unsuitable_data_are_refused_before_the_text_encoder_is_loaded(
    unbroken: Path, recipe: Path, tmp_path: Path
) -> None:
    """The encoder cannot be loaded, and the refusal is of the data all the same: a new run's and a resumed one's."""
    settings = yaml.safe_load(recipe.read_text())
    settings["model"]["modalities"] = ["t", "v", "a"]
    settings["text"]["encoder"] = "/nowhere"
    parts = yaml.safe_load(Path(settings["split"]).read_text())
    (tmp_path / "split.yaml").write_text(yaml.safe_dump({**parts, "train": parts["train"][:2]}))
    (tmp_path / "text.yaml").write_text(yaml.safe_dump(settings))
    change = ("--set", f"split={tmp_path / 'split.yaml'}")
    assert "without positives" in call("run", tmp_path / "text.yaml", "--out", tmp_path / "new", *change, code=2).stderr

    run = Path(shutil.copytree(unbroken, tmp_path / "run"))
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    provenance = json.loads((run / "provenance.json").read_text())
    provenance["dataset"]["root"] = "0" * 64
    (run / "provenance.json").write_text(json.dumps(provenance))
    done = call("run", tmp_path / "text.yaml", "--out", run, "--resume", code=2)
    assert "was started on another dataset" in done.stderr


def test_eval_accepts_the_options_that_its_messages_suggest(unbroken: Path, recipe: Path, tmp_path: Path) -> None:
    """Another part or another split where the test part is empty, and the new place of data that were moved."""
    parts = yaml.safe_load(Path(yaml.safe_load(recipe.read_text())["split"]).read_text())
    split = tmp_path / "split.yaml"
    split.write_text(yaml.safe_dump({"train": parts["train"], "valid": parts["test"], "test": []}))
    done = call("eval", unbroken, "--set", f"split={split}", code=2)
    assert f"valid ({len(parts['test'])}). Give one of them with --split, or choose another split" in done.stderr
    scores = json.loads(call("eval", unbroken, "--set", f"split={split}", "--split", "valid").stdout)
    assert scores["n"] == len(parts["test"])
    assert "split" in call("eval", unbroken, "--set", "optim.lr=1", code=2).stderr

    moved = Path(shutil.copytree(unbroken, tmp_path / "moved"))
    config = yaml.safe_load((moved / "config.yaml").read_text())
    (moved / "config.yaml").write_text(yaml.safe_dump({**config, "data": str(tmp_path / "gone")}))
    assert "--data" in call("eval", moved, code=2).stderr
    assert "the same scores" in call("eval", moved, "--data", config["data"]).stderr


def test_a_full_disk_at_a_checkpoint_keeps_the_last_good_one(
    unbroken: Path, recipe: Path, small_disk: Callable[[str], Path]
) -> None:
    disk = small_disk("8m")
    run = disk / "run"
    interrupt(train("run", recipe, "--out", run, "--set", "checkpoint_seconds=0"), after="epoch 0: valid")
    good = weights(run)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
    (disk / "ballast").write_bytes(b"x" * (free - 30_000))
    done = call("run", recipe, "--out", run, "--resume", code=1)
    assert "disk is full" in done.stderr
    assert weights(run) == good
    (disk / "ballast").unlink()
    call("run", recipe, "--out", run, "--resume")
    assert numbers(run) == numbers(unbroken)


def test_eval_on_another_dataset_says_what_differs(unbroken: Path, corpus: Path, tmp_path: Path) -> None:
    """The same corpus without the pictures of one dialog: another root, other scores, no complaint about them."""
    from mesm_data.corpora.open_corpus import scan_corpus
    from mesm_data.dataset.recipe import Recipe
    from mesm_data.pipeline.build import build_dataset

    own = Path(shutil.copytree(corpus, tmp_path / "corpus"))
    next(own.glob("Session1/dialog/avi/DivX/*.avi")).unlink()
    build_dataset(scan_corpus("iemocap", own), tmp_path / "shards", Recipe(corpus="iemocap", clips=False), workers=2)
    done = call("eval", unbroken, "--data", tmp_path / "shards")
    assert "root" in done.stderr
    assert "the same scores" not in done.stderr
    assert json.loads(done.stdout)["n"] == numbers(unbroken)[-1]["metrics"]["n"]  # type: ignore[index]
