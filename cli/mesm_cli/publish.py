"""mesm-data publish."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console


class Tier(StrEnum):
    """What goes out."""

    recipe = "recipe"
    gated = "gated"
    private = "private"


@console.when_stopped(console.RESUMES)
def publish(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="A folder, s3://BUCKET/FOLDER, hf://datasets/OWNER/NAME.")],
    tier: Annotated[
        Tier,
        typer.Option(
            help="recipe: the lock, splits by name and a card, nothing of the corpus. gated: with media, where access "
            "is given one by one. private: with media, on storage of your own."
        ),
    ] = Tier.recipe,
    holder_of: Annotated[
        str | None,
        typer.Option(
            "--i-hold-the-licence-for",
            metavar="CORPUS",
            help="Your statement that you hold this corpus' licence and that all who can read URL are covered by it.",
        ),
    ] = None,
) -> None:
    """Publish a dataset, or only how it is made. Resumable; dataset.json goes last.

    \b
    Examples:
      mesm-data publish /data/iemocap /srv/www/iemocap-recipe
      mesm-data publish /data/iemocap s3://lab/iemocap --tier private --i-hold-the-licence-for iemocap
      mesm-data publish /data/sample hf://datasets/lab/sample --tier gated
    """
    from mesm_data.publishing.publish import publish as send
    from mesm_data.storage.remote_errors import redact_url

    with console.bytes_bar("publish") as progress:
        made = send(path, url, tier=tier.value, holder_of=holder_of, progress=progress)
    kind = "SYNTHETIC " if made.synthetic else ""
    console.say(f"{kind}{made.corpus}, tier {made.tier}: {len(made.files)} files, root {made.root}")
    if made.tier != "recipe" and not url.startswith("hf://"):
        console.say("who may read this place is yours to see to: it could not be checked that access is controlled")
    console.show(redact_url(url))
    console.say(f"next: mesm-data fetch {redact_url(url)} DIR")
