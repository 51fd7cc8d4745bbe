"""From settings to everything that a run needs: data, split, labels, model. Settings are checked before data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_data.errors import InputError
from mesm_data.shards.reader import Dataset
from mesm_data.splits import PARTS, Split, split
from mesm_train.config import RunConfig
from mesm_train.data.loader import Loader
from mesm_train.data.plan import derived
from mesm_train.labels import View, view
from mesm_train.models import text
from mesm_train.models.model import Model
from mesm_train.provenance import provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A run before its first step. `keys` are the parts of the split that the label view asks about."""

    config: RunConfig
    dataset: Dataset
    view: View
    split: Split
    keys: Mapping[str, tuple[str, ...]]
    loader: Loader
    model: Model
    device: torch.device
    provenance: dict[str, Any]

    def positives(self, part: str) -> NDArray[np.float64]:
        """How many utterances of a part are true of each class, (classes,); of shares, their sum."""
        told = np.stack([self.loader.targets[key] for key in self.keys[part]])
        return np.asarray(told.sum(axis=0, dtype=np.float64))


def prepare(config: RunConfig, run: Path, *, parts: tuple[str, ...] = PARTS) -> Setup:
    """Open the data and make the model of a run, the same each time. `parts` must hold utterances.

    Raises InputError for whatever in the settings does not fit the data.
    """
    if config.data is None:
        raise InputError("no data: give --data with the folder of a dataset (see `mesm-data build --help`)")
    device = pick_device(config.device)
    dataset = Dataset(Path(config.data), check=True)
    corpus = dataset.info["corpus"]
    asked = view(corpus, config.labels)
    config = replace(config, model=replace(config.model, classes=len(asked.classes)))
    parted = split(dataset.rows.values(), corpus, config.split)
    told = {key: asked.target(dataset.rows[key]["labels"]) for key in dataset.keys}
    targets = {key: target for key, target in told.items() if target is not None}
    keys = {part: tuple(key for key in held if key in targets) for part, held in parted.parts.items()}
    for part in parts:
        if not keys.get(part):
            raise InputError(
                f"split {config.split} has no utterance in its part {part!r} that label view {config.labels!r} asks "
                f"about, of {len(parted.parts.get(part, ()))} that {dataset.path} holds: choose another split or view"
            )
    tokenizer, encoder = text_encoder(config, dataset, keys.get("train", ()), run)
    torch.manual_seed(derived(config.seed, "weights"))
    model = Model(config.model, encoder).to(device)
    loader = Loader(dataset, targets, tokenizer, config.text.max_tokens, config.loader)
    facts = provenance(dataset.info, parted, asked, config, device=str(device))
    if encoder is not None:
        facts["text"] = text.provenance(replace(config.text, encoder=encoder_place(config, run)))
        facts["text"]["encoder"] = config.text.encoder
    return Setup(
        config=config, dataset=dataset, view=asked, split=parted, keys=keys, loader=loader, model=model, device=device,
        provenance=facts,
    )  # fmt: skip


def pick_device(name: str) -> torch.device:
    """The device `name`; auto is a graphics card if there is one. Raises InputError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}): auto takes what is there"
        ) from None
    return device


def encoder_place(config: RunConfig, run: Path) -> str:
    """Where the text encoder is loaded from; the demo's own one is kept in the run."""
    return str(run / "text") if config.text.encoder == "tiny" else config.text.encoder


def text_encoder(config: RunConfig, dataset: Dataset, train: tuple[str, ...], run: Path) -> tuple[Any, Any]:
    """Tokenizer and encoder (None, None without text). `tiny` is made once, of the training transcripts."""
    if "t" not in config.model.modalities:
        return None, None
    if config.text.encoder == "tiny" and not (run / "text" / "model.safetensors").exists():
        transcripts = [dataset[key].text for key in sorted(train)]
        text.make_tiny(transcripts, run / "text", derived(config.seed, "text") % 2**32, config.text)
    return text.load(replace(config.text, encoder=encoder_place(config, run)))
