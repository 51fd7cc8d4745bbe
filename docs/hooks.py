"""Pages of the reference that the code generates: the help of the commands, the settings, the JSON schemas of files."""

import json
import os
import subprocess
import sys
from typing import Any

from mkdocs.structure.files import File, Files

PROGRAMS = {"mesm-data": "mesm_cli.data", "mesm-train": "mesm_cli.train"}
# As in a terminal of this width.
ENVIRONMENT = {**os.environ, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}


def on_files(files: Files, *, config: Any) -> Files:
    """Add the generated pages."""
    for program, module in PROGRAMS.items():
        files.append(File.generated(config, f"reference/{program}.md", content=commands_page(program, module)))
    files.append(File.generated(config, "reference/settings.md", content=settings_page()))
    files.append(File.generated(config, "reference/json-files.md", content=json_files_page()))
    return files


def commands_page(program: str, module: str) -> str:
    """The help of a program and of each of its commands."""
    sections = [f"# {program}", code(help_of(program, module))]
    for command in command_names(module):
        sections += [f"## {program} {' '.join(command)}", code(help_of(program, module, *command))]
    return "\n\n".join(sections)


def command_names(module: str) -> list[tuple[str, ...]]:
    """All commands of a Typer application, those of its groups included."""
    app = __import__(module, fromlist=["app"]).app
    names = [(command.name or command.callback.__name__,) for command in app.registered_commands]
    for group in app.registered_groups:
        name = group.name or group.typer_instance.info.name
        names += [
            (name, command.name or command.callback.__name__) for command in group.typer_instance.registered_commands
        ]
    return names


def help_of(program: str, module: str, *command: str) -> str:
    """What `program command --help` prints."""
    code = f"import sys; sys.argv[0] = {program!r}; from {module} import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


def code(text: str) -> str:
    """A block of preformatted text."""
    return f"```text\n{text}\n```"


def settings_page() -> str:
    """Every setting of a run with its type, default and help."""
    from mesm_train.config.settings_help import all_settings

    lines = [
        "# Settings",
        "A recipe (YAML) or `--set KEY=VALUE` changes a setting; `mesm-train settings KEY` shows one in the terminal.",
    ]
    for setting in all_settings():
        if setting.headline.endswith(": a section"):
            lines += [f"## {setting.key}", setting.help]
        else:
            key, _, rest = setting.headline.partition(": ")
            lines += [f"**`{key}`** ({rest})  \n{setting.help}"]
    return "\n\n".join(lines) + "\n"


def json_files_page() -> str:
    """The JSON schemas of the files that are shared, as readers validate them."""
    from mesm_data.dataset.info import DatasetInfo
    from mesm_data.integrity.fingerprint import FingerprintFile
    from mesm_data.integrity.lock_reader import LockFile
    from mesm_data.publishing.contents import Publication

    lines = [
        "# JSON files",
        "What readers require of the JSON files that are shared, as JSON schemas. Keys without an entry are free. "
        "[format.md](../format.md), [proof.md](../proof.md) and [sharing.md](../sharing.md) explain all keys.",
    ]
    models = {
        "dataset.json": DatasetInfo,
        "recipe.lock": LockFile,
        "published.json": Publication,
        "A fingerprint": FingerprintFile,
    }
    for name, model in models.items():
        schema = json.dumps(model.model_json_schema(by_alias=True), indent=2, ensure_ascii=False)
        lines += [f"## {name}", f"```json\n{schema}\n```"]
    return "\n\n".join(lines) + "\n"
