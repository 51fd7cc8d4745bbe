"""mesm-data corpora and mesm-data table."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mesm_cli import console
from mesm_data.errors import InputError


def corpora(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the corpora that can be built from their raw files, with title, homepage and licence.

    \b
    Examples:
      mesm-data corpora
      mesm-data corpora --json | jq -r '.[].name'
    """
    from mesm_data.corpora.registry import corpus_names
    from mesm_data.schema.built_in import built_in_names, built_in_schema

    entries: list[dict[str, Any]] = []
    for name in corpus_names():
        if name not in built_in_names():
            entries.append({"name": name, "title": "added by an installed package", "homepage": "", "licence": {}})
            continue
        schema = built_in_schema(name)
        licence = schema.licence.model_dump(exclude_defaults=True)
        entries.append({"name": name, "title": schema.title, "homepage": schema.homepage, "licence": licence})
    if as_json:
        console.show(json.dumps(entries, ensure_ascii=False, indent=2))
        return
    for entry in entries:
        licence = entry["licence"]
        console.show(f"{entry['name']:<10} {entry['title']}")
        for line in (entry["homepage"], licence.get("name") or licence.get("terms", "")):
            if line:
                console.show(f"           {line}")
    console.say("for your own corpus: mesm-data build clips.csv --root MEDIA --out DIR")


def table(
    corpus: Annotated[str, typer.Argument(help="A corpus, a table or a corpus.toml, as for `build`.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The table to write: .csv, .tsv, .parquet or .jsonl; or a corpus.toml.")
    ],
    source: Annotated[
        Path | None, typer.Option("--source", "--root", help="The folder of the corpus, or of a table's media files.")
    ] = None,
) -> None:
    """Write the scanned utterances of a corpus as a table, without building anything, or the corpus.toml of a table.

    \b
    Examples:
      mesm-data table iemocap --source /corpora/IEMOCAP_full_release -o iemocap.parquet
      mesm-data table clips.csv --root /media/clips -o corpus.toml
    """
    from mesm_cli.build import show_notes
    from mesm_data.corpora.export import write_table
    from mesm_data.corpora.open_corpus import open_corpus
    from mesm_data.corpora.table.corpus_file import write_corpus_toml

    if out.suffix.lower() == ".toml" and not Path(corpus).suffix:
        raise InputError(f"{corpus} needs no corpus.toml: write a table, such as -o {corpus}.parquet")
    scanned = open_corpus(corpus, source)
    show_notes(scanned.notes)
    if out.suffix.lower() == ".toml":
        write_corpus_toml(scanned, out)
    else:
        write_table(scanned, out)
    console.say(f"{len(scanned.utterances())} utterances of {scanned.name}")
    console.show(str(out))
