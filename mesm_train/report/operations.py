"""Multiply-adds and parameters of a run's model by part, as operations.json holds them and as the report shows them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from mesm_train.data.batch import MODALITY_NAMES, Batch
from mesm_train.data.mel import count_pieces
from mesm_train.models import flops
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.models.measured_flops import measured_macs

# Modules that have one part a modality, of FE2E and MESM and of the two-phase systems.
BY_MODALITY = {
    "stacks": "stack", "sequences": "sequence", "lstms": "sequence", "branches": "sequence", "memories": "sequence",
    "convolutions": "stem", "heads": "head", "maps": "head",
}  # fmt: skip
INNER = ("", "stem", "blocks", "attention", "head", "sequence")  # in the order of the computation


@torch.no_grad()
def count_operations(model: AnyModel, batch: Batch) -> dict[str, Any]:
    """Count the multiply-adds of this model on this batch, and of its dense counterpart.

    A dense model has no sparse counterpart here: how many sites that would keep is known only once it is trained.

    Returns:
        input       utterances, faces, pieces (of sound, 0.4 s) and tokens of the batch
        models      fe2e and, for a sparse model, mesm: MAC by part (see flops.py)
        kept        for a sparse model, v and a: the share of all sites that each block keeps
        parameters  by part: text, and for v and a their stack and sequence; fusion
    """
    if isinstance(model, TwoPhaseModel):
        return count_feature_operations(model, batch)
    settings = model.settings
    encoder = None if model.text is None else model.text.encoder.config
    details = model.forward_details(batch.to(next(model.parameters()).device))
    kept: dict[str, list[float]] = {}
    models: dict[str, dict[str, int]]
    if any(True for _ in model.encoder_parameters()):
        models = {"fe2e": measured_macs(model, batch)}
    elif settings.kind == "fe2e":
        models = {"fe2e": flops.counted_macs(settings, encoder, batch, details)}
    else:
        models = {
            "fe2e": flops.counted_macs(replace(settings, kind="fe2e"), encoder, batch, details),
            "mesm": flops.counted_macs(settings, encoder, batch, details),
        }
        kept = {
            m: flops.densities(list(selections))
            for m, selections in details.selections.items()
            if len(selections[0].kept)
        }
    amounts = {"faces": batch.face_counts, "pieces": count_pieces(batch.sample_counts), "tokens": batch.token_counts}
    counts = {"utterances": len(batch.keys), **{name: int(count.sum()) for name, count in amounts.items()}}
    return {"input": counts, "models": models, "kept": kept, "parameters": count_parameters(model)}


def count_feature_operations(model: TwoPhaseModel, batch: Batch) -> dict[str, Any]:
    """The same of a two-phase system: multiply-adds on the features, not of computing them."""
    parts: Counter[str] = Counter()
    counts = {m: rows.counts.tolist() for m, rows in batch.features.items()}
    for number in range(len(batch.keys)):
        parts.update(model.macs({m: count[number] for m, count in counts.items()}))
    rows = {f"rows of {MODALITY_NAMES[m]}": sum(count) for m, count in counts.items()}
    return {
        "input": {"utterances": len(batch.keys), **rows},
        "models": {model.settings.kind: dict(parts)},
        "kept": {},
        "parameters": count_parameters(model),
    }


def count_parameters(model: AnyModel) -> dict[str, int]:
    """How many weights each part of a model has."""
    parts: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        kind, _, rest = name.partition(".")
        modality = rest.partition(".")[0]
        part = f"{modality}.{BY_MODALITY[kind]}" if kind in BY_MODALITY else kind
        parts[part] = parts.get(part, 0) + parameter.numel()
    return parts


def operations_section(operations: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the report shows of operations.json; None if nothing was counted."""
    models: Mapping[str, Mapping[str, int]] = operations.get("models", {})
    if not models:
        return None
    totals = {name: sum(parts.values()) for name, parts in models.items()}
    unit, factor = ("billion", 1e9) if max(totals.values()) >= 1e10 else ("million", 1e6)
    parts = sorted({part for model in models.values() for part in model}, key=_order)
    return {
        "input": ", ".join(f"{count} {name}" for name, count in operations.get("input", {}).items()),
        "unit": unit,
        "models": list(models),
        "rows": [(part_title(part), [_scaled(model.get(part), factor) for model in models.values()]) for part in parts],
        "totals": [_scaled(total, factor) for total in totals.values()],
        "ratio": totals["mesm"] / totals["fe2e"] if totals.get("fe2e") and "mesm" in totals else None,
        "kept": [
            (MODALITY_NAMES.get(modality, modality).capitalize(), ", ".join(f"{100 * share:.0f} %" for share in shares))
            for modality, shares in sorted(operations.get("kept", {}).items(), reverse=True)
        ],
    }


def part_title(name: str) -> str:
    """A part's name in words: v.blocks is Faces: blocks."""
    modality, _, inner = name.partition(".")
    return (
        f"{MODALITY_NAMES[modality].capitalize()}: {inner}"
        if modality in MODALITY_NAMES and inner
        else name.capitalize()
    )


def _order(part: str) -> tuple[int, int]:
    modality, _, inner = part.partition(".")
    return ("text", "v", "a", modality).index(modality), INNER.index(inner) if inner in INNER else len(INNER)


def _scaled(value: int | None, factor: float) -> str:
    return "–" if value is None else f"{value / factor:,.2f}"
