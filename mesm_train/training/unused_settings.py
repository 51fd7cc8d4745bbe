"""Settings that have no effect on a run, for notes at its start: a search over one of them would compare nothing."""

from collections.abc import Iterator

from mesm_train.config.settings import RunConfig
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.config.typed_yaml import to_dict
from mesm_train.training.provenance import flatten


def unused_settings(given: RunConfig, used: RunConfig) -> Iterator[str]:
    """Yield a sentence for the settings that were changed in vain.

    Args:
        given: The settings of the recipe and the command.
        used: Those of the run, in which the data decide some (`Selection.config`).
    """
    default, given_values, used_values = (
        dict(flatten(to_dict(config))) for config in (RunConfig(name=given.name), given, used)
    )
    changed = [name for name, value in given_values.items() if value != default.get(name)]
    for name in changed:
        if given_values[name] != used_values.get(name):
            yield f"{name} is {used_values.get(name)} and not {given_values[name]}: it follows from the data"
    read = _sections_read(used)
    if unread := [name for name in changed if not read[max(filter(f"{name}.".startswith, read), key=len)]]:
        yield f"this run (model.kind {used.model.kind}) does not use {', '.join(unread)}"


def _sections_read(config: RunConfig) -> dict[str, bool]:
    """Whether a run uses a setting or a section, by its key and a dot; the longest that fits a setting decides."""
    kind, two_phase = config.model.kind, config.model.kind in TWO_PHASE
    text, faces, sound = (not two_phase and modality in config.model.modalities for modality in ("t", "v", "a"))
    face_stack, sound_stack = faces and config.faces.encoder is None, sound and config.sound.encoder is None
    stacks, plateau = face_stack or sound_stack, config.optim.schedule == "plateau"
    return {
        "": True,
        **{f"model.{name}.": stacks for name in ("channels", "stem_blocks", "hidden", "sparse.engine")},
        **{f"model.{name}.": faces or sound for name in ("dim", "layers", "heads", "feedforward", "dropout")},
        "model.log_mel.": sound_stack,
        "model.face_mean.": face_stack, "model.face_std.": face_stack,
        "model.sparse.": kind == "mesm" and stacks,
        "model.two_phase.": two_phase,
        **{f"model.two_phase.{name.replace('-', '_')}.": kind == name for name in TWO_PHASE},
        "text.": text, "text.tiny.": text and config.text.encoder == "tiny",
        "optim.text_lr_factor.": text,
        "optim.patience.": config.eval.select_by != "last",
        "optim.plateau_patience.": plateau, "optim.plateau_factor.": plateau,
        "sound.lr_factor.": config.sound.encoder is not None,
        "faces.lr_factor.": config.faces.encoder is not None,
        **{f"augment.{name}.": faces for name in ("face_flip", "face_shift", "face_light")},
        "augment.word_dropout.": text,
        "augment.mask_seconds.": sound, "augment.mask_mels.": sound,
        "loader.undetected.": faces,
    }  # fmt: skip
