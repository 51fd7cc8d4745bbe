"""metrics.jsonl: one object a line, appended. A line that a kill tore off is removed when the run goes on."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mesm_data.files import atomic_write


class Journal:
    """The journal of a run. `rewind` forgets what a resumed run will do again."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, record: dict[str, Any]) -> None:
        """Add one line; it is in the kernel's hands when this returns."""
        line = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def read(self) -> list[dict[str, Any]]:
        """All whole lines."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_bytes().split(b"\n")[:-1] if line]

    def rewind(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Keep the whole lines for which `keep` is true, and nothing else."""
        kept = [record for record in self.read() if keep(record)]
        with atomic_write(self.path) as file:
            for record in kept:
                file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
