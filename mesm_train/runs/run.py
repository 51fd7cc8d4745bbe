"""A run on disk: start, resume, load, evaluate.

RUN/config.yaml  provenance.json  metrics.jsonl  checkpoints/  thresholds.json  predictions-<part>.parquet
RUN/text/        the text encoder, if it was created for this run; else its configuration and tokenizer
RUN/input_spec.json   how clips become inputs: see mesm_train.data.input_spec
RUN/report.html  operations.json  sessions.jsonl
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError, MesmError, first_line
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.config.settings import RunConfig, load_recipe
from mesm_train.config.typed_yaml import dump, to_dict
from mesm_train.data import input_spec
from mesm_train.data.stream import STREAM_NOTE
from mesm_train.models.text import copy_tokenizer
from mesm_train.runs.reproduction import Deviation, deviation
from mesm_train.training import checkpoint
from mesm_train.training.distributed import ALONE, Ranks
from mesm_train.training.evaluation import Calibration, predict, score
from mesm_train.training.loop import train
from mesm_train.training.losses import target_statistics
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.progress import RunLogger
from mesm_train.training.provenance import provenance_differences
from mesm_train.training.run_files import PROVENANCE, THRESHOLDS
from mesm_train.training.sessions import recorded_session
from mesm_train.training.setup import Selection, Setup, make_model, prepare_run, select_data

# Settings that may change on resume. The number of classes follows from the label view.
MAY_CHANGE = {
    "data", "checkpoint_seconds", "keep_best", "model.classes", "model.two_phase.features.dims", "loader.threads",
    "loader.prefetch", "loader.cache_gb", "ranks.timeout_seconds", "report.media",
}  # fmt: skip


# Files that a run writes before config.yaml. If there are no others, the run was killed early and starts again.
WRITTEN_EARLY = {".lock", "text", "provenance.json", input_spec.FILE}


def start_run(
    config: RunConfig,
    run: Path,
    *,
    resume: bool,
    stop: Callable[[], bool],
    logger: RunLogger,
    ranks: Ranks = ALONE,
    command: str | None = None,
) -> bool:
    """Train in the folder `run` until the end, or until `stop()` returns true on any rank.

    Args:
        config: The settings.
        run: The folder, the same for all ranks.
        resume: Continue the run in the folder, if there is one.
        stop: Called before each update.
        logger: Receives the events of the training loop.
        ranks: The ranks of the run.
        command: The command line, which is recorded in sessions.jsonl.

    Returns:
        Whether the run has ended.

    Raises:
        InputError: The folder contains a run and `resume` is false, or it contains another run or other files.
    """
    with ranks.same_error_everywhere():
        check_run_folder(config, run, resume=resume)
    with ExitStack() as locks:
        setup: Setup
        with ranks.same_error_everywhere(), ranks.first_rank_only():
            if ranks.first:  # downloads the data, creates the text encoder
                selection = select_data(config, ranks=ranks)
                target_statistics(selection)  # raises for a class without positives, before anything is written
                if (run / "config.yaml").exists():
                    check_data_unchanged(selection, run)
                setup = make_model(selection, run)
                locks.enter_context(folder_lock(run / ".lock" / "pid"))
                record_run(setup, run)
        with ranks.same_error_everywhere():
            if not ranks.first:
                if not (run / "config.yaml").exists():
                    raise InputError(f"--out {run} is not the same folder on all machines: give one that they share")
                setup = prepare_run(config, run, ranks=ranks)
        if config.loader.source == "webdataset":
            logger.say(f"note: {STREAM_NOTE}")
        session: AbstractContextManager[list[bool]] = nullcontext([])
        if ranks.first:
            session = recorded_session(run, command)
        with session as endings:
            ended = train(setup, run, stop=stop, logger=logger)
            endings.append(ended)
        if ended and ranks.first:
            logger.say(f"report: {write_report(setup, run)}")
        return ended


def record_run(setup: Setup, run: Path) -> None:
    """Write the description of a new run. For an existing run, raise InputError if its data have changed."""
    exists = (run / "config.yaml").exists()
    if exists:
        check_data_unchanged(setup, run)
    if not (run / input_spec.FILE).exists():  # a new run, or one that an earlier version started
        if setup.model.text is not None and setup.config.text.encoder != "tiny":
            copy_tokenizer(setup.config.text, run / "text")
        undetected = setup.config.loader.undetected
        specification = input_spec.input_spec(setup.dataset, setup.heads.heads, setup.keys["train"], undetected)
        input_spec.write(run, specification)
    if exists:
        return
    write_json(run / "provenance.json", setup.provenance)
    with atomic_write(run / "config.yaml") as file:
        file.write(dump(setup.config).encode())


def check_run_folder(config: RunConfig, run: Path, *, resume: bool) -> None:
    """Raise InputError if `run` cannot be the folder of a run with these settings."""
    settings = run / "config.yaml"
    if run.exists() and not run.is_dir():
        raise InputError(f"--out {run} is a file: give a folder")
    if settings.exists():
        if not resume:
            raise InputError(f"{run} contains a run: resume it with --resume, or start another one with another --out")
        check_settings_unchanged(load_recipe(str(settings)), config, run)
    elif run.exists() and not {path.name for path in run.iterdir()} <= WRITTEN_EARLY:
        raise InputError(f"--out {run} contains other files: give a new or an empty folder")


def write_report(setup: Setup, run: Path) -> Path:
    """Count the operations of the best epoch's model on a few utterances, and write RUN/report.html.

    Without `report.media` neither the page nor the folder shows pictures, sound or transcripts.
    """
    from mesm_train.report import page
    from mesm_train.report.operations import count_operations

    part = next(part for part in ("test", "valid") if setup.keys.get(part))
    keys = example_keys(setup, part)
    write_json(run / "operations.json", count_operations(setup.model.eval(), setup.loader.batch(keys)))
    return page.write(run, setup, inputs=keys)


def example_keys(setup: Setup, part: str) -> list[str]:
    """Choose one utterance per class for the report: the first by key, preferably with face and audio."""
    chosen = []
    for index in range(len(setup.view.classes)):  # of numbers: those above one half
        positive = [key for key in setup.keys[part] if setup.loader.targets[key][index] > 0.5]
        rows = {key: setup.dataset.rows[key] for key in positive}
        complete = [key for key, row in rows.items() if row["n_faces"] and row["n_samples"]]
        chosen += (complete or positive)[:1]
    return list(dict.fromkeys(chosen)) or list(setup.keys[part][:4])


def check_settings_unchanged(before: RunConfig, now: RunConfig, run: Path) -> None:
    """Raise InputError if settings of a run changed, other than MAY_CHANGE, which do not affect its results."""
    old, new = flatten(to_dict(before)), flatten(to_dict(now))
    for name in sorted({*old, *new} - MAY_CHANGE):
        if old.get(name) != new.get(name):
            raise InputError(
                f"{run} was started with {name} = {old.get(name)!r}, now it is {new.get(name)!r}: restore it to "
                "resume, or give another --out"
            )


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one dictionary with dotted names."""
    result: dict[str, Any] = {}
    for name, value in settings.items():
        result |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return result


def check_data_unchanged(selection: Selection, run: Path) -> None:
    """Raise InputError if the data or the split differ from those that the run was started with."""
    before, now = read_checked_json(run / "provenance.json", PROVENANCE), selection.provenance
    for name in ("root", "format"):
        if before["dataset"][name] != now["dataset"][name]:
            difference = provenance_differences(before, now)[0]
            raise InputError(f"{run} was started on another dataset: its {name} differs. {difference}")
    if before["split"]["digest"] != now["split"]["digest"]:
        raise InputError(f"{run} was started with another split. {provenance_differences(before, now)[0]}")


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

    Raises InputError if the run has not ended, or the part is empty.
    """
    setup = load_run(run, data=data, parts=(part,), sets=sets)
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
