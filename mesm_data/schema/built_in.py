"""The schemas of the built-in corpora, and the facts that are known about their releases."""

from functools import cache
from typing import Any

import mesm_manifests

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema


def built_in_names() -> list[str]:
    """Return the names of the built-in corpora."""
    return mesm_manifests.names()


def built_in_facts(name: str) -> dict[str, Any]:
    """Return the content of a corpus' TOML file. Raises InputError that lists all names if there is none."""
    try:
        return mesm_manifests.load(name)
    except ValueError as error:
        raise InputError(str(error)) from None


@cache
def built_in_schema(name: str) -> CorpusSchema:
    """Return the schema of a built-in corpus. Raises InputError that lists all names if there is none."""
    return CorpusSchema.parse(schema_entries(built_in_facts(name)), f"{name}.toml")


def schema_entries(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the entries that belong to the schema; the others are facts for the scanner and its checks."""
    return {key: value for key, value in facts.items() if key in CorpusSchema.model_fields}
