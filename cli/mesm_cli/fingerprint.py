"""mesm-data fingerprint."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mesm_cli import console
from mesm_cli.build import show_notes
from mesm_data.errors import InputError, MesmError

if TYPE_CHECKING:
    from mesm_data.schema.recordings import Corpus


def fingerprint(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The corpus as it lies on disk.")],
    corpus: Annotated[str | None, typer.Option(help="Which corpus it is (default: what it looks like).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of sha256sum's lines.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON to this file, to compare with elsewhere.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with another fingerprint, or with a recipe.lock.")
    ] = None,
) -> None:
    """Hash every source file that matters: which release is this, and what is missing, altered or extra?

    With --against only the differences are printed; exit code 1 if there are any (a file that moved is none).

    \b
    Examples:
      mesm-data fingerprint /corpora/IEMOCAP_full_release --out iemocap.json
      mesm-data fingerprint /mnt/IEMOCAP --against iemocap.json
      mesm-data fingerprint /mnt/IEMOCAP --against recipe.lock
      mesm-data fingerprint /mnt/IEMOCAP > SHA256SUMS
    """
    from tqdm import tqdm

    from mesm_data.integrity import fingerprint as library
    from mesm_data.integrity.lock_reader import Lock
    from mesm_data.storage.files import check_new_file
    from mesm_data.storage.json_files import write_json

    if out:
        check_new_file(out)
    other = library.read_other(against) if against else None
    found = look(source, corpus)
    show_notes(found.notes)
    sizes = library.sizes(found)
    with tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, desc="hash", dynamic_ncols=True) as bar:
        said = library.fingerprint(found, sizes, bar.update)
    console.say(f"{found.name}: {len(sizes)} files, {sum(sizes.values()) / 1e9:.2f} GB, sha256 {said['sha256']}")
    if out:
        write_json(out, said)
    if other is None:
        if as_json:
            console.show(json.dumps(said, ensure_ascii=False, indent=2))
        elif not out:
            console.show("".join(library.lines(said["files"])).removesuffix("\n"))
        return
    if isinstance(other, Lock):
        if other.recipe.corpus != found.name:
            raise InputError(f"{against} is of {other.recipe.corpus}, {source} is {found.name}")
        differences = library.compare_lock(other, found, said["files"])
    else:
        differences = library.compare(other, said["files"])
    if as_json:
        console.show(json.dumps([[d.kind, d.path, d.what] for d in differences], ensure_ascii=False, indent=2))
    else:
        for difference in differences:
            console.show(f"{difference.kind:<8} {difference.path}: {difference.what}")
    counted = [sum(d.kind == kind for d in differences) for kind in ("missing", "altered", "extra", "moved")]
    words = "{} missing, {} altered, {} extra, {} moved".format(*counted)
    if any(counted[:3]):
        raise MesmError(f"{source} differs from {against}: {words}")
    console.say(f"{source} is what {against} says: {words}")


def look(source: Path, corpus: str | None) -> "Corpus":
    """Scan `source` as that corpus, or as the first one that it can be. InputError if it is none."""
    from mesm_data.corpora.open_corpus import scan_corpus
    from mesm_data.corpora.registry import corpus_names

    problems = []
    for name in (corpus,) if corpus else corpus_names():
        try:
            return scan_corpus(name, source)
        except InputError as error:
            problems.append(str(error))
    raise InputError("; ".join(dict.fromkeys(problems)))
