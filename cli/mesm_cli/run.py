"""mesm-train run, eval and compare."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Never

import typer

from mesm_cli import console
from mesm_cli.settings import complete_recipe
from mesm_data.errors import InputError, MesmError

if TYPE_CHECKING:
    from mesm_train.training.progress import RunLogger

LAUNCHED = "MESM_LAUNCHED"  # set for ranks of `--nproc-per-node`: they get, and record, the whole command


def run(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="The name of a recipe, or a YAML file; by default, the recipes are listed.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The folder or URL (s3://, https://, hf://) of a dataset.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set optim.lr=1e-4")] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of the run (default: runs/NAME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out if there is one.")] = False,
    processes: Annotated[int, typer.Option("--nproc-per-node", min=1, help="Ranks on this machine.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write RUN/tensorboard/.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Also log to Weights & Biases.")] = False,
    log_seconds: Annotated[
        float,
        typer.Option(min=0, help="Without a terminal: seconds between lines inside an epoch; 0: a line per update."),
    ] = 60,
    profile: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Trace these updates to RUN/profile.json.gz.")
    ] = None,
) -> None:
    """Train a model and test its best epoch.

    torchrun starts several machines (docs/distributed.md), and can restart killed ranks.

    \b
    Examples:
      mesm-train run demo-fe2e --data demo/iemocap-shards
      mesm-train run iemocap-fe2e --data /data/iemocap --nproc-per-node 8 --set optim.batch=64
      mesm-train run iemocap-fe2e --data s3://bucket/iemocap
      mesm-train run iemocap-mesm --data /data/iemocap --set split=session-5 --set optim.batch=4 --out runs/s5
    """
    from mesm_train.config.recipe_files import load_recipe, recipe_summaries

    if recipe is None:
        if data or sets or out or resume:
            raise InputError("no recipe is named; `mesm-train run` without options lists them")
        console.table(recipe_summaries(), "Recipes: mesm-train run NAME --data DIR")
        return
    config = load_recipe(recipe, [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])])
    folder = out or Path("runs") / config.name
    logger = _make_logger(folder, tensorboard=tensorboard, wandb=wandb, profile=profile, log_seconds=log_seconds)
    if processes > 1 and os.environ.pop(LAUNCHED, None) is None:
        _launch(processes, folder)
    from mesm_train.runs.run import start_run
    from mesm_train.training.connection import connect_ranks
    from mesm_train.training.launch import terminate_with_launcher
    from mesm_train.training.sessions import describe_command

    remedy = console.RESUMES if resume else "run the same command with --resume to continue"
    stop = StopFlag()
    terminate_with_launcher()
    with console.when_stopped(remedy), connect_ranks(config.device, config.ranks.timeout_seconds) as ranks:
        # After a rank was killed, torchrun runs the same command again, and counts restarts per machine.
        resume = ranks.any(resume or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0")
        ended = start_run(
            config, folder, resume=resume, stop=stop, logger=logger, ranks=ranks,
            command=describe_command("mesm-train", sys.argv[1:]),
        )  # fmt: skip
        logger.close()
    if not ended:
        raise console.Stopped(remedy) if ranks.first else SystemExit(130)
    if ranks.first:
        console.say(f"next: mesm-train eval {folder}{'' if config.eval.test else ' --split valid'}")


def _launch(count: int, folder: Path) -> Never:
    """Run this command as `count` ranks. A signal that comes when the run is finished has stopped nothing: code 0."""
    from mesm_train.training.launch import STOPPED_EXIT_CODE, launch_ranks
    from mesm_train.training.sessions import read_sessions

    if "RANK" in os.environ:
        raise InputError(
            "--nproc-per-node starts ranks, but torchrun has already started them: use only one of the two"
        )
    os.environ[LAUNCHED] = "1"
    program = "from mesm_cli.train import main; main()"
    before = len(read_sessions(folder))
    code = launch_ranks(count, [sys.executable, "-c", program, *sys.argv[1:]])
    finished = any(session.outcome == "finished" for session in read_sessions(folder)[before:])
    sys.exit(0 if finished and code == STOPPED_EXIT_CODE else code)


def _make_logger(
    folder: Path, *, tensorboard: bool, wandb: bool, profile: str | None, log_seconds: float
) -> "RunLogger":
    """The loggers of the run; none on other ranks than the first."""
    from mesm_train.training.progress import (
        BarLogger,
        LineLogger,
        NullLogger,
        ProfileLogger,
        RunLogger,
        TensorBoardLogger,
        WandbLogger,
    )

    logger: RunLogger = BarLogger() if sys.stderr.isatty() else LineLogger(log_seconds)
    if tensorboard:
        logger = TensorBoardLogger(folder / "tensorboard", logger)
    if wandb:
        logger = WandbLogger(folder / "wandb", logger)
    if profile is not None:
        first, _, last = profile.partition(":")
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) < int(last)):
            raise InputError(f"--profile {profile!r}: expected two numbers of updates, as in 10:20")
        logger = ProfileLogger(folder / "profile.json.gz", int(first), int(last), logger)
    return logger if os.environ.get("RANK", "0") == "0" else NullLogger()


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    part: Annotated[str, typer.Option("--split", help="The part of the split: train, valid or test.")] = "test",
    data: Annotated[str | None, typer.Option(help="The folder or URL of another dataset to evaluate on.")] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Another split or labels, a device, …: --set split=session-4")
    ] = None,
) -> None:
    """Compute the scores of a run again and compare them with those that it recorded.

    \b
    Examples:
      mesm-train eval runs/demo-fe2e
      mesm-train eval runs/demo-fe2e --split valid --data /data/other-shards
      mesm-train eval runs/demo-fe2e --set split=session-4
    """
    from mesm_data.splits.lists import PARTS
    from mesm_train.runs.evaluate import evaluate as evaluate_run

    if part not in PARTS:
        raise InputError(f"--split {part!r}: expected train, valid or test")
    result = evaluate_run(path, part=part, data=data, sets=sets or ())
    console.show(json.dumps(result.scores, indent=2))
    for sentence in result.differences:
        console.say(f"differs: {sentence}")
    if result.before is None:
        return
    if result.before == result.scores:
        console.say(f"{path}: the same scores as the run recorded")
    elif result.deviation is not None and result.deviation.within_tolerance:
        console.say(f"{path}: the same scores as the run recorded except for rounding: {result.deviation}")
    else:
        deviation = f": {result.deviation}" if result.deviation is not None else ""
        raise MesmError(f"{path}: these are not the scores that the run recorded in metrics.jsonl{deviation}")


SAME_SIGNAL_SECONDS = 10.0  # within which a repeated signal to one of several ranks counts as the same


class StopFlag:
    """Ctrl-C and SIGTERM make the loop save and end after the current step; a second signal ends it at once.

    A rank that torchrun started may receive a signal twice: from torchrun, and from SLURM or the terminal. So may a run
    whose parent is killed: from each thread of it.
    """

    def __init__(self) -> None:
        from mesm_train.training.launch import ENDS_WITH_PARENT

        self._since: float | None = None
        self._forwarded = bool(os.environ.keys() & {"RANK", ENDS_WITH_PARENT})  # also to a single rank
        self._before = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def __call__(self) -> bool:
        return self._since is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if os.environ.get("RANK", "0") == "0":
                console.say("\nstopping after this step")
        elif not self._forwarded or now - self._since > SAME_SIGNAL_SECONDS:
            before = self._before[signal.Signals(number)]
            assert callable(before)
            before(number, frame)
