"""mesm-data attest."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mesm_cli import console
from mesm_data.errors import MesmError


def attest(
    path: Annotated[Path, typer.Argument(metavar="DIR", help="A dataset.")],
    out: Annotated[Path | None, typer.Option(help="Write to this file (default: stdout).")] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with what another lab's attest wrote.")] = None,
) -> None:
    """State which data this is in a few digests, after hashing all of it; or compare with another lab's statement.

    Exit code 1 if the data differ. Other versions or another lock are told and are no difference of the data.

    \b
    Examples:
      mesm-data attest /data/iemocap --out attest.json
      mesm-data attest /data/iemocap --against theirs.json
    """
    from tqdm import tqdm

    from mesm_data.dataset import dataset_dir as dataset
    from mesm_data.integrity import attest as library
    from mesm_data.storage.files import check_writable
    from mesm_data.storage.json_files import write_json

    if out:
        check_writable(out)
    there = library.read(against) if against else None
    total = sum(file["size"] for file in dataset.describe(path)["shards"].values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="hash", dynamic_ncols=True, leave=False) as bar:
        said = library.attest(path, bar.update)
    if out:
        write_json(out, said)
    if there is None:
        if not out:
            console.show(json.dumps(said, ensure_ascii=False, indent=2))
        return
    data, made = library.differences(there, said)
    for sentence in data:
        console.show(sentence)
    for sentence in made:
        console.say(f"note: made otherwise: {sentence}")
    if data:
        raise MesmError(f"{path} and {against} are different data in {len(data)} respects")
    console.say(f"the same data: root {said['root']}")
