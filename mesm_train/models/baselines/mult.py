"""MulT: Tsai et al., "Multimodal Transformer for Unaligned Multimodal Language Sequences", ACL 2019."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data import device as accelerator
from mesm_train.models.baselines.two_phase import Parts, Sequence, Sizes, TwoPhaseModel

ORDER = ("t", "v", "a")
SELF_LAYERS = 3  # of the transformers over the result, at least


class MulT(TwoPhaseModel):
    """Each modality attends to every other one; what it has gathered goes through a transformer of its own.

    The last row of each modality's result, all concatenated, goes through a residual perceptron to the logits. Here
    padding is masked and positions are those of the utterance's own rows; in the published code they depend on the
    batch, and a row whose first feature is 0 has no position.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        sizes, modalities = settings.two_phase.mult, settings.modalities
        self._sizes = sizes
        self.convolutions = nn.ModuleDict()
        for m in modalities:
            kernel = sizes.kernels[ORDER.index(m)]
            width = settings.two_phase.features.dim(m)
            self.convolutions[m] = nn.Conv1d(width, sizes.dim, kernel, padding=kernel // 2, bias=False)
        self.cross = nn.ModuleDict(
            {
                _pair(target, source): Transformer(settings, sizes.dim, sizes.layers, source)
                for target in modalities
                for source in modalities
                if source != target
            }
        )
        self.width = max(len(modalities) - 1, 1) * sizes.dim
        layers = max(sizes.layers, SELF_LAYERS)
        self.memories = nn.ModuleDict({m: Transformer(settings, self.width, layers, "t") for m in modalities})
        total = len(modalities) * self.width
        self.hidden = nn.Linear(total, total)
        self.residual = nn.Linear(total, total)
        self.out = nn.Linear(total, settings.classes)

    def logits(self, sequences: Mapping[str, Sequence]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `TwoPhaseModel.logits`; there are no logits of single modalities."""
        inputs = {m: self._input(m, sequence) for m, sequence in sequences.items()}
        last = [self._last(target, inputs) for target in inputs]
        gathered = torch.cat(last, dim=1)
        hidden = functional.relu(self.hidden(gathered))
        hidden = functional.dropout(hidden, self._sizes.output_dropout, self.training)
        return self.out(gathered + self.residual(hidden)), {}

    def _input(self, modality: str, sequence: Sequence) -> Sequence:
        """Rows of the width `dim`."""
        values = sequence.values
        if modality == "t":
            values = functional.dropout(values, self._sizes.input_dropout, self.training)
        if values.shape[0] and values.shape[1]:
            values = self.convolutions[modality](values.transpose(1, 2)).transpose(1, 2)
            values = values * sequence.mask()[..., None]
        else:
            values = values.new_zeros(*values.shape[:2], self._sizes.dim)
        return Sequence(values=values, counts=sequence.counts)

    def _last(self, target: str, inputs: Mapping[str, Sequence]) -> Tensor:
        """The last row of a modality's result, (N, width); 0 for utterances without the modality."""
        own, others = inputs[target], [source for source in inputs if source != target]
        count, length = own.values.shape[:2]
        if not count or not length:
            return own.values.new_zeros(count, self.width)
        gathered = [self.cross[_pair(target, source)](own, inputs[source]) for source in others]
        values = torch.cat(gathered, dim=2) if gathered else own.values
        memory = Sequence(values=values * own.mask()[..., None], counts=own.counts)
        states = self.memories[target](memory, memory)
        at = accelerator.to_device((own.counts - 1).clamp(min=0), states.device)
        last = states[torch.arange(count, device=states.device), at]
        present = accelerator.to_device(own.present(), states.device)
        return torch.where(present[:, None], last, 0)

    def macs(self, rows: Sizes) -> Parts:
        """See `TwoPhaseModel.macs`."""
        dim, parts = self._sizes.dim, Parts()
        for m, count in rows.items():
            kernel = self._sizes.kernels[ORDER.index(m)]
            parts[f"{m}.stem"] = count * kernel * self.settings.two_phase.features.dim(m) * dim
            parts[f"{m}.attention"] = sum(
                self._sizes.layers * _layer_macs(count, other, dim) for source, other in rows.items() if source != m
            )
            layers = max(self._sizes.layers, SELF_LAYERS)
            parts[f"{m}.sequence"] = layers * _layer_macs(count, count, self.width)
        total = len(rows) * self.width
        parts["head"] = 2 * total**2 + total * self.settings.classes
        return parts


class Transformer(nn.Module):
    """Pre-norm layers in which one sequence attends to another, or to itself."""

    def __init__(self, settings: ModelSettings, width: int, layers: int, source: str) -> None:
        super().__init__()
        sizes = settings.two_phase.mult
        self._heads, self._causal, self._dropout = sizes.heads, sizes.causal, sizes.input_dropout
        attention_dropout = sizes.attention_dropout[ORDER.index(source)]
        self.layers = nn.ModuleList(
            Layer(width, sizes.heads, attention_dropout=attention_dropout, dropout=sizes.dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, target: Sequence, source: Sequence) -> Tensor:
        """(N, L, width) for a target of L rows; each attends to the rows of the source."""
        states = self._embed(target)
        if target is source:
            blocked, any_row = self._blocked(target, source), None
            for layer in self.layers:
                states = layer(states, None, blocked, any_row)
        else:
            memory, blocked = self._embed(source), self._blocked(target, source)
            any_row = accelerator.to_device(source.present(), states.device)[:, None, None]
            for layer in self.layers:
                states = layer(states, memory, blocked, any_row)
        normed: Tensor = self.norm(states)
        return normed

    def _embed(self, sequence: Sequence) -> Tensor:
        """Rows scaled by sqrt(width), with sinusoidal positions."""
        values = sequence.values
        scaled = math.sqrt(values.shape[2]) * values + positions(values.shape[1], values.shape[2], values)
        return functional.dropout(scaled * sequence.mask()[..., None], self._dropout, self.training)

    def _blocked(self, target: Sequence, source: Sequence) -> Tensor:
        """Bool (N heads, L, S): true where a target's row does not attend to a source's row.

        Causal: row i of n attends to row j of m if j <= i + |m - n|, counted in each utterance's own rows. A row that
        may attend to nothing is padding, or its source is missing: it attends to row 0, and its result is not used.
        """
        length, width = target.values.shape[1], source.values.shape[1]
        own, other = target.counts[:, None, None], source.counts[:, None, None]
        row, column = torch.arange(length)[None, :, None], torch.arange(width)[None, None, :]
        allowed = (column < other).expand(-1, length, -1)
        if self._causal:
            allowed = allowed & (column <= row + (other - own).abs())
        if width:
            allowed = allowed.clone()
            allowed[..., 0] |= ~allowed.any(dim=-1)
        return accelerator.to_device((~allowed).repeat_interleave(self._heads, dim=0), target.values.device)


class Layer(nn.Module):
    """Attention and a feed-forward part, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int, *, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, attention_dropout, batch_first=True)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.first, self.second = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self._dropout = dropout

    def forward(self, states: Tensor, memory: Tensor | None, blocked: Tensor, any_row: Tensor | None) -> Tensor:
        """`memory`: what is attended to, None: the states. `any_row`: bool (N, 1, 1), whether the memory has rows."""
        normed = self.norms[0](states)
        source = normed if memory is None else self.norms[0](memory)
        if source.shape[1]:
            attended, _ = self.attention(normed, source, source, attn_mask=blocked, need_weights=False)
            attended = attended if any_row is None else torch.where(any_row, attended, 0)
            states = states + functional.dropout(attended, self._dropout, self.training)
        inner = functional.dropout(functional.relu(self.first(self.norms[1](states))), self._dropout, self.training)
        return states + functional.dropout(self.second(inner), self._dropout, self.training)


def positions(length: int, width: int, like: Tensor) -> Tensor:
    """Sinusoidal positions 1 to `length`, (length, width) on the device of `like`: sines, then cosines."""
    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float64) * -(math.log(10_000) / max(half - 1, 1)))
    angles = torch.arange(1, length + 1, dtype=torch.float64)[:, None] * rates
    table = torch.zeros(length, width, dtype=torch.float64)
    table[:, :half], table[:, half : 2 * half] = angles.sin(), angles.cos()
    return accelerator.to_device(table.to(like.dtype), like.device)


def _pair(target: str, source: str) -> str:
    return f"{target}_from_{source}"


def _layer_macs(rows: int, others: int, width: int) -> int:
    """Of a layer: projections of both sequences, the two products of the attention, the feed-forward part."""
    attention = (2 * rows + 2 * others) * width**2 + 2 * rows * others * width if others else 0
    return (attention + 8 * rows * width**2) if rows else 0
