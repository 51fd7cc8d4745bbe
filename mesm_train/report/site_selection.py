"""What each sparse block kept of an utterance's faces and spectrogram, as pictures beside the logits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mesm_data.pages.media import DYNAMIC_RANGE, side_by_side, viridis
from mesm_train.data.batch import MODALITY_NAMES, Batch
from mesm_train.data.mel import COLUMNS, HOP, MELS, SAMPLE_RATE, MelPieces
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.models.fe2e_mesm import ForwardDetails
from mesm_train.models.streams import SiteSelection

Pixels = NDArray[np.uint8]

SHOWN = 4.0  # seconds of an utterance: 8 faces and 10 pieces, which end together
PIECE = COLUMNS * HOP / SAMPLE_RATE  # seconds of a piece of sound
# Brightness of a site that a block dropped (a share of the picture's, and the least), and of one it could not choose.
DIM, DROPPED, INACTIVE = 0.3, 50, 14


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
class Prediction:
    """One utterance as the model sees it. Logits and targets are by class."""

    key: str
    amounts: Mapping[str, int]  # v: faces, a: pieces of sound, t: tokens; of the modalities that the model has
    strips: Sequence[Strip]
    branches: Mapping[str, Sequence[float]]  # the logits of the modalities that the utterance has
    logits: Sequence[float]
    targets: Sequence[float]


@torch.no_grad()
def predict_with_sites(
    model: AnyModel, batch: Batch, *, frame_interval: float = 0.5, seconds: float = SHOWN
) -> list[Prediction]:
    """Predict each utterance of a batch, and draw its input and the sites that each sparse block kept.

    The sound is always drawn on a log scale, as viridis colours from 70 dB below the utterance's loudest site; whether
    the model reads the logarithm is a setting.

    Args:
        model: in evaluation mode.
        batch: the utterances.
        frame_interval: the time between two faces in seconds, as the dataset's recipe says.
        seconds: how much of an utterance's beginning is drawn.

    Raises:
        ValueError: the model is in training mode.
    """
    if model.training:
        raise ValueError("the model must be in evaluation mode: model.eval()")
    details = model.forward_details(batch.to(next(model.parameters()).device))
    batch = batch.to("cpu")
    if isinstance(model, TwoPhaseModel):
        return _without_pictures(details, batch)
    pieces, piece_counts = MelPieces(log=True)(batch.samples, batch.sample_counts)
    counts = {"t": batch.token_counts, "v": batch.face_counts, "a": piece_counts}
    starts = {m: (count.cumsum(0) - count).tolist() for m, count in counts.items()}
    modalities: tuple[str, ...] = model.settings.modalities
    interval = {"v": frame_interval, "a": PIECE}
    predictions = []
    for n, key in enumerate(batch.keys):
        amounts = {m: int(counts[m][n]) for m in modalities}
        strips = []
        for m in (m for m in ("v", "a") if amounts.get(m)):
            limit = min(amounts[m], max(1, round(seconds / interval[m])))
            part = slice(starts[m][n], starts[m][n] + limit)
            complete = slice(starts[m][n], starts[m][n] + amounts[m])
            pictures = batch.faces[part].numpy() if m == "v" else _spectrogram(pieces[complete, 0].numpy())[:limit]
            selections = [_cut(selection, part) for selection in details.selections[m]]
            strips += _strips(m, pictures, selections, min(len(pictures) * interval[m], seconds))
        predictions.append(
            Prediction(
                key=key,
                amounts=amounts,
                strips=strips,
                branches={m: details.branches[m][n].tolist() for m in modalities if details.present[m][n]},
                logits=details.logits[n].tolist(),
                targets=batch.labels[n].tolist(),
            )
        )
    return predictions


def _without_pictures(details: ForwardDetails, batch: Batch) -> list[Prediction]:
    """The predictions of a two-phase system, which sees no pictures. `amounts`: rows of its features."""
    counts = {m: rows.counts.tolist() for m, rows in batch.features.items()}
    return [
        Prediction(
            key=key,
            amounts={m: count[n] for m, count in counts.items()},
            strips=(),
            branches={m: logits[n].tolist() for m, logits in details.branches.items() if counts[m][n]},
            logits=details.logits[n].tolist(),
            targets=batch.labels[n].tolist(),
        )
        for n, key in enumerate(batch.keys)
    ]


def fusion_weights(model: AnyModel) -> dict[str, float]:
    """The weight of each modality's logits in the fused ones; {} if there is one modality only."""
    if isinstance(model, TwoPhaseModel):
        return model.fusion_weights()
    if model.fusion is None:
        return {}
    return dict(zip(model.settings.modalities, model.fusion.weight[0].tolist(), strict=True))


def _spectrogram(pieces: NDArray[np.float32]) -> Pixels:
    """Log power (P, 128, 32) to colours (P, 128, 32, 3)."""
    top, span = float(pieces.max()), DYNAMIC_RANGE / 10 * np.log(10)
    return viridis((pieces - (top - span)) / span)


def _cut(selection: SiteSelection, part: slice) -> SiteSelection:
    return SiteSelection(
        active=selection.active[part].cpu(),
        weights=selection.weights[part].cpu(),
        kept=selection.kept[part].cpu(),
    )


def _strips(modality: str, pictures: Pixels, selections: Sequence[SiteSelection], seconds: float) -> list[Strip]:
    """The pictures (n, H, W, 3) as they are, and as each block of `selections` left them; they stand for `seconds`."""
    count = len(pictures)

    def strip(title: str, note: str, images: Pixels) -> Strip:
        upright = images if modality == "v" else images[:, ::-1]  # low tones below
        return Strip(
            modality=modality, title=title, note=note, pixels=side_by_side(upright), count=count, seconds=seconds
        )

    height, width = pictures.shape[1:3]
    size = f"{height} × {width} pixels" if modality == "v" else f"{MELS} mels ×\n{COLUMNS} columns"
    strips = [strip(MODALITY_NAMES[modality].capitalize(), size, pictures)]
    for number, selection in enumerate(selections, 1):
        height, width = selection.kept.shape[1:]
        note = f"{height} × {width} sites\n{float(selection.kept.double().mean()):.0%} kept"
        strips.append(strip(f"Block {number}", note, shade(pictures, selection.active, selection.kept)))
    return strips


def shade(pictures: Pixels, active: Tensor, kept: Tensor) -> Pixels:
    """Pictures (n, H, W, 3) with kept sites as they are, dropped ones in dim grey, inactive ones nearly black.

    `active` and `kept`: bool (n, h, w), where h divides H and w divides W.
    """
    tall, wide = pictures.shape[1] // kept.shape[1], pictures.shape[2] // kept.shape[2]

    def enlarged(sites: Tensor) -> NDArray[np.bool_]:
        return sites.numpy().repeat(tall, axis=1).repeat(wide, axis=2)[..., None]

    grey = DROPPED + DIM * pictures.mean(axis=3, keepdims=True)
    return np.where(enlarged(kept), pictures, np.where(enlarged(active), grey, INACTIVE)).astype(np.uint8)
