"""Small runs in this process: text alone, two epochs, a second each."""

from pathlib import Path

import yaml

from mesm_data.dataset.reader import Dataset
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RunConfig
from mesm_train.runs.run import start_run
from mesm_train.training.progress import NullLogger

RECIPE = """
name: small
model: {modalities: [t], channels: [4, 8], stem_blocks: 0, hidden: 16, dim: 8, layers: 1, heads: 2, feedforward: 16}
text: {encoder: tiny, tiny: {vocabulary: 60, embedding: 8, width: 8, layers: 1, heads: 2, feedforward: 8}}
optim: {lr: 1e-2, text_lr_factor: 1, batch: 8, epochs: 2}
report: {media: false}
device: cpu
"""


class RecordedLines(NullLogger):
    """Keeps what a run prints."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Keep the line."""
        self.lines.append(line)


def small_recipe(folder: Path, dataset: Path, settings: str = RECIPE) -> Path:
    """A recipe in `folder`, and a split that gives every part some of each class of view six that there is."""
    data = Dataset(dataset)
    labels = {key: data.rows[key]["labels"]["emotion"] for key in data.keys}
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for label in ("ang", "exc", "fru", "hap", "neu", "sad"):
        first, second, *others = [key for key in data.keys if labels[key] == label]
        assert others, label
        parts["valid"].append(first)
        parts["test"].append(second)
        parts["train"] += others
    (folder / "split.yaml").write_text(yaml.safe_dump(parts))
    path = folder / "small.yaml"
    path.write_text(f"{settings}split: {folder / 'split.yaml'}\ndata: {dataset}\n")
    return path


def train_small(recipe: Path, run: Path, *sets: str) -> RunConfig:
    """Train it in `run` to its end."""
    config = load_recipe(str(recipe), sets)
    assert start_run(config, run, resume=False, stop=lambda: False, logger=NullLogger())
    return config
