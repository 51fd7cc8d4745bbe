"""The recipes that come with mesm, and files of settings: YAML to the settings of a run."""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from mesm_data.errors import InputError, did_you_mean
from mesm_data.storage.files import open_regular_file
from mesm_train.config.core_yaml import MAX_YAML
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import parse


def recipes() -> list[str]:
    """The names of the recipes that come with mesm."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def recipe_summaries() -> dict[str, str]:
    """The names of the recipes that come with mesm, each with the first line of its file, a comment."""
    texts = {name: (_folder() / f"{name}.yaml").read_text(encoding="utf-8") for name in recipes()}
    return {name: text.partition("\n")[0].removeprefix("# ") for name, text in texts.items()}


def load_recipe(name: str, sets: Sequence[str] = ()) -> RunConfig:
    """The settings of a recipe by its name, or of a YAML file by its path, changed by `sets`.

    Args:
        name: The name of a recipe, or a path that ends in .yaml or .yml.
        sets: Settings that replace those of the file, each "KEY=VALUE", such as "optim.lr=1e-3".

    Raises:
        InputError: The file or a setting is invalid. The message names the file or the --set, the key, what was
            expected and what it may have meant.
    """
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        if name not in recipes():
            hint = did_you_mean(name, recipes())
            raise InputError(
                f"there is no recipe {name!r}: {hint}There are {', '.join(recipes())}; or give a .yaml file"
            )
        return parse(RunConfig, (_folder() / f"{name}.yaml").read_bytes(), f"recipe {name}", sets)
    try:
        with open_regular_file(path) as file:
            return parse(RunConfig, file.read(MAX_YAML + 1), str(path), sets)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): expected a file of settings in YAML") from None


def _folder() -> Traversable:
    return files("mesm_train.config") / "recipes"
