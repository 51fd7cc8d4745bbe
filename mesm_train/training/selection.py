"""What the settings of a run select of the data: dataset, split, targets. Settings are checked before data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import InputError
from mesm_data.schema.views import View
from mesm_data.splits.resolve import PARTS, Split
from mesm_data.storage.remote_bytes import local_path
from mesm_train.config.settings import RunConfig
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.data.device import configure_backends, pick_device
from mesm_train.data.feature_loader import with_feature_widths
from mesm_train.data.labels import Heads, resolve_heads, truth
from mesm_train.data.mel import SAMPLE_RATE
from mesm_train.data.plan import Ints
from mesm_train.data.sampler import class_groups
from mesm_train.models.fe2e_mesm import FACE
from mesm_train.training.distributed import ALONE, Ranks
from mesm_train.training.provenance import provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What the settings select of the data: all that can be refused before the text encoder is loaded.

    Attributes:
        heads: what is predicted.
        keys: of each part of the split, the utterances inside the label views.
        targets: float32 (outputs,) of each utterance inside the label views.
    """

    config: RunConfig
    dataset: Dataset
    heads: Heads
    split: Split
    keys: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, NDArray[np.float32]]
    device: torch.device
    provenance: dict[str, Any]
    ranks: Ranks = ALONE

    @property
    def view(self) -> View:
        """The primary label view: that of the first head."""
        return self.heads.primary.view

    def groups(self) -> Ints | None:
        """The group that each utterance of the train part, sorted by key, is sampled by; None for sampler plain."""
        if self.config.sampler == "plain":
            return None
        targets = np.stack([self.targets[key] for key in sorted(self.keys["train"])])
        return class_groups(truth(targets[:, self.heads.primary.columns]))


def select_data(config: RunConfig, *, parts: tuple[str, ...] = PARTS, ranks: Ranks = ALONE) -> Selection:
    """Open the data of a run and select its utterances and targets. `parts` must hold utterances.

    Raises InputError for whatever in the settings does not fit the data.
    """
    if config.data is None:
        raise InputError("no data: give --data with the folder or URL of a dataset (see `mesm-data build --help`)")
    if config.optim.batch < ranks.world:
        raise InputError(
            f"optim.batch is {config.optim.batch}, fewer utterances than there are ranks ({ranks.world}): raise it to "
            f"{ranks.world} at least, 8 a rank are better, or start fewer ranks"
        )
    device = pick_device(config.device, ranks.local)
    configure_backends(device, config.optim.precision)
    check_data_folder(config.data)
    dataset = open_dataset(config.data, check=True, cache_gb=config.loader.cache_gb, window=config.loader.window)
    if config.model.kind not in TWO_PHASE:
        check_media(config, dataset)
    heads = resolve_heads(dataset.schema, config.labels, config.loss)
    check_heads(config, heads)
    config = replace(config, model=replace(config.model, classes=len(heads.outputs)))
    if config.model.kind in TWO_PHASE:
        config = with_feature_widths(config, dataset)
    split = dataset.split(config.split)
    labels = zip(dataset.rows, dataset.rows.column("labels"), strict=True)
    built = set(dataset.keys)
    known = {key: heads.target(record) for key, record in labels if key in built}
    targets = {key: target for key, target in known.items() if target is not None}
    for head in heads.heads:
        for target in targets.values():
            head.view.check_shares(target[head.columns])
    keys = {part: tuple(key for key in members if key in targets) for part, members in split.parts.items()}
    if not config.eval.test:
        keys, parts = {**keys, "test": ()}, tuple(part for part in parts if part != "test")
    for part in parts:
        if not keys.get(part):
            others = [f"{other} ({len(some)})" for other, some in keys.items() if some]
            remedy = "Choose" if parts == PARTS else "Give one of them with --split, or choose"
            raise InputError(
                f"split {config.split} has no utterance in its part {part!r} that label view {config.labels!r} asks "
                f"about, of {len(split.parts.get(part, ()))} that {dataset.path} holds. Parts with such utterances: "
                f"{', '.join(others) or 'none'}. {remedy} another split or view: --set split=…, --set labels=…"
            )
    facts = provenance(dataset.info, split, heads, config, device=str(device))
    return Selection(
        config=config, dataset=dataset, heads=heads, split=split, keys=keys, targets=targets, device=device,
        provenance=facts, ranks=ranks,
    )  # fmt: skip


