"""Maps the exceptions of HTTP, S3 and other stores to four kinds of error with a message for the user."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from mesm_data.errors import InputError, MesmError

_KEYS = "credentials are taken from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE; HF_TOKEN)"
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound")
_INSTALL = {"s3": ("s3fs", "s3"), "s3a": ("s3fs", "s3"), "hf": ("huggingface_hub", "hf")}
# The errno of s3fs for responses that a second request would get again (invalid argument, not implemented, ...).
_FINAL = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EISDIR, errno.ENOTDIR)
_RETRYABLE_STATUS = (408, 425, 429)
# What is said about codes of S3; of others, the code.
_DENIED = {
    "400": "HTTP 400 without a reason: S3 answers so to expired credentials, and to requests for another region",
    "403": "",
    "AccessDenied": "",
    "ExpiredToken": "ExpiredToken: the credentials have expired",
    "InvalidToken": "InvalidToken: the session token is not valid",
    "RequestTimeTooSkewed": "RequestTimeTooSkewed: the clock of this machine is wrong",
}


class RemoteFileNotFound(InputError):
    """The file does not exist."""


class RetryableError(Exception):
    """The attempt failed, and another one may succeed. The message is the reason."""


def redact_url(url: str) -> str:
    """The URL without user, password and query, which may be secret."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


@contextmanager
def map_errors(url: str) -> Iterator[None]:
    """Turn any exception of a transport into RemoteFileNotFound, InputError, MesmError or RetryableError."""
    try:
        yield
    except (MesmError, RetryableError):
        raise
    except ImportError:
        package, extra = _INSTALL.get(url.partition("://")[0], ("its fsspec package", ""))
        line = f"pip install 'mesm[{extra}]'" if extra else "see fsspec's documentation"
        raise InputError(f"{redact_url(url)} needs {package}: {line}") from None
    except Exception as error:
        raise _mapped(url, error) from None


def _mapped(url: str, error: Exception) -> MesmError | RetryableError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    name = type(error).__name__
    if isinstance(error, FileNotFoundError) or status in (404, 410):
        return RemoteFileNotFound(f"{redact_url(url)} does not exist")
    code = _s3_code(error)
    if isinstance(error, PermissionError) or status in (401, 403) or name in _NO_CREDENTIALS or code in _DENIED:
        reason = _DENIED.get(code, code)
        denied = f"access denied ({reason})" if reason else "access denied"
        return InputError(f"{redact_url(url)}: {denied}{'' if url.startswith('http') else f'; {_KEYS}'}")
    if isinstance(status, int):
        reason = f"the server responds with HTTP {status}"
        if status in _RETRYABLE_STATUS or status >= 500:
            return RetryableError(reason)
        return MesmError(f"{redact_url(url)}: {reason}")
    # requests and fsspec raise ValueError for a URL that is not valid.
    if isinstance(error, (ValueError, TypeError, NotImplementedError)):
        return InputError(f"{redact_url(url)} cannot be used ({name}): check the URL")
    if isinstance(error, OSError) and error.errno in _FINAL:
        return MesmError(f"{redact_url(url)}: the request is refused ({error.strerror or name})")
    return RetryableError(_reason(error, name))


def _s3_code(error: Exception) -> str:
    """The code of an S3 error, such as ExpiredToken; "400" or "403" of a response without body; "" of other stores."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"\w{1,50}", code) else ""


def _reason(error: Exception, name: str) -> str:
    if "Timeout" in name or isinstance(error, TimeoutError):
        return "the server does not respond, or has stopped sending"
    if any(word in name for word in ("Protocol", "Incomplete", "Chunked", "Payload", "Reset", "Disconnected")):
        return "the connection was interrupted"
    if isinstance(error, OSError) and error.errno in (errno.EBUSY, errno.EREMOTEIO, errno.EIO):
        return "the store is busy, or has failed"
    return f"no connection ({name})"
