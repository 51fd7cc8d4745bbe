"""Get published lists: downloaded, checked, and only then put in place."""

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from mesm_data.errors import InputError, MesmError
from mesm_data.files import atomic_write, sha256_file
from mesm_data.splits.registry import Part, Registered, checked, published

LIMIT = 8 * 2**20  # bytes of a file; the largest list has 182 kB
TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces
WHOLE = 300.0  # seconds for a file
TRIES = 4


def fetch(
    corpus: str, name: str, to: Path | None = None, *, mirror: str | None = None, pause: float = 1.0
) -> tuple[Path, bool]:
    """Put the lists of a published split into its folder, or into `to`. Returns the folder, and whether it was needed.

    Nothing is put there unless every file has the published sha256 and number of ids; what is there and right is not
    fetched again. `mirror` is a URL under which the same files lie by their names; `pause` the seconds before the
    second try, twice as many before each further one. Raises InputError if there is no such list or `to` holds other
    files of these names, MesmError if a file cannot be had or is another one.
    """
    split = published(corpus, name)
    folder = to or split.folder
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--to {folder} is a file: give a folder")
    there = {file: sha256_file(folder / file) for file in split.files if (folder / file).is_file()}
    if there == {file: part.sha256 for file, part in split.files.items()}:
        return folder, False
    for file, digest in there.items():
        if to and digest != split.files[file].sha256:
            raise InputError(f"{folder / file} is another file than the published one: remove it, or give another --to")
    try:
        contents = {file: _download(_url(part, mirror), pause) for file, part in split.files.items()}
    except _NotHad as error:
        raise MesmError(_by_hand(split, folder, str(error))) from None
    checked(split, contents)
    for file, data in contents.items():
        with atomic_write(folder / file) as target:
            target.write(data)
    return folder, True


def _url(part: Part, mirror: str | None) -> str:
    return f"{mirror.rstrip('/')}/{quote(part.file)}" if mirror else part.url


def _by_hand(split: Registered, folder: Path, reason: str) -> str:
    files = "".join(f"\n  {part.url}\n    -> {folder / file}" for file, part in split.files.items())
    by_hand = f"Download by hand and put in place:{files}"
    return f"{split.corpus} {split.name} cannot be downloaded: {reason}. {by_hand}"


class _NotHad(Exception):
    """Why a file cannot be had, in words; `again`: it may work the next time."""

    def __init__(self, reason: str, *, again: bool) -> None:
        super().__init__(reason)
        self.again = again


def _download(url: str, pause: float) -> bytes:
    """The content of `url`, tried TRIES times. Raises _NotHad."""
    import requests

    with requests.Session() as session:
        for number in range(TRIES):
            try:
                return _get(session, url)
            except _NotHad as error:
                if not error.again or number == TRIES - 1:
                    raise
                time.sleep(pause * 2**number)
    raise AssertionError


def _get(session: Any, url: str) -> bytes:
    import requests

    host = urlsplit(url).netloc
    began = time.monotonic()
    data = b""
    try:
        with session.get(url, stream=True, timeout=TIMEOUT) as response:
            if response.status_code != 200:
                busy = response.status_code in (408, 429) or response.status_code >= 500
                raise _NotHad(f"{host} answers HTTP {response.status_code} for {url}", again=busy)
            for piece in response.iter_content(2**16):
                data += piece
                if len(data) > LIMIT:
                    raise _NotHad(f"{url} has more than {LIMIT} bytes, which no list has", again=False)
                if time.monotonic() - began > WHOLE:
                    raise _NotHad(f"{host} took more than {WHOLE:.0f} s for {url}", again=False)
    except requests.Timeout:
        raise _NotHad(f"{host} does not answer", again=True) from None
    except requests.exceptions.ChunkedEncodingError:
        raise _NotHad(f"{host} broke off {url}", again=True) from None
    except requests.ConnectionError:
        raise _NotHad(f"no connection to {host}", again=True) from None
    except (requests.RequestException, ValueError) as error:
        raise _NotHad(f"{url} cannot be asked for ({type(error).__name__})", again=False) from None
    return data
