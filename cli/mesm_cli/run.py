"""mesm-train run and eval."""

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

if TYPE_CHECKING:
    from mesm_train.training.progress import Watcher

PARTS = "train, valid or test"


def run(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe's name, or a YAML file; none lists the recipes.", autocompletion=complete_recipe),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The folder or URL (s3://, https://, hf://) of a dataset.")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: --set optim.lr=1e-4")] = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder (default: runs/NAME).")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out if there is one.")] = False,
    processes: Annotated[int, typer.Option("--nproc-per-node", min=1, help="Ranks on this machine.")] = 1,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write RUN/tensorboard/ too.")] = False,
    wandb: Annotated[bool, typer.Option("--wandb", help="Log to Weights & Biases too.")] = False,
    log_seconds: Annotated[
        float, typer.Option(min=0, help="Off a terminal: seconds between lines inside an epoch; 0: a line an update.")
    ] = 60,
    profile: Annotated[
        str | None, typer.Option(metavar="FIRST:LAST", help="Trace these updates to RUN/profile.json.gz.")
    ] = None,
) -> None:
    """Train a model and test its best epoch.

    Several machines are started by torchrun (docs/distributed.md); it may also restart what was killed.

    \b
    Examples:
      mesm-train run demo-fe2e --data demo/iemocap-shards
      mesm-train run iemocap-fe2e --data /data/iemocap --nproc-per-node 8 --set optim.batch=64
      mesm-train run iemocap-fe2e --data s3://bucket/iemocap
      mesm-train run iemocap-mesm --data /data/iemocap --set split=session-5 --set optim.batch=4 --out runs/s5
    """
    from mesm_train.config.settings import load_recipe, recipe_summaries

    if recipe is None:
        console.table(recipe_summaries(), "Recipes: mesm-train run NAME --data DIR")
        return
    config = load_recipe(recipe, [*(sets or ()), *([f"data={json.dumps(data)}"] if data else [])])
    place = out or Path("runs") / config.name
    watcher = _watcher(place, tensorboard=tensorboard, wandb=wandb, profile=profile, log_seconds=log_seconds)
    if processes > 1:
        _launch(processes)
    from mesm_train.runs.run import begin
    from mesm_train.training.connection import connected
    from mesm_train.training.launch import end_with_launcher
    from mesm_train.training.sessions import describe_command

    remedy = console.RESUMES if resume else "the same command with --resume goes on where it stopped"
    stop = StopFlag()
    end_with_launcher()
    with console.when_stopped(remedy), connected(config.device, config.ranks.timeout_seconds) as ranks:
        # torchrun starts the same command again after a rank was killed, and counts that on its machine only.
        resume = ranks.any(resume or os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0")
        ended = begin(
            config, place, resume=resume, stop=stop, watcher=watcher, ranks=ranks,
            command=describe_command("mesm-train", sys.argv[1:]),
        )  # fmt: skip
    if not ended:
        raise console.Stopped(remedy) if ranks.first else SystemExit(130)
    if ranks.first:
        console.say(f"next: mesm-train eval {place}")


def _launch(count: int) -> Never:
    """This very command as `count` ranks."""
    from mesm_data.errors import InputError
    from mesm_train.training.launch import launch

    if "RANK" in os.environ:
        raise InputError("--nproc-per-node starts ranks, and torchrun has done so already: leave one of the two out")
    program = "from mesm_cli.train import main; main()"
    arguments = sys.argv[1:]
    for index, argument in enumerate(arguments):
        if argument.startswith("--nproc-per-node"):
            del arguments[index : index + (1 if "=" in argument else 2)]
            break
    sys.exit(launch(count, [sys.executable, "-c", program, *arguments]))


def _watcher(place: Path, *, tensorboard: bool, wandb: bool, profile: str | None, log_seconds: float) -> "Watcher":
    """What shows the run; nothing on the ranks but the first."""
    from mesm_data.errors import InputError
    from mesm_train.training.progress import Bar, Lines, Profile, Silent, TensorBoard, Watcher, WeightsAndBiases

    watcher: Watcher = Bar() if sys.stderr.isatty() else Lines(log_seconds)
    if tensorboard:
        watcher = TensorBoard(place / "tensorboard", watcher)
    if wandb:
        watcher = WeightsAndBiases(place / "wandb", watcher)
    if profile is not None:
        first, _, last = profile.partition(":")
        if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) < int(last)):
            raise InputError(f"--profile {profile!r}: expected two numbers of updates, as in 10:20")
        watcher = Profile(place / "profile.json.gz", int(first), int(last), watcher)
    return watcher if os.environ.get("RANK", "0") == "0" else Silent()


def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that has ended.")],
    part: Annotated[str, typer.Option("--split", help=f"The part of the split: {PARTS}.")] = "test",
    data: Annotated[
        str | None, typer.Option(help="The folder or URL of another dataset to ask the model about.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Another split or labels, a device, …: --set split=session-4")
    ] = None,
) -> None:
    """Compute the scores of a run again, and say whether they are those that it wrote down, and how far off.

    \b
    Examples:
      mesm-train eval runs/demo-fe2e
      mesm-train eval runs/demo-fe2e --split valid --data /data/other-shards
      mesm-train eval runs/demo-fe2e --set split=session-4
    """
    from mesm_data.errors import InputError, MesmError
    from mesm_train.runs import run as runs

    if part not in PARTS:
        raise InputError(f"--split {part!r}: expected {PARTS}")
    judged = runs.evaluate(path, part=part, data=data, sets=sets or ())
    console.show(json.dumps(judged.scores, indent=2))
    for sentence in judged.differences:
        console.say(f"differs: {sentence}")
    if judged.before is None:
        return
    if judged.before == judged.scores:
        console.say(f"{path}: the same scores as the run wrote down")
    elif judged.deviation is not None and judged.deviation.within_tolerance:
        console.say(f"{path}: the same scores as the run wrote down but for rounding: {judged.deviation}")
    else:
        far = f": {judged.deviation}" if judged.deviation is not None else ""
        raise MesmError(f"{path}: these are not the scores that the run wrote down in metrics.jsonl{far}")


SAME = 10.0  # seconds in which a signal that reaches one of several ranks again is still the same one


class StopFlag:
    """Ctrl-C and SIGTERM ask the loop to save and end after the step under way; a second one ends it at once.

    Of several ranks each may get one signal twice, from torchrun and from SLURM or the terminal.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._several = os.environ.get("WORLD_SIZE", "1") != "1"
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def __call__(self) -> bool:
        return self._since is not None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if os.environ.get("RANK", "0") == "0":
                console.say("\nstopping after this step")
        elif not self._several or now - self._since > SAME:
            before = self._before[signal.Signals(number)]
            assert callable(before)
            before(number, frame)
