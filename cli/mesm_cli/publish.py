"""mesm-data publish."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_cli.progress_bar import ProgressBar


class Tier(StrEnum):
    """What is published."""

    recipe = "recipe"
    gated = "gated"
    private = "private"


@console.when_stopped(console.RESUMES)
def publish(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a dataset.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="A folder, s3://BUCKET/FOLDER, hf://datasets/OWNER/NAME.")],
    tier: Annotated[
        Tier,
        typer.Option(
            help="recipe: the lock, splits by name and a card, nothing of the corpus. gated: with media, where access "
            "is granted individually. private: with media, on your own storage."
        ),
    ] = Tier.recipe,
    holder_of: Annotated[
        str | None,
        typer.Option(
            "--i-hold-the-licence-for",
            metavar="CORPUS",
            help="State that you hold the licence of this corpus, and that all who can read URL are covered by it.",
        ),
    ] = None,
) -> None:
    """Publish a dataset, or only how to build it. Resumable; dataset.json is uploaded last.

    \b
    Examples:
      mesm-data publish /data/iemocap /srv/www/iemocap-recipe
      mesm-data publish /data/iemocap s3://lab/iemocap --tier private --i-hold-the-licence-for iemocap
      mesm-data publish /data/sample hf://datasets/lab/sample --tier gated
    """
    from mesm_data.publishing import publish as publications
    from mesm_data.storage.remote_errors import redact_url

    with ProgressBar("B", leave=False) as progress:
        publication = publications.publish(path, url, tier=tier.value, holder_of=holder_of, progress=progress)
    kind = "SYNTHETIC " if publication.synthetic else ""
    console.say(
        f"{kind}{publication.corpus}, tier {publication.tier}: {len(publication.files)} files, root {publication.root}"
    )
    if publication.tier != "recipe" and not url.startswith("hf://"):
        console.say("note: it could not be checked who can read this URL; restricting access is your responsibility")
    console.show(redact_url(url))
    console.say(f"next: mesm-data fetch {redact_url(url)} DIR")
