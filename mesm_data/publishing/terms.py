"""What may be published where: the tiers, and the licence of a corpus whose media are published."""

from collections.abc import Mapping
from typing import Any

from mesm_data.errors import InputError
from mesm_data.publishing.contents import LicenceStatement
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.remote_bytes import with_retries
from mesm_data.storage.remote_errors import map_errors, redact_url


def licence_statement(info: Mapping[str, Any], tier: str, holder_of: str | None, date: str) -> LicenceStatement | None:
    """The licence holder's statement for the card; None if publishing needs none.

    Args:
        info: The content of dataset.json.
        tier: The tier of the publication.
        holder_of: The corpus whose licence the publisher claims to hold.
        date: The date of the statement.

    Raises:
        InputError: The statement is needed, because the publication contains media of a corpus that may not be
            redistributed, and is missing; or it names another corpus.
    """
    corpus = info["corpus"]
    if holder_of is not None and holder_of != corpus:
        raise InputError(f"this dataset is of {corpus}, not of {holder_of}: --i-hold-the-licence-for names its corpus")
    if tier == "recipe" or info["synthetic"]:
        return None
    licence = CorpusSchema.parse(info.get("schema") or {}, "dataset.json: schema").licence
    if licence.redistribution:
        return None
    terms = licence.terms or "None are stated in its schema."
    if holder_of is None:
        raise InputError(
            f"{corpus} may not be redistributed, and these shards contain its recordings. Its terms: {terms} "
            f"If you hold its licence and everyone who can read the target is covered by it, state this with "
            f"`--i-hold-the-licence-for {corpus}` (the card will record it). `--tier recipe` publishes what others "
            "need to build the identical dataset from their own copy, and nothing of the corpus"
        )
    return LicenceStatement(corpus=corpus, date=date, issuer=licence.issuer, terms=terms)


def check_access(url: str, tier: str) -> None:
    """Raise InputError if media would be uploaded to a public repository of the Hugging Face Hub.

    Other stores do not tell who can read them; there, this is the publisher's responsibility.
    """
    if tier == "recipe" or not url.startswith("hf://"):
        return
    from huggingface_hub import HfApi

    kind, name = parse_repository(url)

    def request() -> Any:
        with map_errors(url):
            return HfApi().repo_info(name, repo_type=kind)

    repository = with_retries(url, request)
    if not (repository.private or (tier == "gated" and repository.gated)):
        required = "gated or private" if tier == "gated" else "private"
        raise InputError(
            f"{redact_url(url)} is public: --tier {tier} needs a {required} repository. Change its settings first, "
            "then run the same command again"
        )


def parse_repository(url: str) -> tuple[str, str]:
    """Kind and name of the repository in hf://datasets/OWNER/NAME[@REVISION]/FOLDER. Raises InputError otherwise."""
    parts = url.removeprefix("hf://").split("/")
    if len(parts) < 3 or parts[0] != "datasets":
        raise InputError(f"{redact_url(url)}: expected hf://datasets/OWNER/NAME[/FOLDER]")
    return "dataset", "/".join((parts[1], parts[2].partition("@")[0]))
