"""mesm-data inspect."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mesm_cli import console

SHOWN = 20


def inspect(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """Show what is in a dataset: counts per label, speaker and status, durations, splits and what leaks across them.

    \b
    Examples:
      mesm-data inspect /data/iemocap
      mesm-data inspect /data/iemocap --json | jq .counts
    """
    from mesm_cli.splits import summary_line
    from mesm_data.dataset.summary import inspect as look

    found = look(path)
    if as_json:
        console.show(json.dumps(found, ensure_ascii=False, indent=2))
        return
    console.show(f"{found['corpus']}{' (SYNTHETIC)' if found['synthetic'] else ''}, shard format {found['format']}")
    console.show(f"root {found['root']}")
    console.table(found["counts"], "utterances")
    for name, values in found["labels"].items():
        counts = {value: number for value, number in values.items() if number is not None}
        console.table(counts if "mean" in values else shortened(counts, "values"), f"label {name} (of the built)")
    console.table({name: view_line(view) for name, view in found["views"].items()}, "views")
    console.table(shortened(found["speakers"], "speakers"), "speakers")
    console.table(found["audio"], "audio")
    console.table(found["video"], "video")
    console.table(found["seconds"], "seconds")
    faces = {"crops": found["faces"], "with a detected face": f"{found['detection_rate'] or 0:.1%}"}
    console.table(faces, "faces")
    size = {
        "shards": f"{found['bytes'] / 1e6:.1f} MB in {found['shards']}",
        "clips": f"{found['clip_bytes'] / 1e6:.1f} MB",
    }
    console.table(size, "size")
    for name in ("flags", "reasons", "incomplete"):
        if found[name]:
            console.table(
                shortened(found[name], name),
                {"reasons": "not built, because", "incomplete": "built, but"}.get(name, name),
            )
    console.table({name: summary_line(said) for name, said in found["splits"].items()}, "splits")
    if found["notes"]:
        console.table(dict(enumerate(found["notes"], 1)), "notes of the scan")


def view_line(view: Mapping[str, Any]) -> str:
    """A label view in one line: its task, its utterances and what its targets add up to."""
    counts = ", ".join(f"{name} {number:g}" for name, number in list(view["classes"].items())[:SHOWN])
    return f"{view['task']}, {view['utterances']} utterances: {counts}"


def shortened(counts: Mapping[str, int], what: str) -> dict[str, int]:
    """The first counts, and the sum of the others; CMU-MOSEI has 3293 speakers."""
    first = dict(list(counts.items())[:SHOWN])
    if more := len(counts) - len(first):
        first[f"and {more} more {what}"] = sum(counts.values()) - sum(first.values())
    return first
