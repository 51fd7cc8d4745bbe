"""What the two-phase systems share: features in, standardised; logits out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data import device as accelerator
from mesm_train.data.batch import Batch, item_positions
from mesm_train.models.fe2e_mesm import ForwardDetails

Sizes = Mapping[str, int]  # rows of an utterance by modality
Parts = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """The feature rows of a batch's utterances in one modality.

    Attributes:
        values: float (N, L, d), padded with zeros behind each utterance's rows; L may be 0.
        counts: int64 (N,) on the CPU: rows of each utterance.
    """

    values: Tensor
    counts: Tensor

    def present(self) -> Tensor:
        """Bool (N,) on the CPU: the utterance has a row."""
        return self.counts > 0

    def mask(self) -> Tensor:
        """Bool (N, L) on the device of the values: true for rows, false for padding."""
        inside = torch.arange(self.values.shape[1]) < self.counts[:, None]
        return accelerator.to_device(inside, self.values.device)


class TwoPhaseModel(nn.Module, ABC):
    """Feature sequences to logits. `settings.features.dims` says how wide they are.

    No logit depends on the other utterances of a batch, up to rounding: padding is masked or left out. A modality that
    an utterance lacks contributes exactly 0.
    """

    text = None  # these systems have no pretrained text encoder

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        for modality in settings.modalities:
            width = settings.two_phase.features.dim(modality)
            # With the weights in each checkpoint: a run is evaluated with the statistics of its own train part.
            self.register_buffer(f"mean_{modality}", torch.zeros(width))
            self.register_buffer(f"inverse_deviation_{modality}", torch.ones(width))

    def set_statistics(self, modality: str, mean: Tensor, deviation: Tensor) -> None:
        """Standardise a modality's features by these from now on; float (d,) each. A deviation of 0 counts as 1."""
        self.get_buffer(f"mean_{modality}").copy_(mean)
        self.get_buffer(f"inverse_deviation_{modality}").copy_(1 / torch.where(deviation > 0, deviation, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Logits float32 (N, classes), also under autocast."""
        return self.forward_details(batch).logits

    def forward_details(self, batch: Batch) -> ForwardDetails:
        """The same with the logits of each modality, where the system has any."""
        modalities: tuple[str, ...] = self.settings.modalities
        sequences = {modality: self._sequence(modality, batch) for modality in modalities}
        logits, branches = self.logits(sequences)
        present = {modality: sequence.present() for modality, sequence in sequences.items()}
        return ForwardDetails(logits=logits.float(), branches=branches, present=present, selections={})

    @abstractmethod
    def logits(self, sequences: Mapping[str, Sequence]) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits (N, classes) and those of each modality, if the system has them."""

    @abstractmethod
    def macs(self, rows: Sizes) -> Parts:
        """Multiply-adds of one utterance with so many rows of each modality, by part."""

    def fusion_weights(self) -> dict[str, float]:
        """The weight of each modality's logits in the fused ones; {} where the system has no such weights."""
        return {}

    def set_epoch(self, epoch: float, epochs: float) -> None:
        """Nothing depends on how far training is."""

    def end_update(self, reduce: Callable[[Tensor], Tensor] | None) -> None:
        """Nothing is learned but by the gradient."""

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """None: no parameter learns at the rate of a pretrained text encoder."""
        return iter(())

    def encoder_parameters(self) -> Iterator[tuple[Iterator[nn.Parameter], float]]:
        """None, likewise."""
        return iter(())

    def other_parameters(self) -> Iterator[nn.Parameter]:
        """All parameters."""
        return self.parameters()

    def _sequence(self, modality: str, batch: Batch) -> Sequence:
        rows = batch.features[modality]
        mean, scale = self.get_buffer(f"mean_{modality}"), self.get_buffer(f"inverse_deviation_{modality}")
        values = (rows.values - mean) * scale
        longest = max(rows.counts.tolist(), default=0)
        owner, position = item_positions(rows.counts)
        where = accelerator.to_device(owner * longest + position, values.device)
        padded = values.new_zeros(len(rows.counts) * longest, values.shape[1]).index_copy(0, where, values)
        return Sequence(values=padded.view(len(rows.counts), longest, values.shape[1]), counts=rows.counts)


class LateFusion(nn.Module):
    """A weight per modality, the same for all classes: a bias-free Linear over the modalities' logits."""

    def __init__(self, modalities: tuple[str, ...]) -> None:
        super().__init__()
        self._modalities = modalities
        self.weights = nn.Linear(len(modalities), 1, bias=False) if len(modalities) > 1 else None

    def forward(self, branches: Mapping[str, Tensor]) -> Tensor:
        """Logits (N, classes) of each modality to fused ones; of a single modality, as they are."""
        if self.weights is None:
            [logits] = branches.values()
            return logits
        fused: Tensor = self.weights(torch.stack([branches[m] for m in self._modalities], dim=-1)).squeeze(-1)
        return fused

    def by_modality(self) -> dict[str, float]:
        """The weight of each modality; {} if there is one only."""
        if self.weights is None:
            return {}
        return dict(zip(self._modalities, self.weights.weight[0].tolist(), strict=True))


def only_present(logits: Tensor, sequence: Sequence) -> Tensor:
    """The logits of utterances that have the modality, exactly 0 for the others."""
    present = accelerator.to_device(sequence.present(), logits.device)
    return torch.where(present[:, None], logits, 0)


class FinalStates(nn.Module):
    """A bidirectional LSTM: the state after the last row forwards, and after the first row backwards."""

    def __init__(self, width: int, hidden: int, *, layers: int, dropout: float) -> None:
        super().__init__()
        self.hidden = hidden
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(width, hidden, layers, batch_first=True, bidirectional=True, dropout=between)

    def forward(self, sequence: Sequence) -> Tensor:
        """(N, 2, hidden), 0 for utterances without rows; each as if it were alone, because padding is left out."""
        values, counts = sequence.values, sequence.counts
        rows = torch.nonzero(counts > 0).squeeze(1)
        states = values.new_zeros(len(counts), 2, self.hidden)
        if not len(rows):
            return states
        where = accelerator.to_device(rows, values.device)
        packed = nn.utils.rnn.pack_padded_sequence(
            values.index_select(0, where), counts[rows], batch_first=True, enforce_sorted=False
        )
        # In float32 on a CPU: of sequences of equal length torch asks oneDNN for an LSTM of the lower precision, which
        # only some CPUs have.
        with torch.autocast("cpu", enabled=False):
            _, (final, _) = self.lstm(packed)
        return states.to(final.dtype).index_copy(0, where, final[-2:].transpose(0, 1))

    def macs(self, rows: int) -> int:
        """Multiply-adds over so many rows."""
        width = self.lstm.input_size
        layers = (width, *[2 * self.hidden] * (self.lstm.num_layers - 1))
        return sum(2 * rows * 4 * self.hidden * (inner + self.hidden) for inner in layers)
