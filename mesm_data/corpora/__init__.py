"""What lies on disk, as rows of utterances. No media is opened here."""

from pathlib import Path

from mesm_data.corpora.base import Corpus


def scan(name: str, root: Path) -> Corpus:
    """Scan the corpus `name` at `root`. Raises InputError if it is not there."""
    from mesm_data.corpora import iemocap, mosei

    return {"iemocap": iemocap.scan, "mosei": mosei.scan}[name](root)
