"""mesm-data splits list, fetch and show."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mesm_cli import console

MAX_SHOWN = 5  # ids of each kind

app = typer.Typer(
    name="splits",
    help="Splits into train, valid and test: by rules, and by published lists.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_splits(as_json: AsJson = False) -> None:
    """List the splits of all corpora: kind, parts, licence, and whether the lists are downloaded.

    \b
    Examples:
      mesm-data splits list
      mesm-data splits list --json | jq '.[] | select(.kind == "list")'
    """
    from mesm_data.schema.built_in import built_in_names, built_in_schema
    from mesm_data.splits.registry import is_stored, split_dir
    from mesm_data.splits.rules import named_splits

    entries: list[dict[str, Any]] = []
    for corpus in built_in_names():
        for split in named_splits(built_in_schema(corpus), {}).values():
            kind = "rule" if split.is_rule else "list"
            entry: dict[str, Any] = {"corpus": corpus, "name": split.name, "kind": kind, "title": split.spec.title}
            entry |= {"counts": dict(split.counts), "licence": split.spec.licence}
            if not split.is_rule:
                entry |= {"urls": [part.url for part in split.files.values()], "folder": str(split_dir(split))}
                entry["fetched"] = is_stored(split)
            entries.append(entry)
    if as_json:
        console.show(json.dumps(entries, ensure_ascii=False, indent=2))
        return
    for entry in entries:
        counts = ", ".join(f"{part} {number}" for part, number in entry["counts"].items())
        console.show(f"{entry['corpus']} {entry['name']}  ({entry['kind']})  {counts}".rstrip())
        console.show(f"    {entry['title']}")
        if entry["kind"] == "list":
            console.show(f"    {entry['licence']}; {'in' if entry['fetched'] else 'not in'} {entry['folder']}; from")
            for url in entry["urls"]:
                console.show(f"      {url}")


@app.command("fetch")
def fetch_lists(
    corpus: Annotated[str, typer.Argument(help="A corpus' name, or the folder of a dataset.")],
    name: Annotated[str, typer.Argument(metavar="SPLIT", help="A published list (see `mesm-data splits list`).")],
    to: Annotated[
        Path | None,
        typer.Option(
            help="The target folder. Default: $MESM_SPLITS/CORPUS/SPLIT, where `--split NAME` finds the lists."
        ),
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="A folder or URL with the same files, by name.")] = None,
) -> None:
    """Download published lists; they are saved only if their sha256 and number of ids are as published.

    \b
    Examples:
      mesm-data splits fetch iemocap paper
      mesm-data splits fetch mosei official --to /data/folds
      mesm-data splits fetch iemocap paper --mirror https://mirror.example.org/iemocap-lists
    """
    from mesm_data.dataset.dataset_dir import read_dataset_info, schema_from_info
    from mesm_data.schema.built_in import built_in_schema
    from mesm_data.splits.fetch import fetch_split

    path = Path(corpus)
    schema = schema_from_info(path, read_dataset_info(path)) if path.is_dir() else built_in_schema(corpus)
    folder, downloaded = fetch_split(schema, name, to, mirror=mirror)
    console.say(f"{corpus} {name}: {'downloaded' if downloaded else 'already there'}, verified")
    console.show(folder)
    console.say(f"next: mesm-data splits show {to or name} --data DIR")


@app.command("show")
def show_split(
    name: Annotated[str, typer.Argument(metavar="SPLIT", help="A rule, a published list, or the path of lists.")],
    data: Annotated[Path, typer.Option(help="A dataset.")],
    as_json: AsJson = False,
) -> None:
    """Show a split of a dataset: its parts, missing ids, and leaks between the parts.

    \b
    Examples:
      mesm-data splits show session-5 --data /data/iemocap
      mesm-data splits show /data/folds --data /data/mosei --json
    """
    from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows, schema_from_info
    from mesm_data.splits.resolve import resolve_split

    info = read_dataset_info(data)
    split = resolve_split(read_manifest_rows(data, info), schema_from_info(data, info), name)
    if as_json:
        missing = [dataclasses.asdict(item) for item in split.missing]
        shared = {"speakers": split.leaks.speakers, "dialogs": split.leaks.dialogs, "overlaps": split.leaks.overlaps}
        console.show(json.dumps({**split.summary(), "missing": missing, "leaks": shared}, ensure_ascii=False, indent=2))
        return
    summary = split.summary()
    console.show(f"{info['corpus']} {split.name}: lists of {split.of}, sha256 {split.digest}")
    console.table(summary["counts"], "utterances in the dataset")
    console.table(summary["missing"], "missing ids")
    for item in split.missing[:MAX_SHOWN]:
        console.show(f"    {item.key} ({item.part}): {item.status}{f', {item.reason}' if item.reason else ''}")
    console.table(summary["leaks"], "shared between parts")
    for kind, names in (("speakers", split.leaks.speakers), ("dialogs", split.leaks.dialogs)):
        if names:
            console.show(f"    {kind}: {', '.join(names[:MAX_SHOWN])}{' ...' if len(names) > MAX_SHOWN else ''}")
    for first, second in split.leaks.overlaps[:MAX_SHOWN]:
        console.show(f"    {first} and {second} overlap in time")


def summary_line(summary: Mapping[str, Any]) -> str:
    """Format a split's summary in one line: parts, missing ids and leaks; or why the split cannot be resolved."""
    if "reason" in summary:
        return str(summary["reason"])
    leaks, missing = summary["leaks"], sum(summary["missing"].values())
    counts = ", ".join(f"{part} {number}" for part, number in summary["counts"].items())
    lacks = f" ({missing} ids missing)" if missing else ""
    if not any(leaks.values()):
        return f"{counts}{lacks}; nothing leaks"
    pairs = f"{leaks['overlaps']} pairs of overlapping utterances"
    return f"{counts}{lacks}; LEAKS {leaks['speakers']} speakers, {leaks['dialogs']} dialogs, {pairs}"


def report_leaks(out: Path, info: Mapping[str, Any]) -> None:
    """Print, as messages, the leaks of each split that can be resolved for a dataset."""
    from mesm_data.dataset.dataset_dir import read_manifest_rows, schema_from_info
    from mesm_data.dataset.summary import splits

    for name, summary in splits(read_manifest_rows(out, info), schema_from_info(out, info)).items():
        if "reason" not in summary:
            console.say(f"split {name}: {summary_line(summary)}")
