"""From the selected data to everything that a run needs before its first step: model, loader, samples."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import InputError
from mesm_data.splits.resolve import PARTS
from mesm_train.config.settings import AugmentConfig, RunConfig
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.data.costs import sample_costs
from mesm_train.data.device import check_compiler
from mesm_train.data.feature_loader import FeatureLoader, class_vectors, open_sets, statistics
from mesm_train.data.loader import Loader
from mesm_train.data.plan import Plan, Samples, derive_seed, plan
from mesm_train.data.sampler import balanced
from mesm_train.data.stream import ShardStream
from mesm_train.models import text
from mesm_train.models.baselines.make import AnyModel, make_two_phase
from mesm_train.models.fe2e_mesm import Model
from mesm_train.models.norm import synchronise
from mesm_train.models.pretrained import load_faces, load_sound
from mesm_train.models.tiny_text import make_tiny
from mesm_train.training.distributed import ALONE, Ranks
from mesm_train.training.selection import Selection, check_face_size, select_data


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
    if config.optim.compile:
        check_compiler(selection.device)
        model.compile_transformers()
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


def plan_samples(dataset: Dataset, keys: Sequence[str], modalities: Sequence[str]) -> Samples:
    """The samples from which epochs are planned: their shards, and their cost for a model of these modalities."""
    cost = sample_costs(dataset.rows, modalities)
    numbers = {name: number for number, name in enumerate(sorted(dataset.info["shards"]))}
    names = sorted(keys)
    return Samples(
        keys=tuple(names),
        shard=np.array([numbers.get(dataset.shard(key), -1) for key in names], np.int64),
        cost=cost[[dataset.rows.row_number(key) for key in names]],
    )


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
        make_tiny(
            [transcripts[key] for key in sorted(train)],
            run / "text",
            derive_seed(config.seed, "text") % 2**32,
            config.text,
        )
    return text.load(replace(config.text, encoder=encoder_path(config, run)))