def check_heads(config: RunConfig, heads: Heads) -> None:
    """Raises InputError if the sampler or the score that selects an epoch does not fit the primary view."""
    head, by = heads.primary, config.eval.select_by
    if config.sampler == "class-balanced" and head.kind == "number":
        raise InputError(f"sampler class-balanced needs classes, and label view {head.view.name!r} has numbers")
    if by not in ("auto", "loss", "last") and (by in ("mae", "pearson", "ccc")) != (head.kind == "number"):
        fitting = "mae, pearson or ccc" if head.kind == "number" else "f1, auc, balanced_accuracy or accuracy"
        raise InputError(f"eval.select_by {by} is no score of label view {head.view.name!r}: choose loss, {fitting}")


def check_selection_score(selection: Selection) -> None:
    """Raises InputError if eval.select_by is not defined on the valid part, or is the same there for every model."""
    head, by = selection.heads.primary, selection.config.eval.select_by
    targets = np.stack([selection.targets[key] for key in selection.keys["valid"]])[:, head.columns]
    if head.kind == "number":
        lacks = None
        if by in ("auto", "ccc", "pearson") and (targets == targets[0]).all():  # the CCC of any model is 0
            lacks = "number varies"
    else:
        has_yes, has_no = (truth(targets) > 0).any(axis=0), (truth(targets) == 0).any(axis=0)
        lacks = None
        if by in ("auto", "f1") and not has_yes.any():
            lacks = "class is true"
        elif by in ("auc", "balanced_accuracy") and not (has_yes & has_no).any():
            lacks = "class is true of some utterances and false of others"
    if lacks:
        score = ("ccc" if head.kind == "number" else "f1") if by == "auto" else by
        raise InputError(
            f"eval.select_by {score} finds no best epoch on the valid part of split {selection.config.split}: in none "
            f"of label view {head.view.name!r} of its {len(targets)} utterances a {lacks}. Choose another split, or "
            "eval.select_by=loss"
        )


def check_data_folder(data: str) -> None:
    """Raises InputError if `data` is a folder's path and no folder is there, as after the dataset was moved."""
    if (path := local_path(data)) and not path.is_dir():
        raise InputError(
            f"data: there is no folder {path}: if the dataset was moved, give its new place with --data; else give the "
            "folder that `mesm-data build` wrote"
        )


def check_media(config: RunConfig, dataset: Dataset) -> None:
    """Raises InputError if the stacks or encoders of a model cannot take the dataset's faces or sound."""
    recipe, modalities = dataset.info["recipe"], config.model.modalities
    if "v" in modalities and config.faces.encoder is None:
        check_face_size(dataset, FACE, "the visual stack")
    if "a" in modalities and recipe["sample_rate"] != SAMPLE_RATE:
        raise InputError(
            f"{dataset.path} holds sound at {recipe['sample_rate']} Hz, the acoustic stack takes {SAMPLE_RATE} Hz: "
            f"build it with --sample-rate {SAMPLE_RATE}, or leave a out of model.modalities"
        )
    if config.sound.encoder is not None and (config.augment.mask_seconds or config.augment.mask_mels):
        raise InputError(
            "augment.mask_seconds and augment.mask_mels change mel spectrograms; sound.encoder reads the wave"
        )


def check_face_size(dataset: Dataset, size: int, what: str) -> None:
    """Raises InputError unless the dataset's crops are of `size` pixels, which `what` takes."""
    if (face_size := dataset.info["recipe"]["face_size"]) != size:
        raise InputError(
            f"{dataset.path} holds faces of {face_size} pixels, {what} takes {size}: build it with --face-size {size}, "
            "or leave v out of model.modalities"
        )
