"""README.md and splits.json of a publication: for people who find it, with nothing of the corpus' content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesm_data.dataset.manifest import read_table_rows
from mesm_data.dataset.validation import STATUSES
from mesm_data.publishing import facts
from mesm_data.publishing.contents import LOCK, Publication
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.resolve import resolve_all_splits
from mesm_data.splits.rules import named_splits

_TIERS = {
    "recipe": "Tier `recipe`: how the dataset is made and checked. No media, no labels and no text are in it.",
    "gated": "Tier `gated`: with media. Access is to be given only to those whom the corpus' terms cover.",
    "private": "Tier `private`: with media, on its publisher's own storage. Not to be passed on.",
}


def card(said: Mapping[str, Any], made: Publication, summary: Mapping[str, Any]) -> str:
    """The card.

    Args:
        said: the content of dataset.json.
        made: the publication, whose files need not be complete.
        summary: see mesm_data.dataset.summary.inspect.
    """
    import yaml

    known = CorpusSchema.parse(said["schema"], "dataset.json: schema")
    title = f"{'SYNTHETIC data in the layout of ' if said['synthetic'] else ''}{known.title or known.name}"
    tags = ["mesm", *(["webdataset"] if made.tier != "recipe" else []), *(["synthetic"] if said["synthetic"] else [])]
    head = yaml.safe_dump({"pretty_name": title, "license": "other", "tags": tags}, sort_keys=False, width=1000)
    parts = [
        f"---\n{head}---",
        f"# {title}",
        "Made with mesm. " + _TIERS[made.tier],
        *(_synthetic(known) if said["synthetic"] else _licence(known, made)),
        *_about(said, known, summary),
        *_facts(said, summary),
        _use(said, made),
    ]
    return "\n\n".join(parts) + "\n"


def _synthetic(known: CorpusSchema) -> list[str]:
    return [
        "## Licence",
        f"This dataset is **synthetic**: `mesm-data sample` made it up. No recording of {known.name} is in it, "
        "nothing measured on it says anything about people, and the corpus' terms do not apply to it.",
    ]


def _licence(known: CorpusSchema, made: Publication) -> list[str]:
    licence = known.licence
    places = {"Request": licence.request, "Form": licence.form}
    where = "".join(f" {name}: <{place}>." for name, place in places.items() if place)
    terms = " ".join(part for part in (licence.name, licence.terms) if part) or "none are stated."
    issuer = f", by {licence.issuer}" if licence.issuer else ""
    lines = ["## Licence", f"Terms of the corpus{issuer}: {terms}{where}"]
    if known.reference:
        lines.append(f"Cite: {known.reference}.")
    if made.statement:
        lines.append(
            f"On {made.statement['date']} whoever published this stated to hold the licence for "
            f"{made.statement['corpus']}, and that those who can read this place are covered by it. The terms as they "
            f'were shown then: "{made.statement["terms"]}" That statement is theirs; mesm cannot check it.'
        )
    return lines


def _about(said: Mapping[str, Any], known: CorpusSchema, summary: Mapping[str, Any]) -> list[str]:
    """What the data are, in the words of the dataset's page and its Croissant metadata; without counts of labels."""
    return [
        "## Content",
        facts.collection(said, known),
        facts.preprocessing(said),
        facts.annotation(known),
        f"Personal information: {facts.personal_information(said)}",
        facts.leaking_splits(summary),
    ]


def _facts(said: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    counts = said["counts"]
    rows = [
        ("root", f"`{said['root']}`"),
        ("utterances", ", ".join(f"{counts[name]} {name}" for name in ("total", *STATUSES))),
        *facts.size_facts(summary),
        ("shard format", said["format"]),
        ("mesm", said["toolchain"].get("mesm", "unknown")),
        ("shards", f"{len(said['shards'])}, {sum(file['size'] for file in said['shards'].values())} bytes"),
        ("clips", f"{len(said['video'])}, {sum(file['size'] for file in said['video'].values())} bytes"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    options = "\n".join(f"    {name}: {value}" for name, value in sorted(said["recipe"].items()))
    return ["## Dataset", f"| | |\n|---|---|\n{table}", f"Recipe:\n\n{options}"]


def _use(said: Mapping[str, Any], made: Publication) -> str:
    corpus = said["corpus"]
    if made.tier != "recipe":
        return "## Use\n\n    mesm-data fetch URL DIR\n    mesm-data verify DIR"
    if LOCK not in made.files:
        return (
            "## Use\n\nBuild it from your own copy of the corpus with the options above, and compare the root:\n\n"
            f"    mesm-data build {corpus} --source DIR --out OUT"
        )
    return (
        "## Use\n\nBuild it from your own copy of the corpus, and prove that it is the same:\n\n"
        f"    mesm-data build {corpus} --source DIR --out OUT --lock {LOCK}\n"
        f"    mesm-data verify OUT --against {LOCK}"
    )


def splits(path: Path, schema: CorpusSchema) -> dict[str, Any]:
    """splits.json: every split that the corpus' schema names, where its lists are published, and what it gives here.

    `here` is null where the lists were not fetched. No ids are in it.
    """
    rows = {row["key"]: row for row in read_table_rows(path / "manifest.parquet")}
    made = resolve_all_splits(rows.values(), schema)
    found = {}
    for name, split in named_splits(schema, rows).items():
        here = made[name]
        files = {part.file: {"url": part.url, "sha256": part.sha256} for part in split.files.values()}
        entry: dict[str, Any] = {"rule": split.spec.rule, "title": split.spec.title, "licence": split.spec.licence}
        entry |= {"counts": dict(split.counts), "files": files}
        found[name] = {**entry, "here": None if isinstance(here, str) else here.summary()}
    return {"corpus": schema.name, "splits": found}
