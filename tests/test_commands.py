"""What a newcomer meets first: help, version, completion, recipes, settings, and messages that can be followed."""

import dataclasses
import io
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import yaml
from commands import run_command
from mesm_cli.progress_bar import ProgressBar
from mesm_cli.settings import complete_key, complete_recipe

from mesm_data.errors import InputError
from mesm_data.pipeline.output_dir import prepare_output_dir
from mesm_data.storage.json_files import write_json
from mesm_train.config.recipe_files import load_recipe, recipe_summaries, recipes
from mesm_train.config.settings import LoaderConfig
from mesm_train.config.settings_help import all_settings, find_settings
from mesm_train.training.progress import LineLogger
from mesm_train.training.selection import check_data_folder

REPOSITORY = Path(__file__).parents[1]
MODULES = {"mesm-data": "mesm_cli.data", "mesm-train": "mesm_cli.train"}


def call(command: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command as a user calls it: its name is in sys.argv[0]."""
    program = f"import sys; sys.argv[0] = {command!r}; from {MODULES[command]} import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.parametrize("command", MODULES)
def test_both_commands_have_h_and_version(command: str) -> None:
    assert call(command, "-h").stdout == call(command, "--help").stdout
    assert call(command, "--version").stdout == f"mesm {version('mesm')}\n"


@pytest.mark.parametrize("command", MODULES)
def test_each_subcommand_has_h(command: str) -> None:
    names = re.findall(r"^  ([a-z]+) {2,}[A-Z]", call(command, "-h").stdout.split("Commands:")[1], re.MULTILINE)
    assert len(names) >= 7
    for name in (names[0], names[-1]):
        done = call(command, name, "-h")
        assert done.returncode == 0
        assert f"Usage: {command} {name}" in done.stdout


@pytest.mark.parametrize("command", MODULES)
def test_both_commands_run_the_face_detector_with_one_blas_thread(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    program = (
        f"import os, sys, typer; from {MODULES[command]} import main; "
        "typer.Typer.__call__ = lambda app: print(os.environ['OPENBLAS_NUM_THREADS'], 'numpy' in sys.modules); main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"  # set, and before numpy reads it


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mesm-data ver", ["verify"]),
        ("mesm-train run iemocap-m", ["iemocap-mesm", "iemocap-mesm-tiles", "iemocap-mult"]),
        ("mesm-train settings model.sparse.b", ["model.sparse.bn_eps", "model.sparse.bn_momentum"]),
    ],
)
def test_the_shell_completes_commands_recipes_and_settings(line: str, words: list[str]) -> None:
    command = line.split()[0]
    variable = f"_{command.upper().replace('-', '_')}_COMPLETE"
    done = call(command, COMP_WORDS=line, COMP_CWORD=str(len(line.split()) - 1), **{variable: "complete_bash"})
    assert done.stdout.split() == words


def test_completion_comes_with_a_line_of_help() -> None:
    assert dict(complete_recipe("demo-"))["demo-mesm"] == recipe_summaries()["demo-mesm"]
    assert dict(complete_key("optim.lr"))["optim.lr"].startswith("Learning rate")


def test_every_recipe_has_a_summary_in_one_sentence() -> None:
    summaries = recipe_summaries()
    assert list(summaries) == recipes()
    listed = call("mesm-train", "run").stdout
    for name, summary in summaries.items():
        assert re.fullmatch(r"[A-Z].{20,130}\.", summary), summary
        assert re.search(rf"^  {name} +{re.escape(summary)}$", listed, re.MULTILINE)


def test_settings_are_shown_with_type_default_and_help() -> None:
    """All of them, each with the default that a recipe gets which does not name it."""
    output = call("mesm-train", "settings").stdout
    assert "\noptim.lr: a number; default 5e-05\n    Learning rate of everything but the text branch.\n" in output
    assert "\nmodel.kind: one of fe2e, mesm, lf-lstm, lf-transformer, emo-embs, mult; default fe2e\n" in output
    assert "name: a text; required\n" in output
    config = load_recipe("iemocap-fe2e", ["split=session-5", "name=x"])
    for setting in all_settings():
        value: object = config
        for part in setting.key.split("."):
            value = getattr(value, part)
        assert setting.help
        _, marked, default = setting.headline.partition("; default ")
        if marked:
            expected = list(value) if isinstance(value, tuple) else value
            assert yaml.safe_load(default) == expected or float(default) == expected


def test_settings_of_a_section_or_one_alone_and_a_key_that_is_misspelt() -> None:
    assert [setting.key for setting in find_settings("model.sparse.p")] == ["model.sparse.p"]
    keys = {setting.key for setting in find_settings("loader")}
    assert keys == {"loader", *(f"loader.{field.name}" for field in dataclasses.fields(LoaderConfig))}
    with pytest.raises(InputError, match=r"did you mean optim\.lr\?"):
        find_settings("lr")
    with pytest.raises(InputError, match=r"optim\.warmup_steps"):
        find_settings("optim.warmup_step")


def test_only_resumable_commands_mention_resuming_when_they_are_stopped() -> None:
    """By the signal itself, in a process of its own."""
    program = """
import os, signal, sys, typer
from mesm_cli import console
app = console.new_app("app", "help")
@app.command()
@console.when_stopped(console.RESUMES)
def build() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
@app.command()
def sample() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
console.run(app)
"""
    stopped = "stopped: nothing unfinished is kept as finished"
    for name, remedy in {"build": "; run the same command again to resume", "sample": ""}.items():
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (130, f"{stopped}{remedy}\n")


@pytest.mark.parametrize("part", ["val", "t", ""])
def test_a_part_of_a_word_names_no_part_of_a_split(part: str, tmp_path: Path) -> None:
    done = run_command("mesm-train", "eval", tmp_path, "--split", part)
    assert (done.returncode, done.stderr) == (2, f"error: --split {part!r}: expected train, valid or test\n")


def test_moved_data_are_reported_with_the_option_for_their_new_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{tmp_path}/gone.* --data"):
        check_data_folder(str(tmp_path / "gone"))
    check_data_folder(str(tmp_path))
    check_data_folder("s3://bucket/folder")


def test_overwrite_is_not_suggested_for_the_dataset_of_another_corpus(tmp_path: Path) -> None:
    there = {"recipe": {"clips": False, "corpus": "mosei"}, "source": {}, "toolchain": {}}
    plan = {"recipe": {"clips": True, "corpus": "iemocap"}, "source": {}, "toolchain": {}, "schema": {}}
    write_json(tmp_path / "dataset.json", there)
    with pytest.raises(InputError, match=r"holds a dataset of mosei, not of iemocap: give another --out$"):
        prepare_output_dir(tmp_path, plan, overwrite=False)


def record(step: int) -> dict[str, object]:
    return {
        "epoch": 0, "loss": 0.5, "lr": 1e-3, "grad_norm": None, "samples_per_s": 2.5, "data_wait": 0.0,
        "seconds": 0.1, "mfu": None, "memory_gb": 0.5, "step": step,
    }  # fmt: skip


def test_a_log_has_one_line_per_epoch_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    for interval, count in ((3600.0, 1), (0.0, 6)):
        lines = LineLogger(interval)
        for step in range(1, 6):
            lines.step(record(step), step, 5)
        lines.say("epoch 0: valid loss 0.5")
        assert len(capsys.readouterr().err.splitlines()) == count


def test_a_result_is_written_above_the_bar_and_the_bar_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, terminal)
    with ProgressBar("clip") as bar:
        step = bar("predict", 2, 2)
        for number in range(2):
            bar.show(f"clip {number}")
            step(1)
        bar.say("failed: the last")
    text = terminal.getvalue()
    for line in ("clip 0", "clip 1", "failed: the last"):
        assert re.search(rf"\r *\r{line}\n\rpredict: ", text), text


def test_make_demo_prints_its_steps_and_their_duration() -> None:
    """Before each command stands a line for people, with a time."""
    command = ["make", "--dry-run", "demo", "--assume-old=.venv/.ready"]
    output = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.splitlines()
    notices = [shlex.split(line)[1] for line in output if line.startswith('echo "== ')]
    assert "5 to 9 minutes" in notices[0]
    commands = [line for line in output if "mesm-data build" in line or "mesm-train run" in line]
    assert len(commands) == 3
    for line in commands:
        notice = output[output.index(line) - 1]
        assert re.search(r"== .* minute", notice), notice


def test_citation_names_the_version_the_licence_and_the_paper() -> None:
    cited = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert cited["cff-version"] == "1.2.0"
    assert str(cited["version"]) == version("mesm")
    assert cited["license"] == "Apache-2.0"
    assert cited["preferred-citation"]["doi"] == "10.18653/v1/2021.naacl-main.417"
    assert {"title", "message", "authors"} <= cited.keys()


def test_contributing_names_folders_and_targets_that_exist() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    makefile = (REPOSITORY / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    folders = re.findall(r"`((?:mesm_data|mesm_train|cli|manifests|tests|benchmarks|docs)/[\w/.]*)`", text)
    assert len(folders) > 10
    for folder in folders:
        assert (REPOSITORY / folder).exists(), folder


def test_pre_commit_runs_what_make_lint_runs() -> None:
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    entries = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    lint = re.search(r"^lint: setup\n((?:\t.*\n)+)", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert lint
    makefile_commands = lint[1].replace("$(BIN)", ".venv/bin").replace("$(WORKERS)", "2")
    tools = [line.strip().split(" .")[0] for line in makefile_commands.splitlines()]
    for tool in tools:
        assert any(entry.startswith(tool.replace(" --check", "")) for entry in entries), tool


def test_a_graphics_card_without_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def app() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr("mesm_cli.train.app", app)
    done = run_command("mesm-train", "run")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the graphics card has too little memory (CUDA out of memory. Tried to allocate 2.00 GiB.)" in done.stderr
