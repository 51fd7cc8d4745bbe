"""The schemas and facts of the corpora that mesm knows itself."""

from functools import cache
from typing import Any

import mesm_manifests

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema


def built_in_names() -> list[str]:
    """The names of the corpora that there is a file of facts of."""
    return mesm_manifests.names()


def built_in_facts(name: str) -> dict[str, Any]:
    """Everything in a corpus' file of facts. Raises InputError, naming those there are, for another name."""
    try:
        return mesm_manifests.load(name)
    except ValueError as error:
        raise InputError(str(error)) from None


@cache
def built_in_schema(name: str) -> CorpusSchema:
    """The schema in a corpus' file of facts. Raises InputError, naming those there are, for another name."""
    return CorpusSchema.parse(schema_entries(built_in_facts(name)), f"{name}.toml")


def schema_entries(facts: dict[str, Any]) -> dict[str, Any]:
    """The entries of a TOML file that are its schema; the others are facts for the scanner and its checks."""
    return {key: value for key, value in facts.items() if key in CorpusSchema.model_fields}
