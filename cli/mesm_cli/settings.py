"""mesm-train settings."""

from typing import Annotated

import typer

from mesm_cli import console


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Names of recipes for shell completion, each with its summary."""
    from mesm_train.config.settings import recipe_summaries

    return [(name, text) for name, text in recipe_summaries().items() if name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[tuple[str, str]]:
    """Keys of settings for shell completion, each with its help."""
    from mesm_train.config.settings_help import all_settings

    return [(setting.key, setting.help) for setting in all_settings() if setting.key.startswith(incomplete)]


def settings(
    key: Annotated[
        str | None,
        typer.Argument(help="A setting (optim.lr) or a section (optim); none shows all.", autocompletion=complete_key),
    ] = None,
) -> None:
    """Show the settings of a run: key, type, default and help. A YAML recipe or --set KEY=VALUE changes them.

    \b
    Examples:
      mesm-train settings
      mesm-train settings optim
      mesm-train settings model.sparse.p
    """
    from mesm_train.config.settings_help import find_settings

    for setting in find_settings(key):
        console.show(setting.headline)
        console.show(f"    {setting.help}")
