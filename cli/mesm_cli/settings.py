"""mesm-train settings."""

from typing import Annotated

import typer

from mesm_cli import console


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a recipe; each comes with its summary."""
    from mesm_train.config.recipe_files import recipe_summaries

    return [(name, text) for name, text in recipe_summaries().items() if name.startswith(incomplete)]


def complete_key(incomplete: str) -> list[tuple[str, str]]:
    """Complete the key of a setting; each comes with its help."""
    from mesm_train.config.settings_help import all_settings

    return [(setting.key, setting.help) for setting in all_settings() if setting.key.startswith(incomplete)]


def settings(
    key: Annotated[
        str | None,
        typer.Argument(help="A setting (optim.lr) or a section (optim); by default all.", autocompletion=complete_key),
    ] = None,
) -> None:
    """Show the settings of a run: key, type, default and help. YAML recipes and --set KEY=VALUE change them.

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
