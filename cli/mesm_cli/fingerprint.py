"""mesm-data fingerprint."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mesm_cli import console
from mesm_cli.build import show_notes
from mesm_cli.progress_bar import ProgressBar
from mesm_data.errors import InputError, MesmError

if TYPE_CHECKING:
    from mesm_data.integrity.fingerprint import Difference
    from mesm_data.integrity.lock_reader import Lock
    from mesm_data.schema.recordings import Corpus

KINDS = ("missing", "altered", "extra", "moved")


def fingerprint(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The folder of the corpus.")],
    corpus: Annotated[str | None, typer.Option(help="The name of the corpus (default: detected).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines of sha256sum.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the fingerprint to this JSON file.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare with another fingerprint, or with a recipe.lock.")
    ] = None,
) -> None:
    """Hash every relevant source file: which release is this, and what is missing, altered or extra?

    With --against, only the differences are printed; exit code 1 if there are any. A file that was moved is none.

    \b
    Examples:
      mesm-data fingerprint /corpora/IEMOCAP_full_release --out iemocap.json
      mesm-data fingerprint /mnt/IEMOCAP --against iemocap.json
      mesm-data fingerprint /mnt/IEMOCAP --against recipe.lock
      mesm-data fingerprint /mnt/IEMOCAP > SHA256SUMS
    """
    from mesm_data.integrity import fingerprint as library
    from mesm_data.storage.files import check_writable
    from mesm_data.storage.json_files import write_json

    if out:
        check_writable(out)
    reference = library.read_reference(against) if against else None
    scanned = find_corpus(source, corpus)
    show_notes(scanned.notes)
    sizes = library.all_source_sizes(scanned)
    total = sum(sizes.values())
    with ProgressBar("B") as bar:
        result = library.fingerprint(scanned, sizes, bar("hash", total, total))
    console.say(f"{scanned.name}: {len(sizes)} files, {total / 1e9:.2f} GB, sha256 {result['sha256']}")
    if out:
        write_json(out, result)
    if reference is None:
        if as_json:
            console.show(json.dumps(result, ensure_ascii=False, indent=2))
        elif not out:
            console.show("".join(library.sha256sum_lines(result["files"])).removesuffix("\n"))
        return
    differences = compare(reference, scanned, result["files"])
    if as_json:
        console.show(json.dumps([[d.kind, d.path, d.what] for d in differences], ensure_ascii=False, indent=2))
    else:
        for difference in differences:
            console.show(f"{difference.kind:<8} {difference.path}: {difference.what}")
    counts = {kind: sum(difference.kind == kind for difference in differences) for kind in KINDS}
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if any(count for kind, count in counts.items() if kind != "moved"):
        raise MesmError(f"{source} differs from {against}: {summary}")
    console.say(f"{source} is the same as {against}: {summary}")


def compare(
    reference: "dict[str, dict[str, Any]] | Lock", corpus: "Corpus", files: dict[str, dict[str, Any]]
) -> "list[Difference]":
    """The differences of the corpus from a fingerprint or a lock. InputError if the lock is of another corpus."""
    from mesm_data.integrity.fingerprint import compare_files, compare_lock
    from mesm_data.integrity.lock_reader import Lock

    if not isinstance(reference, Lock):
        return compare_files(reference, files)
    if reference.recipe.corpus != corpus.name:
        raise InputError(f"{reference.path} is of {reference.recipe.corpus}, {corpus.root} is {corpus.name}")
    return compare_lock(reference, corpus, files)


def find_corpus(source: Path, corpus: str | None) -> "Corpus":
    """Scan `source` as this corpus, or as the first corpus whose layout it has. Raises InputError if none fits."""
    from mesm_data.corpora.open_corpus import scan_corpus
    from mesm_data.corpora.registry import corpus_names

    problems = []
    for name in (corpus,) if corpus else corpus_names():
        try:
            return scan_corpus(name, source)
        except InputError as error:
            problems.append(str(error))
    raise InputError("; ".join(dict.fromkeys(problems)))
