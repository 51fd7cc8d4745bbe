"""The settings of the two-phase systems. The string under a field is its help; the defaults are the published sizes."""

from dataclasses import dataclass, field

from mesm_train.config.typed_yaml import need

TWO_PHASE = ("lf-lstm", "lf-transformer", "emo-embs", "mult")  # kinds of models that read features


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSettings:
    """The feature sets that a two-phase system reads (`mesm-data features DIR`)."""

    t: str = "glove"
    """The set of the text."""

    v: str = "hog"
    """The set of the faces."""

    a: str = "egemaps"
    """The set of the sound."""

    dims: tuple[int, int, int] = (300, 35, 144)
    """Numbers of a row of t, v and a: follows from the sets."""

    standardise: bool = True
    """Subtract from each number of v and a its mean over the train part and divide by its standard deviation there."""

    def __post_init__(self) -> None:
        need(all(dim > 0 for dim in self.dims), "model.two_phase.features.dims", self.dims, "all above 0")

    def name(self, modality: str) -> str:
        """The set of a modality."""
        return str(getattr(self, modality))

    def dim(self, modality: str) -> int:
        """Numbers of a row of a modality's set."""
        return self.dims[("t", "v", "a").index(modality)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LFLSTMSettings:
    """Of kind lf-lstm: a bidirectional LSTM per modality, fused late."""

    hidden: tuple[int, int, int] | None = None
    """Width of the LSTM's state for t, v and a; null: that of the features, as published."""

    layers: int = 1
    """Layers of each LSTM."""

    dropout: float = 0.0
    """Dropout before the output layers and between the LSTM's layers."""

    def __post_init__(self) -> None:
        need(
            self.hidden is None or min(self.hidden) > 0,
            "model.two_phase.lf_lstm.hidden",
            self.hidden,
            "all above 0, or null",
        )
        need(self.layers > 0, "model.two_phase.lf_lstm.layers", self.layers, "above 0")
        need(0 <= self.dropout < 1, "model.two_phase.lf_lstm.dropout", self.dropout, "0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LFTransformerSettings:
    """Of kind lf-transformer: a transformer per modality over its features and a CLS vector, fused late."""

    layers: int = 2
    """Layers of each transformer."""

    heads: tuple[int, int, int] = (4, 5, 2)
    """Attention heads of t, v and a: each divides the width of its features."""

    feedforward: int = 2048
    """Width of the feed-forward part."""

    dropout: float = 0.1
    """Dropout of the transformers."""

    def __post_init__(self) -> None:
        need(self.layers > 0, "model.two_phase.lf_transformer.layers", self.layers, "above 0")
        need(min(self.heads) > 0, "model.two_phase.lf_transformer.heads", self.heads, "all above 0")
        need(self.feedforward > 0, "model.two_phase.lf_transformer.feedforward", self.feedforward, "above 0")
        need(0 <= self.dropout < 1, "model.two_phase.lf_transformer.dropout", self.dropout, "0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmoEmbsSettings:
    """Of kind emo-embs (Dai et al. 2020): states of LSTMs compared with word vectors of the emotions."""

    words: tuple[str, ...] = ()
    """A word for each class, in the order of the view; none: the names of the classes."""

    hidden: tuple[int, int] = (100, 200)
    """Width of the LSTM's state for v and a; that of t is the width of the word vectors."""

    layers: int = 2
    """Layers of each LSTM."""

    dropout: float = 0.15
    """Dropout between the LSTM's layers."""

    def __post_init__(self) -> None:
        need(min(self.hidden) > 0, "model.two_phase.emo_embs.hidden", self.hidden, "all above 0")
        need(self.layers > 0, "model.two_phase.emo_embs.layers", self.layers, "above 0")
        need(0 <= self.dropout < 1, "model.two_phase.emo_embs.dropout", self.dropout, "0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class MulTSettings:
    """Of kind mult (Tsai et al. 2019): transformers in which each modality attends to the others."""

    dim: int = 30
    """Width of each modality after the first convolution."""

    layers: int = 5
    """Layers of each cross-modal transformer; those over the result have three at least."""

    heads: int = 5
    """Attention heads; divides dim."""

    kernels: tuple[int, int, int] = (1, 1, 1)
    """Width in rows of the first convolution of t, v and a; odd."""

    causal: bool = True
    """A row attends to no later ones (of another modality: counted from the end of both)."""

    attention_dropout: tuple[float, float, float] = (0.1, 0.0, 0.0)
    """Dropout of the attention to t, v and a; the transformers over the result take that of t."""

    dropout: float = 0.1
    """Dropout of the feed-forward parts and of what each layer adds."""

    input_dropout: float = 0.25
    """Dropout of the inputs of each transformer, and of the text before."""

    output_dropout: float = 0.0
    """Dropout before the output layer."""

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "heads"):
            need(getattr(self, name) > 0, f"model.two_phase.mult.{name}", getattr(self, name), "above 0")
        need(self.dim % self.heads == 0, "model.two_phase.mult.dim", self.dim, f"divisible by heads ({self.heads})")
        odd = all(width > 0 and width % 2 for width in self.kernels)
        need(odd, "model.two_phase.mult.kernels", self.kernels, "odd numbers above 0")
        for name in ("dropout", "input_dropout", "output_dropout"):
            need(
                0 <= getattr(self, name) < 1,
                f"model.two_phase.mult.{name}",
                getattr(self, name),
                "0 or more and below 1",
            )
        inside = all(0 <= rate < 1 for rate in self.attention_dropout)
        need(inside, "model.two_phase.mult.attention_dropout", self.attention_dropout, "each 0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoPhaseSettings:
    """Two-phase systems: what they read, and the sizes of each."""

    features: FeatureSettings = field(default_factory=FeatureSettings)
    """The feature sets."""

    lf_lstm: LFLSTMSettings = field(default_factory=LFLSTMSettings)
    """Of kind lf-lstm only."""

    lf_transformer: LFTransformerSettings = field(default_factory=LFTransformerSettings)
    """Of kind lf-transformer only."""

    emo_embs: EmoEmbsSettings = field(default_factory=EmoEmbsSettings)
    """Of kind emo-embs only."""

    mult: MulTSettings = field(default_factory=MulTSettings)
    """Of kind mult only."""
