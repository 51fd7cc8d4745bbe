"""metrics.jsonl: one JSON object per line, appended. A line that a kill left incomplete is removed on resume."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write, open_regular_file
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_train.training.run_files import parse_line


class MetricsLog:
    """The metrics.jsonl of a run. With `write=False`, `append` and `rewind` do nothing."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path, self._write = path, write

    def append(self, record: dict[str, Any]) -> None:
        """Append one line, unbuffered. Raises MesmError if the disk is full."""
        if not self._write:
            return
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        with translate_machine_errors(self.path), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def read(self) -> list[dict[str, Any]]:
        """All complete lines. Raises InputError that names a damaged line."""
        if not self.path.exists():
            return []
        try:
            with open_regular_file(self.path) as file:
                lines = file.read().split(b"\n")[:-1]
        except OSError as error:
            raise InputError(f"{self.path} cannot be read ({error.strerror})") from None
        records = []
        for number, line in enumerate(lines, 1):
            try:
                records += [parse_line(line)] if line else []
            except ValueError as error:
                raise InputError(
                    f"{self.path}:{number} is damaged: {error}. Remove the line, or get the file again"
                ) from None
        return records

    def rewind(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Remove all lines except the complete ones for which `keep` returns true."""
        if not self._write:
            return
        records = [record for record in self.read() if keep(record)]
        with atomic_write(self.path) as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
