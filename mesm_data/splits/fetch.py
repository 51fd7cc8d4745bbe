"""Get published lists: downloaded, checked, and only then put in place."""

from pathlib import Path

from mesm_data.errors import InputError, MesmError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.splits import ListPart
from mesm_data.splits.registry import checked, folder_of, published
from mesm_data.splits.rules import NamedSplit
from mesm_data.storage import remote
from mesm_data.storage.files import atomic_write, sha256_file

LIMIT = 8 * 2**20  # bytes of a file; the largest list has 182 kB


def fetch(schema: CorpusSchema, name: str, to: Path | None = None, *, mirror: str | None = None) -> tuple[Path, bool]:
    """Put the lists of a published split into its folder, or into `to`. Returns the folder, and whether it was needed.

    Nothing is put there unless every file has the published sha256 and number of ids; what is there and right is not
    fetched again. `mirror` is a folder or URL under which the same files lie by their names. Raises InputError if
    there is no such list or `to` holds other files of these names, MesmError if a file cannot be had or is another one.
    """
    split = published(schema, name)
    folder = to or folder_of(split)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--to {folder} is a file: give a folder")
    there = {file: sha256_file(folder / file) for file in split.files if (folder / file).is_file()}
    if there == {file: part.sha256 for file, part in split.files.items()}:
        return folder, False
    for file, digest in there.items():
        if to and digest != split.files[file].sha256:
            raise InputError(f"{folder / file} is another file than the published one: remove it, or give another --to")
    try:
        contents = {file: remote.read_bytes(_url(part, mirror), limit=LIMIT) for file, part in split.files.items()}
    except MesmError as error:
        raise MesmError(_by_hand(split, folder, str(error))) from None
    checked(split, contents)
    for file, data in contents.items():
        with atomic_write(folder / file) as target:
            target.write(data)
    return folder, True


def _url(part: ListPart, mirror: str | None) -> str:
    return remote.join_url(mirror, part.file) if mirror else part.url


def _by_hand(split: NamedSplit, folder: Path, reason: str) -> str:
    files = "".join(f"\n  {part.url}\n    -> {folder / file}" for file, part in split.files.items())
    by_hand = f"Download by hand and put in place:{files}"
    return f"{split.corpus} {split.name} cannot be downloaded: {reason}. {by_hand}"
