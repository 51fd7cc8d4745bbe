"""Whether a decoded clip holds what a model needs."""

from collections.abc import Sequence

from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.data.input_spec import InputSpec
from mesm_train.inference.clips import ClipInput
from mesm_train.inference.result import Failure


def check_modalities(
    clip_input: ClipInput | Failure, spec: InputSpec, modalities: Sequence[str], *, allow_missing: bool
) -> ClipInput | Failure:
    """A decoded clip without what the model has not learnt to read, or why the model cannot take it.

    A modality that every training utterance lacked has a branch with the weights of its start.

    Args:
        clip_input: the clip, or why it could not be decoded.
        spec: of the model; it knows which modalities training utterances lacked.
        modalities: those that the model reads.
        allow_missing: take clips without a modality that no training utterance lacked.
    """
    if isinstance(clip_input, Failure):
        return clip_input
    unseen = [m for m in spec.unseen(modalities) if clip_input.present[m]]
    clip_input = clip_input.without({m: f"no training utterance had {MODALITY_NAMES[m]}" for m in unseen})
    missing = [m for m in modalities if not clip_input.present[m]]
    reasons = "; ".join(f"without {MODALITY_NAMES[m]} ({clip_input.problems.get(m, 'none')})" for m in missing)
    if len(missing) == len(modalities):
        return Failure(clip=clip_input.clip, reason=f"{clip_input.key}: nothing that the model reads: {reasons}")
    unknown = [MODALITY_NAMES[m] for m in missing if not spec.knows_without(m)]
    if unknown and not allow_missing:
        count = spec.train["utterances"]
        return Failure(
            clip=clip_input.clip,
            reason=f"{clip_input.key}: {reasons}. All {count} training utterances have {' and '.join(unknown)}, so "
            "the model has not learnt to do without: give what is missing, or allow it (--allow-missing)",
        )
    return clip_input
