"""failures.csv beside dataset.json: what is missing from the dataset, for a spreadsheet or a script.

    key,dialog,what,reason
    Ses01F_impro01_F003,Ses01F_impro01,video,Session1/dialog/avi/DivX/Ses01F_impro01.avi: ends at 12.000 s, ...

`what` is `utterance` (status failed: neither its sound nor its video could be used), or the modality of a sample,
`audio` or `video`, of which something is missing or comes from the second-best source. If nothing is missing, there is
no file.
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
    """The lines in the order of `rows`, whose `lost` is {modality: reason}."""
    lines = []
    for row in rows:
        lost = {"utterance": row["reason"]} if row["status"] == "failed" else row.get("lost", {})
        lines += [(row["key"], row["dialog"], what, reason) for what, reason in sorted(lost.items())]
    return lines


def write_failures(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write OUT/failures.csv, or delete it if nothing is missing."""
    lines = failure_lines(rows)
    if not lines:
        (out / FAILURES_FILE).unlink(missing_ok=True)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows((FAILURE_COLUMNS, *lines))
    with atomic_write(out / FAILURES_FILE) as file:
        file.write(text.getvalue().encode())
