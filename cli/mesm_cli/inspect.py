"""mesm-data inspect."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mesm_cli import console
from mesm_cli.features import set_line

SHOWN = 20


def inspect(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="PAGE", help="Write a page about it, with a gallery.")] = None,
    croissant: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Croissant 1.1 metadata; it belongs into the folder.")
    ] = None,
    no_media: Annotated[bool, typer.Option("--no-media", help="Leave the gallery out of the page.")] = False,
) -> None:
    """Show what is in a dataset: counts per label, speaker and status, durations, features, splits and what they leak.

    \b
    Examples:
      mesm-data inspect /data/iemocap
      mesm-data inspect /data/iemocap --json | jq .counts
      mesm-data inspect /data/iemocap --report iemocap.html --croissant /data/iemocap/croissant.json
    """
    if report or croissant:
        write_pages(path, report, croissant, media=not no_media)
        return
    from mesm_cli.splits import summary_line
    from mesm_data.dataset.summary import inspect as summarise
    from mesm_data.features.summary import summarise_features

    summary = {**summarise(path), "features": summarise_features(path)}
    if as_json:
        console.show(json.dumps(summary, ensure_ascii=False, indent=2))
        return
    console.show(
        f"{summary['corpus']}{' (SYNTHETIC)' if summary['synthetic'] else ''}, shard format {summary['format']}"
    )
    console.show(f"root {summary['root']}")
    console.table(summary["counts"], "utterances")
    for name, values in summary["labels"].items():
        counts = {value: number for value, number in values.items() if number is not None}
        console.table(counts if "mean" in values else shortened(counts, "values"), f"label {name} (of the built)")
    console.table({name: view_line(view) for name, view in summary["views"].items()}, "views")
    console.table(shortened(summary["speakers"], "speakers"), "speakers")
    console.table(summary["audio"], "audio")
    console.table(summary["video"], "video")
    console.table(summary["seconds"], "seconds")
    faces = {"crops": summary["faces"], "with a detected face": f"{summary['detection_rate'] or 0:.1%}"}
    console.table(faces, "faces")
    size = {
        "shards": f"{summary['bytes'] / 1e6:.1f} MB in {summary['shards']}",
        "clips": f"{summary['clip_bytes'] / 1e6:.1f} MB",
    }
    console.table(size, "size")
    if summary["features"]:
        console.table({name: features_line(each) for name, each in summary["features"].items()}, "features")
    for name in ("flags", "reasons", "incomplete"):
        if summary[name]:
            console.table(
                shortened(summary[name], name),
                {"reasons": "not built, because", "incomplete": "built, but"}.get(name, name),
            )
    console.table({name: summary_line(split) for name, split in summary["splits"].items()}, "splits")
    for name, title in (("notes", "notes of the scan"), ("findings", "findings of the build")):
        if summary[name]:
            console.table(dict(enumerate(summary[name], 1)), title)


def view_line(view: Mapping[str, Any]) -> str:
    """A label view in one line: its task, its utterances and what its targets add up to."""
    counts = ", ".join(f"{name} {number:g}" for name, number in list(view["classes"].items())[:SHOWN])
    return f"{view['task']}, {view['utterances']} utterances: {counts}"


def features_line(summary: Mapping[str, Any]) -> str:
    """A feature set in one line: its rows and its licence sentence, or why it cannot be used."""
    return set_line(summary) if "problem" in summary else f"{set_line(summary)}. {summary['licence']}"


def shortened(counts: Mapping[str, int], what: str) -> dict[str, int]:
    """The first counts, and the sum of the others; CMU-MOSEI has 3293 speakers."""
    first = dict(list(counts.items())[:SHOWN])
    if more := len(counts) - len(first):
        first[f"and {more} more {what}"] = sum(counts.values()) - sum(first.values())
    return first


def write_pages(path: Path, report: Path | None, croissant: Path | None, *, media: bool) -> None:
    """Write the page and the metadata that were asked for."""
    from mesm_data.publishing.croissant import write_croissant
    from mesm_data.publishing.dataset_page import write_dataset_page

    if report:
        console.show(write_dataset_page(path, report, media=media))
    if croissant:
        console.show(write_croissant(path, croissant))
