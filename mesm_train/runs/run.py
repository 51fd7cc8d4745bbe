"""A run on disk: begun, gone on with, judged again.

RUN/config.yaml  provenance.json  metrics.jsonl  checkpoints/  thresholds.json  predictions-<part>.parquet
RUN/text/        the text encoder, if it was made for this run; else its configuration and tokenizer
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
from mesm_train.training.metrics_log import Journal
from mesm_train.training.progress import Watcher
from mesm_train.training.provenance import differences
from mesm_train.training.run_files import PROVENANCE, THRESHOLDS
from mesm_train.training.sessions import recorded_session
from mesm_train.training.setup import Selection, Setup, make_model, prepare, select_data

# Where the data lie and how often to save may change; the number of classes follows from the label view.
FREE = {
    "data", "checkpoint_seconds", "keep_best", "model.classes", "model.two_phase.features.dims", "loader.threads",
    "loader.prefetch", "loader.cache_gb", "ranks.timeout_seconds", "report.media",
}  # fmt: skip


# What a run writes before its config.yaml: a run that was killed so early is begun again.
FIRST = {".lock", "text", "provenance.json", input_spec.FILE}


def begin(
    config: RunConfig,
    run: Path,
    *,
    resume: bool,
    stop: Callable[[], bool],
    watcher: Watcher,
    ranks: Ranks = ALONE,
    command: str | None = None,
) -> bool:
    """Train `config` in the folder `run` until it ends or `stop()`. True if it has ended.

    With `resume` a run that is there goes on, and one that is not is begun. Raises InputError if `run` holds another
    run, or any and `resume` is not asked for. All `ranks` must see the same folder. `command` is recorded in
    sessions.jsonl.
    """
    with ranks.together():
        refuse_folder(config, run, resume=resume)
    with ExitStack() as held:
        setup: Setup
        with ranks.together(), ranks.first_alone():
            if ranks.first:  # makes or fetches what is made or fetched once
                selection = select_data(config, ranks=ranks)
                target_statistics(selection)  # refuses a class that cannot be learnt before anything is written
                if (run / "config.yaml").exists():
                    refuse_changes(selection, run)
                setup = make_model(selection, run)
                held.enter_context(folder_lock(run / ".lock" / "pid"))
                write_down(setup, run)
        with ranks.together():
            if not ranks.first:
                if not (run / "config.yaml").exists():
                    raise InputError(f"--out {run} is not the same folder on all machines: give one that they share")
                setup = prepare(config, run, ranks=ranks)
        if config.loader.source == "webdataset":
            watcher.say(f"note: {STREAM_NOTE}")
        session: AbstractContextManager[list[bool]] = nullcontext([])
        if ranks.first:
            session = recorded_session(run, command)
        with session as endings:
            ended = train(setup, run, stop=stop, watcher=watcher)
            endings.append(ended)
        if ended and ranks.first:
            watcher.say(f"report: {report(setup, run)}")
        return ended


def write_down(setup: Setup, run: Path) -> None:
    """What a run is, or, if it was written down before, that it still is the same (else InputError)."""
    begun = (run / "config.yaml").exists()
    if begun:
        refuse_changes(setup, run)
    if not (run / input_spec.FILE).exists():  # new, or of a run that an earlier version began
        if setup.model.text is not None and setup.config.text.encoder != "tiny":
            copy_tokenizer(setup.config.text, run / "text")
        undetected = setup.config.loader.undetected
        specification = input_spec.input_spec(setup.dataset, setup.heads.heads, setup.keys["train"], undetected)
        input_spec.write(run, specification)
    if begun:
        return
    write_json(run / "provenance.json", setup.provenance)
    with atomic_write(run / "config.yaml") as file:
        file.write(dump(setup.config).encode())


def refuse_folder(config: RunConfig, run: Path, *, resume: bool) -> None:
    """Raises InputError if `run` is not a place for the run `config`."""
    settings = run / "config.yaml"
    if run.exists() and not run.is_dir():
        raise InputError(f"--out {run} is a file: give a folder")
    if settings.exists():
        if not resume:
            raise InputError(f"{run} holds a run: --resume goes on with it, another --out begins another one")
        refuse_other(load_recipe(str(settings)), config, run)
    elif run.exists() and not {path.name for path in run.iterdir()} <= FIRST:
        raise InputError(f"--out {run} holds other things: give a new or an empty folder")


def report(setup: Setup, run: Path) -> Path:
    """Count the operations of the best epoch's model on a few utterances, and write RUN/report.html.

    Without `report.media` neither the page nor the folder shows pictures, sound or transcripts.
    """
    from mesm_train.report import page
    from mesm_train.report.operations import count_operations

    part = next(part for part in ("test", "valid") if setup.keys.get(part))
    keys = shown(setup, part)
    write_json(run / "operations.json", count_operations(setup.model.eval(), setup.loader.batch(keys)))
    return page.write(run, setup, inputs=keys)


def shown(setup: Setup, part: str) -> list[str]:
    """One utterance of each class to look at, the first by key that has all three modalities if there is one."""
    found = []
    for index in range(len(setup.view.classes)):  # of numbers: those above one half
        true = [key for key in setup.keys[part] if setup.loader.targets[key][index] > 0.5]
        whole = [key for key in true if setup.dataset.rows[key]["n_faces"] and setup.dataset.rows[key]["n_samples"]]
        found += (whole or true)[:1]
    return list(dict.fromkeys(found)) or list(setup.keys[part][:4])


def refuse_other(before: RunConfig, now: RunConfig, run: Path) -> None:
    """Raises InputError if the settings of a run that is to go on were changed, but for those that change no number."""
    old, new = flat(to_dict(before)), flat(to_dict(now))
    for name in sorted({*old, *new} - FREE):
        if old.get(name) != new.get(name):
            raise InputError(
                f"{run} was begun with {name} = {old.get(name)!r}, now it is {new.get(name)!r}: leave it as it was to "
                "go on, or give another --out"
            )


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def refuse_changes(selection: Selection, run: Path) -> None:
    """Raises InputError if a run is to go on with other data or another split than it was begun with."""
    before, now = read_checked_json(run / "provenance.json", PROVENANCE), selection.provenance
    for what in ("root", "format"):
        if before["dataset"][what] != now["dataset"][what]:
            raise InputError(f"{run} was begun on another dataset: its {what} differs. {differences(before, now)[0]}")
    if before["split"]["digest"] != now["split"]["digest"]:
        raise InputError(f"{run} was begun with another split. {differences(before, now)[0]}")


# What changes which utterances a finished run is evaluated on, and with what, but not what was trained.
EVALUATION = {"split", "labels", "device", "loader.threads", "loader.prefetch", "loader.cache_gb"}


def load(run: Path, *, data: str | None = None, parts: tuple[str, ...] = ("test",), sets: Sequence[str] = ()) -> Setup:
    """A run's model with its best weights, ready to answer; `data` is another dataset to ask it about.

    `sets` ("split=session-4") change settings of EVALUATION. Raises InputError if there is no run, MesmError if it has
    no checkpoint of a best epoch yet.
    """
    if not (run / "config.yaml").exists():
        raise InputError(f"{run} holds no config.yaml, so it is not a run of `mesm-train run`")
    for item in sets:
        if item.partition("=")[0] not in EVALUATION:
            raise InputError(
                f"--set {item}: a finished run keeps its settings; {', '.join(sorted(EVALUATION))} can be set here"
            )
    config = load_recipe(str(run / "config.yaml"), sets)
    setup = prepare(replace(config, data=data or config.data), run, parts=parts)
    found = checkpoint.load(run / "checkpoints", "best")
    if found is None:
        raise MesmError(f"{run} has no best epoch yet: let `mesm-train run --resume` reach the end of one")
    try:
        setup.model.load_state_dict(found[0])
    except RuntimeError as error:  # names or shapes of other weights
        raise MesmError(
            f"{run / 'checkpoints'}: the best checkpoint is not of this run ({first_line(error)})"
        ) from None
    return setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """`scores` as of now, `before` as the run wrote them down (None: not, or of other utterances), what differs.

    `deviation`: how far the logits are from the recorded ones where the scores differ; None if the recorded scores are
    not those of the recorded logits.
    """

    scores: dict[str, Any]
    before: dict[str, Any] | None
    differences: list[str]
    deviation: Deviation | None = None


def evaluate(run: Path, *, part: str, data: str | None = None, sets: Sequence[str] = ()) -> Judged:
    """Scores of a run on a part of its split, with the thresholds it chose; and what differs from its training.

    For `data` and `sets` see `load`. Raises InputError if the run has not ended, or the part is empty.
    """
    setup = load(run, data=data, parts=(part,), sets=sets)
    chosen = read_checked_json(run / "thresholds.json", THRESHOLDS)
    calibration, outputs = Calibration.read(chosen), list(setup.heads.outputs)
    arrays = (calibration.thresholds, calibration.pos_weight, calibration.offset, calibration.scale)
    is_ours = chosen["classes"] == outputs and all(len(array) == len(outputs) for array in arrays)
    if not is_ours or min(calibration.pos_weight.min(), calibration.scale.min()) <= 0:
        raise InputError(f"{run / 'thresholds.json'} is not of this run: its classes are not those of the label view")
    predictions = predict(setup, part, calibration.statistics)
    result = score(setup.heads, predictions, calibration)
    began, now = read_checked_json(run / "provenance.json", PROVENANCE), setup.provenance
    same = all(
        began[what][name] == now[what][name]
        for what, name in (("dataset", "root"), ("split", "digest"), ("labels", "view"))
    )
    before, far = stored(run, part) if same else None, None
    if before is not None and before != result:
        far = deviation(run / f"predictions-{part}.parquet", setup.heads, predictions, calibration, before)
    return Judged(scores=result, before=before, differences=differences(began, setup.provenance), deviation=far)


def stored(run: Path, part: str) -> dict[str, Any] | None:
    """The scores of a part as the run wrote them down for its best epoch; None if it did not."""
    best = read_checked_json(run / "thresholds.json", THRESHOLDS)["epoch"]
    records = Journal(run / "metrics.jsonl").read()
    kept = [record for record in records if (record["kind"], record["epoch"]) == (part, best) and "metrics" in record]
    found: dict[str, Any] | None = kept[-1]["metrics"] if kept else None
    return found
