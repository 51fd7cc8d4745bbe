"""Generates README.md (the card) and splits.json of a publication, which contain nothing of the corpus' content."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesm_data.corpora.registry import corpus_names
from mesm_data.dataset.info import STATUSES
from mesm_data.dataset.manifest import read_table_rows
from mesm_data.integrity.lock_writer import LOCK_NAME
from mesm_data.publishing import facts
from mesm_data.publishing.contents import Publication
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.splits.resolve import resolve_all_splits
from mesm_data.splits.rules import named_splits

_TIERS = {
    "recipe": "Tier `recipe`: how the dataset is built and checked. It contains no media, labels or text.",
    "gated": "Tier `gated`: with media. Give access only to people whom the corpus' terms cover.",
    "private": "Tier `private`: with media, on its publisher's own storage. Do not pass it on.",
}


def render_card(info: Mapping[str, Any], publication: Publication, summary: Mapping[str, Any]) -> str:
    """The card as Markdown with a YAML header.

    Args:
        info: The content of dataset.json.
        publication: The publication; its card, splits and dataset.json may still be missing from its files.
        summary: The result of mesm_data.dataset.summary.inspect.
    """
    import yaml

    schema = CorpusSchema.parse(info["schema"], "dataset.json: schema")
    title = f"{'SYNTHETIC data in the layout of ' if info['synthetic'] else ''}{schema.title or schema.name}"
    tags = ["mesm"]
    tags += ["webdataset"] if publication.tier != "recipe" else []
    tags += ["synthetic"] if info["synthetic"] else []
    header = yaml.safe_dump({"pretty_name": title, "license": "other", "tags": tags}, sort_keys=False, width=1000)
    parts = [
        f"---\n{header}---",
        f"# {title}",
        "Built with mesm. " + _TIERS[publication.tier],
        *(_synthetic_section(schema) if info["synthetic"] else _licence_section(schema, publication)),
        *_content_section(info, schema, summary),
        *_dataset_section(info, summary),
        _use_section(info["corpus"], publication),
    ]
    return "\n\n".join(parts) + "\n"


def _synthetic_section(schema: CorpusSchema) -> list[str]:
    return [
        "## Licence",
        f"This dataset is **synthetic**: `mesm-data sample` generated it. It contains no recording of {schema.name}, "
        "no measurement on it is evidence about people, and the corpus' terms do not apply to it.",
    ]


def _licence_section(schema: CorpusSchema, publication: Publication) -> list[str]:
    licence = schema.licence
    urls = {"Request": licence.request, "Form": licence.form}
    links = "".join(f" {name}: <{url}>." for name, url in urls.items() if url)
    terms = " ".join(part for part in (licence.name, licence.terms) if part) or "none are stated."
    issuer = f", by {licence.issuer}" if licence.issuer else ""
    lines = ["## Licence", f"Terms of the corpus{issuer}: {terms}{links}"]
    if schema.reference:
        lines.append(f"Cite: {schema.reference}.")
    if statement := publication.statement:
        lines.append(
            f"On {statement.date} the publisher stated to hold the licence for {statement.corpus}, and that all "
            f'who can read this place are covered by it. The terms shown then: "{statement.terms}" '
            "The statement is the publisher's; mesm cannot check it."
        )
    return lines


def _content_section(info: Mapping[str, Any], schema: CorpusSchema, summary: Mapping[str, Any]) -> list[str]:
    """The content, in the words of the dataset's page and its Croissant metadata; without counts of labels."""
    return [
        "## Content",
        facts.collection(info, schema),
        facts.preprocessing(info),
        facts.annotation(schema),
        f"Personal information: {facts.personal_information(info)}",
        facts.leaking_splits(summary),
    ]


def _dataset_section(info: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    counts = info["counts"]
    rows = [
        ("root", f"`{info['root']}`"),
        ("utterances", ", ".join(f"{counts[name]} {name}" for name in ("total", *STATUSES))),
        *facts.size_facts(summary),
        ("shard format", info["format"]),
        ("mesm", info["toolchain"].get("mesm", "unknown")),
        ("shards", f"{len(info['shards'])}, {sum(file['size'] for file in info['shards'].values())} bytes"),
        ("clips", f"{len(info['video'])}, {sum(file['size'] for file in info['video'].values())} bytes"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    options = "\n".join(f"    {name}: {value}" for name, value in sorted(info["recipe"].items()))
    return ["## Dataset", f"| | |\n|---|---|\n{table}", f"Recipe:\n\n{options}"]


def _use_section(corpus: str, publication: Publication) -> str:
    if publication.tier != "recipe":
        return "## Use\n\n    mesm-data fetch URL DIR\n    mesm-data verify DIR"
    name = corpus if corpus in corpus_names() else "corpus.toml"
    if LOCK_NAME not in publication.files:
        return (
            "## Use\n\nBuild it from your own copy of the corpus with the options above, and compare the root:\n\n"
            f"    mesm-data build {name} --source DIR --out OUT"
        )
    return (
        "## Use\n\nBuild it from your own copy of the corpus, and check that it is identical:\n\n"
        f"    mesm-data build {name} --source DIR --out OUT --lock {LOCK_NAME}\n"
        f"    mesm-data verify OUT --against {LOCK_NAME}"
    )


def describe_splits(path: Path, schema: CorpusSchema) -> dict[str, Any]:
    """The content of splits.json: each split of the schema, where its lists are published, and its parts here.

    `here` is null if the lists have not been fetched. There are no ids in it.

    Args:
        path: The folder of the dataset.
        schema: The schema of the dataset.
    """
    rows = {row["key"]: row for row in read_table_rows(path / "manifest.parquet")}
    resolved = resolve_all_splits(rows.values(), schema)
    describe_splits = {}
    for name, split in named_splits(schema, rows).items():
        here = resolved[name]
        files = {part.file: {"url": part.url, "sha256": part.sha256} for part in split.files.values()}
        entry: dict[str, Any] = {"rule": split.spec.rule, "title": split.spec.title, "licence": split.spec.licence}
        entry |= {"counts": dict(split.counts), "files": files}
        describe_splits[name] = {**entry, "here": None if isinstance(here, str) else here.summary()}
    return {"corpus": schema.name, "splits": describe_splits}
