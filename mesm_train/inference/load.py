"""Load a trained model from the folder of its run, from a folder that was exported, or from the Hugging Face Hub."""

import re
from dataclasses import replace
from pathlib import Path

from mesm_data.errors import InputError, MesmError, first_line
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.two_phase_settings import TWO_PHASE
from mesm_train.data import input_spec
from mesm_train.data.device import pick_device
from mesm_train.inference.calibration import read_calibration
from mesm_train.inference.clip_features import open_clip_features
from mesm_train.inference.encoders import read_descriptions
from mesm_train.inference.make_model import make_model
from mesm_train.inference.predictor import Predictor
from mesm_train.models.text import load_without_weights
from mesm_train.training import checkpoint
from mesm_train.training.run_files import PROVENANCE


def load(
    source: str | Path, *, device: str = "auto", face_model: Path | None = None, glove: Path | None = None
) -> Predictor:
    """Load a trained model.

    Args:
        source: the folder of a run of `mesm-train run`, a folder of `mesm-train export --to hub-folder`, or the id of
            such a model on the Hugging Face Hub.
        device: as torch names it; auto: a graphics card if there is one.
        face_model: the model file of the face detector, if the training data were built with one that has any.
        glove: the text file of word vectors that a two-phase system's features were computed from, if they were.

    Raises:
        InputError: there is no model, the face detector cannot be loaded, or the model reads features that cannot be
            computed from a clip.
        MesmError: its files are damaged, or the run has no best epoch yet.

    Examples:
        >>> import mesm_train
        >>> model = mesm_train.load("runs/demo-fe2e")  # doctest: +SKIP
        >>> model.predict("clip.mp4", text="I can't believe it!")  # doctest: +SKIP
    """
    predictor = _load(source, glove)
    if "v" in predictor.modalities:
        predictor = replace(predictor, detector=predictor.spec.media_recipe().detector(face_model))
    return predictor.to(pick_device(device))


def _load(source: str | Path, glove: Path | None) -> Predictor:
    folder = Path(source)
    if (folder / "config.yaml").exists():
        return load_run(folder, glove)
    # A run imports this package too, and the Hub's library takes .4 s.
    from mesm_train.inference.hub_model import fetch_hub_folder, load_hub_folder

    if (folder / "config.json").exists():
        return load_hub_folder(folder, glove)
    if folder.exists():
        raise InputError(f"{source} holds neither a run of `mesm-train run` nor an exported model")
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", str(source), re.ASCII):
        raise InputError(
            f"{source} does not exist: give the folder of a run or of an exported model, or a model's id on the "
            "Hugging Face Hub"
        )
    return load_hub_folder(fetch_hub_folder(str(source)), glove)


def load_run(run: Path, glove: Path | None = None) -> Predictor:
    """The model of a run, with the weights of its best epoch; `glove` as in `load`.

    Raises InputError or MesmError if files of the run are missing or damaged, or the weights are of another model.
    """
    config = load_recipe(str(run / "config.yaml"))
    spec = input_spec.read_input_spec(run, needs_features=config.model.kind in TWO_PHASE)
    facts = read_checked_json(run / "provenance.json", PROVENANCE)
    loaded = checkpoint.load(run / "checkpoints", "best")
    if loaded is None:
        raise MesmError(f"{run} has no best epoch yet: let `mesm-train run --resume` reach the end of one")
    if len(spec.outputs) != config.model.classes:
        raise InputError(
            f"{run}: {len(spec.outputs)} outputs in {input_spec.FILE}, {config.model.classes} in the model"
        )
    weights, _ = loaded
    has_text = "t" in config.model.modalities and config.model.kind not in TWO_PHASE
    tokenizer, text = load_without_weights(run / "text") if has_text else (None, None)
    encoders = read_descriptions(config, run)
    emotions = weights.get("emotions")
    width = emotions.shape[-1] if emotions is not None and emotions.ndim else None
    try:
        model = make_model(config.model, text, encoders, width)
        model.load_state_dict(weights)
    except (RuntimeError, ValueError) as error:  # names or shapes of other weights
        raise MesmError(f"{run}: the weights are not those of this model ({first_line(error)})") from None
    return Predictor(
        name=config.name,
        model=model,
        spec=spec,
        calibration=read_calibration(run, spec),
        tokenizer=tokenizer,
        max_tokens=config.text.max_tokens,
        facts=facts,
        encoders=encoders,
        features=open_clip_features(spec.features, glove),
    )
