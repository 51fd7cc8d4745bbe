"""A model as ONNX: one file that runs without mesm and torch, for one utterance of any length."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mesm_data.errors import MesmError, first_line
from mesm_train.data.mel import MIN_SAMPLES
from mesm_train.inference.hub_model import save_tokenizer
from mesm_train.inference.new_folder import new_folder
from mesm_train.inference.portable import PortableModel, example_batch, example_inputs
from mesm_train.inference.predictor import Predictor
from mesm_train.models.baselines.two_phase import TwoPhaseModel
from mesm_train.models.fe2e_mesm import Model

# Largest difference of logits between onnxruntime and torch. MESM keeps the heaviest sites, and of two with almost the
# same weight rounding may choose: 5e-4 in one of 147 utterances.
TOLERANCE = {"fe2e": 1e-4, "mesm": 1e-2}
FILE = "model.onnx"


def export_onnx(predictor: Predictor, out: Path) -> float:
    """Write OUT/model.onnx, model.json (its inputs and classes) and text/tokenizer.json.

    Args:
        predictor: the model.
        out: a new or an empty folder.

    Returns:
        The largest difference between the logits of onnxruntime and torch, on inputs of several lengths.

    Raises:
        MesmError: the extra `onnx` is not installed, the model has parts that only run in mesm, or its logits differ by
            more than `TOLERANCE`.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise MesmError("the export needs onnx, onnxscript and onnxruntime: pip install 'mesm[onnx]'") from None
    try:
        if isinstance(predictor.model, TwoPhaseModel):
            raise NotImplementedError("it reads features, which are computed outside of it")
        original = predictor.model.cpu()
        model = PortableModel(original).eval()
    except NotImplementedError as error:
        raise MesmError(f"this model cannot be exported to ONNX: {error}") from None
    with new_folder(out) as folder:
        _write(model, example_inputs(original), folder / FILE)
        difference = largest_difference(original, folder / FILE)
        limit = TOLERANCE[predictor.model.settings.kind]
        if not difference <= limit:
            raise MesmError(f"the logits of onnxruntime differ from torch's by {difference:.2g}, more than {limit:g}")
        content = json.dumps(description(predictor), indent=2, ensure_ascii=False)
        (folder / "model.json").write_text(content + "\n", encoding="utf-8")
        save_tokenizer(predictor, folder / "text")
    return difference


def _write(model: PortableModel, inputs: Mapping[str, tuple[Tensor, int]], path: Path) -> None:
    shapes = tuple({axis: torch.export.Dim.DYNAMIC} for _, axis in inputs.values())
    with _quiet(), _no_fast_path():
        program = torch.onnx.export(
            model,
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=["logits"],
            dynamic_shapes=(shapes,),
            verbose=False,
        )
        assert program is not None
        program.save(path)


@torch.no_grad()
def largest_difference(model: Model, path: Path) -> float:
    """The largest difference of logits between onnxruntime and the model, on random inputs of several lengths.

    The model itself, not its portable form: what that may lack must not be exported.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        differences = []
        for seed, (tokens, faces, samples) in enumerate([(3, 1, MIN_SAMPLES), (12, 9, 72_000), (40, 30, 160_123)]):
            inputs = example_inputs(model, tokens=tokens, faces=faces, samples=samples, seed=seed)
            arrays = {name: example.numpy() for name, (example, _) in inputs.items()}
            expected = model(example_batch(inputs))[0].numpy()
            differences.append(float(np.abs(_run(session, arrays) - expected).max()))
    except Exception as error:  # onnxruntime has no base class of its own
        raise MesmError(f"onnxruntime cannot run the exported model: {first_line(error)}") from error
    return max(differences)


def _run(session: Any, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    [logits] = session.run(["logits"], arrays)
    return np.asarray(logits)


def description(predictor: Predictor) -> dict[str, Any]:
    """model.json: what another program needs to know."""
    recipe = predictor.spec.recipe
    known = {
        "t": ("tokens", "int64 (1, n), n >= 1: text/tokenizer.json, special tokens included"),
        "v": ("faces", f"uint8 (n, {recipe['face_size']}, {recipe['face_size']}, 3) RGB; n = 0: no faces"),
        "a": ("samples", f"int16 (n,), n >= {MIN_SAMPLES}: mono PCM at {recipe['sample_rate']} Hz"),
    }
    return {
        "name": predictor.name,
        "inputs": dict(known[modality] for modality in predictor.modalities),
        "output": "logits float32 (outputs,): those of the heads, behind each other",
        "heads": [asdict(head) for head in predictor.spec.heads],
        "meanings": dict(predictor.spec.meanings),
        **asdict(predictor.calibration),
        "max_tokens": predictor.max_tokens,
        "recipe": dict(recipe),
        "synthetic": bool(predictor.facts["dataset"].get("synthetic")),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings, which are about packages that are not used."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Without torch's fused transformer layer, for which ONNX has no operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
