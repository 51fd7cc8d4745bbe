"""What is worth saying of a dataset, in words: for its page, its card on the Hub and its Croissant description."""

from collections.abc import Mapping
from typing import Any

from mesm_data.schema.corpus import CorpusSchema

SYNTHETIC = (
    "A program made this corpus (`mesm-data sample`). No person was recorded, and nothing measured on it says anything "
    "about people."
)


def collection(info: Mapping[str, Any], schema: CorpusSchema) -> str:
    """Where the data come from. `info`: dataset.json."""
    if info["synthetic"]:
        return f"{SYNTHETIC} It has the layout of {schema.title or schema.name}."
    release = f", release {schema.release}" if schema.release else ""
    reference = f" {schema.reference}." if schema.reference else ""
    return f"Utterances of {schema.title or schema.name}{release}.{reference}"


def preprocessing(info: Mapping[str, Any]) -> str:
    """How raw recordings became samples."""
    recipe = info["recipe"]
    return (
        f"Each utterance is cut from its recording. One face crop, {recipe['face_size']} pixels wide and high, "
        f"every {recipe['frame_interval']} s, found by {recipe.get('face_detector', 'mtcnn')} (faces of at least "
        f"{recipe['min_face_size']} pixels; where none is found, the centre of the picture stands in). Mono sound of "
        f"{recipe['sample_rate']} Hz, 16 bit. Transcripts in Unicode NFC."
    )


def annotation(schema: CorpusSchema) -> str:
    """What the labels are."""
    schemes = [
        f"{name} ({scheme.type}{f': {scheme.title}' if scheme.title else ''})" for name, scheme in schema.labels.items()
    ]
    rated = f" Each rater's own value is kept for {', '.join(schema.ratings)}." if schema.ratings else ""
    return f"Labels: {'; '.join(schemes) or 'none'}.{rated}"


def missing(summary: Mapping[str, Any]) -> str:
    """What is not there, and why. `summary`: see mesm_data.dataset.summary.inspect."""
    counts = summary["counts"]
    reasons = ", ".join(f"{reason}: {count}" for reason, count in list(summary["reasons"].items())[:10])
    rate = summary["detection_rate"]
    faces = "" if rate is None else f" A face was detected in {100 * rate:.1f} % of the frames."
    why = f" ({reasons})" if reasons else ""
    return (
        f"Of {counts['total']} utterances {counts['failed']} could not be built and {counts['excluded']} were excluded"
        f"{why}.{faces}"
    )


def balance(summary: Mapping[str, Any]) -> str:
    """How classes and speakers are distributed."""
    views = [
        f"{name}: {', '.join(f'{label} {count:g}' for label, count in view['classes'].items())}"
        for name, view in summary["views"].items()
        if view["task"] != "number"
    ]
    speakers = summary["speakers"]
    largest = f", the most frequent one with {next(iter(speakers.values()))} utterances" if speakers else ""
    return f"Utterances by class of each label view: {'; '.join(views) or 'none'}. {len(speakers)} speakers{largest}."


def leaking_splits(summary: Mapping[str, Any]) -> str:
    """Which splits have parts that share speakers or dialogs."""
    leaking = [
        f"{name} ({split['leaks']['speakers']} speakers and {split['leaks']['dialogs']} dialogs in several parts)"
        for name, split in summary["splits"].items()
        if "leaks" in split and any(split["leaks"].values())
    ]
    return f"Splits whose parts are not independent: {'; '.join(leaking)}." if leaking else "No known split leaks."


def limitations(summary: Mapping[str, Any]) -> str:
    """What a user of the data should know."""
    return f"{SYNTHETIC} {leaking_splits(summary)}" if summary["synthetic"] else leaking_splits(summary)


def personal_information(info: Mapping[str, Any]) -> str:
    """Whether people can be recognised."""
    if info["synthetic"]:
        return "None: faces are rendered, voices are synthesised, names are made up."
    return "Faces, voices and transcripts of the people recorded, who can be recognised; emotion labels about them."


def size_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Counts for a table."""
    seconds, rate = summary["seconds"], summary["detection_rate"]
    facts = [
        ("duration", f"{seconds['total'] / 3600:.2f} h; mean {seconds['mean']} s, longest {seconds['longest']} s"),
        ("speakers", str(len(summary["speakers"]))),
        ("face crops", f"{summary['faces']}, of which a face was detected in {100 * (rate or 0):.1f} %"),
    ]
    return facts if seconds["mean"] is not None else facts[1:]
