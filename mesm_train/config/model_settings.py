"""What a model is made of. The string under a field is its help.

The defaults are the published sizes (Dai et al., "Multimodal End-to-End Sparse Model for Emotion Recognition", NAACL
2021, and its code). A value that cannot work is an InputError that names the option, raised where the settings are
made: before any data.
"""

import ast
import inspect
import textwrap
from dataclasses import dataclass, field
from typing import Literal

from mesm_train.config.two_phase_settings import TwoPhaseSettings
from mesm_train.config.typed_yaml import need

Modality = Literal["t", "v", "a"]
Init = Literal["torch", "published"]
MODALITIES: tuple[Modality, ...] = ("t", "v", "a")  # in the order of the fusion


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseSettings:
    """The sparse blocks of kind mesm. Defaults are the choice that did best in docs/experiments.md.

    The published blocks (see recipes/iemocap-mesm.yaml): selection and init published, tile 1, anneal_epochs 0,
    bn_momentum .01.
    """

    p: float = 0.65
    """Share of the attention that the kept sites hold, 0 < p <= 1. Published: .7 for IEMOCAP, .5 for CMU-MOSEI."""

    selection: Literal["published", "gate", "straight"] = "straight"
    """published: a hard choice, the attention is never trained. straight: the same forward pass, but the attention
    learns by the gradient of the gate. gate: kept sites are also scaled by their attention."""

    tile: int = 4
    """4 or 2: sites are kept or dropped in squares of 4x4 or 2x2, and the mean of each dropped 2x2 window passes
    through a linear layer, batch norm and ReLU. With 4 time follows the counted operations. 1: sites are kept or
    dropped one by one, and what is dropped is lost, as published."""

    anneal_epochs: float = 4.0
    """Training keeps all sites at first, and evenly fewer up to this epoch, or half of optim.epochs if that is less;
    from then on it keeps p. Evaluation always keeps p. Unless selection is published, the importance of each tile, or
    site, is measured meanwhile; it guides the choice from the first update on. 0: p from the start, as published."""

    init: Init = "torch"
    """Start of the weights. torch: convolutions as PyTorch's, so that MESM starts from FE2E's weights, and an attention
    that learns starts even. published: convolutions as SparseConvNet's, 2.4 times as large."""

    engine: Literal["auto", "torch", "cpp", "triton"] = "auto"
    """What computes convolutions. auto: cpp on a CPU (compiled at installation or on first use), triton on a CUDA card
    (compiled on first use), torch where these cannot be had. cpp, triton: required on that kind of device, auto on the
    other. torch: PyTorch on both."""

    bn_eps: float = 1e-4
    """Added to the variance by the batch norms of the sparse blocks (SparseConvNet's value)."""

    bn_momentum: float = 0.1
    """Weight of a new batch in the running statistics of those batch norms. PyTorch's and FE2E's; published: .01."""

    def __post_init__(self) -> None:
        need(0 < self.p <= 1, "model.sparse.p", self.p, "above 0 and at most 1")
        need(self.tile in (1, 2, 4), "model.sparse.tile", self.tile, "1, 2 or 4")
        need(self.anneal_epochs >= 0, "model.sparse.anneal_epochs", self.anneal_epochs, "0 or more")
        need(self.bn_eps > 0, "model.sparse.bn_eps", self.bn_eps, "above 0")
        need(0 < self.bn_momentum <= 1, "model.sparse.bn_momentum", self.bn_momentum, "above 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """A model: which branches it has, and their sizes."""

    kind: Literal["fe2e", "mesm", "lf-lstm", "lf-transformer", "emo-embs", "mult"] = "fe2e"
    """fe2e: all convolutions dense. mesm: text-guided sparse blocks; it needs t among the modalities. The others are
    two-phase systems, which read features (`mesm-data features`): see two_phase."""

    modalities: tuple[Modality, ...] = MODALITIES
    """Any of t (text), v (faces), a (sound), in this order."""

    classes: int = 6
    """Logits per utterance: follows from the label views."""

    channels: tuple[int, ...] = (64, 128, 256, 512)
    """Channels of the stem and of each block after it; each halves the grid, so there are 1 to 4 of them; for kind mesm
    2 to 4."""

    stem_blocks: int = 2
    """Blocks of two dense convolutions in the stem, after its first convolution."""

    hidden: int = 1024
    """Hidden width of the perceptron that makes a vector of a face or a piece of sound."""

    dim: int = 64
    """Width of that vector and of the transformer over the vectors; divisible by heads."""

    layers: int = 4
    """Layers of that transformer."""

    heads: int = 4
    """Attention heads of that transformer."""

    feedforward: int = 2048
    """Width of the feed-forward part of that transformer."""

    dropout: float = 0.1
    """Dropout in that transformer, 0 <= dropout < 1. The text encoder brings its own."""

    log_mel: bool = False
    """Take the logarithm of the mel spectrogram. The published model does not."""

    face_mean: tuple[float, float, float] = (159.0, 111.0, 102.0)
    """Subtracted from the faces' red, green and blue (0 to 255)."""

    face_std: tuple[float, float, float] = (37.0, 33.0, 32.0)
    """The faces are then divided by this."""

    sparse: SparseSettings = field(default_factory=SparseSettings)
    """Of kind mesm only, but for engine, which kind fe2e has too."""

    two_phase: TwoPhaseSettings = field(default_factory=TwoPhaseSettings)
    """Of kinds lf-lstm, lf-transformer, emo-embs and mult only."""

    def __post_init__(self) -> None:
        ordered = tuple(m for m in MODALITIES if m in self.modalities)
        known = bool(ordered) and ordered == self.modalities
        need(known, "model.modalities", self.modalities, "one or more of t, v, a, in this order")
        text = self.kind != "mesm" or "t" in self.modalities
        need(text, "model.modalities", self.modalities, "with t for kind mesm: text guides its attention")
        need(1 <= len(self.channels) <= 4, "model.channels", self.channels, "of 1 to 4 entries: each halves the grid")
        sizes = ("classes", "hidden", "dim", "layers", "heads", "feedforward")
        for name in sizes:
            need(getattr(self, name) > 0, f"model.{name}", getattr(self, name), "above 0")
        need(all(c > 0 for c in self.channels), "model.channels", self.channels, "all above 0")
        sparse = self.kind != "mesm" or len(self.channels) > 1
        need(sparse, "model.channels", self.channels, "of 2 to 4 entries for kind mesm: sparse blocks follow the stem")
        need(self.stem_blocks >= 0, "model.stem_blocks", self.stem_blocks, "0 or more")
        need(self.dim % self.heads == 0, "model.dim", self.dim, f"divisible by model.heads ({self.heads})")
        need(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 or more and below 1")
        for name in ("face_mean", "face_std"):
            need(len(getattr(self, name)) == 3, f"model.{name}", getattr(self, name), "of 3 entries: red, green, blue")
        need(all(s > 0 for s in self.face_std), "model.face_std", self.face_std, "all above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class TinySettings:
    """The small ALBERT that is made on the spot where `text.encoder` is tiny."""

    vocabulary: int = 500
    """Largest size of the tokenizer's vocabulary."""

    embedding: int = 32
    """Width of the token embeddings."""

    width: int = 64
    """Width of the layers; divisible by heads."""

    layers: int = 2
    """Number of layers, all with the same weights, as in every ALBERT."""

    heads: int = 4
    """Attention heads."""

    feedforward: int = 128
    """Width of the feed-forward part."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "embedding", "width", "layers", "heads", "feedforward"):
            need(getattr(self, name) > 0, f"text.tiny.{name}", getattr(self, name), "above 0")
        need(self.width % self.heads == 0, "text.tiny.width", self.width, f"divisible by heads ({self.heads})")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSettings:
    """The text encoder and its tokenizer."""

    encoder: str = "albert/albert-base-v2"
    """A model of the Hugging Face Hub, a folder that holds one, or tiny: a small one made of the training texts."""

    revision: str | None = None
    """Branch, tag or commit of a Hub model; none: the newest. The commit that it was is recorded with the run."""

    max_tokens: int = 100
    """A text is cut after this many tokens, the special ones included."""

    tiny: TinySettings = field(default_factory=TinySettings)
    """Where encoder is tiny only."""

    def __post_init__(self) -> None:
        need(bool(self.encoder), "text.encoder", self.encoder, "a model of the Hub, a folder, or tiny")
        known = self.revision is None or self.encoder != "tiny"
        need(known, "text.revision", self.revision, "null with text.encoder tiny, which is made on the spot")
        need(self.max_tokens >= 3, "text.max_tokens", self.max_tokens, "at least 3: two of them are special")


def field_help(settings: type) -> dict[str, str]:
    """The help of each field of a settings class: the string under it, in the order of the fields."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(tree, ast.ClassDef)
    texts = {}
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert isinstance(after, ast.Expr)
            texts[node.target.id] = ast.literal_eval(after.value)
    return texts
