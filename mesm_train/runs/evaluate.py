"""A finished run: loaded with the weights of its best epoch, and evaluated again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError, MesmError, first_line
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.config.recipe_files import load_recipe
from mesm_train.runs.reproduction import Deviation, deviation
from mesm_train.training import checkpoint
from mesm_train.training.evaluation import Calibration, predict, score
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.provenance import provenance_differences
from mesm_train.training.run_files import PROVENANCE, THRESHOLDS
from mesm_train.training.setup import Setup, prepare_run

# Settings that may change for the evaluation of a finished run: its data and device, not what was trained.
EVALUATION_SETTINGS = {"split", "labels", "device", "loader.threads", "loader.prefetch", "loader.cache_gb"}


def load_run(
    run: Path, *, data: str | None = None, parts: tuple[str, ...] = ("test",), sets: Sequence[str] = ()
) -> Setup:
    """Load a run with the weights of its best epoch.

    Args:
        run: The folder of the run.
        data: Another dataset to evaluate on.
        parts: The parts of the split that must contain utterances.
        sets: Changes of EVALUATION_SETTINGS ("split=session-4").

    Raises:
        InputError: There is no run in the folder.
        MesmError: The run has no checkpoint of a best epoch yet.
    """
    if not (run / "config.yaml").exists():
        raise InputError(f"{run} has no config.yaml: it is not a run of `mesm-train run`")
    for item in sets:
        if item.partition("=")[0] not in EVALUATION_SETTINGS:
            raise InputError(
                f"--set {item}: the settings of a finished run are fixed, except for "
                f"{', '.join(sorted(EVALUATION_SETTINGS))}"
            )
    config = load_recipe(str(run / "config.yaml"), sets)
    setup = prepare_run(replace(config, data=data or config.data), run, parts=parts)
    best = checkpoint.load(run / "checkpoints", "best")
    if best is None:
        raise MesmError(f"{run} has no best epoch yet: let `mesm-train run --resume` reach the end of one")
    try:
        setup.model.load_state_dict(best[0])
    except RuntimeError as error:  # names or shapes of other weights
        raise MesmError(
            f"{run / 'checkpoints'}: the best checkpoint is not of this run ({first_line(error)})"
        ) from None
    return setup


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRun:
    """The result of evaluating a run again.

    Attributes:
        scores: The scores.
        before: The scores that the run recorded; None if there are none, or if they are of other utterances.
        differences: The differences in provenance, as sentences.
        deviation: If the scores differ, the deviation of the logits from the recorded ones; None if the recorded
            scores are not those of the recorded logits.
    """

    scores: dict[str, Any]
    before: dict[str, Any] | None
    differences: list[str]
    deviation: Deviation | None = None


def evaluate(run: Path, *, part: str, data: str | None = None, sets: Sequence[str] = ()) -> EvaluatedRun:
    """Compute the scores of a run on a part of its split, with its thresholds; see `load_run` for `data` and `sets`.

    Raises InputError if the run has not ended, the part is empty, or it is the test part of a run with eval.test false.
    """
    setup = load_run(run, data=data, parts=(part,), sets=sets)
    if part == "test" and not setup.config.eval.test:
        raise InputError(
            f"{run} was trained with eval.test=false, which leaves out its test part: give --split valid, or train it "
            "with --set eval.test=true in another --out"
        )
    chosen = read_checked_json(run / "thresholds.json", THRESHOLDS)
    calibration, outputs = Calibration.read(chosen), list(setup.heads.outputs)
    arrays = (calibration.thresholds, calibration.pos_weight, calibration.offset, calibration.scale)
    is_ours = chosen["classes"] == outputs and all(len(array) == len(outputs) for array in arrays)
    if not is_ours or min(calibration.pos_weight.min(), calibration.scale.min()) <= 0:
        raise InputError(f"{run / 'thresholds.json'} is not of this run: its classes are not those of the label view")
    predictions = predict(setup, part, calibration.statistics)
    result = score(setup.heads, predictions, calibration)
    trained, now = read_checked_json(run / "provenance.json", PROVENANCE), setup.provenance
    is_same_data = all(
        trained[section][name] == now[section][name]
        for section, name in (("dataset", "root"), ("split", "digest"), ("labels", "view"))
    )
    before, difference = recorded_scores(run, part) if is_same_data else None, None
    if before is not None and before != result:
        difference = deviation(run / f"predictions-{part}.parquet", setup.heads, predictions, calibration, before)
    differences = provenance_differences(trained, now)
    return EvaluatedRun(scores=result, before=before, differences=differences, deviation=difference)


def recorded_scores(run: Path, part: str) -> dict[str, Any] | None:
    """The scores of a part that the run recorded for its best epoch; None if it did not."""
    best = read_checked_json(run / "thresholds.json", THRESHOLDS)["epoch"]
    records = MetricsLog(run / "metrics.jsonl").read()
    matching = [line for line in records if (line["kind"], line["epoch"]) == (part, best) and "metrics" in line]
    scores: dict[str, Any] | None = matching[-1]["metrics"] if matching else None
    return scores
