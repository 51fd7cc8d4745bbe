"""Several runs, one after the other in this process or several at once in processes of their own; resumable."""

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from mesm_data.dataset.remote_shards import open_dataset
from mesm_data.errors import InputError, MesmError
from mesm_data.storage.files import atomic_write
from mesm_data.storage.json_shapes import read_checked_json
from mesm_data.storage.parallel import available_cpus
from mesm_train.config.settings import RunConfig
from mesm_train.config.typed_yaml import dump
from mesm_train.runs.run import check_run_folder, start_run
from mesm_train.training.launch import ENDS_WITH_PARENT
from mesm_train.training.progress import RunLogger
from mesm_train.training.run_files import PROVENANCE

PROGRAM = "from mesm_cli.train import main; main()"
POLL_SECONDS = 0.2
STOP_SECONDS = 120  # for a run to save and end


def finished(run: Path) -> bool:
    """Whether a run has ended: it writes its report last."""
    return (run / "report.html").exists()


def run_all(
    configs: Mapping[str, RunConfig], out: Path, *, jobs: int, stop: Callable[[], bool], logger: RunLogger
) -> bool:
    """Train each of `configs` in the folder OUT/name; finished ones are not done again, stopped ones go on.

    Args:
        configs: By the name of the folder, in the order in which they start.
        out: Holds the folders; with several jobs also OUT/recipes and OUT/logs.
        jobs: How many runs go on at once. Cards are taken in turn, the processor's cores are divided.
        stop: Asks all to save and end.
        logger: Shows the progress; of a single job also that of its run.

    Returns:
        Whether all have ended.

    Raises:
        InputError: A folder holds a run with other settings, or a finished one of another dataset.
        MesmError: A run failed; the others were asked to save and end.
    """
    check_runs(configs, out)
    waiting = deque(name for name in configs if not finished(out / name))
    done = len(configs) - len(waiting)
    if jobs == 1:
        for place, name in enumerate(waiting, done + 1):
            if stop():
                return False
            logger.say(f"run {place} of {len(configs)}: {out / name}")
            if not start_run(configs[name], out / name, resume=True, stop=stop, logger=logger):
                return False
        return True
    return _in_processes(configs, out, waiting, jobs, stop, logger)


def check_runs(configs: Mapping[str, RunConfig], out: Path) -> None:
    """Raises InputError if one of the folders holds another run than `configs` asks for."""
    roots: dict[str, str] = {}
    for name, config in configs.items():
        run = out / name
        check_run_folder(config, run, resume=True)
        if config.data is None or not finished(run):  # `start_run` compares the data of others
            continue
        if config.data not in roots:
            roots[config.data] = open_dataset(config.data, cache_gb=config.loader.cache_gb).info["root"]
        trained_on = read_checked_json(run / "provenance.json", PROVENANCE)["dataset"]["root"]
        if trained_on != roots[config.data]:
            raise InputError(
                f"{run} was trained on another dataset, root {trained_on[:12]}; that of {config.data} is "
                f"{roots[config.data][:12]}: give another --out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    name: str
    slot: int
    log: Path
    popen: "subprocess.Popen[bytes]"


def _in_processes(
    configs: Mapping[str, RunConfig],
    out: Path,
    waiting: deque[str],
    jobs: int,
    stop: Callable[[], bool],
    logger: RunLogger,
) -> bool:
    running: list[_Process] = []
    ended = len(configs) - len(waiting)
    try:
        while (waiting or running) and not stop():
            free = [slot for slot in range(jobs) if slot not in {process.slot for process in running}]
            for slot, _ in zip(free, range(len(waiting)), strict=False):
                running.append(_start(waiting[0], configs[waiting.popleft()], out, slot, jobs))
            for process in [process for process in running if process.popen.poll() is not None]:
                running.remove(process)
                if process.popen.returncode != 0:
                    raise MesmError(
                        f"{out / process.name} failed: {_last_line(process.log)} (all of it: {process.log})"
                    )
                ended += 1
                logger.say(f"{ended} of {len(configs)} runs have ended: {out / process.name}")
            if running:
                _wait(running[0])
        return not waiting and not running
    finally:
        for process in running:
            process.popen.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.popen.kill()


def _wait(process: _Process) -> None:
    try:
        process.popen.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _start(name: str, config: RunConfig, out: Path, slot: int, jobs: int) -> _Process:
    recipe, log = out / "recipes" / f"{name}.yaml", out / "logs" / f"{name}.log"
    for path in (recipe, log):
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(recipe) as file:
        file.write(dump(config).encode())
    command = [sys.executable, "-c", PROGRAM, "run", str(recipe), "--out", str(out / name), "--resume"]
    environment = {**os.environ, **_share(slot, jobs), ENDS_WITH_PARENT: "1"}
    with log.open("ab") as file:
        # A group of its own: Ctrl-C reaches it through `stop`, once.
        popen = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    return _Process(name=name, slot=slot, log=log, popen=popen)


def _share(slot: int, jobs: int) -> dict[str, str]:
    """The card and the number of threads of one of several jobs."""
    share = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, available_cpus() // jobs)))}
    if cards := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(cards)))).split(",")
        share["CUDA_VISIBLE_DEVICES"] = visible[slot % len(visible)]
    return share


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "without a word"
