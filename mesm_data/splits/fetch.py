"""Download of published lists, which are verified before they are saved."""

from pathlib import Path

from mesm_data.errors import InputError, MesmError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.splits import ListPart
from mesm_data.splits.registry import published_split, split_dir, verify_lists
from mesm_data.splits.rules import NamedSplit
from mesm_data.storage import remote
from mesm_data.storage.files import atomic_write, sha256_file

MAX_BYTES = 8 * 2**20  # of a file; the largest list has 182 kB


def fetch_split(
    schema: CorpusSchema, name: str, to: Path | None = None, *, mirror: str | None = None
) -> tuple[Path, bool]:
    """Download the lists of a published split, unless they are there already.

    Nothing is saved unless every file has the published sha256 and number of ids.

    Args:
        schema: the schema of the corpus.
        name: the name of the split.
        to: the target folder; default: the folder of the split, see registry.py.
        mirror: a folder or URL with the same files, under their names.

    Returns:
        The folder, and whether anything was downloaded.

    Raises:
        InputError: there is no such list, or `to` contains other files with these names.
        MesmError: a file cannot be downloaded, or differs from the published one.
    """
    split = published_split(schema, name)
    folder = to or split_dir(split)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--to {folder} is a file, not a folder")
    existing = {file: sha256_file(folder / file) for file in split.files if (folder / file).is_file()}
    if existing == {file: part.sha256 for file, part in split.files.items()}:
        return folder, False
    for file, digest in existing.items():
        if to and digest != split.files[file].sha256:
            raise InputError(f"{folder / file} is not the published file: remove it, or choose another --to")
    try:
        contents = {file: remote.read_bytes(_url(part, mirror), limit=MAX_BYTES) for file, part in split.files.items()}
    except MesmError as error:
        raise MesmError(_manual_download(split, folder, str(error))) from None
    verify_lists(split, contents)
    for file, data in contents.items():
        with atomic_write(folder / file) as target:
            target.write(data)
    return folder, True


def _url(part: ListPart, mirror: str | None) -> str:
    return remote.join_url(mirror, part.file) if mirror else part.url


def _manual_download(split: NamedSplit, folder: Path, reason: str) -> str:
    files = "".join(f"\n  {part.url}\n    -> {folder / file}" for file, part in split.files.items())
    return (
        f"{split.corpus} {split.name} cannot be downloaded: {reason}. Download the files manually and save them as "
        f"follows:{files}"
    )
