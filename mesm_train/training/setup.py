"""From settings to everything that a run needs: data, split, labels, model. Settings are checked before data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
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
from mesm_train.config.settings import AugmentConfig, RunConfig
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.data.costs import sample_costs
from mesm_train.data.feature_loader import FeatureLoader, class_vectors, open_sets, statistics, with_feature_widths
from mesm_train.data.labels import Heads, resolve_heads, truth
from mesm_train.data.loader import Loader
from mesm_train.data.mel import SAMPLE_RATE
from mesm_train.data.plan import Ints, Plan, Samples, derive_seed, plan
from mesm_train.data.sampler import balanced, class_groups
from mesm_train.data.stream import ShardStream
from mesm_train.models import text
from mesm_train.models.baselines.make import AnyModel, make_two_phase
from mesm_train.models.fe2e_mesm import FACE, Model
from mesm_train.models.norm import synchronise
from mesm_train.models.pretrained import load_faces, load_sound
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup(Selection):
    """A run before its first step: the selected data and the model."""

    loader: Loader
    samples: Samples
    model: AnyModel

    def plan(self, epoch: int) -> Plan:
        """The order of an epoch of the train part."""
        config, groups, samples = self.config, self.groups(), self.samples
        if groups is not None:
            samples = balanced(samples, groups, seed=config.seed, epoch=epoch)
        return plan(samples, seed=config.seed, epoch=epoch, batch=config.optim.batch, window=config.loader.window)

    @property
    def frame_interval(self) -> float:
        """Seconds between two faces of an utterance."""
        return float(self.dataset.info["recipe"]["frame_interval"])

    def steps_per_epoch(self) -> int:
        """How many steps the plan of any epoch has."""
        return -(-len(self.samples.keys) // self.config.optim.batch)


def prepare_run(config: RunConfig, run: Path, *, parts: tuple[str, ...] = PARTS, ranks: Ranks = ALONE) -> Setup:
    """Select the data and make the model of a run, the same each time and on each rank. See `select_data`."""
    return make_model(select_data(config, parts=parts, ranks=ranks), run)


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
    set_matmul_precision(device, config.optim.precision)
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


def make_model(selection: Selection, run: Path) -> Setup:
    """The run of the selected data: with its text encoder, its model and its loader."""
    config, dataset, keys, ranks = selection.config, selection.dataset, selection.keys, selection.ranks
    if config.model.kind in TWO_PHASE:
        return make_two_phase_run(selection)
    tokenizer, encoder = text_encoder(config, dataset, keys.get("train", ()), run)
    torch.manual_seed(derive_seed(config.seed, "weights"))
    sound = load_sound(config.sound, config.model.dim) if config.sound.encoder else None
    faces = load_faces(config.faces, config.model.dim) if config.faces.encoder else None
    if faces is not None:
        check_face_size(dataset, faces.size, f"faces.encoder {config.faces.encoder}")
    model = Model(config.model, encoder, sound=sound, faces=faces).to(selection.device)
    if model.text is not None and config.optim.text_lr_factor == 0:
        model.text.freeze_encoder()
    if ranks.world > 1 and config.ranks.synchronised(config.optim.batch, ranks.world):
        synchronise(model, ranks.sum_statistics)
    changes = config.augment if config.augment != AugmentConfig() else None
    loader = Loader(
        dataset, selection.targets, tokenizer, config.text.max_tokens, config.loader, augmentation=changes,
        seed=config.seed, pin=selection.device.type == "cuda",
        stream=shard_stream(config, dataset, keys.get("train", ()), ranks),
    )  # fmt: skip
    facts = dict(selection.provenance)
    if encoder is not None:
        facts["text"] = text.provenance(replace(config.text, encoder=encoder_path(config, run)))
        facts["text"]["encoder"] = config.text.encoder
    for section, settings in (("sound", config.sound), ("faces", config.faces)):
        if settings.encoder is not None:
            place = text.find_encoder(settings.encoder, settings.revision, f"{section}.encoder")
            facts[section] = text.encoder_provenance(place, settings.encoder, settings.revision)
    samples = plan_samples(dataset, keys.get("train", ()), config.model.modalities)
    selected = {field.name: getattr(selection, field.name) for field in fields(Selection)}
    return Setup(**{**selected, "provenance": facts}, loader=loader, samples=samples, model=model)


def make_two_phase_run(selection: Selection) -> Setup:
    """The run of the selected data for a two-phase system: with its feature sets, its model and its loader."""
    config, dataset, train = selection.config, selection.dataset, selection.keys.get("train", ())
    sets = open_sets(config, dataset)
    emotions = class_vectors(config, dataset, selection.heads.outputs) if config.model.kind == "emo-embs" else None
    torch.manual_seed(derive_seed(config.seed, "weights"))
    model = make_two_phase(config.model, emotions)
    for modality in ("v", "a"):
        if modality in sets and config.model.two_phase.features.standardise:
            model.set_statistics(modality, *statistics(sets[modality], train))
    cost = sum(np.array([each.rows[key] for key in sorted(train)], np.int64) for each in sets.values())
    samples = replace(plan_samples(dataset, train, config.model.modalities), cost=np.asarray(cost, np.int64))
    facts = {m: {name: each.info[name] for name in ("name", "kind", "digest", "index")} for m, each in sets.items()}
    selected = {field.name: getattr(selection, field.name) for field in fields(Selection)}
    return Setup(**{
        **selected, "provenance": {**selection.provenance, "features": facts},
        "loader": FeatureLoader(
            dataset, selection.targets, sets, config.loader, pin=selection.device.type == "cuda"
        ),
        "samples": samples, "model": model.to(selection.device),
    })  # fmt: skip


def check_heads(config: RunConfig, heads: Heads) -> None:
    """Raises InputError if the sampler or the score that selects an epoch does not fit the primary view."""
    head, by = heads.primary, config.eval.select_by
    if config.sampler == "class-balanced" and head.kind == "number":
        raise InputError(f"sampler class-balanced needs classes, and label view {head.view.name!r} has numbers")
    if by not in ("auto", "loss") and (by in ("mae", "pearson", "ccc")) != (head.kind == "number"):
        fitting = "mae, pearson or ccc" if head.kind == "number" else "f1, auc, balanced_accuracy or accuracy"
        raise InputError(f"eval.select_by {by} is no score of label view {head.view.name!r}: choose loss, {fitting}")


def check_data_folder(data: str) -> None:
    """Raises InputError if `data` is a folder's path and no folder is there, as after the dataset was moved."""
    if (path := local_path(data)) and not path.is_dir():
        raise InputError(
            f"data: there is no folder {path}: if the dataset was moved, give its new place with --data; else give the "
            "folder that `mesm-data build` wrote"
        )


