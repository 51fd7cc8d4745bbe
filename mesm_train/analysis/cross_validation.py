"""Cross-validation: one recipe on all folds of a protocol with several seeds, in one folder, resumable.

OUT/cv.json                              what is run: protocol, variants, folds, seeds
OUT/runs/<variant>/<fold>/seed-<n>/      each a run like any other
OUT/table.*  classes.*  results.json  figure.png
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mesm_data.dataset.reader import SPLIT_COLUMNS, Dataset
from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import InputError
from mesm_data.splits.folds import fold_names
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.analysis.compare import Comparison, compare
from mesm_train.analysis.systems import CV, read_systems
from mesm_train.config.model_settings import Modality
from mesm_train.config.settings import RunConfig
from mesm_train.data.labels import resolve_heads, truth

ABLATIONS: tuple[tuple[Modality, ...], ...] = (
    ("t",), ("a",), ("v",), ("t", "a"), ("t", "v"), ("v", "a"), ("t", "v", "a"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a cross-validation, in the folder `path` below OUT."""

    variant: str
    fold: str
    seed: int
    path: str
    config: RunConfig

    def summary(self) -> dict[str, Any]:
        """As cv.json has it."""
        return {"variant": self.variant, "fold": self.fold, "seed": self.seed, "path": self.path}


def plan_jobs(config: RunConfig, protocol: str, seeds: int, *, ablate_modalities: bool = False) -> list[Job]:
    """The runs of a cross-validation, fold by fold, checked against the data before any of them starts.

    Args:
        config: The recipe; its split is replaced, its seed is the first of `seeds` successive ones.
        protocol: See `fold_names`.
        seeds: Their number.
        ablate_modalities: One variant for each set of modalities that the model can take.

    Raises:
        InputError: There is no such protocol, a part of a fold lacks a class, or eval.test is false.
    """
    if config.data is None:
        raise InputError("no data: give --data with the folder or URL of a dataset")
    if not config.eval.test:
        raise InputError("eval.test is false: a cross-validation is scored on the test parts of its folds")
    dataset = open_dataset(config.data, check=True, cache_gb=config.loader.cache_gb, window=config.loader.window)
    folds = fold_names(dict(dataset.rows.select(*SPLIT_COLUMNS).items()), dataset.schema, protocol)
    for fold in folds:
        check_fold(dataset, config, fold)
    variants = _variants(config) if ablate_modalities else {"": config}
    return [
        Job(
            variant=variant,
            fold=fold,
            seed=seed,
            path=f"runs/{variant or 'all'}/{_folder_name(fold)}/seed-{seed}",
            config=replace(of_variant, split=fold, seed=seed),
        )
        for variant, of_variant in variants.items()
        for fold in folds
        for seed in range(config.seed, config.seed + seeds)
    ]


def _folder_name(fold: str) -> str:
    """A fold's name without what folders' names should not have; of a path, its last part."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", fold.rstrip("/").rpartition("/")[2])


def _variants(config: RunConfig) -> dict[str, RunConfig]:
    """By the letters of their modalities. Kind mesm needs text, which guides its attention."""
    return {
        "".join(modalities): replace(config, model=replace(config.model, modalities=modalities))
        for modalities in ABLATIONS
        if "t" in modalities or config.model.kind != "mesm"
    }


def check_fold(dataset: Dataset, config: RunConfig, fold: str) -> None:
    """Raises InputError if a part of a fold lacks utterances or a class, or validation shares a speaker with test."""
    heads, split = resolve_heads(dataset.schema, config.labels, config.loss), dataset.split(fold)
    labels = dict(zip(dataset.keys, (dataset.rows[key]["labels"] for key in dataset.keys), strict=True))
    for part, keys in split.parts.items():
        targets = [target for key in keys if (target := heads.target(labels[key])) is not None]
        if not targets:
            raise InputError(f"fold {fold}: no utterance of its {part} part is inside label view {config.labels}")
        if heads.primary.kind == "number":
            continue
        own = np.stack(targets)[:, heads.primary.columns]
        nowhere, everywhere = truth(own).sum(axis=0) == 0, own.min(axis=0) == 1
        for is_constant, subject in ((nowhere, "no"), (everywhere & (part == "train"), "every")):
            if is_constant.any():
                names = [name for name, constant in zip(heads.primary.outputs, is_constant, strict=True) if constant]
                raise InputError(
                    f"fold {fold}: {subject} utterance of its {part} part ({len(targets)}) is {' or '.join(names)}: "
                    "take other folds, or a label view without it"
                )
    if fold.startswith(("speaker", "session")):
        speakers = {part: {dataset.rows[key]["speaker"] for key in keys} for part, keys in split.parts.items()}
        shared = sorted(map(str, speakers["valid"] & speakers["test"]))
        if shared:
            raise InputError(f"fold {fold}: {', '.join(shared[:5])} would validate and be tested: take folds speaker")


def write_plan(out: Path, protocol: str, jobs: Sequence[Job]) -> None:
    """Write OUT/cv.json; the cross-validation that OUT holds may grow by seeds.

    Raises InputError if OUT holds another cross-validation, or one with runs that `jobs` lack.
    """
    content = {"protocol": protocol, "runs": [job.summary() for job in jobs]}
    path = out / "cv.json"
    if path.exists():
        before = read_checked_json(path, CV)
        variants, folds = ({run[name] for run in before["runs"]} for name in ("variant", "fold"))
        only_seeds = variants == {job.variant for job in jobs} and folds == {job.fold for job in jobs}
        grown = only_seeds and all(run in content["runs"] for run in before["runs"])
        if before["protocol"] != protocol or not grown:
            raise InputError(
                f"{out} holds another cross-validation ({before['protocol']}, {len(before['runs'])} runs): give the "
                "same folds and modalities and at least its seeds to go on, or another --out"
            )
    elif out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out} holds other things: give a new or an empty folder")
    write_json(path, content)


def summarise(out: Path) -> Comparison:
    """The variants of a finished cross-validation beside each other, without tests."""
    return compare(read_systems([out]), resamples=0)
