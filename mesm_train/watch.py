"""What a person sees of a run: a line a step in a file, a bar on a terminal."""

import sys
from typing import Any, Protocol


class Watcher(Protocol):
    """Told of what the loop does."""

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """A step is done, `done` of the epoch's `count`; `record` is its line of metrics.jsonl."""

    def say(self, line: str) -> None:
        """Something that is worth a line."""


class Lines:
    """One line a step on stderr: loss, utterances a second, time spent waiting for data, time left of the epoch."""

    def __init__(self) -> None:
        self._speeds: list[float] = []

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Write the line."""
        left = self._left(record, done, count)
        self.say(f"epoch {record['epoch']} step {done}/{count} {told(record)}, epoch ends in {left:.0f} s")

    def say(self, line: str) -> None:
        """Write it."""
        print(line, file=sys.stderr, flush=True)

    def _left(self, record: dict[str, Any], done: int, count: int) -> float:
        """Seconds to the end of the epoch, by the mean speed of its steps so far."""
        if done == 1:
            self._speeds.clear()
        self._speeds.append(record["seconds"])
        return (count - done) * sum(self._speeds) / len(self._speeds)


class Bar:
    """The same on a terminal: a tqdm bar for each epoch."""

    def __init__(self) -> None:
        self._bar: Any = None

    def step(self, record: dict[str, Any], done: int, count: int) -> None:
        """Move the bar; a new one for a new epoch."""
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=count, initial=done - 1, desc=f"epoch {record['epoch']}", unit="step", leave=False)
        self._bar.set_postfix_str(told(record), refresh=False)
        self._bar.update(1)

    def say(self, line: str) -> None:
        """Close the bar and write it."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        print(line, file=sys.stderr, flush=True)


def told(record: dict[str, Any]) -> str:
    """The numbers of a step."""
    return f"loss {record['loss']:.4f} {record['samples_per_s']:.1f} utt/s wait {record['data_wait']:.3f} s"
