"""Mel pieces against the definition, written out with numpy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mesm_train.data.mel import LOG_FLOOR, MelPieces, count_pieces, htk_filters

Array = NDArray[np.float64]
torch.set_num_threads(1)


def literal_filters() -> Array:
    """(201, 128), triangle by triangle."""
    top = 2595 * math.log10(1 + 8000 / 700)
    corner = [700 * (10 ** (top * i / 129 / 2595) - 1) for i in range(130)]
    filters = np.zeros((201, 128))
    for k in range(201):
        hertz = 40.0 * k
        for i in range(128):
            left, centre, right = corner[i : i + 3]
            if left < hertz <= centre:
                filters[k, i] = (hertz - left) / (centre - left)
            elif centre < hertz < right:
                filters[k, i] = (right - hertz) / (right - centre)
    return filters


def literal_mel(pcm: NDArray[np.int16]) -> Array:
    """(128, columns): frame by frame, by the definition of the discrete Fourier transform."""
    x = pcm.astype(np.float64) / 32768
    if len(x) < 201:
        x = np.concatenate([x, np.zeros(201 - len(x))])
    x = np.concatenate([x[200:0:-1], x, x[-2:-202:-1]])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    filters = literal_filters()
    wave = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    frames = [x[begin : begin + 400] * window for begin in range(0, len(x) - 399, 200)]
    return np.stack([np.abs(wave @ frame) ** 2 @ filters for frame in frames], axis=1)


def pcm(count: int, seed: int) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-32768, 32768, count).astype(np.int16)


def test_filters_are_the_htk_triangles() -> None:
    filters = htk_filters().double().numpy()
    assert np.abs(filters - literal_filters()).max() < 2e-5
    assert np.flatnonzero(filters.sum(0) == 0).tolist() == [0, 3, 6, 13]


@settings(max_examples=8)
@given(st.lists(st.sampled_from([0, 1, 199, 200, 201, 400, 6199, 6200, 6400]), max_size=4))
def test_each_utterance_is_its_own_spectrogram_in_pieces(counts: list[int]) -> None:
    """Packed with others, each utterance has the literal spectrogram of its own samples, cut every 32 columns."""
    utterances = [pcm(count, seed) for seed, count in enumerate(counts)]
    packed = torch.from_numpy(np.concatenate([np.zeros(0, np.int16), *utterances]))
    pieces, piece_counts = MelPieces()(packed, torch.tensor(counts, dtype=torch.int64))
    assert pieces.dtype == torch.float32
    assert pieces.shape == (int(piece_counts.sum()), 1, 128, 32)
    assert torch.equal(piece_counts, count_pieces(torch.tensor(counts, dtype=torch.int64)))
    for alone, part in zip(utterances, pieces.split(piece_counts.tolist()), strict=True):
        if not len(alone):
            assert not len(part)
            continue
        expected = literal_mel(alone)
        columns = expected.shape[1]
        assert len(part) == -(-columns // 32)
        spectrogram = part[:, 0].permute(1, 0, 2).reshape(128, -1).numpy()
        # The filters' corners, in float32 as torchaudio's, are off by up to 1e-5.
        assert np.abs(spectrogram[:, :columns] - expected).max() < 5e-5 * expected.max()
        assert not spectrogram[:, columns:].any()


@pytest.mark.parametrize("threads", [1, 2])
def test_packed_is_bit_equal_to_torchaudios_operations_on_each_utterance_alone(threads: int) -> None:
    """Those of its MelSpectrogram: stft, magnitude, square, a product with the filters."""
    torch.set_num_threads(threads)
    counts = [16000, 3333, 8001, 201, 72000, 47111, *range(202, 7000, 399)]
    utterances = [torch.from_numpy(pcm(count, count)) for count in counts]
    pieces, piece_counts = MelPieces()(torch.cat(utterances), torch.tensor(counts))
    window = torch.hann_window(400)
    for alone, part in zip(utterances, pieces.split(piece_counts.tolist()), strict=True):
        spectrum = torch.stft(alone / 32768, 400, 200, window=window, pad_mode="reflect", return_complex=True)
        expected = torch.matmul(spectrum.abs().pow(2.0).transpose(-1, -2), htk_filters()).transpose(-1, -2)
        spectrogram = part[:, 0].permute(1, 0, 2).reshape(128, -1)[:, : expected.shape[1]]
        assert torch.equal(spectrogram, expected)
    torch.set_num_threads(1)


def test_logarithm_is_finite_also_where_a_filter_is_empty() -> None:
    samples = torch.cat([torch.zeros(500, dtype=torch.int16), torch.from_numpy(pcm(5000, 1))])
    counts = torch.tensor([500, 5000])
    plain, _ = MelPieces()(samples, counts)
    log, _ = MelPieces(log=True)(samples, counts)
    torch.testing.assert_close(log, torch.log(plain + 1e-6))
    assert float(log.min()) == pytest.approx(math.log(LOG_FLOOR))


def test_autocast_does_not_lower_the_precision() -> None:
    samples, counts = torch.from_numpy(pcm(4000, 2)), torch.tensor([4000])
    mel = MelPieces()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrograms = mel(samples, counts)[0]
    assert torch.equal(spectrograms, mel(samples, counts)[0])
