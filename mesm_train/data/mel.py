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

from mesm_train.data.batch import places

SAMPLE_RATE = 16000
WINDOW = 400
HOP = 200
MELS = 128
COLUMNS = 32  # of a piece: 0.4 s
SHORTEST = WINDOW // 2 + 1  # samples: the least that can be reflected by half a window
LOG_FLOOR = 1e-6  # the power of a sine of amplitude 1e-5 at its bin; 16-bit rounding noise is about 1e-8 a bin


class MelPieces(nn.Module):
    """PCM to pieces of its mel spectrogram, for all utterances of a batch at once and each as if it were alone.

    There is no loop over utterances: frames are gathered by index, with the reflection in the index.
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
        columns = column_counts(counts)
        with torch.autocast(samples.device.type, enabled=False):
            frames = _frames(samples, counts, columns).to(self.window.dtype) / 32768 * self.window
            # Of no frames, MKL's transform is an error.
            power = torch.fft.rfft(frames).abs().pow(2) @ self.filters if len(frames) else frames[:, :MELS]
        piece_counts = piece_counts_of(counts)
        first = (piece_counts.cumsum(0) - piece_counts) * COLUMNS
        owner, column = places(columns)
        rows = power.new_zeros(int(piece_counts.sum()) * COLUMNS, MELS)
        rows[first[owner] + column] = power
        if self.log:
            rows = torch.log(rows + LOG_FLOOR)
        return rows.view(-1, COLUMNS, MELS).transpose(1, 2).unsqueeze(1).contiguous(), piece_counts


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


def _frames(samples: Tensor, counts: Tensor, columns: Tensor) -> Tensor:
    """int16 (sum of columns, 400): the samples under the window, centred and reflected at the utterance's ends.

    An utterance of c columns is laid out as c + 1 hops of 200 samples, from 200 before its start; a frame is two
    neighbouring hops.
    """
    hops = torch.where(columns > 0, columns + 1, 0)
    owner, hop = places(hops)
    count = counts[owner, None]
    last = count.clamp(min=SHORTEST) - 1
    at = (hop[:, None] * HOP + torch.arange(-HOP, 0, device=samples.device)).abs()
    at = torch.where(at > last, 2 * last - at, at)
    begin = (counts.cumsum(0) - counts)[owner, None]
    wave = torch.where(at < count, samples[begin + at.minimum(count - 1)], 0)
    frames = torch.cat([wave[:-1], wave[1:]], dim=1)
    return frames[hop[1:] > 0]
