"""A run on disk: start, resume, report.

RUN/config.yaml  provenance.json  metrics.jsonl  checkpoints/  thresholds.json  predictions-<part>.parquet
RUN/text/        the text encoder, if it was created for this run; else its configuration and tokenizer
RUN/sound/ faces/   the configuration of a pretrained encoder, if the model has one
RUN/input_spec.json   how clips become inputs: see mesm_train.data.input_spec
RUN/report.html  operations.json  sessions.jsonl
"""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from uuid import uuid4

from mesm_data.errors import InputError
from mesm_data.storage.file_locks import folder_lock
from mesm_data.storage.files import atomic_write, make_folder
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import read_checked_json
from mesm_train.config.recipe_files import load_recipe
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import dump, to_dict
from mesm_train.data import input_spec
from mesm_train.data.batch import MODALITY_NAMES
from mesm_train.data.feature_loader import FeatureLoader
from mesm_train.data.labels import one_key_per_output
from mesm_train.data.stream import STREAM_NOTE
from mesm_train.inference.encoders import CONFIG, SECTIONS, copy_descriptions, encoder_settings
from mesm_train.models.text import copy_tokenizer
from mesm_train.training.distributed import ALONE, POLL_SECONDS, Ranks
from mesm_train.training.loop import train
from mesm_train.training.losses import target_statistics
from mesm_train.training.progress import RunLogger
from mesm_train.training.provenance import flatten, provenance_differences
from mesm_train.training.run_files import PROVENANCE
from mesm_train.training.selection import Selection, check_selection_score, select_data
from mesm_train.training.sessions import recorded_session
from mesm_train.training.setup import Setup, make_model, prepare_run
from mesm_train.training.unused_settings import unused_settings

# Settings that may change on resume. The number of classes follows from the label view.
MAY_CHANGE = {
    "data", "checkpoint_seconds", "keep_best", "model.classes", "model.two_phase.features.dims", "loader.threads",
    "loader.prefetch", "loader.cache_gb", "ranks.timeout_seconds", "report.media",
}  # fmt: skip


# Files that a run writes before config.yaml. If there are no others, the run was killed early and starts again.
WRITTEN_EARLY = {".lock", "text", *SECTIONS, "provenance.json", input_spec.FILE}
STARTED = Path(".lock", "started")  # rank 0 writes it at each start on several ranks
VISIBLE_SECONDS = 90.0  # until the other ranks must see it: NFS may not look for a new file for 60 s (acdirmax)


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
    start = ranks.gather_texts(uuid4().hex)[0]
    with ExitStack() as locks:
        setup: Setup
        with ranks.same_error_everywhere(), ranks.first_rank_only():
            if ranks.first:  # downloads the data, creates the text encoder
                selection = select_data(config, ranks=ranks)
                target_statistics(selection)  # raises for a class without positives, before anything is written
                check_selection_score(selection)  # likewise: not after the last epoch
                if (run / "config.yaml").exists():
                    check_data_unchanged(selection, run)
                    note_other_environment(selection, run, logger)
                setup = make_model(selection, run)
                locks.enter_context(folder_lock(run / ".lock" / "pid"))
                record_run(setup, run)
                if ranks.world > 1:
                    announce_start(run, start)
        with ranks.same_error_everywhere():
            if not ranks.first:
                await_start(run, start, min(VISIBLE_SECONDS, config.ranks.timeout_seconds / 2))
                setup = prepare_run(config, run, ranks=ranks)
        check_same_on_all_ranks(setup)
        for sentence in unused_settings(config, setup.config):
            logger.say(f"note: {sentence}")
        unseen = input_spec.read_input_spec(run).unseen(setup.config.model.modalities) if ranks.first else ()
        for modality in unseen:
            logger.say(f"note: no utterance of the train part has {MODALITY_NAMES[modality]}: predict leaves it out")
        if config.loader.source == "webdataset":
            logger.say(f"note: {STREAM_NOTE}")
        if config.optim.compile:
            logger.say("note: optim.compile: the first updates compile, which takes minutes")
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
    if not describes_inputs(setup, run):  # a new run, or one that an earlier version started
        if setup.model.text is not None and setup.config.text.encoder != "tiny":
            copy_tokenizer(setup.config.text, run / "text")
        copy_descriptions(setup.config, run)
        sets = setup.loader.sets if isinstance(setup.loader, FeatureLoader) else None
        undetected = setup.config.loader.undetected
        specification = input_spec.input_spec(setup.dataset, setup.heads.heads, setup.keys["train"], undetected, sets)
        input_spec.write_input_spec(run, specification)
    if exists:
        return
    write_json(run / "provenance.json", setup.provenance)
    with atomic_write(run / "config.yaml") as file:
        file.write(dump(setup.config).encode())


