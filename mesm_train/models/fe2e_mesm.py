"""FE2E and MESM: a branch per modality, fused late. They differ in the convolutional stacks only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mesm_train.config.model_settings import ModelSettings
from mesm_train.data import device as accelerator
from mesm_train.data.batch import Batch, item_positions
from mesm_train.data.mel import COLUMNS, MELS, MelPieces
from mesm_train.models.importance import update_importance
from mesm_train.models.kernels import kernels
from mesm_train.models.pretrained import PretrainedFaces, PretrainedSound
from mesm_train.models.sequence import SequenceBranch, transform
from mesm_train.models.sparse import SparseStack, batch_invariant_kernels
from mesm_train.models.streams import SiteSelection, Stack, Steps, take_turns
from mesm_train.models.text import TextBranch, hidden_states
from mesm_train.models.tiles import TiledStack

FACE = 48  # pixels
STACKS = {"v": ("visual stack", 3, (FACE, FACE)), "a": ("acoustic stack", 1, (MELS, COLUMNS))}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardDetails:
    """A forward pass with its inside."""

    logits: Tensor  # (N, classes), fused
    branches: Mapping[str, Tensor]  # modality -> logits (N, classes); exactly 0 where the utterance lacks it
    present: Mapping[str, Tensor]  # modality -> bool (N,) on the CPU: the utterance has it
    # v, a -> the choices of each sparse block, per face / piece; fe2e: empty
    selections: Mapping[str, Sequence[SiteSelection]]


class Model(nn.Module):
    """Packed batches to logits. Built by `settings`; `encoder` is the text encoder (`models.text.load`), if it has t.

    The logits of the branches are fused per class by a bias-free Linear over the modalities in the order t, v, a; a
    single modality's are taken as they are (both as published). A modality that an utterance lacks contributes exactly
    0 to the fusion; a missing text guides the sparse blocks with the zero vector.

    N, F and S of a batch may be 0 in any combination. A parameter that a batch does not reach may then have the
    gradient None instead of 0: the text encoder without any text, the transformers without utterances.
    """

    def __init__(
        self,
        settings: ModelSettings,
        encoder: nn.Module | None = None,
        *,
        sound: PretrainedSound | None = None,
        faces: PretrainedFaces | None = None,
    ) -> None:
        """`sound`, `faces`: pretrained encoders, which take the place of the stacks of a and v."""
        super().__init__()
        if (encoder is None) == ("t" in settings.modalities):
            raise ValueError("a text encoder goes with the modality t, and only with it")
        self.settings = settings
        self.text = TextBranch(encoder, settings.classes) if encoder is not None else None
        heard = [m for m in settings.modalities if m in STACKS]
        self.sound, self.faces = sound, faces
        pretrained = {"a": sound, "v": faces}
        width = self.text.width if self.text else 0
        self.stacks = nn.ModuleDict({m: make_stack(settings, m, width) for m in heard if pretrained[m] is None})
        self.sequences = nn.ModuleDict({m: SequenceBranch(settings) for m in heard})
        several = len(settings.modalities) > 1
        self.fusion = nn.Linear(len(settings.modalities), 1, bias=False) if several else None
        self.mel = MelPieces(log=settings.log_mel)
        for name in ("face_mean", "face_std"):
            value = torch.tensor(getattr(settings, name)).view(3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    face_mean: Tensor
    face_std: Tensor

    def forward(self, batch: Batch) -> Tensor:
        """Logits float32 (N, classes), also under autocast."""
        return self.forward_details(batch).logits

    def forward_details(self, batch: Batch) -> ForwardDetails:
        """The same with the logits of each modality and the choices of the sparse blocks.

        mesm's choice of sites is a hard threshold: rounding can change which sites are kept, and rounding depends on
        the batch. In evaluation with batch-invariant kernels (C++, without gradients) sums have an order of their own,
        and the text encoder takes utterances one by one: then nothing depends on the batch. With others the differences
        remain (docs/training.md has a measurement).

        Raises NotFiniteError if an attention of the sparse blocks is not finite.
        """
        text, branches, present, selections = None, {}, {}, {}
        if self.text is not None:
            text, branches["t"] = self._texts(self.text, batch)
            present["t"] = batch.token_counts > 0
        results = take_turns([self._vectors(modality, batch, text) for modality in self.sequences])
        for modality, (vectors, counts, selections[modality]) in zip(self.sequences, results, strict=True):
            branches[modality] = self.sequences[modality](vectors, counts)
            present[modality] = counts > 0
        branches = {m: _only(_wide(branch), present[m]) for m, branch in branches.items()}
        return ForwardDetails(logits=self._fuse(branches), branches=branches, present=present, selections=selections)

    def _vectors(
        self, modality: str, batch: Batch, text: Tensor | None
    ) -> Steps[tuple[Tensor, Tensor, Sequence[SiteSelection]]]:
        """The vector of each face or piece of sound, how many each utterance has, and the choices of sparse blocks."""
        if modality == "a" and self.sound is not None:
            return *self.sound(batch.samples, batch.sample_counts), ()
        if modality == "v" and self.faces is not None:
            return self.faces(batch.faces), batch.face_counts, ()
        pictures, counts = self._pictures(modality, batch)
        stack = self.stacks[modality]
        assert isinstance(stack, Stack)
        vectors, selections = yield from stack.steps(pictures, self._guide(text, counts))
        return vectors, counts, selections

    def stack_inputs(self, modality: str, text: Tensor | None, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """What the stack of v or a is called with, from the utterances' text vectors and a batch."""
        pictures, counts = self._pictures(modality, batch)
        return pictures, self._guide(text, counts)

    def _guide(self, text: Tensor | None, counts: Tensor) -> Tensor | None:
        """The text vector of each picture's utterance, which sparse blocks look at."""
        if text is None or self.settings.kind == "fe2e":
            return None
        owner, _ = item_positions(counts)
        return text.index_select(0, accelerator.to_device(owner, text.device))

    def _texts(self, branch: TextBranch, batch: Batch) -> tuple[Tensor, Tensor]:
        """The text vectors and logits; with batch-invariant kernels, utterance by utterance."""
        device = batch.faces.device
        ops = kernels(self.settings.sparse.engine, device)
        alone = self.settings.kind == "mesm" and batch_invariant_kernels(ops, device)
        if self.training or not alone or len(batch.keys) < 2:
            vectors, logits = branch(batch.tokens, batch.token_counts)
            return vectors, logits
        each = [
            branch(batch.tokens[i : i + 1, :length], batch.token_counts[i : i + 1])
            for i, length in enumerate(batch.token_counts.tolist())
        ]
        return torch.cat([vectors for vectors, _ in each]), torch.cat([logits for _, logits in each])

    def set_epoch(self, epoch: float, epochs: float) -> None:
        """Tell sparse blocks how far training is, in epochs of `epochs`: see `model.sparse.anneal_epochs`."""
        for stack in self.stacks.values():
            if isinstance(stack, SparseStack):
                stack.set_epoch(epoch, epochs)

    def compile_transformers(self) -> None:
        """Have torch.compile make fewer launches of the transformers' training: text encoder and sequence branches.

        Functions are compiled, not modules: names of parameters stay, and a copy of the model has its own weights.
        Evaluation does without, as each of its shapes and modes would be compiled anew.
        """
        if self.text is not None:
            self.text.hidden_states = torch.compile(hidden_states, dynamic=True)
        compiled = torch.compile(transform, dynamic=True)
        for branch in self.sequences.values():
            assert isinstance(branch, SequenceBranch)
            branch.transform = compiled

    def end_update(self, reduce: Callable[[Tensor], Tensor] | None) -> None:
        """To be called after the backward passes of an update: sparse blocks learn which tiles matter.

        Args:
            reduce: Sums a tensor over all ranks, which call it in the same order; None with one rank.
        """
        update_importance(self.modules(), reduce)

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """The text encoder and its output layer, trained by the paper with a tenth of the learning rate."""
        return iter(()) if self.text is None else self.text.parameters()

    def encoder_parameters(self) -> Iterator[tuple[Iterator[nn.Parameter], float]]:
        """The pretrained encoders of sound and faces that it has, each with the factor of its learning rate."""
        for branch in (self.sound, self.faces):
            if branch is not None:
                yield branch.encoder.parameters(), branch.lr_factor

    def other_parameters(self) -> Iterator[nn.Parameter]:
        """All that are not `text_parameters` or `encoder_parameters`."""
        encoders = [parameters for parameters, _ in self.encoder_parameters()]
        apart = {id(parameter) for parameters in (self.text_parameters(), *encoders) for parameter in parameters}
        return (parameter for parameter in self.parameters() if id(parameter) not in apart)

    def _pictures(self, modality: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """What the stack reads, (B, channels, H, W), and how many of them each utterance has, int64 (N,) on the CPU."""
        if modality == "a":
            pieces, counts = self.mel(batch.samples, batch.sample_counts, batch.masks)
            return pieces, counts
        faces = batch.faces.permute(0, 3, 1, 2).to(self.face_mean.dtype)
        return (faces - self.face_mean) / self.face_std, batch.face_counts

    def _fuse(self, branches: Mapping[str, Tensor]) -> Tensor:
        if self.fusion is None:
            [logits] = branches.values()
            return logits
        stacked = torch.stack([branches[m] for m in self.settings.modalities], dim=-1)
        with torch.autocast(stacked.device.type, enabled=False):
            fused: Tensor = self.fusion(stacked).squeeze(-1)
        return fused


def make_stack(settings: ModelSettings, modality: str, text_width: int) -> Stack:
    """The convolutional stack of v or a; `text_width` is used by sparse ones."""
    name, channels, size = STACKS[modality]
    if settings.kind == "fe2e":
        return Stack(settings, channels, size)
    kind = SparseStack if settings.sparse.tile == 1 else TiledStack
    return kind(settings, channels, size, text_width, name)


def _only(logits: Tensor, present: Tensor) -> Tensor:
    """The logits where an utterance has the modality, exactly 0 elsewhere."""
    if all(present.tolist()):
        return logits
    return torch.where(accelerator.to_device(present, logits.device)[:, None], logits, 0)


def _wide(x: Tensor) -> Tensor:
    """In float32 at least."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
