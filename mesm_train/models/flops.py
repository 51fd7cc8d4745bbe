"""What a forward pass costs, counted: multiply-adds (MAC; 1 MAC = 2 FLOP) per part of the model.

Counted are the convolutions, the products with weight matrices and the products inside attention; batch norms,
activations, pooling, the mel spectrogram and additions are not. A dense convolution counts the taps that fall on its
padding, H W k^2 Cin Cout, as it computes them; a sparse one only pairs of active sites, pairs Cin Cout. State the
input with every figure.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mesm_data.errors import InputError, first_line
from mesm_train.config.model_settings import ModelSettings, TextSettings
from mesm_train.data.batch import Batch
from mesm_train.data.mel import count_pieces
from mesm_train.models.fe2e_mesm import STACKS, ForwardDetails, make_stack
from mesm_train.models.streams import SiteSelection
from mesm_train.models.text import LOCAL, find

Parts = dict[str, int]


def dense_macs(settings: ModelSettings, encoder: Any | None, *, faces: int, pieces: int, tokens: int) -> Parts:
    """One utterance of so many face crops, pieces of sound (0.4 s) and tokens, with every site active.

    Args:
        settings: of kind mesm, the attention over the sites is counted too.
        encoder: the text encoder's configuration (`encoder.config`), needed for the modality t.
        faces: how many face crops it has.
        pieces: how many pieces of sound.
        tokens: how many tokens.

    Returns:
        MAC by part: `text`, and for v and a `<m>.stem`, `<m>.blocks`, `<m>.attention`, `<m>.head`, `<m>.sequence`.
    """
    parts: Parts = {}
    if "t" in settings.modalities:
        parts["text"] = _text(encoder, tokens) + (_width(encoder) * settings.classes if tokens else 0)
    for modality, count in (("v", faces), ("a", pieces)):
        if modality not in settings.modalities:
            continue
        _, channels, size = STACKS[modality]
        grids = _grids(settings, size)
        pairs = [count * height * width * 9 for height, width in grids]
        parts |= _stack(settings, modality, channels, size, count, pairs)
        if settings.kind == "mesm":
            tile = settings.sparse.tile
            sites = [count * -(-height // tile) * -(-width // tile) for height, width in grids]
            parts[f"{modality}.attention"] = _attention(settings, encoder, sites, count)
        parts[f"{modality}.sequence"] = _sequence(settings, [count])
    return parts


def counted_macs(settings: ModelSettings, encoder: Any | None, batch: Batch, details: ForwardDetails) -> Parts:
    """A batch, with the pairs of active sites that it really has, from `details`: `model.forward_details(batch)`.

    For kind fe2e the same as the sum of `dense_macs` over the utterances. Padding of texts and sequences, which the
    computation adds, is not counted.
    """
    parts: Parts = {}
    if "t" in settings.modalities:
        lengths = [length for length in batch.token_counts.tolist() if length]
        parts["text"] = sum(_text(encoder, length) + _width(encoder) * settings.classes for length in lengths)
    counts = {"v": batch.face_counts, "a": count_pieces(batch.sample_counts)}
    for modality, selections in details.selections.items():
        _, channels, size = STACKS[modality]
        items = int(counts[modality].sum())
        if settings.kind == "mesm":
            parts |= _chosen(settings, encoder, modality, items, selections)
        else:
            pairs = [items * height * width * 9 for height, width in _grids(settings, size)]
            parts |= _stack(settings, modality, channels, size, items, pairs)
        parts[f"{modality}.sequence"] = _sequence(settings, counts[modality].tolist())
    return parts


def fresh_macs(
    settings: ModelSettings, encoder: Any, *, faces: int, pieces: int, tokens: int
) -> tuple[Parts, dict[str, list[float]]]:
    """As `dense_macs`, with the pairs of active sites of freshly initialised sparse stacks on random pictures.

    Also returns the share of sites that each block keeps, for v and a.
    """
    parts = dense_macs(settings, encoder, faces=faces, pieces=pieces, tokens=tokens)
    kept: dict[str, list[float]] = {}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        for modality, count in (("v", faces), ("a", pieces)):
            if modality not in settings.modalities or not count:
                continue
            _, channels, size = STACKS[modality]
            stack = make_stack(settings, modality, _width(encoder))  # in training mode: batch statistics
            guide = torch.randn(1, _width(encoder)).expand(count, -1)
            _, selections = stack(torch.randn(count, channels, *size), guide)
            parts |= _chosen(settings, encoder, modality, count, selections)
            kept[modality] = densities(list(selections))
    return parts, kept


def encoder_sizes(settings: TextSettings) -> Any:
    """The configuration of a text encoder, without its weights.

    Raises InputError if it is not here and cannot be fetched; albert-base-v2's sizes are known.
    """
    from transformers import AlbertConfig, AutoConfig

    if settings.encoder == "tiny":
        tiny = settings.tiny
        return AlbertConfig(
            embedding_size=tiny.embedding, hidden_size=tiny.width, num_hidden_layers=tiny.layers,
            num_attention_heads=tiny.heads, intermediate_size=tiny.feedforward,
        )  # fmt: skip
    if settings.encoder.endswith("albert-base-v2"):
        return AlbertConfig(
            embedding_size=128, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072
        )
    try:
        return AutoConfig.from_pretrained(find(settings), **LOCAL)
    except InputError:
        raise
    except Exception as error:  # as in text.load
        reason = first_line(error)
        raise InputError(f"text.encoder {settings.encoder!r} has no configuration that loads: {reason}") from error


def active_pairs(kept: Tensor) -> int:
    """Over the active sites of bool (B, H, W), the active ones among a site's 3x3 neighbours, itself included."""
    active = kept.unsqueeze(1).double()
    near = torch.nn.functional.conv2d(active, active.new_ones(1, 1, 3, 3), padding=1)
    return round(float((near * active).sum()))