def announce_start(run: Path, start: str) -> None:
    """Show the other ranks that the run is prepared, and in which folder. `start`: a random name of this start."""
    # The other ranks look for checkpoints now, and NFS would keep for a minute that there is no such folder.
    make_folder(run / "checkpoints")
    with atomic_write(run / STARTED) as file:
        file.write(start.encode())


def await_start(run: Path, start: str, limit: float) -> None:
    """Wait until this rank sees what rank 0 wrote with `announce_start`.

    Raises InputError if it does not within `limit` seconds: another folder has this path here, or a copy of the run.
    """
    deadline = time.monotonic() + limit
    while True:
        with suppress(OSError):
            if (run / STARTED).read_bytes() == start.encode():
                return
        if time.monotonic() > deadline:
            raise InputError(f"--out {run} is not the same folder on all machines: give one that they share")
        time.sleep(POLL_SECONDS)


def check_same_on_all_ranks(setup: Setup) -> None:
    """Raise InputError on all ranks if one has other settings, data or code: a machine may have copies of its own."""
    may_differ = {"code.commit", "code.modified", *(f"config.{name}" for name in MAY_CHANGE)}  # git may not be there
    described = {part: value for part, value in setup.provenance.items() if part != "environment"}
    own = {name: value for name, value in flatten(described) if name not in may_differ}
    first = json.loads(setup.ranks.gather_texts(json.dumps(own))[0])
    with setup.ranks.same_error_everywhere():
        if differences := provenance_differences(first, own, ("on rank 0", "here")):
            raise InputError(f"{differences[0]}; all machines need the same command, data and version of mesm")


def describes_inputs(setup: Setup, run: Path) -> bool:
    """Whether the folder of a run holds all that turns clips into the model's input."""
    if not (run / input_spec.FILE).exists():
        return False
    has_encoders = all((run / section / CONFIG).exists() for section in encoder_settings(setup.config))
    is_two_phase = isinstance(setup.loader, FeatureLoader)
    return has_encoders and (not is_two_phase or "features" in read_checked_json(run / input_spec.FILE, {}))


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
    return page.write_report(run, setup, inputs=keys)


def example_keys(setup: Setup, part: str) -> list[str]:
    """Choose one utterance per class for the report: the first by key, preferably with face and audio."""
    targets = {key: setup.loader.targets[key] for key in setup.keys[part]}
    return one_key_per_output(targets, setup.dataset, len(setup.view.classes))


def check_settings_unchanged(before: RunConfig, now: RunConfig, run: Path) -> None:
    """Raise InputError if settings of a run changed, other than MAY_CHANGE, which do not affect its results."""
    old, new = dict(flatten(to_dict(before))), dict(flatten(to_dict(now)))
    for name in sorted({*old, *new} - MAY_CHANGE):
        if old.get(name) != new.get(name):
            raise InputError(
                f"{run} was started with {name} = {old.get(name)!r}, now it is {new.get(name)!r}: restore it to "
                "resume, or give another --out"
            )


def note_other_environment(selection: Selection, run: Path, logger: RunLogger) -> None:
    """Say what differs of the code and the machine from those that the run was started with, and what follows."""
    recorded = (read_checked_json(run / "provenance.json", PROVENANCE), selection.provenance)
    before, now = ({part: each.get(part, {}) for part in ("code", "environment")} for each in recorded)
    if differences := provenance_differences(before, now):
        logger.say(
            f"note: this run was started with other code or elsewhere ({'; '.join(differences)}): from here on its "
            "results are close to those of an uninterrupted run, but may not be the same to the bit"
        )


def check_data_unchanged(selection: Selection, run: Path) -> None:
    """Raise InputError if the data or the split differ from those that the run was started with."""
    before, now = read_checked_json(run / "provenance.json", PROVENANCE), selection.provenance
    for name in ("root", "format"):
        if before["dataset"][name] != now["dataset"][name]:
            difference = provenance_differences(before, now)[0]
            raise InputError(f"{run} was started on another dataset: its {name} differs. {difference}")
    if before["split"]["digest"] != now["split"]["digest"]:
        raise InputError(f"{run} was started with another split. {provenance_differences(before, now)[0]}")
