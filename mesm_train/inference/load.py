"""Load a trained model from the folder of its run, from a folder that was exported, or from the Hugging Face Hub."""

from pathlib import Path

from torch import Tensor

from mesm_data.errors import InputError, MesmError, first_line
from mesm_data.shapes import read_checked_json
from mesm_train import checkpoint
from mesm_train.config import RunConfig, load_recipe
from mesm_train.data import input_spec
from mesm_train.data.input_spec import InputSpec
from mesm_train.inference.predictor import Predictor
from mesm_train.models.model import Model
from mesm_train.models.text import load_without_weights
from mesm_train.run_files import PROVENANCE, THRESHOLDS
from mesm_train.setup import pick_device


def load(source: str | Path, *, device: str = "auto") -> Predictor:
    """Load a trained model.

    Args:
        source: the folder of a run of `mesm-train run`, a folder of `mesm-train export --to hub-folder`, or the id of
            such a model on the Hugging Face Hub.
        device: as torch names it; auto: a graphics card if there is one.

    Raises:
        InputError: there is no model.
        MesmError: its files are damaged, or the run has no best epoch yet.

    Examples:
        >>> import mesm_train
        >>> model = mesm_train.load("runs/demo-fe2e")  # doctest: +SKIP
        >>> model.predict("clip.mp4", text="I can't believe it!")  # doctest: +SKIP
    """
    folder = Path(source)
    if not (folder / "config.yaml").exists():
        raise InputError(f"{source} holds no config.yaml, so it is not a run of `mesm-train run`")
    return load_run(folder, device=device)


def load_run(run: Path, *, device: str = "auto") -> Predictor:
    """The model of a run, with the weights of its best epoch."""
    config = load_recipe(str(run / "config.yaml"))
    spec = input_spec.read(run)
    facts = read_checked_json(run / "provenance.json", PROVENANCE)
    loaded = checkpoint.load(run / "checkpoints", "best")
    if loaded is None:
        raise MesmError(f"{run} has no best epoch yet: let `mesm-train run --resume` reach the end of one")
    tokenizer, model = make_model(config, spec, run / "text", loaded[0], str(run))
    return Predictor(
        name=config.name,
        model=model.to(pick_device(device)),
        spec=spec,
        thresholds=read_thresholds(run, spec),
        tokenizer=tokenizer,
        max_tokens=config.text.max_tokens,
        facts=facts,
    )


def make_model(
    config: RunConfig, spec: InputSpec, text: Path, weights: dict[str, Tensor], where: str
) -> tuple[object | None, Model]:
    """The tokenizer (None without text) and the model with its weights, in evaluation mode on the CPU.

    Raises MesmError if the weights are those of another model.
    """
    if len(spec.classes) != config.model.classes:
        raise InputError(
            f"{where}: {len(spec.classes)} classes in {input_spec.FILE}, {config.model.classes} in the model"
        )
    tokenizer, encoder = load_without_weights(text) if "t" in config.model.modalities else (None, None)
    model = Model(config.model, encoder)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:  # names or shapes of other weights
        raise MesmError(f"{where}: the weights are not those of this model ({first_line(error)})") from None
    return tokenizer, model.eval()


def read_thresholds(run: Path, spec: InputSpec) -> tuple[float, ...]:
    """The thresholds of a run, in the order of its classes; .5 each if it has not ended and chosen any."""
    if spec.task != "one_vs_rest":
        return ()
    path = run / "thresholds.json"
    if not path.exists():
        return (0.5,) * len(spec.classes)
    found = read_checked_json(path, THRESHOLDS)
    if found["classes"] != list(spec.classes) or len(found["thresholds"]) != len(spec.classes):
        raise InputError(f"{path} is not of this run: its classes are not those of the label view")
    return tuple(found["thresholds"])
