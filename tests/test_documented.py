"""Every command of the documentation is valid, and a test runs it or a table says which other test does, or why not."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from documented import PAGES, REPOSITORY, Command, commands, inline_commands, shell_blocks
from documented_elsewhere import ELSEWHERE, commands_to_run, elsewhere
from mesm_cli import data, train

from mesm_data.errors import InputError
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings_help import all_settings

# A command in a sentence with one of these shows a form, such as `mesm-train tune RECIPE --space FILE --trials N`. Here
# are values that are valid there; nothing runs it.
PLACEHOLDERS = {
    "RECIPE": "iemocap-mesm", "N": "2", "PROTOCOL": "session", "FILE": "file", "DIR": "dir", "RUN": "run",
    "FOLDER...": "folder", "DATASET": "dataset", "NAME": "name", "…": "…",
}  # fmt: skip


def applications() -> dict[str, Any]:
    """The two commands; their subcommands return their arguments and do nothing else."""

    def record(command: Any) -> None:
        for each in getattr(command, "commands", {}).values():
            record(each)
            if not hasattr(each, "commands"):
                each.callback = lambda **arguments: arguments

    apps = {"mesm-data": typer.main.get_command(data.app), "mesm-train": typer.main.get_command(train.app)}
    for app in apps.values():
        record(app)
    return apps


APPS = applications()
KEYS = {setting.key for setting in all_settings()}


def mesm_words(command: Command) -> list[str]:
    """A command as a call of mesm-data or mesm-train, behind torchrun too, with placeholders filled; else nothing."""
    words = list(command.words)
    if "mesm_cli.train" in words:
        words = ["mesm-train", *words[words.index("mesm_cli.train") + 1 :]]
    if words[0] not in APPS or "--install-completion" in words:
        return []
    return [PLACEHOLDERS.get(word, word) for word in words]


def parse(words: list[str]) -> dict[str, Any] | None:
    """The arguments of a command; None if one is missing. Raises an error of Typer for anything else."""
    try:
        arguments = APPS[words[0]].main(words[1:], prog_name=words[0], standalone_mode=False)
    except Exception as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if message.startswith("Missing") or message.endswith("requires an argument."):
            return None
        raise AssertionError(message) from None
    return arguments if isinstance(arguments, dict) else {}


def check(command: Command) -> bool:
    """Whether a command of ours has all its arguments. Raises AssertionError if it is not valid."""
    words = mesm_words(command)
    if len(words) < 2:
        return False
    try:
        arguments = parse(words)
        if arguments and arguments.get("sets") and "recipe" in arguments and arguments["recipe"] is None:
            return False  # `run` lists the recipes then
        if arguments and arguments.get("recipe"):
            place = [f"data={arguments['data']}"] if arguments.get("data") else []
            load_recipe(arguments["recipe"], [*(arguments.get("sets") or ()), *place])
    except (AssertionError, InputError) as error:
        raise AssertionError(f"{command}: {error}") from None
    return arguments is not None


def all_commands() -> Iterator[Command]:
    """The commands of all blocks, and those in sentences that are complete: not `mesm-data build --split NAME`."""
    for page in PAGES:
        yield from commands(page)
        for command in inline_commands(page):
            name, *words = command.words
            if not words or PLACEHOLDERS.keys() & set(words):
                continue
            if name not in APPS or words[0].startswith("-") or (len(words) > 1 and check(command)):
                yield command


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_accepted_by_its_parser_and_its_settings_by_its_recipe(page: str) -> None:
    for command in commands(page):
        assert check(command) or not len(mesm_words(command)) > 1, f"{command}: an argument is missing"
    for command in inline_commands(page):
        check(command)


@pytest.mark.parametrize("name", ["mesm-data", "mesm-train"])
def test_the_examples_of_the_help_are_accepted_too(name: str) -> None:
    def examples(command: Any) -> Iterator[str]:
        for each in getattr(command, "commands", {}).values():
            yield from examples(each)
        yield from re.findall(r"^ *(mesm-(?:data|train) .*)$", command.help or "", re.MULTILINE)

    texts = list(examples(APPS[name]))
    assert len(texts) > 20
    for text in texts:
        words = tuple(re.sub(r" [|>] .*", "", text).replace('"', "").replace("'", "").split())
        command = Command(f"{name} --help", 0, text, words, {})
        if not any(word.endswith("best.yaml") for word in words):  # what the example before it writes
            assert check(command), command


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_a_page_sets_exist(page: str) -> None:
    text = (REPOSITORY / page).read_text()
    assert set(re.findall(r"--set '?([a-z][\w.]*)=", text)) <= KEYS


@pytest.mark.parametrize("page", PAGES)
def test_a_shell_splits_the_blocks_as_they_are_read_here(page: str, tmp_path: Path) -> None:
    """Pasted into bash, which defines variables, joins lines and cuts comments; every program prints its arguments."""
    script = "PATH=/nowhere\ncommand_not_found_handle() { printf '%s\\t' \"$@\"; printf '\\n'; }\n"
    for _, block in shell_blocks(page):
        script += block + "\n"
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    errors = [line for line in done.stderr.splitlines() if "No such file or directory" not in line]
    assert errors == []
    shown = [line.removesuffix("\t").split("\t") for line in done.stdout.splitlines()]
    read = [list(command.words) for command in commands(page) if "/" not in command.words[0]]
    of_slurm = [words for words in read if words[0] == "srun"]  # it runs a command for an argument
    assert [words for words in shown if words[0] != "srun"] == [
        words for words in read if words not in of_slurm and words[0] != "source"
    ]


def test_every_command_is_run_by_the_test_of_its_page_or_stands_in_the_table() -> None:
    """A test runs the commands of the pages that it names in a call of `commands_to_run`."""
    run = {command.text for page in pages_with_a_test() for command in commands_to_run(page)}
    everything = list(all_commands())
    used = {elsewhere(command) for command in everything} - {None}
    missing = [str(command) for command in everything if elsewhere(command) is None and command.text not in run]
    assert missing == [], "put it into a block of a page with a test, or into tests/documented_elsewhere.py"
    assert used == set(ELSEWHERE), "the table has commands that no page has"


def pages_with_a_test() -> set[str]:
    return {
        node.args[0].value
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "commands_to_run"
        if isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str)
    }


def test_the_tests_that_the_table_names_exist() -> None:
    names = {
        f"{path.relative_to(REPOSITORY)}::{node.name}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    }
    assert {value for value in ELSEWHERE.values() if "::" in value} <= names


@cache
def trees() -> dict[Path, ast.Module]:
    """The syntax trees of all modules of tests."""
    return {path: ast.parse(path.read_text()) for path in sorted((REPOSITORY / "tests").rglob("*.py"))}


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = {command.words[1] for command in all_commands() if command.words[0] == "make"}
    assert {"setup", "demo", "test"} <= named <= targets


def test_every_extra_that_the_pages_name_exists_and_is_listed() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    named = {
        extra
        for page in PAGES
        for names in re.findall(r"(?:mesm|\.)\[([a-z0-9,]+)\]", (REPOSITORY / page).read_text())
        for extra in names.split(",")
    }
    assert named <= extras
    table = (REPOSITORY / "docs/install.md").read_text()
    assert extras - {"dev"} <= set(re.findall(r"`([a-z0-9]+)`", table))


def test_the_clip_of_the_tutorial_has_the_text_of_the_tutorial() -> None:
    """The corpus that `mesm-data sample iemocap` writes without options has that utterance; it is not rendered here."""
    from mesm_data.synthetic import script
    from mesm_data.synthetic.iemocap import DIALOGS

    texts = {turn.id: turn.text for dialog in script.plan(DIALOGS, 0) for turn in dialog.turns}
    tutorial = commands("docs/tutorial.md")
    [clip] = {command.words[-1] for command in tutorial if command.words[0] == "tar"}
    [text] = {command.words[-1] for command in tutorial if "predict" in command.words and "demo/hub" in command.words}
    assert texts[clip.removesuffix(".mp4")] == text


def test_options_of_scripts_exist() -> None:
    scripts = [command for command in all_commands() if command.words[0] == "python"]
    assert len(scripts) > 3
    for command in scripts:
        source = (REPOSITORY / command.words[1]).read_text()
        for word in command.words:
            assert not word.startswith("--") or f'add_argument("{word}"' in source, command


def test_the_calls_of_torchrun_are_accepted_by_its_parser() -> None:
    from torch.distributed.run import parse_args

    calls = [command for command in all_commands() if command.words[0] == "torchrun"]
    assert len(calls) == 2
    for command in calls:
        arguments = parse_args(command.words[1:])
        assert (arguments.training_script, arguments.module) == ("mesm_cli.train", True)
        assert arguments.training_script_args[:2] == ["run", "iemocap-fe2e"]
