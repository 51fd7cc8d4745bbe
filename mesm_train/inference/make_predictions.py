"""From the outputs of a model to predictions of clips."""

from collections.abc import Sequence

from torch import Tensor

from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.data.input_spec import InputSpec
from mesm_train.inference.calibration import OutputCalibration
from mesm_train.inference.clips import ClipInput
from mesm_train.inference.result import Prediction
from mesm_train.models.fe2e_mesm import ForwardDetails


def make_predictions(
    details: ForwardDetails,
    inputs: Sequence[ClipInput],
    spec: InputSpec,
    calibration: OutputCalibration,
    *,
    modalities: Sequence[str],
    notes: Sequence[str],
    keep_input: bool,
) -> list[Prediction]:
    """The predictions of decoded clips.

    Args:
        details: the forward pass over the clips.
        inputs: the clips, in the same order.
        spec: what the outputs are called.
        calibration: thresholds of the classes, scales of numbers.
        modalities: what the model reads.
        notes: what to note of every prediction.
        keep_input: keep the decoded clips.
    """
    logits = details.logits.float().cpu()
    values = calibration.values(logits, spec)
    branches = {modality: branch.float().cpu() for modality, branch in details.branches.items()}
    names, binary = spec.outputs, {name for head in spec.heads if head.kind == "binary" for name in head.outputs}
    limits = zip(names, calibration.thresholds, strict=True)
    thresholds = {name: limit for name, limit in limits if name in binary}

    def by_output(row: Tensor) -> dict[str, float]:
        return dict(zip(names, row.tolist(), strict=True))

    def prediction(number: int, clip_input: ClipInput) -> Prediction:
        clip, present = clip_input.clip, clip_input.present
        return Prediction(
            path=clip.path,
            start=clip.start,
            end=clip.end,
            text=clip_input.text if "t" in modalities else "",
            speaker=clip.speaker,
            heads=spec.heads,
            values=by_output(values[number]),
            logits=by_output(logits[number]),
            thresholds=thresholds,
            meanings=spec.meanings,
            branches={MODALITY_NAMES[m]: by_output(branch[number]) for m, branch in branches.items() if present[m]},
            missing={MODALITY_NAMES[m]: clip_input.problems.get(m, "none") for m in modalities if not present[m]},
            notes=(*clip_input.notes(modalities), *notes),
            input=clip_input if keep_input else None,
        )

    return [prediction(number, clip_input) for number, clip_input in enumerate(inputs)]