def shard_stream(config: RunConfig, dataset: Dataset, train: Sequence[str], ranks: Ranks) -> ShardStream | None:
    """What training reads with loader.source=webdataset. Raises InputError if a rank would have no shard."""
    if config.loader.source != "webdataset":
        return None
    stream = ShardStream(dataset, train, seed=config.seed, rank=ranks.rank, world=ranks.world)
    if len(stream.shards) < ranks.world:
        raise InputError(
            f"loader.source=webdataset gives every rank shards of its own, and the train part lies in "
            f"{len(stream.shards)} shards for {ranks.world} ranks: start fewer ranks, or take loader.source=index"
        )
    return stream


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


def plan_samples(dataset: Dataset, keys: Sequence[str], modalities: Sequence[str]) -> Samples:
    """The samples from which epochs are planned: their shards, and their cost for a model of these modalities."""
    cost, numbers = (
        sample_costs(dataset.rows, modalities),
        {name: i for i, name in enumerate(sorted(dataset.info["shards"]))},
    )
    names = sorted(keys)
    return Samples(
        keys=tuple(names),
        shard=np.array([numbers.get(dataset.shard(key), -1) for key in names], np.int64),
        cost=cost[[dataset.rows.row_number(key) for key in names]],
    )


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """The device `name`; auto is the GPU of rank `local_rank` of this machine, if it has any.

    If there are more ranks than GPUs, they share them. Raises InputError if the device is not available.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    name = f"cuda:{local_rank % max(torch.cuda.device_count(), 1)}" if name in ("auto", "cuda") else name
    try:
        device = torch.device(name)
        # Statistics and site selection use float64, which Apple's MPS lacks.
        torch.zeros(1, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}): use auto") from None
    return device


def set_matmul_precision(device: torch.device, precision: str) -> None:
    """Set whether float32 products and convolutions on a GPU are computed in TF32, for the whole process.

    By default torch's convolutions use it and its matrix products do not.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"


def encoder_path(config: RunConfig, run: Path) -> str:
    """The path or name of the text encoder; that of the demo is stored in the run."""
    return str(run / "text") if config.text.encoder == "tiny" else config.text.encoder


def text_encoder(config: RunConfig, dataset: Dataset, train: tuple[str, ...], run: Path) -> tuple[Any, Any]:
    """Tokenizer and encoder (None, None without text). `tiny` is made once, of the training transcripts."""
    if "t" not in config.model.modalities:
        return None, None
    if config.text.encoder == "tiny" and not (run / "text" / "model.safetensors").exists():
        by_shard = sorted(train, key=dataset.shard)
        dataset.prefetch(by_shard)
        transcripts = {key: dataset[key].text for key in by_shard}
        text.make_tiny(
            [transcripts[key] for key in sorted(train)],
            run / "text",
            derive_seed(config.seed, "text") % 2**32,
            config.text,
        )
    return text.load(replace(config.text, encoder=encoder_path(config, run)))
