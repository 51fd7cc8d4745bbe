"""The Python API for building and verifying, the same as the commands of these names. `mesm_data` exports it.

Datasets are read by `mesm_data.dataset.reader.Dataset`.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from mesm_data.corpora.open_corpus import open_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.features.verification import verify_features
from mesm_data.integrity.content_check import check_content
from mesm_data.integrity.verify import verify as compare
from mesm_data.media.options import detector_options, parse_seconds
from mesm_data.pipeline.build import build_dataset
from mesm_data.storage.progress import Step, no_step

DERIVED = {"corpus", "face_model", "face_library", "split"}  # fields of a recipe that other arguments determine


def build(
    corpus: str | Path,
    out: str | Path,
    *,
    source: str | Path | None = None,
    split: str | Path | None = None,
    workers: int | None = None,
    engine: str = "local",
    overwrite: bool = False,
    face_model: str | Path | None = None,
    **options: Any,
) -> Dataset:
    """Build a dataset, as `mesm-data build` does. The same call resumes an interrupted build.

    The workers are separate processes, so a script must call this below `if __name__ == "__main__":`.

    Args:
        corpus: The name of a corpus (listed by `mesm-data corpora`), or the path of a table or corpus.toml.
        out: The folder of the dataset.
        source: The folder of the corpus, or of a table's media files; by default the folder that $MESM_IEMOCAP (and
            likewise for other corpora) names.
        split: Groups the shards by the parts of this split: a rule, a published list, or the path of lists.
        workers: The number of processes; by default one per core.
        engine: "local", or "ray" for a Ray cluster that shares a file system.
        overwrite: Whether to replace an earlier build in `out`.
        face_model: The ONNX file of the face detector "yunet".
        **options: Options of the recipe: only, limit, clips, video_offset, frame_interval, face_size, face_margin,
            min_face_size, face_detector, sample_rate, shard_bytes. See `mesm_data.dataset.recipe.Recipe`.

    Returns:
        The dataset. An utterance that could not be built raises nothing: `info["counts"]` counts it, and
        `to_pandas()` has its reason.

    Raises:
        InputError: An argument is not valid, or `out` contains something else.
        MesmError: The machine failed, such as a full disk.

    Examples:
        >>> import mesm_data
        >>> dataset = mesm_data.build("iemocap", "data/two", source="corpora/iemocap", limit=2, clips=False, workers=1)
        >>> dataset.info["counts"]["ok"]
        2
    """
    defaults = {field.name: field.default for field in fields(Recipe)}
    valid = defaults.keys() - DERIVED
    if unknown := sorted(options.keys() - valid):
        raise InputError(f"build has no option {unknown[0]!r}: there are {', '.join(sorted(valid))}")
    model = None if face_model is None else Path(face_model)
    source_files = open_corpus(str(corpus), None if source is None else Path(source))
    options = {**defaults, **options, "corpus": source_files.name}
    options["video_offset"] = parse_seconds(str(options["video_offset"]))
    recipe = Recipe(**{**options, **detector_options(options["face_detector"], model)})
    build_dataset(
        source_files,
        Path(out),
        recipe,
        split=None if split is None else str(split),
        workers=workers,
        engine=engine,
        overwrite=overwrite,
        face_model=model,
    )
    return Dataset(out)


def verify(path: str | Path, *, full: bool = False, progress: Step | None = None) -> list[str]:
    """Compare each byte of a dataset's shards and clips with its manifest, as `mesm-data verify` does.

    Args:
        path: The folder of the dataset.
        full: Whether to decode each sample and clip too, if the bytes are right.
        progress: Is called with numbers of bytes read and, with `full`, of samples decoded.

    Returns:
        One sentence per difference; an empty list if there is none.

    Raises:
        InputError: `path` is not a dataset that can be read.

    Examples:
        >>> import mesm_data
        >>> mesm_data.verify("data/iemocap")
        []
    """
    step = progress or no_step
    differences = [*compare(Path(path), step), *verify_features(Path(path), step)]
    if full and not differences:
        differences += check_content(Path(path), step)
    return differences
