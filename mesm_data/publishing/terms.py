"""Who may be given what: the tiers, and what a corpus' licence asks of whoever publishes its media."""

from collections.abc import Mapping
from typing import Any

from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.remote_bytes import with_retries
from mesm_data.storage.remote_errors import map_errors, redact_url


def licence_statement(said: Mapping[str, Any], tier: str, holder_of: str | None, date: str) -> dict[str, str] | None:
    """The licence holder's statement that publishing takes, for the card; None where it takes none.

    `said` is dataset.json; `holder_of` the corpus whose licence the publisher says to hold. Raises InputError if media
    of a corpus that may not be passed on would go out without it.
    """
    corpus = said["corpus"]
    if holder_of is not None and holder_of != corpus:
        raise InputError(f"this dataset is of {corpus}, not of {holder_of}: --i-hold-the-licence-for names its corpus")
    if tier == "recipe" or said["synthetic"]:
        return None
    licence = CorpusSchema.parse(said.get("schema") or {}, "dataset.json: schema").licence
    if licence.redistribution:
        return None
    terms = licence.terms or "None are stated in its schema."
    if holder_of is None:
        raise InputError(
            f"{corpus} may not be redistributed, and these shards hold its recordings. Its terms: {terms} "
            f"If you hold its licence and everyone who can read the target is covered by it, say so with "
            f"`--i-hold-the-licence-for {corpus}` (the card will record it). `--tier recipe` publishes what others "
            "need to build the same bytes from their own copy, and nothing of the corpus"
        )
    return {"corpus": corpus, "date": date, "issuer": licence.issuer, "terms": terms}


def check_access(url: str, tier: str) -> None:
    """Raises InputError if media would go to a repository of the Hugging Face Hub that is open to everybody.

    Of other stores it cannot be asked who may read them: that is the publisher's to see to.
    """
    if tier == "recipe" or not url.startswith("hf://"):
        return
    from huggingface_hub import HfApi

    kind, name = parse_repository(url)

    def ask() -> Any:
        with map_errors(url):
            return HfApi().repo_info(name, repo_type=kind)

    facts = with_retries(url, ask)
    if not (facts.private or (tier == "gated" and facts.gated)):
        need = "gated or private" if tier == "gated" else "private"
        raise InputError(
            f"{redact_url(url)} is open to everybody: --tier {tier} needs a {need} repository. Change that in its settings "
            "first, then run the same command again"
        )


def parse_repository(url: str) -> tuple[str, str]:
    """Kind and name of the repository in hf://datasets/OWNER/NAME[@REVISION]/FOLDER. Raises InputError for another."""
    parts = url.removeprefix("hf://").split("/")
    if len(parts) < 3 or parts[0] != "datasets":
        raise InputError(f"{redact_url(url)}: expected hf://datasets/OWNER/NAME[/FOLDER]")
    return "dataset", "/".join((parts[1], parts[2].partition("@")[0]))
