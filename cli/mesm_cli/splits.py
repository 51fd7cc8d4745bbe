"""mesm-data splits list, fetch and show."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mesm_cli import console

SHOWN = 5

app = typer.Typer(
    name="splits",
    help="Which utterances train, validate and test: rules, and published lists.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="The same as JSON.")]


@app.command("list")
def show_all(as_json: AsJson = False) -> None:
    """Show the splits of all corpora: kind, parts, licence, and whether lists are here.

    \b
    Examples:
      mesm-data splits list
      mesm-data splits list --json | jq '.[] | select(.kind == "list")'
    """
    from mesm_data.schema.built_in import built_in_names, built_in_schema
    from mesm_data.splits.registry import is_stored, split_dir
    from mesm_data.splits.rules import named_splits

    found = []
    for corpus in built_in_names():
        for split in named_splits(built_in_schema(corpus), {}).values():
            kind = "rule" if split.is_rule else "list"
            said: dict[str, Any] = {"corpus": corpus, "name": split.name, "kind": kind, "title": split.spec.title}
            said |= {"counts": dict(split.counts), "licence": split.spec.licence}
            if not split.is_rule:
                said |= {"urls": [part.url for part in split.files.values()], "folder": str(split_dir(split))}
                said["fetched"] = is_stored(split)
            found.append(said)
    if as_json:
        console.show(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for said in found:
        counts = ", ".join(f"{part} {number}" for part, number in said["counts"].items())
        console.show(f"{said['corpus']} {said['name']}  ({said['kind']})  {counts}".rstrip())
        console.show(f"    {said['title']}")
        if said["kind"] == "list":
            console.show(f"    {said['licence']}; {'in' if said['fetched'] else 'not in'} {said['folder']}; from")
            for url in said["urls"]:
                console.show(f"      {url}")


@app.command("fetch")
def get(
    corpus: Annotated[str, typer.Argument(help="A corpus' name, or the folder of a dataset.")],
    name: Annotated[str, typer.Argument(metavar="SPLIT", help="A published list (see `mesm-data splits list`).")],
    to: Annotated[
        Path | None,
        typer.Option(help="Another folder; the default is where `--split NAME` looks ($MESM_SPLITS/CORPUS/SPLIT)."),
    ] = None,
    mirror: Annotated[str | None, typer.Option(help="A folder or URL that holds the same files, by name.")] = None,
) -> None:
    """Download published lists, and keep them if they are what was published (sha256, number of ids).

    \b
    Examples:
      mesm-data splits fetch iemocap paper
      mesm-data splits fetch mosei official --to /data/folds
      mesm-data splits fetch iemocap paper --mirror https://mirror.example.org/iemocap-lists
    """
    from mesm_data.dataset import dataset_dir as dataset
    from mesm_data.schema.built_in import built_in_schema
    from mesm_data.splits.fetch import fetch_split

    path = Path(corpus)
    schema = dataset.schema_of(path, dataset.describe(path)) if path.is_dir() else built_in_schema(corpus)
    folder, needed = fetch_split(schema, name, to, mirror=mirror)
    console.say(f"{corpus} {name}: {'fetched, as published' if needed else 'already there, as published'}")
    console.show(folder)
    console.say(f"next: mesm-data splits show {to or name} --data DIR")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="SPLIT", help="A rule, a published list, or the path of lists.")],
    data: Annotated[Path, typer.Option(help="A dataset.")],
    as_json: AsJson = False,
) -> None:
    """Show a split of a dataset: its parts, what of it is missing, and what leaks across it.

    \b
    Examples:
      mesm-data splits show session-5 --data /data/iemocap
      mesm-data splits show /data/folds --data /data/mosei --json
    """
    from mesm_data.dataset import dataset_dir as dataset
    from mesm_data.splits.resolve import resolve_split

    described = dataset.describe(data)
    corpus = described["corpus"]
    made = resolve_split(dataset.rows(data, described), dataset.schema_of(data, described), name)
    if as_json:
        missing = [{"key": m.key, "part": m.part, "status": m.status, "reason": m.reason} for m in made.missing]
        shared = {"speakers": made.leaks.speakers, "dialogs": made.leaks.dialogs, "overlaps": made.leaks.overlaps}
        console.show(json.dumps({**made.summary(), "missing": missing, "leaks": shared}, ensure_ascii=False, indent=2))
        return
    said = made.summary()
    console.show(f"{corpus} {made.name}: lists of {made.of}, sha256 {made.digest}")
    console.table(said["counts"], "utterances that the dataset holds")
    console.table(said["missing"], "ids that it does not hold")
    for item in made.missing[:SHOWN]:
        console.show(f"    {item.key} ({item.part}): {item.status}{f', {item.reason}' if item.reason else ''}")
    console.table(said["leaks"], "shared between parts")
    for what, first in (("speakers", made.leaks.speakers), ("dialogs", made.leaks.dialogs)):
        if first:
            console.show(f"    {what}: {', '.join(first[:SHOWN])}{' ...' if len(first) > SHOWN else ''}")
    for one, other in made.leaks.overlaps[:SHOWN]:
        console.show(f"    {one} and {other} overlap in time")


def line(said: Mapping[str, Any]) -> str:
    """A split's summary in one line: its parts, what is missing, what leaks; or why it cannot be made."""
    if "reason" in said:
        return str(said["reason"])
    leaks, missing = said["leaks"], sum(said["missing"].values())
    counts = ", ".join(f"{part} {number}" for part, number in said["counts"].items())
    lacks = f" ({missing} ids missing)" if missing else ""
    if not any(leaks.values()):
        return f"{counts}{lacks}; nothing leaks"
    pairs = f"{leaks['overlaps']} pairs of overlapping utterances"
    return f"{counts}{lacks}; LEAKS {leaks['speakers']} speakers, {leaks['dialogs']} dialogs, {pairs}"


def say_leaks(out: Path, said: Mapping[str, Any]) -> None:
    """What leaks across each split that can be made of a dataset, as messages."""
    from mesm_data.dataset import dataset_dir as dataset
    from mesm_data.dataset.summary import splits

    for name, one in splits(dataset.rows(out, said), dataset.schema_of(out, said)).items():
        if "reason" not in one:
            console.say(f"split {name}: {line(one)}")
