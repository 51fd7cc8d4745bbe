"""Mel spectrograms of packed utterances, cut into pieces for the acoustic stack.

The definition is torchaudio's `MelSpectrogram(16000, n_fft=400, hop_length=200, n_mels=128)`, the published model's
input, reimplemented because torchaudio does not import beside the CPU build of torch: periodic Hann window, frames
centred on multiples of the hop with reflection padding, squared magnitude, triangular filters on the HTK scale
(mel = 2595 log10(1 + Hz / 700)) from 0 to 8000 Hz without normalisation.
At this resolution the filters 0, 3, 6 and 13 fall between two bins of the transform, and are zero.
"""

import math

import torch
from torch import Tensor, nn

from mesm_train.data import device as accelerator

SAMPLE_RATE = 16000
WINDOW = 400
HOP = 200
MELS = 128
COLUMNS = 32  # of a piece: 0.4 s
MIN_SAMPLES = WINDOW // 2 + 1  # needed to reflect half a window
LOG_FLOOR = 1e-6  # the power of a sine of amplitude 1e-5 at its bin; 16-bit rounding noise is about 1e-8 a bin


class MelPieces(nn.Module):
    """Computes the mel spectrogram of each utterance in pieces, independently of the other utterances.

    One Fourier transform, whose rows are independent, covers the frames of all utterances. There is one product with
    the filters per utterance, as in torchaudio, so the result is bit-equal whatever else is in the batch (on a GPU
    there is one product for all, which is one launch).
    One product for all frames of a batch differed by up to 1.5e-7 of the maximum in a fifth of the utterances (another
    kernel of the BLAS). So there are four operations per utterance (twelve with torch.stft); an implementation without
    any, by indexing, took four times as long on a CPU (4.6 against 1.2 ms for 4.5 s).
    No gradient flows through the result. It is computed in the precision of the module's buffers, also under autocast.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, *, log: bool = False) -> None:
        """With `log`, values are log(power + 1e-6), also in the zero columns that pad a piece."""
        super().__init__()
        self.log = log
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=True), persistent=False)
        self.register_buffer("filters", htk_filters(), persistent=False)

    @torch.no_grad()
    def forward(self, samples: Tensor, counts: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the spectrograms of utterances.

        Args:
            samples: int16 (S,), all utterances concatenated; they are scaled by 1/32768.
            counts: int64 (N,) on the CPU, the number of samples of each utterance.
            masks: int64 (N, 4) on the CPU, the masked part of each utterance's spectrogram: first column, end column
                (excluded), first filter, end filter (excluded).

        Returns:
            The pieces, float32 (P, 1, 128, 32), and the number of pieces of each utterance, int64 (N,) on the CPU. An
            utterance of n > 0 samples has 1 + n // 200 columns; below 201 samples, too few to be reflected, it is
            padded with zeros to 201. An utterance without samples has no pieces.
        """
        piece_counts = count_pieces(counts)
        rows = self.window.new_zeros(sum(piece_counts.tolist()) * COLUMNS, MELS)
        with torch.autocast(samples.device.type, enabled=False):
            waves = torch.split(samples.to(self.window.dtype) / 32768, counts.tolist())
            frames = [_frames(wave) for wave in waves if len(wave)]
            firsts = (COLUMNS * (piece_counts.cumsum(0) - piece_counts)[counts > 0]).tolist()
            if frames:
                power = torch.fft.rfft(torch.cat(frames) * self.window).abs().pow(2)
                if accelerator.is_accelerator(samples.device):
                    into = [torch.arange(first, first + len(own)) for first, own in zip(firsts, frames, strict=True)]
                    rows.index_copy_(0, accelerator.to_device(torch.cat(into), samples.device), power @ self.filters)
                else:
                    for first, part in zip(firsts, power.split([len(own) for own in frames]), strict=True):
                        rows[first : first + len(part)] = part @ self.filters
        if masks is not None:
            rows = rows.masked_fill(accelerator.to_device(_masked(masks, piece_counts), samples.device), 0)
        if self.log:
            rows = torch.log(rows + LOG_FLOOR)
        return rows.view(-1, COLUMNS, MELS).transpose(1, 2).unsqueeze(1).contiguous(), piece_counts


def _frames(wave: Tensor) -> Tensor:
    """The frames of (n,) samples as a view (1 + n // 200, 400), centred on multiples of the hop, ends reflected."""
    if len(wave) < MIN_SAMPLES:
        wave = nn.functional.pad(wave, (0, MIN_SAMPLES - len(wave)))
    return nn.functional.pad(wave[None], (WINDOW // 2, WINDOW // 2), mode="reflect")[0].unfold(0, WINDOW, HOP)


def _masked(masks: Tensor, piece_counts: Tensor) -> Tensor:
    """Convert masks int64 (N, 4) to bool (columns of all pieces, 128)."""
    columns = piece_counts * COLUMNS
    first = torch.repeat_interleave(columns.cumsum(0) - columns, columns)
    column = torch.arange(len(first), device=masks.device) - first
    bounds, mel = masks.repeat_interleave(columns, dim=0), torch.arange(MELS, device=masks.device)
    in_time = (column >= bounds[:, 0]) & (column < bounds[:, 1])
    return in_time[:, None] | ((mel >= bounds[:, 2:3]) & (mel < bounds[:, 3:4]))


def count_columns(sample_counts: Tensor) -> Tensor:
    """The number of columns of each spectrogram, int64, for int64 counts of samples."""
    return torch.where(sample_counts > 0, 1 + sample_counts.clamp(min=MIN_SAMPLES) // HOP, 0)


def count_pieces(sample_counts: Tensor) -> Tensor:
    """The number of pieces of each spectrogram, int64, for int64 counts of samples."""
    return (count_columns(sample_counts) + COLUMNS - 1) // COLUMNS


def htk_filters() -> Tensor:
    """The weight of each bin of the transform in each mel filter, float32 (201, 128)."""
    bins = torch.linspace(0, SAMPLE_RATE // 2, WINDOW // 2 + 1)
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, MELS + 2) / 2595) - 1)  # Hz; filter i spans corners i..i+2
    widths = corners.diff()
    offsets = corners - bins[:, None]
    rising = -offsets[:, :-2] / widths[:-1]
    falling = offsets[:, 2:] / widths[1:]
    return torch.minimum(rising, falling).clamp(min=0)
