"""The settings of a run: one tree of dataclasses, read from YAML and `--set a.b=c`, checked before anything runs.

The text below a field explains it. Defaults are the published ones of Dai et al. 2021 for the dense model (README of
their code), so a recipe says only in what it differs.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from mesm_train.config.encoder_settings import EncoderSettings
from mesm_train.config.model_settings import ModelSettings, TextSettings
from mesm_train.config.typed_yaml import need


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimConfig:
    """The optimizer: Adam with decoupled weight decay."""

    lr: float = 5e-5
    """Learning rate of everything but the text branch."""
    text_lr_factor: float = 0.1
    """The text branch learns at lr times this; 0 freezes its encoder, and its output layer learns at lr."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's running means."""
    weight_decay: float = 0.0
    """Decoupled weight decay, of matrices and filters only: never of norms and biases."""
    clip_norm: float | None = None
    """Gradients longer than this are scaled down to it; null: never."""
    epochs: int = 40
    """At most so many passes over the train part."""
    batch: int = 8
    """Utterances of a step, over all ranks. The steps of an epoch are even: some may have one less."""
    accumulate: int = 1
    """Steps whose gradients are added up before the weights change: an update."""
    warmup_steps: int = 0
    """The learning rate grows linearly over the first updates."""
    schedule: Literal["constant", "cosine", "plateau"] = "constant"
    """After the warm-up: constant; a half cosine down to 0 at the last epoch; or plateau: constant, times
    plateau_factor each time that the validation loss has not fallen for more than plateau_patience epochs."""
    plateau_patience: int = 5
    """Epochs without a lower validation loss that schedule plateau allows."""
    plateau_factor: float = 0.1
    """What schedule plateau multiplies the learning rate with."""
    patience: int = 6
    """Stop after so many epochs in a row without a better validation score; 0: never."""
    ema: float = 0.0
    """Decay of a moving average of the weights, which is then validated and kept; 0: the weights themselves."""
    pos_weight: bool = True
    """Weight the positives of a class by its negatives / positives in the train part (loss bce and focal)."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights stay float32. tf32: products on a card round their factors to 10 bits, as fp16."""
    compile: bool = False
    """Train the transformers through torch.compile: fewer launches for a card. Kinds fe2e and mesm."""

    def __post_init__(self) -> None:
        need(self.lr > 0, "optim.lr", self.lr, "above 0")
        for name in ("text_lr_factor", "weight_decay", "warmup_steps", "patience", "plateau_patience"):
            need(getattr(self, name) >= 0, f"optim.{name}", getattr(self, name), "0 or more")
        for name in ("epochs", "batch", "accumulate"):
            need(getattr(self, name) >= 1, f"optim.{name}", getattr(self, name), "at least 1")
        need(0 < self.plateau_factor < 1, "optim.plateau_factor", self.plateau_factor, "above 0 and below 1")
        need(0 <= self.ema < 1, "optim.ema", self.ema, "0 or more and below 1")
        need(all(0 <= beta < 1 for beta in self.betas), "optim.betas", self.betas, "0 or more and below 1")
        need(self.clip_norm is None or self.clip_norm > 0, "optim.clip_norm", self.clip_norm, "above 0, or null")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalConfig:
    """How probabilities become decisions, which epoch is the best, and what is scored at the end."""

    thresholds: tuple[float, ...] = tuple(step / 20 for step in range(1, 20))
    """The probabilities among which each class gets its threshold, by F1 on the valid part."""
    select_by: Literal[
        "auto", "loss", "f1", "auc", "balanced_accuracy", "accuracy", "mae", "pearson", "ccc", "last"
    ] = "auto"
    """The epoch with the best mean of this on the valid part is kept. auto: f1 for classes, ccc for numbers; last: the
    last epoch, without a choice."""
    test: bool = True
    """Score the best epoch on the test part, once, at the end; `mesm-train tune` does without."""

    def __post_init__(self) -> None:
        inside = all(0 < limit < 1 for limit in self.thresholds)
        need(bool(self.thresholds) and inside, "eval.thresholds", self.thresholds, "one or more, between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How samples come from the shards."""

    source: Literal["index", "webdataset"] = "index"
    """index: by key, every sample once an epoch, exact resume; webdataset: training reads shards front to back."""
    threads: int = 2
    """Threads that read and decode."""
    prefetch: int = 4
    """Batches that are prepared ahead of use."""
    window: int = 16
    """Shards among which samples are shuffled: what a reader of remote shards needs room for, twice."""
    cache_gb: float = 50.0
    """Of the folder of copies of data that lie elsewhere ($MESM_CACHE); what is in use stays even above it."""
    undetected: Literal["keep", "skip"] = "keep"
    """Crops without a detected face: keep the centre square, as published, or skip them."""

    def __post_init__(self) -> None:
        need(self.window >= 1, "loader.window", self.window, "at least 1")
        need(self.cache_gb > 0, "loader.cache_gb", self.cache_gb, "above 0")
        need(self.threads >= 1, "loader.threads", self.threads, "at least 1")
        need(self.prefetch >= 1, "loader.prefetch", self.prefetch, "at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentConfig:
    """How training samples are changed, anew in each epoch. All 0: not at all, as published."""

    face_flip: float = 0.0
    """Chance that an utterance's faces are mirrored."""
    face_shift: int = 0
    """Its faces are moved by up to so many pixels, down and to the right or back."""
    face_light: float = 0.0
    """Its faces become lighter or darker by up to this share."""
    word_dropout: float = 0.0
    """Chance of each word of the text to be left out; one word stays."""
    mask_seconds: float = 0.0
    """A stretch of the sound of up to this length is silenced, of at most half of it."""
    mask_mels: int = 0
    """A band of up to so many of the 128 mel filters is silenced, of at most half of them."""

    def __post_init__(self) -> None:
        for name in ("face_flip", "word_dropout"):
            need(0 <= getattr(self, name) < 1, f"augment.{name}", getattr(self, name), "0 or more and below 1")
        need(0 <= self.face_shift <= 16, "augment.face_shift", self.face_shift, "0 to 16 (of 48 pixels)")
        need(0 <= self.face_light < 1, "augment.face_light", self.face_light, "0 or more and below 1")
        need(self.mask_seconds >= 0, "augment.mask_seconds", self.mask_seconds, "0 or more")
        need(0 <= self.mask_mels <= 64, "augment.mask_mels", self.mask_mels, "0 to 64 (of 128 filters)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksConfig:
    """How the processes of a run work together. See docs/distributed.md."""

    sync_batch_norm: bool | None = None
    """Batch norm sees the items of a step on all ranks; false: each rank's own; null: all, if a rank has 1 or 2."""
    timeout_seconds: float = 300.0
    """A rank that has not heard of the others for so long ends the run with an error."""

    def __post_init__(self) -> None:
        need(self.timeout_seconds >= 1, "ranks.timeout_seconds", self.timeout_seconds, "at least 1")

    def synchronised(self, batch: int, world: int) -> bool:
        """Whether batch norm takes the items of all ranks: the statistics of one or two utterances are too noisy."""
        return batch <= 2 * world if self.sync_batch_norm is None else self.sync_batch_norm


LOSSES = ("auto", "bce", "focal", "softmax", "mae", "ccc")
_WORD = r"[\w][\w .+=-]{0,99}"
_NAME = re.compile(rf"{_WORD}(/{_WORD})*")  # of the folder runs/NAME, which nothing leads out of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportConfig:
    """What RUN/report.html shows."""

    media: bool = True
    """Faces, pictures of sound and transcripts of some utterances; false leaves out all that shows the corpus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Everything that decides a run, but for the data's content, the code and the machine (see provenance.py)."""

    name: str
    """What the run is called in tables."""
    data: str | None = None
    """The folder or URL of a dataset; `--data` goes before it."""
    labels: str = "six"
    """The label view to predict; several, joined by +, are trained at once, and the first selects the epoch."""
    loss: str = "auto"
    """bce or focal (a yes/no question per class), softmax (one class), mae or ccc (numbers); auto: bce, softmax or mae
    by the view. Several views: one for all, or one for each, joined by +."""
    sampler: Literal["plain", "class-balanced"] = "plain"
    """plain: every utterance once an epoch. class-balanced: as many draws, of each class of the first view as many."""
    split: str = "session-5"
    """A rule (session-1 .. session-5, dialog), a published list by name, or the path of lists; see docs/splits.md."""
    seed: int = 0
    """Of the weights' start, the order of samples and dropout."""
    device: str = "auto"
    """As torch names it; auto: a graphics card if there is one."""
    checkpoint_seconds: float = 300.0
    """Time between checkpoints inside an epoch; there is one at the end of each in any case. 0: after every update."""
    keep_best: int = 1
    """So many checkpoints with the best validation scores are kept, beside the last one."""
    model: ModelSettings = field(default_factory=ModelSettings)
    """What is trained."""
    text: TextSettings = field(default_factory=TextSettings)
    """The text encoder."""
    sound: EncoderSettings = field(default_factory=EncoderSettings)
    """A pretrained speech encoder on the wave, of kind fe2e only."""
    faces: EncoderSettings = field(default_factory=EncoderSettings)
    """A pretrained image encoder on the face crops, of kind fe2e only."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is trained."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """How it is judged."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """How samples come from the shards."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How training samples are changed."""
    ranks: RanksConfig = field(default_factory=RanksConfig)
    """How several processes work together."""
    report: ReportConfig = field(default_factory=ReportConfig)
    """What the report shows."""

    def __post_init__(self) -> None:
        need(_NAME.fullmatch(self.name) is not None, "name", self.name, "a word, or words with / between them")
        for modality, name in (("a", "sound"), ("v", "faces")):
            getattr(self, name).check(name)
            encoder = getattr(self, name).encoder
            fits = encoder is None or (self.model.kind == "fe2e" and modality in self.model.modalities)
            need(fits, f"{name}.encoder", encoder, f"null, but for model.kind fe2e with {modality} in model.modalities")
        compiles = not self.optim.compile or self.model.kind in ("fe2e", "mesm")
        need(compiles, "optim.compile", self.optim.compile, f"false with model.kind {self.model.kind}")
        need(self.checkpoint_seconds >= 0, "checkpoint_seconds", self.checkpoint_seconds, "0 or more")
        need(self.keep_best >= 1, "keep_best", self.keep_best, "at least 1")
        need(0 <= self.seed < 2**63, "seed", self.seed, "0 or more and below 2^63")
        known = all(loss in LOSSES for loss in self.loss.split("+"))
        need(known, "loss", self.loss, f"one of {', '.join(LOSSES)}, or one for each label view, joined by +")
        streamed = self.sampler != "plain" and self.loader.source == "webdataset"
        need(not streamed, "sampler", self.sampler, "plain with loader.source=webdataset: a stream comes as it lies")
