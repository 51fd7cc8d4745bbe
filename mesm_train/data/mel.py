"""Mel spectrograms of packed utterances, cut into the pieces that the acoustic stack reads.

The definition is torchaudio's `MelSpectrogram(16000, n_fft=400, hop_length=200, n_mels=128)`, the published model's
input, written anew because torchaudio does not import beside the CPU build of torch: periodic Hann window, frames
centred on multiples of the hop with reflected ends, squared magnitude, triangular filters on the HTK scale
(mel = 2595 log10(1 + Hz / 700)) from 0 to 8000 Hz without normalisation.
At this resolution the filters 0, 3, 6 and 13 fall between two bins of the transform and are all zero.
"""

import math

import torch
from torch import Tensor, nn

SAMPLE_RATE = 16000
WINDOW = 400
HOP = 200
MELS = 128
COLUMNS = 32  # of a piece: 0.4 s
SHORTEST = WINDOW // 2 + 1  # samples: the least that can be reflected by half a window
LOG_FLOOR = 1e-6  # the power of a sine of amplitude 1e-5 at its bin; 16-bit rounding noise is about 1e-8 a bin


class MelPieces(nn.Module):
    """PCM to pieces of its mel spectrogram, each utterance as if it were alone.

    Each goes through torch.stft and one matrix product of its own, the very operations of torchaudio: bit-equal to its
    definition whatever else is in the batch. All frames of a batch in one product were up to 1.5e-7 of the maximum off
    in a fifth of the utterances (another kernel of the BLAS), and slower on a CPU (14 against 4 ms for 4.5 s).
    The result is a constant of the data, no gradient flows; it is computed in the precision of the module's buffers,
    also under autocast.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, *, log: bool = False) -> None:
        """With `log`, values are log(power + 1e-6); the zero columns that fill a piece are then log(1e-6) too."""
        super().__init__()
        self.log = log
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=True), persistent=False)
        self.register_buffer("filters", htk_filters(), persistent=False)

    @torch.no_grad()
    def forward(self, samples: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            samples: int16 (S,), all utterances behind each other; full scale is 1 (a factor of 1/32768).
            counts: int64 (N,), the samples of each utterance.

        Returns:
            float32 (P, 1, 128, 32) and int64 (N,): the pieces, and how many each utterance has. An utterance of n > 0
            samples has 1 + n // 200 columns; below 201 samples, too few to be reflected, it is filled up with zeros to
            201. One without samples has no pieces.
        """
        piece_counts = piece_counts_of(counts)
        rows = self.window.new_zeros(int(piece_counts.sum()) * COLUMNS, MELS)
        first = 0
        with torch.autocast(samples.device.type, enabled=False):
            for wave, pieces in zip(torch.split(samples, counts.tolist()), piece_counts.tolist(), strict=True):
                if len(wave):
                    mel = self._spectrogram(wave)
                    rows[first : first + len(mel)] = mel
                    first += pieces * COLUMNS
        if self.log:
            rows = torch.log(rows + LOG_FLOOR)
        return rows.view(-1, COLUMNS, MELS).transpose(1, 2).unsqueeze(1).contiguous(), piece_counts

    def _spectrogram(self, wave: Tensor) -> Tensor:
        """Int16 (n,) to (1 + n // 200, 128)."""
        wave = nn.functional.pad(wave.to(self.window.dtype) / 32768, (0, max(0, SHORTEST - len(wave))))
        spectrum = torch.stft(
            wave, WINDOW, HOP, WINDOW, self.window, center=True, pad_mode="reflect", return_complex=True
        )
        return spectrum.abs().pow(2).transpose(0, 1) @ self.filters


def column_counts(sample_counts: Tensor) -> Tensor:
    """Columns of the spectrograms, int64, for int64 counts of samples."""
    return torch.where(sample_counts > 0, 1 + sample_counts.clamp(min=SHORTEST) // HOP, 0)


def piece_counts_of(sample_counts: Tensor) -> Tensor:
    """Pieces of the spectrograms, int64, for int64 counts of samples: what a loader can balance its batches by."""
    return (column_counts(sample_counts) + COLUMNS - 1) // COLUMNS


def htk_filters() -> Tensor:
    """float32 (201, 128): the weight of each bin of the transform in each mel filter."""
    bins = torch.linspace(0, SAMPLE_RATE // 2, WINDOW // 2 + 1)
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, MELS + 2) / 2595) - 1)  # Hz; filter i spans corners i..i+2
    widths = corners.diff()
    offsets = corners - bins[:, None]
    rising = -offsets[:, :-2] / widths[:-1]
    falling = offsets[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0)
