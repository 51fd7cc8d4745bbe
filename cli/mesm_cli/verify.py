"""mesm-data verify."""

from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import MesmError


def verify(path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")]) -> None:
    """Hash every member of every shard again and compare with the manifest. Exit code 1 if anything differs.

    \b
    Example:
      mesm-data verify /data/iemocap
    """
    from tqdm import tqdm

    from mesm_data.shards import dataset
    from mesm_data.shards.verify import verify as check

    said = dataset.describe(path)
    total = sum(file["size"] for files in (said["shards"], said["video"]) for file in files.values())
    differences = 0
    with tqdm(total=total, unit="B", unit_scale=True, desc="verify", dynamic_ncols=True, leave=False) as bar:
        for difference in check(path, bar.update):
            bar.clear()
            typer.echo(difference)
            differences += 1
    if differences:
        raise MesmError(f"{path} differs from its manifest in {differences} places, the first is named above")
    counts = said["counts"]
    console.say(f"{path}: all {counts['ok']} samples are as recorded, root {said['root']}")
