"""sessions.jsonl of a run: when it was worked on, by which command, and how that ended.

Two lines a session, one at its start and one at its end; after a kill the second is missing. Times are UTC. Nothing is
computed from them, so a resumed run still equals one that was not stopped.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mesm_data.storage.files import open_regular_file
from mesm_data.storage.json_files import parse_json
from mesm_data.storage.json_shapes import mismatch
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_train.training.provenance import without_paths

NAME = "sessions.jsonl"
_LINE = {"event": str, "time": str, "command?": str, "outcome?": str}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of the trainer. `outcome`: finished, stopped or failed; `ended` and `outcome` are None after a kill."""

    command: str
    started: datetime
    ended: datetime | None
    outcome: str | None

    @property
    def seconds(self) -> float | None:
        """How long it took."""
        return None if self.ended is None else (self.ended - self.started).total_seconds()


def describe_command(program: str, arguments: Sequence[str]) -> str:
    """A command as one would type it again, with absolute paths and URLs cut to their last part."""
    words = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        words.append(f"{name}={without_paths(value)}" if equals else without_paths(argument))
    return shlex.join([program, *words])


@contextmanager
def recorded_session(run: Path, command: str | None) -> Iterator[list[bool]]:
    """Write both lines of a session; put into the list whether the run has ended."""
    path, ended = run / NAME, list[bool]()
    _append(path, {"event": "start", "time": _now(), "command": command or "mesm_train"})
    outcome = "failed"
    try:
        yield ended
        outcome = "finished" if any(ended) else "stopped"
    finally:
        _append(path, {"event": "end", "time": _now(), "outcome": outcome})


def read_sessions(run: Path) -> list[Session]:
    """The sessions of a run in order; lines that cannot be read are left out."""
    try:
        with open_regular_file(run / NAME) as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    sessions: list[Session] = []
    for raw in lines:
        try:
            line = parse_json(raw)
            if mismatch(line, _LINE):
                continue
            time = datetime.fromisoformat(line["time"]).astimezone(UTC)
        except ValueError:
            continue
        if line["event"] == "start":
            sessions.append(Session(command=line.get("command", ""), started=time, ended=None, outcome=None))
        elif sessions and sessions[-1].ended is None:
            begun = sessions[-1]
            sessions[-1] = Session(
                command=begun.command, started=begun.started, ended=time, outcome=line.get("outcome")
            )
    return sessions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _append(path: Path, line: dict[str, Any]) -> None:
    with translate_machine_errors(path), path.open("ab", buffering=0) as file:
        file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
