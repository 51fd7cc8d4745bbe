"""What servers and stores answer, in words: not there, refused, or to be tried again."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from mesm_data.errors import InputError, MesmError

_KEYS = "credentials are taken from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE; HF_TOKEN)"
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")
_INSTALL = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "hf": ("huggingface_hub", "hf")}
# What s3fs makes of answers that a second request would get again (invalid argument, not implemented, ...).
_FINAL = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EISDIR, errno.ENOTDIR)
_BUSY = (408, 425, 429)


class Absent(InputError):
    """There is no such file."""


class Again(Exception):
    """Why it did not work this time, in words; the next time it may."""


def shown(url: str) -> str:
    """The URL without user, password and query, which may be secret."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn whatever a transport raises into Absent, InputError, MesmError, or Again."""
    try:
        yield
    except (MesmError, Again):
        raise
    except ImportError:
        package, extra = _INSTALL.get(url.partition("://")[0], ("its fsspec package", ""))
        line = f"pip install 'mesm[{extra}]'" if extra else "see fsspec's documentation"
        raise InputError(f"{shown(url)} needs {package}: {line}") from None
    except Exception as error:
        raise _meaning(url, error) from None


def _meaning(url: str, error: Exception) -> MesmError | Again:
    status = getattr(getattr(error, "response", None), "status_code", None)
    name = type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return Absent(f"{shown(url)} is not there")
    if isinstance(error, PermissionError) or status in (401, 403) or name in _NO_CREDENTIALS:
        return InputError(f"{shown(url)}: access is refused{'' if url.startswith('http') else f'; {_KEYS}'}")
    if isinstance(status, int):
        said = f"the server answers HTTP {status}"
        return Again(said) if status in _BUSY or status >= 500 else MesmError(f"{shown(url)}: {said}")
    # requests' and fsspec's complaints about the URL itself are ValueErrors.
    if isinstance(error, (ValueError, TypeError, NotImplementedError)):
        return InputError(f"{shown(url)} cannot be used ({name}): is the URL right?")
    if isinstance(error, OSError) and error.errno in _FINAL:
        return MesmError(f"{shown(url)}: the request is refused ({error.strerror or name})")
    return Again(_why(error, name))


def _why(error: Exception, name: str) -> str:
    if "Timeout" in name or isinstance(error, TimeoutError):
        return "the server does not answer, or stopped sending"
    if any(word in name for word in ("Protocol", "Incomplete", "Chunked", "Payload", "Reset", "Disconnected")):
        return "the connection was broken off"
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO, errno.EIO):
        return "the store is busy, or failed"
    return f"no connection ({name})"