def densities(selections: list[SiteSelection]) -> list[float]:
    """The share of all sites that each sparse block keeps: to be stated with any count."""
    return [float(selection.kept.double().mean()) for selection in selections]


def _grids(settings: ModelSettings, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Height and width at each block after the stem."""
    return [(size[0] >> n, size[1] >> n) for n in range(1, len(settings.channels))]


def _stack(
    settings: ModelSettings, modality: str, channels: int, size: tuple[int, int], count: int, pairs: list[int]
) -> Parts:
    """The convolutions and the perceptron for `count` pictures and `pairs` of sites at each block."""
    first = settings.channels[0]
    half = size[0] * size[1] // 4
    stem = size[0] * size[1] * 25 * channels * first + settings.stem_blocks * 2 * half * 9 * first * first
    steps = zip(pairs, settings.channels, settings.channels[1:], strict=False)
    side = len(settings.channels)
    flat = settings.channels[-1] * (size[0] >> side) * (size[1] >> side)
    return {
        f"{modality}.stem": count * stem,
        f"{modality}.blocks": sum(pair * (i * o + o * o) for pair, i, o in steps),
        f"{modality}.head": count * settings.hidden * (flat + settings.dim),
    }


def _chosen(
    settings: ModelSettings, encoder: Any, modality: str, count: int, selections: Sequence[SiteSelection]
) -> Parts:
    """The sparse stack on `count` pictures, with what its blocks chose."""
    _, channels, size = STACKS[modality]
    parts = _stack(
        settings, modality, channels, size, count, [active_pairs(selection.kept) for selection in selections]
    )
    tile = settings.sparse.tile
    sites = [int(selection.active.sum()) for selection in selections]
    if tile > 1:
        sites = [count * -(-height // tile) * -(-width // tile) for height, width in _grids(settings, size)]
        steps = zip(selections, settings.channels, settings.channels[1:], strict=False)
        parts[f"{modality}.blocks"] += sum(int((~selection.kept).sum()) // 4 * i * o for selection, i, o in steps)
    parts[f"{modality}.attention"] = _attention(settings, encoder, sites, count)
    return parts


def _attention(settings: ModelSettings, encoder: Any, sites: list[int], count: int) -> int:
    """Scores over `sites` active sites, or tiles, at each block; each of `count` pictures projects its text."""
    width = _width(encoder)
    steps = zip(sites, settings.channels, strict=False)
    return sum(site * (c * c + c) + count * width * c for site, c in steps)


def _sequence(settings: ModelSettings, counts: list[int]) -> int:
    """The transformer over each utterance's items and CLS, and the output layer."""
    layer = [_layer(count + 1, settings.dim, settings.feedforward) for count in counts]
    return settings.layers * sum(layer) + len(counts) * settings.dim * settings.classes


def _text(encoder: Any, tokens: int) -> int:
    """A BERT-like encoder on `tokens`; ALBERT's projection of its narrow embeddings included, pooling not."""
    width = _width(encoder)
    narrow = getattr(encoder, "embedding_size", width)
    projection = tokens * narrow * width if narrow != width or encoder.model_type == "albert" else 0
    return int(projection + encoder.num_hidden_layers * _layer(tokens, width, encoder.intermediate_size))


def _layer(length: int, width: int, feedforward: int) -> int:
    """Four projections and two feed-forward matrices per item, and the two products of the attention."""
    return length * (4 * width * width + 2 * width * feedforward) + 2 * length * length * width


def _width(encoder: Any) -> int:
    return int(encoder.hidden_size)
