"""What lies on disk, as rows of utterances. No media is decoded here."""

from pathlib import Path

from mesm_data.corpora.base import Corpus


def scan(name: str, root: Path) -> Corpus:
    """Scan the corpus `name` at `root`: itself, the processed release of the paper's authors, or MMSA's copy of MOSEI.

    Raises InputError if none of them is there.
    """
    from mesm_data.corpora import iemocap, mmsa, mosei, processed

    release = processed.find(name, root)
    if release is not None:
        return processed.scan(name, release)
    if name == "mosei" and (layout := mmsa.find(root)):
        return mmsa.scan(layout)
    return {"iemocap": iemocap.scan, "mosei": mosei.scan}[name](root)
