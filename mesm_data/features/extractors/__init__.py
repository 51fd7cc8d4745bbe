"""The extractors by name, and the one that a command line asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.features.base import Extractor, SampleExtractor

KINDS = {
    "egemaps": "25 eGeMAPS descriptors of the sound by openSMILE (research licence), mean and deviation over 0.4 s",
    "hog": "histograms of oriented gradients of the face crops and the faces' boxes",
    "hog-landmarks": "the same and the five landmarks of MTCNN, located in the crops",
    "glove": "word vectors: GloVe 6B of 50 numbers, or the text file --from",
    "covarep-csd": "COVAREP of the CMU-MultimodalSDK: the .csd file --from, joined by time",
    "facet-csd": "FACET of the CMU-MultimodalSDK: the .csd file --from, joined by time",
    "openface-csv": "action units of OpenFace: the folder of CSV files --from, joined by time",
    "disvoice-csv": "DisVoice's features: the CSV file --from, one row per utterance, or --hop seconds between rows",
}


def open_extractor(
    kind: str, *, source: Path | None = None, window: float | None = None, hop: float | None = None
) -> Extractor:
    """The extractor `kind`: one of KINDS, or the path of a matrix of one's own.

    Args:
        kind: What `--with` says.
        source: What `--from` says: the file or folder that features are taken from.
        window: Seconds over which rows are pooled; 0: not at all; None: as the kind's default.
        hop: Seconds between the rows of a table without times.

    Raises:
        InputError: There is no such kind, or an option does not go with it.
    """
    if hop is not None and kind in KINDS and kind != "disvoice-csv":
        raise InputError("--hop goes with tables: disvoice-csv, or a file of your own")
    if window is not None and kind in ("hog", "hog-landmarks", "glove"):
        raise InputError(
            f"--window does not go with {kind}: it has one row per {'word' if kind == 'glove' else 'crop'}"
        )
    if kind in ("covarep-csd", "facet-csd", "openface-csv", "disvoice-csv") and source is None:
        raise InputError(f"--with {kind} needs --from: {KINDS[kind]}")
    if kind in ("egemaps", "hog", "hog-landmarks") and source is not None:
        raise InputError(f"--with {kind} computes from the shards: leave --from out")
    if source is not None and not source.exists():
        raise InputError(f"--from {source} does not exist")
    if kind == "egemaps":
        from mesm_data.features.extractors.egemaps import EGeMAPS

        return EGeMAPS() if window is None else EGeMAPS(window=window)
    if kind in ("hog", "hog-landmarks"):
        from mesm_data.features.extractors.hog import HOG

        return HOG(kind=kind)
    if kind == "glove":
        from mesm_data.features.extractors.glove import GloVe

        return GloVe(file=None if source is None else str(source.absolute()))
    file = "" if source is None else str(source.absolute())
    if kind in ("covarep-csd", "facet-csd"):
        from mesm_data.features.extractors.csd import CSD

        return CSD(file=file, what=kind.removesuffix("-csd"), window=window or 0.0)
    if kind == "openface-csv":
        from mesm_data.features.extractors.openface import OpenFace

        return OpenFace(folder=file, window=window or 0.0)
    from mesm_data.features.extractors.table import Table

    if kind == "disvoice-csv":
        return Table(file=file, kind=kind, hop=hop, window=window or 0.0)
    if not Path(kind).is_file():
        raise InputError(f"--with {kind}: no such file, and not one of {', '.join(KINDS)}")
    return Table(file=str(Path(kind).absolute()), hop=hop, window=window or 0.0)


def sample_extractor(name: str, kind: str, config: Mapping[str, Any], vectors: Path | None = None) -> SampleExtractor:
    """The extractor of a feature set for samples that its dataset does not hold.

    Args:
        name: The set's name, for messages.
        kind: Of the set, as in features.json.
        config: Likewise.
        vectors: The text file of GloVe, of a set that was computed from one (`reads_vectors`).

    Raises:
        InputError: The features of a further sample cannot be computed, and why; or a library is missing.
    """
    if kind == "encoder":
        raise InputError(
            f"the feature set {name!r} is computed by the pretrained encoder {config.get('encoder')}, which is not "
            "kept with the run: a model that reads it directly (sound.encoder, faces.encoder with lr_factor 0) takes "
            "any clip"
        )
    if reads_vectors(kind, config):
        return _glove_of_file(name, config, vectors)
    if kind not in ("egemaps", "hog", "glove"):
        source = KINDS.get(kind, "features of a file of your own").partition(":")[0]
        raise InputError(
            f"the feature set {name!r} is of the kind {kind} ({source}): it was read from a file and cannot be "
            "computed from a clip. Sets that can: egemaps (sound), hog (faces), glove (text)"
        )
    extractor = open_extractor(kind, window=config.get("window"))
    assert isinstance(extractor, SampleExtractor)
    if (now := extractor.describe().config) != dict(config):
        raise InputError(
            f"the feature set {name!r} was computed by another version of mesm, with other options: {dict(config)}; "
            f"this version has {now}"
        )
    return extractor


def reads_vectors(kind: str, config: Mapping[str, Any]) -> bool:
    """Whether a feature set was computed from a text file of GloVe."""
    return kind == "glove" and "sha256" in config


def _glove_of_file(name: str, config: Mapping[str, Any], vectors: Path | None) -> SampleExtractor:
    """GloVe from the text file that a set was computed from; raises InputError if `vectors` is not that file."""
    from mesm_data.features.extractors.glove import GloVe

    needed = f"the text file {config.get('vectors')} (sha256 {config['sha256'][:12]}…)"
    if vectors is None:
        raise InputError(
            f"the feature set {name!r} has the word vectors of {needed}, of which only the words of its dataset are "
            "kept: give that file with --glove (`glove` in Python)"
        )
    extractor = GloVe(file=str(vectors.absolute()))
    if (digest := extractor.describe().config["sha256"]) != config["sha256"]:
        raise InputError(f"{vectors} (sha256 {digest[:12]}…) is another file: the feature set {name!r} is of {needed}")
    return extractor


def default_name(kind: str) -> str:
    """The name of a set without `--name`: the kind without its file format, or the file's stem."""
    return kind.removesuffix("-csd").removesuffix("-csv") if kind in KINDS else Path(kind).stem
