"""Counted multiply-adds, against torch's own counter and against loops."""

import pytest
import torch
from test_model import pack, small, trained_a_little, utterance
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data.mel import count_pieces
from mesm_train.models.flops import active_pairs, counted_macs, dense_macs, densities
from mesm_train.models.streams import Stack


@pytest.mark.parametrize(
    ("modality", "channels", "size", "million"), [("v", 3, (48, 48), 478.2), ("a", 1, (128, 32), 837.0)]
)
def test_dense_stacks_cost_what_torch_counts(
    modality: str, channels: int, size: tuple[int, int], million: float
) -> None:
    """At the published sizes, and the convolutions of one picture as docs/reference-model measured them."""
    settings = ModelSettings(modalities=("v", "a"))
    macs = dense_macs(settings, None, faces=1, pieces=1, tokens=0)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Stack(settings, channels, size)(torch.zeros(1, channels, *size), None)
    parts = [macs[f"{modality}.{part}"] for part in ("stem", "blocks", "head")]
    assert 2 * sum(parts) == counter.get_total_flops()
    assert round(sum(parts[:2]) / 1e6, 1) == million


def test_whole_model_costs_what_torch_counts() -> None:
    """One utterance in training mode, text and sequences included.

    Torch also counts the unused pooling layer and the mel filters, which are products with a matrix too.
    """
    model = small("fe2e", engine="torch").train()  # whose operations are torch's
    batch = utterance(3, 9000, 6, 1)
    pieces = int(count_pieces(batch.sample_counts))
    # Of the kernels for attention, torch counts the plain one on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(batch)
    assert model.text is not None
    encoder = model.text.encoder.config
    expected = sum(dense_macs(model.settings, encoder, faces=3, pieces=pieces, tokens=6).values())
    pooling, mel, fusion = 12 * 12, 46 * 201 * 128, 3 * 3
    assert counter.get_total_flops() == 2 * (expected + pooling + mel + fusion)


def test_counted_is_dense_for_the_dense_model_and_for_full_grids() -> None:
    parts = [utterance(3, 9000, 6, 1), utterance(0, 3000, 0, 2), utterance(2, 0, 4, 3)]
    batch = pack(parts)
    model = trained_a_little(small("fe2e"))
    assert model.text is not None
    encoder = model.text.encoder.config
    with torch.no_grad():
        counted = counted_macs(model.settings, encoder, batch, model.forward_details(batch))
    pieces = count_pieces(batch.sample_counts).tolist()
    rows = [
        dense_macs(model.settings, encoder, faces=f, pieces=p, tokens=t)
        for f, p, t in zip(batch.face_counts.tolist(), pieces, batch.token_counts.tolist(), strict=True)
    ]
    assert counted == {name: sum(row[name] for row in rows) for name in rows[0]}


def test_attention_costs_what_torch_counts() -> None:
    """In training, where its products are torch's: of 5 faces and their 2 texts."""
    model = small("mesm", engine="torch").train()
    assert model.text is not None
    batch = pack([utterance(3, 0, 6, 1), utterance(2, 0, 6, 2)])
    with FlopCounterMode(display=False) as counter:
        details = model.forward_details(batch)
    counted = sum(counter.get_flop_counts()["SiteAttention"].values())
    macs = counted_macs(model.settings, model.text.encoder.config, batch, details)
    assert counted == 2 * macs["v.attention"]


def test_pairs_are_those_of_a_loop() -> None:
    kept = torch.rand(3, 7, 5) < 0.6
    sites = {tuple(site) for site in kept.nonzero().tolist()}
    near = [(0, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert active_pairs(kept) == sum((n, y + dy, x + dx) in sites for n, y, x in sites for _, dy, dx in near)
    assert active_pairs(kept[:0]) == 0


def test_sparse_model_costs_its_active_pairs() -> None:
    model = trained_a_little(small("mesm"))
    assert model.text is not None
    encoder = model.text.encoder.config
    batch = pack([utterance(3, 9000, 6, 1), utterance(2, 3000, 6, 2)])
    with torch.no_grad():
        details = model.forward_details(batch)
    macs = counted_macs(model.settings, encoder, batch, details)
    first, second = details.selections["v"]
    pairs = [active_pairs(first.kept), active_pairs(second.kept)]
    assert macs["v.blocks"] == pairs[0] * (4 * 6 + 6 * 6) + pairs[1] * (6 * 8 + 8 * 8)
    assert macs["v.attention"] == 5 * 24 * 24 * 20 + 5 * 12 * 4 + int(second.active.sum()) * 42 + 5 * 12 * 6
    full = dense_macs(model.settings, encoder, faces=5, pieces=0, tokens=0)
    assert macs["v.stem"] == full["v.stem"]
    assert macs["v.blocks"] < full["v.blocks"]
    assert all(0 < density < 1 for density in densities(list(details.selections["v"])))
