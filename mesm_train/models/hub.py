"""Files of models on the Hugging Face Hub, in its cache on this machine."""

from collections.abc import Sequence
from pathlib import Path

from mesm_data.errors import InputError, first_line


def fetch_from_hub(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    """The folder of a model's files, fetched where the cache lacks them (not if HF_HUB_OFFLINE=1).

    Args:
        name: the model's id.
        revision: branch, tag or commit; None: the newest.
        patterns: of the files that are needed.

    Raises:
        InputError: it cannot be had. The message is the reason alone, without the model's name and a full stop.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except RepositoryNotFoundError:
        reason = "there is no such model, or it is private and the account of `hf auth login` does not see it"
    except RevisionNotFoundError:
        reason = f"the model has no revision {revision!r}"
    except LocalEntryNotFoundError:
        obstacle = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
        reason = f"it is not in the cache {constants.HF_HUB_CACHE}, and {obstacle}"
    except Exception as error:  # those of its HTTP client, which is another one in every major version, and OSError
        reason = first_line(error).removesuffix(".")
    raise InputError(reason)
