"""A trained model that predicts clips. It needs the folder of its run and no dataset."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError, MesmError
from mesm_data.media.faces.detector import FaceDetector
from mesm_data.schema.recordings import Word
from mesm_data.storage.progress import Step, no_step
from mesm_train.data.batch import MODALITY_NAMES, Batch
from mesm_train.data.collate import NO_TARGET, Utterance, pack
from mesm_train.data.device import attention_without_plans
from mesm_train.data.input_spec import InputSpec
from mesm_train.inference.ahead import IsStopped, read_ahead
from mesm_train.inference.calibration import OutputCalibration
from mesm_train.inference.clip_features import ClipFeatures
from mesm_train.inference.clips import Clip, ClipInput, FaceChoice, of_sample
from mesm_train.inference.decode import decode
from mesm_train.inference.encoders import Description
from mesm_train.inference.make_predictions import make_predictions
from mesm_train.inference.modality_check import check_modalities
from mesm_train.inference.result import Failure, Prediction, Timeline
from mesm_train.models.baselines.make import AnyModel
from mesm_train.models.fe2e_mesm import ForwardDetails

BATCH = 16  # clips that go through the model at once


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Predictor:
    """A model with all that turns clips into its input and its outputs into predictions.

    Attributes:
        name: of the run.
        model: in evaluation mode, on `device`.
        spec: how clips are decoded, and what the outputs are called.
        calibration: thresholds of the classes, scales of numbers.
        tokenizer: of the text encoder; None without one.
        max_tokens: a text is cut after this many tokens.
        facts: provenance.json of the run.
        encoders: section of the settings (sound, faces) -> the description of its pretrained encoder.
        features: computes what a two-phase system reads; None: the model reads faces, sound and text.
        detector: finds the faces; None: that of the training data, if it needs no model file.
    """

    name: str
    model: AnyModel
    spec: InputSpec
    calibration: OutputCalibration
    tokenizer: Any | None
    max_tokens: int
    facts: Mapping[str, Any]
    encoders: Mapping[str, Description] = field(default_factory=dict)
    features: ClipFeatures | None = None
    detector: FaceDetector | None = None

    def __repr__(self) -> str:
        settings, classes = self.model.settings, ", ".join(map(self._meaning, self.spec.outputs))
        reads = ", ".join(MODALITY_NAMES[m] for m in settings.modalities)
        return f"Predictor({self.name}: {settings.kind} of {reads}, trained on {self.trained_on}; {classes})"

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model reads, of t, v, a."""
        return self.model.settings.modalities

    @property
    def trained_on(self) -> str:
        """The corpus, and whether a program made it."""
        layout = "synthetic data in the layout of " if self.facts.get("dataset", {}).get("synthetic") else ""
        return f"{layout}{self.spec.corpus}"

    def predict(
        self,
        path: str | Path,
        *,
        text: str | None = None,
        start: float = 0.0,
        end: float = math.inf,
        words: Sequence[Word] | None = None,
        audio: str | Path | None = None,
        channel: int | None = None,
        face: FaceChoice = None,
        allow_missing: bool = False,
    ) -> Prediction:
        """Predict one clip.

        Args:
            path: a video or audio file.
            text: what is said in it.
            start: where the stretch to predict begins, in seconds.
            end: where it ends; by default the file's end.
            words: the words with their times; `text` is by default made of them.
            audio: another file that holds the sound, see `Clip`.
            channel: the channel of the sound, from 1.
            face: whose face is cut: "left", "right" or a number.
            allow_missing: predict also if the clip lacks a modality that no training sample lacked.

        Raises:
            InputError: there is no such file, or the clip lacks a modality that the model needs.
            MesmError: the file cannot be decoded.

        Examples:
            >>> import mesm_train
            >>> model = mesm_train.load("runs/demo-fe2e")
            >>> model.predict("clip.mp4", text="I can't believe it!")  # doctest: +SKIP
        """
        if words is not None and text is None:
            text = " ".join(word.word for word in words)
        clip = Clip(
            path=Path(path), start=start, end=end, text=text, words=None if words is None else tuple(words),
            audio=None if audio is None else Path(audio), channel=channel, face=face,
        )  # fmt: skip
        [result] = self.predict_clips([clip], allow_missing=allow_missing, keep_input=True)
        if isinstance(result, Failure):
            raise InputError(result.reason)
        return result

    def predict_clips(
        self,
        clips: Iterable[Clip],
        *,
        allow_missing: bool = False,
        keep_input: bool = False,
        workers: int = 1,
        progress: Step = no_step,
    ) -> Iterator[Prediction | Failure]:
        """Predict clips in their order; consecutive clips of one file are decoded in one pass.

        Memory does not grow with the number of clips, nor with the length of a file.

        Args:
            clips: any number of them.
            allow_missing: see `predict`.
            keep_input: keep the decoded clips.
            workers: files that are decoded at a time, while the model computes.
            progress: called with a number of clips that are done.
        """
        groups = (list(group) for _, group in groupby(clips, key=lambda clip: clip.source))
        waiting: list[ClipInput | Failure] = []
        for clip_input in read_ahead(self._decode, groups, workers=workers, ahead=BATCH):
            waiting.append(check_modalities(clip_input, self.spec, self.modalities, allow_missing=allow_missing))
            if len(waiting) == BATCH:
                yield from self._predict(waiting, keep_input, progress)
                waiting = []
        yield from self._predict(waiting, keep_input, progress)

    def _decode(self, clips: Sequence[Clip], is_stopped: IsStopped) -> Iterator[ClipInput | Failure]:
        """Clips of one source, decoded, or why they cannot be."""
        done = 0
        try:
            for clip_input in decode(
                clips, self.spec.media_recipe(), self.modalities, square=self.spec.fallback_square,
                undetected=self.spec.undetected, detector=self.detector, is_stopped=is_stopped,
            ):  # fmt: skip
                yield clip_input
                done += 1
        except MesmError as error:
            yield from (Failure(clip=clip, reason=str(error)) for clip in clips[done:])

    def predict_windows(
        self, clip: Clip, *, seconds: float = 4.0, step: float = 2.0, **options: Any
    ) -> tuple[Timeline, list[Failure]]:
        """Predict a long clip in windows; `options` are those of `predict_clips`.

        The text of a window is made of the `words` whose middle lies in it.
        """
        from mesm_train.inference.windows import windows

        results = list(self.predict_clips(windows(clip, seconds=seconds, step=step), **options))
        failures = [result for result in results if isinstance(result, Failure)]
        return Timeline([result for result in results if isinstance(result, Prediction)]), failures

    def _meaning(self, name: str) -> str:
        return self.spec.meanings.get(name, name)

    def batch(self, inputs: Sequence[ClipInput]) -> Batch:
        """Decoded clips as the model takes them."""
        size = self.spec.recipe["face_size"]
        read = () if self.features else self.modalities
        utterances = [
            Utterance(
                key=clip_input.key,
                faces=clip_input.faces if "v" in read else clip_input.faces[:0],
                samples=clip_input.samples if "a" in read else clip_input.samples[:0],
                text=clip_input.text,
                target=NO_TARGET,
            )
            for clip_input in inputs
        ]
        batch = pack(
            utterances, face_shape=(size, size, 3), classes=0, tokenizer=self.tokenizer, max_tokens=self.max_tokens
        )
        return replace(batch, features=self.features.rows(inputs)) if self.features else batch

    @torch.no_grad()
    def forward(self, inputs: Sequence[ClipInput]) -> ForwardDetails:
        """The model's forward pass over decoded clips, with its inside."""
        with attention_without_plans():
            return self.model.forward_details(self.batch(inputs).to(self.device))

    def _predict(
        self, decoded_clips: Sequence[ClipInput | Failure], keep_input: bool, progress: Step
    ) -> Iterator[Prediction | Failure]:
        """The answers to decoded clips, in their order."""
        inputs = [clip_input for clip_input in decoded_clips if isinstance(clip_input, ClipInput)]
        results: Iterator[Prediction] = iter(self.predict_inputs(inputs, keep_input=keep_input) if inputs else ())
        for clip_input in decoded_clips:
            yield clip_input if isinstance(clip_input, Failure) else next(results)
            progress(1)

    def predict_inputs(self, inputs: Sequence[ClipInput], *, keep_input: bool = True) -> list[Prediction]:
        """The predictions of decoded clips, whatever they lack."""
        return make_predictions(
            self.forward(inputs), inputs, self.spec, self.calibration, modalities=self.modalities,
            notes=self.features.notes if self.features else (), keep_input=keep_input,
        )  # fmt: skip

    def predict_samples(self, samples: Sequence[Sample]) -> list[Prediction]:
        """The predictions of samples of a dataset, whatever they lack."""
        interval = float(self.spec.recipe["frame_interval"])
        return self.predict_inputs([of_sample(sample, interval, self.spec.undetected) for sample in samples])

    def to(self, device: torch.device | str) -> "Predictor":
        """The same with the model on another device."""
        return replace(self, model=self.model.to(device))
