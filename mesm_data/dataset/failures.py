"""failures.csv beside dataset.json: what was lost, one line each, for a spreadsheet or a script. Not there if nothing.

    key,dialog,what,reason
    Ses01F_impro01_F003,Ses01F_impro01,video,Session1/dialog/avi/DivX/Ses01F_impro01.avi: ends at 12.000 s, ...

`what` is `utterance` (status failed: neither its sound nor its picture could be used), or the modality of a sample
that is there, `audio` or `video`, of which something is missing or was taken from the second-best source.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mesm_data.storage.files import atomic_write

FAILURES_FILE = "failures.csv"
FAILURE_COLUMNS = ("key", "dialog", "what", "reason")


def failure_lines(rows: Iterable[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    """The lines, in the order of `rows`, which carry `lost` ({modality: reason}) as the step left it."""
    found = []
    for row in rows:
        lost = {"utterance": row["reason"]} if row["status"] == "failed" else row.get("lost", {})
        found += [(row["key"], row["dialog"], what, reason) for what, reason in sorted(lost.items())]
    return found


def write_failures(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write OUT/failures.csv, or remove it if nothing was lost."""
    found = failure_lines(rows)
    if not found:
        (out / FAILURES_FILE).unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((FAILURE_COLUMNS, *found))
    with atomic_write(out / FAILURES_FILE) as file:
        file.write(text.getvalue().encode())
