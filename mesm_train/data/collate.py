"""Packs samples of any reader into batches, for custom training loops."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError
from mesm_data.storage.json_files import parse_json
from mesm_train.config.model_settings import TextSettings
from mesm_train.data.batch import Batch
from mesm_train.data.mel import SAMPLE_RATE
from mesm_train.data.tokenizer import tokenize

FACE = 48  # pixels of a face, in a batch without faces
MAX_TOKENS = TextSettings().max_tokens
NO_FACES = np.zeros((0, FACE, FACE, 3), np.uint8)
NO_SAMPLES = np.zeros(0, np.int16)
NO_TARGET = np.zeros(0, np.float32)
Target = Callable[[Mapping[str, Any]], ArrayLike | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """The part of a sample that goes into a batch."""

    key: str
    faces: NDArray[np.uint8]  # (n, size, size, 3) RGB
    samples: NDArray[np.int16]  # (n,), 16 kHz
    text: str
    target: NDArray[np.float32]  # (classes,)
    masks: NDArray[np.int64] | None = None  # (4,), of augmented audio, see MelPieces


def collate(
    samples: Iterable[Sample | Mapping[str, Any]],
    *,
    target: Target | None = None,
    tokenizer: Any | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Batch:
    """Pack samples of mesm's own reader, of webdataset or of Hugging Face datasets into a batch.

    A sample is a `mesm_data.Sample`, or a mapping with the keys `__key__`, `faces.npy`, `json`, `txt` and `wav`, whose
    values are decoded or the members' bytes:

        faces.npy  uint8 (n, size, size, 3) RGB, also as lists; or an .npy file
        json       a mapping, or JSON; only `labels` is read, and only with `target`
        txt        str, or UTF-8
        wav        an audio file of 16 kHz and one channel, or int16 (n,) of 16 kHz

    A mapping without `faces.npy`, `txt` or `wav` is an utterance without that modality.

    Args:
        samples: The samples of the batch, which may be none.
        target: Computes the label vector, (classes,), from the `labels` of a sample: the method `target` of a label
            view, for example. Without it, `labels` of the batch is (N, 0).
        tokenizer: A tokenizer of transformers. Without it, `tokens` is (N, 0).
        max_tokens: Longer texts are truncated to this number of tokens, including special tokens.

    Raises:
        InputError: A member of a sample is not as described above; or `target` returns None, because the utterance is
            outside the label view: remove it before.

    Examples:
        >>> from functools import partial
        >>> import mesm_data, mesm_train, torch
        >>> dataset = mesm_data.open_dataset("data/iemocap")
        >>> view = dataset.schema.view("majority")
        >>> loader = torch.utils.data.DataLoader(
        ...     dataset, batch_size=4, sampler=dataset.keys, collate_fn=partial(mesm_train.collate, target=view.target)
        ... )
        >>> batch = next(iter(loader))
        >>> batch.labels.shape, batch.faces.shape[1:], batch.samples.dtype
        (torch.Size([4, 10]), torch.Size([48, 48, 3]), torch.int16)
    """
    utterances = [
        _of_sample(sample, target) if isinstance(sample, Sample) else _of_mapping(sample, target) for sample in samples
    ]
    face_sizes = {each.faces.shape[1:3] for each in utterances if len(each.faces)} or {(FACE, FACE)}
    lengths = {len(each.target) for each in utterances} or {0}
    for problem, values in (("faces of different sizes", face_sizes), ("targets of different lengths", lengths)):
        if len(values) > 1:
            raise InputError(
                f"the samples {', '.join(each.key for each in utterances)} have {problem}: {sorted(values)}"
            )
    return pack(
        utterances,
        face_shape=(*face_sizes.pop(), 3),
        classes=lengths.pop(),
        tokenizer=tokenizer,
        max_tokens=max_tokens,
    )


def pack(
    utterances: Sequence[Utterance],
    *,
    face_shape: tuple[int, ...],
    classes: int,
    tokenizer: Any | None,
    max_tokens: int,
    concatenate: Callable[[Sequence[NDArray[Any]]], NDArray[Any]] = np.concatenate,
) -> Batch:
    """Pack utterances, which may be none, into a batch.

    Args:
        utterances: The utterances.
        face_shape: (size, size, 3).
        classes: The length of the label vectors.
        tokenizer: The tokenizer of transformers; None for a model without text.
        max_tokens: Longer texts are cut.
        concatenate: Concatenates arrays, into reusable memory for example.
    """
    if tokenizer is None:
        tokens = torch.zeros(len(utterances), 0, dtype=torch.int64)
        token_counts = torch.zeros(len(utterances), dtype=torch.int64)
    else:
        tokens, token_counts = tokenize(tokenizer, [each.text for each in utterances], max_tokens)
    targets = np.array([each.target for each in utterances], np.float32).reshape(len(utterances), classes)
    masks = [each.masks for each in utterances if each.masks is not None]
    faces = [each.faces for each in utterances if len(each.faces)]
    return Batch(
        keys=tuple(each.key for each in utterances),
        faces=torch.from_numpy(concatenate([np.zeros((0, *face_shape), np.uint8), *faces])),
        face_counts=torch.tensor([len(each.faces) for each in utterances], dtype=torch.int64),
        samples=torch.from_numpy(concatenate([np.zeros(0, np.int16), *(each.samples for each in utterances)])),
        sample_counts=torch.tensor([len(each.samples) for each in utterances], dtype=torch.int64),
        tokens=tokens,
        token_counts=token_counts,
        labels=torch.from_numpy(targets),
        masks=torch.from_numpy(np.stack(masks)) if masks else None,
    )


def _of_sample(sample: Sample, target: Target | None) -> Utterance:
    if sample.sample_rate != SAMPLE_RATE and len(sample.samples):
        raise InputError(f"sample {sample.key}: its audio has {sample.sample_rate} Hz, a batch has {SAMPLE_RATE} Hz")
    row = _target(sample.key, sample.record["labels"], target) if target else NO_TARGET
    return Utterance(key=sample.key, faces=sample.faces, samples=sample.samples, text=sample.text, target=row)


def _of_mapping(sample: Mapping[str, Any], target: Target | None) -> Utterance:
    key = str(sample.get("__key__", "without __key__"))

    def decoded(member: str, decode: Callable[[Any], Any]) -> Any:
        try:
            return decode(sample.get(member))
        except ValueError as error:
            raise InputError(f"sample {key}: its {member} cannot be put into a batch: {error}") from None

    return Utterance(
        key=key,
        faces=decoded("faces.npy", _faces),
        samples=decoded("wav", _samples),
        text=decoded("txt", _text),
        target=_target(key, decoded("json", _labels), target) if target else NO_TARGET,
    )


def _target(key: str, labels: Mapping[str, Any], target: Target) -> NDArray[np.float32]:
    row = target(labels)
    if row is None:
        raise InputError(f"sample {key} is outside the label view (its target is None): remove it before collate")
    return np.asarray(row, np.float32).reshape(-1)


def _labels(record: Any) -> Mapping[str, Any]:
    if isinstance(record, bytes | str):
        record = parse_json(record if isinstance(record, bytes) else record.encode())
    if not isinstance(record, Mapping) or not isinstance(record.get("labels"), Mapping):
        raise ValueError("it has no mapping `labels`, from which the target is computed")
    labels: Mapping[str, Any] = record["labels"]
    return labels


def _text(value: Any) -> str:
    text = str(value, "utf-8") if isinstance(value, bytes) else value or ""
    if not isinstance(text, str):
        raise ValueError(f"it is of type {type(text).__name__}, expected str or UTF-8")
    return text


def _faces(value: Any) -> NDArray[np.uint8]:
    if value is None:
        return NO_FACES
    if isinstance(value, bytes):
        value = np.lib.format.read_array(io.BytesIO(value), allow_pickle=False)
    faces = np.asarray(value)
    if faces.size == 0:
        return NO_FACES
    if faces.ndim != 4 or faces.shape[3] != 3 or faces.dtype.kind not in "iu" or faces.min() < 0 or faces.max() > 255:
        raise ValueError(f"it is {faces.dtype} {faces.shape}, expected uint8 (n, size, size, 3)")
    return np.ascontiguousarray(faces, np.uint8)


def _samples(value: Any) -> NDArray[np.int16]:
    if value is None:
        return NO_SAMPLES
    if isinstance(value, bytes):
        import soundfile

        try:
            value, rate = soundfile.read(io.BytesIO(value), dtype="int16")
        except soundfile.LibsndfileError as error:
            raise ValueError(f"it is not an audio file ({error})") from None
        if rate != SAMPLE_RATE:
            raise ValueError(f"it has {rate} Hz, expected {SAMPLE_RATE} Hz")
    samples = np.asarray(value)
    if samples.ndim != 1 or (samples.dtype != np.int16 and samples.size):
        raise ValueError(f"it is {samples.dtype} {samples.shape}, expected an audio file, or int16 (n,)")
    return samples.astype(np.int16, copy=False)
