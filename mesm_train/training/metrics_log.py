"""metrics.jsonl: one object a line, appended. A line that a kill tore off is removed when the run goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write, open_regular_file
from mesm_data.storage.machine_errors import translate_machine_errors
from mesm_train.training.run_files import parse_line


class Journal:
    """The journal of a run. `rewind` forgets what a resumed run will do again. Without `write` it is only read."""

    def __init__(self, path: Path, *, write: bool = True) -> None:
        self.path, self._write = path, write

    def append(self, record: dict[str, Any]) -> None:
        """Add one line; it is in the kernel's hands when this returns. Raises MesmError if there is no room."""
        if not self._write:
            return
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        with translate_machine_errors(self.path), self.path.open("ab", buffering=0) as file:
            file.write(line.encode())

    def read(self) -> list[dict[str, Any]]:
        """All whole lines. Raises InputError that names the line if one is damaged."""
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
        """Keep the whole lines for which `keep` is true, and nothing else."""
        if not self._write:
            return
        kept = [record for record in self.read() if keep(record)]
        with atomic_write(self.path) as file:
            for record in kept:
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
