"""Where the model looked: its inputs as pictures, the sites that its sparse blocks kept, and what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mesm_train.data.batch import Batch
from mesm_train.data.mel import COLUMNS, HOP, MELS, SAMPLE_RATE, MelPieces, count_pieces
from mesm_train.models import flops
from mesm_train.models.fe2e_mesm import FACE, Model
from mesm_train.models.streams import Trace
from mesm_train.report.pictures import colours

Pixels = NDArray[np.uint8]

SHOWN = 4.0  # seconds of an utterance: 8 faces and 10 pieces, which end together
PIECE = COLUMNS * HOP / SAMPLE_RATE  # seconds of a piece of sound
SIZES = {"v": f"{FACE} × {FACE} pixels", "a": f"{MELS} mels ×\n{COLUMNS} columns"}
WORDS = {"t": "text", "v": "faces", "a": "sound"}
DIM, DROPPED, DARK = 0.3, 50, 14  # brightness: what is left of the picture and its least where dropped; not on offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Faces, or pieces of sound, side by side in time: uint8 (H, W, 3) RGB, `count` of them in `seconds`."""

    modality: str  # v or a
    title: str
    note: str
    pixels: Pixels
    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One utterance. `branches` has the logits of the modalities that it has; `truth` and all logits are by class."""

    key: str
    amounts: Mapping[str, int]  # v: faces, a: pieces of sound, t: tokens; of the modalities that the model has
    strips: Sequence[Strip]
    branches: Mapping[str, Sequence[float]]
    logits: Sequence[float]
    truth: Sequence[bool]


@torch.no_grad()
def look(model: Model, batch: Batch, *, frame_interval: float = 0.5) -> list[Seen]:
    """What the model sees in each utterance of a batch, and what it makes of it.

    `frame_interval` is the time between two faces in seconds, as the dataset's recipe says.

    The sound is always shown on a log scale, as viridis colours from 70 dB below the utterance's loudest site; whether
    the model reads the logarithm is a setting. Raises ValueError if the model is not in evaluation mode.
    """
    if model.training:
        raise ValueError("the model must be in evaluation mode: model.eval()")
    look = model.look(batch.to(next(model.parameters()).device))
    batch = batch.to("cpu")
    pieces, piece_counts = MelPieces(log=True)(batch.samples, batch.sample_counts)
    counts = {"t": batch.token_counts, "v": batch.face_counts, "a": piece_counts}
    starts = {m: (count.cumsum(0) - count).tolist() for m, count in counts.items()}
    modalities: tuple[str, ...] = model.settings.modalities
    interval = {"v": frame_interval, "a": PIECE}
    seen = []
    for n, key in enumerate(batch.keys):
        amounts = {m: int(counts[m][n]) for m in modalities}
        strips = []
        for m in (m for m in ("v", "a") if amounts.get(m)):
            shown = min(amounts[m], max(1, round(SHOWN / interval[m])))
            part = slice(starts[m][n], starts[m][n] + shown)
            whole = slice(starts[m][n], starts[m][n] + amounts[m])
            pictures = batch.faces[part].numpy() if m == "v" else _spectrogram(pieces[whole, 0].numpy())[:shown]
            traces = [_cut(trace, part) for trace in look.traces[m]]
            strips += _strips(m, pictures, traces, min(len(pictures) * interval[m], SHOWN))
        seen.append(
            Seen(
                key=key,
                amounts=amounts,
                strips=strips,
                branches={m: look.branches[m][n].tolist() for m in modalities if look.present[m][n]},
                logits=look.logits[n].tolist(),
                truth=[bool(true) for true in batch.labels[n] > 0.5],
            )
        )
    return seen


def fusion(model: Model) -> dict[str, float]:
    """The weight of each modality's logits in the fused ones; {} if there is one modality only."""
    if model.fusion is None:
        return {}
    return dict(zip(model.settings.modalities, model.fusion.weight[0].tolist(), strict=True))


@torch.no_grad()
def operations(model: Model, batch: Batch) -> dict[str, Any]:
    """The content of operations.json: multiply-adds of this model on this batch, and of its dense counterpart.

    A dense model has no sparse counterpart here: how many sites that would keep is known only once it is trained.

    Returns:
        input   utterances, faces, pieces (of sound, 0.4 s) and tokens of the batch
        models  fe2e and, for a sparse model, mesm: MAC by part (see flops.py)
        kept    for a sparse model, v and a: the share of all sites that each block keeps
    """
    settings = model.settings
    encoder = None if model.text is None else model.text.encoder.config
    look = model.look(batch.to(next(model.parameters()).device))
    counted = flops.counted_macs(settings, encoder, batch, look)
    if settings.kind == "fe2e":
        models, kept = {"fe2e": counted}, {}
    else:
        models = {"fe2e": flops.counted_macs(replace(settings, kind="fe2e"), encoder, batch, look), "mesm": counted}
        kept = {m: flops.densities(list(traces)) for m, traces in look.traces.items() if len(traces[0].kept)}
    amounts = {"faces": batch.face_counts, "pieces": count_pieces(batch.sample_counts), "tokens": batch.token_counts}
    given = {"utterances": len(batch.keys), **{name: int(count.sum()) for name, count in amounts.items()}}
    return {"input": given, "models": models, "kept": kept}


def _spectrogram(pieces: NDArray[np.float32]) -> Pixels:
    """Log power (P, 128, 32) to colours (P, 128, 32, 3)."""
    top, span = float(pieces.max()), 7 * np.log(10)
    return colours((pieces - (top - span)) / span)


def _cut(trace: Trace, part: slice) -> Trace:
    return Trace(active=trace.active[part].cpu(), weights=trace.weights[part].cpu(), kept=trace.kept[part].cpu())


def _strips(modality: str, pictures: Pixels, traces: Sequence[Trace], seconds: float) -> list[Strip]:
    """The pictures (n, H, W, 3) as they are, and as each block of `traces` left them; they stand for `seconds`."""
    count = len(pictures)

    def strip(title: str, note: str, shown: Pixels) -> Strip:
        upright = shown if modality == "v" else shown[:, ::-1]  # low tones below
        row = np.concatenate(list(upright), axis=1)
        return Strip(modality=modality, title=title, note=note, pixels=row, count=count, seconds=seconds)

    strips = [strip(WORDS[modality].capitalize(), SIZES[modality], pictures)]
    for number, trace in enumerate(traces, 1):
        height, width = trace.kept.shape[1:]
        note = f"{height} × {width} sites\n{float(trace.kept.double().mean()):.0%} kept"
        strips.append(strip(f"Block {number}", note, shade(pictures, trace.active, trace.kept)))
    return strips


def shade(pictures: Pixels, active: Tensor, kept: Tensor) -> Pixels:
    """Pictures (n, H, W, 3) with kept sites as they are, dropped ones in dim grey, those not on offer black.

    `active` and `kept`: bool (n, h, w), where h divides H and w divides W.
    """
    tall, wide = pictures.shape[1] // kept.shape[1], pictures.shape[2] // kept.shape[2]

    def grown(sites: Tensor) -> NDArray[np.bool_]:
        return sites.numpy().repeat(tall, axis=1).repeat(wide, axis=2)[..., None]

    grey = DROPPED + DIM * pictures.mean(axis=3, keepdims=True)
    return np.where(grown(kept), pictures, np.where(grown(active), grey, DARK)).astype(np.uint8)
