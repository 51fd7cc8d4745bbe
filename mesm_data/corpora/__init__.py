"""What lies on disk, as rows of utterances. No media is decoded here."""

from pathlib import Path

from mesm_data.corpora.base import Corpus


def scan(name: str, root: Path) -> Corpus:
    """Scan the corpus `name` at `root`: the corpus itself, or the processed release of the paper's authors.

    Raises InputError if neither is there.
    """
    from mesm_data.corpora import iemocap, mosei, processed

    release = processed.find(name, root)
    if release is not None:
        return processed.scan(name, release)
    return {"iemocap": iemocap.scan, "mosei": mosei.scan}[name](root)
