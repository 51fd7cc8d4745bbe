"""Inference of the schema of a table: which columns are labels, and of which type."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mesm_data.corpora.table.scan import STRUCTURE
from mesm_data.schema.built_in import built_in_names
from mesm_data.schema.corpus import RESERVED_LABELS, CorpusSchema
from mesm_data.schema.labels import MISSING_CELLS

if TYPE_CHECKING:
    import pandas as pd

MAX_VALUES = 50  # distinct words of a category
# Integers under one of these headers are class codes, not measurements.
CLASS_HEADERS = frozenset(("emotion", "emo", "label", "class", "category", "annotation", "discrete"))
FOLDS = 5
# Columns of common manifests that describe the file, not the speaker.
TECHNICAL = frozenset(
    (
        "samplerate",
        "samplingrate",
        "numframe",
        "numframes",
        "numsamples",
        "type",
        "task",
        "dataset",
        "wavformat",
        "wavopts",
        # of `mesm-data table`: the number of words, and the files of the utterance alone
        "words",
        "utteranceaudio",
        "utterancevideo",
    )
)


def infer_schema(frame: "pd.DataFrame", path: Path) -> tuple[CorpusSchema, tuple[str, ...]]:
    """Infer the schema of a table, and notes that list the interpretation of each column.

    A column of numbers is a number. A column with at most 50 distinct words, each in at least two rows on average, is a
    category. Other columns are not used. Every label becomes a view of the same name.
    """
    labels: dict[str, Any] = {}
    unused: list[str] = []
    for header in frame.columns:
        if header in STRUCTURE:
            continue
        if re.sub(r"[^a-z]", "", header.lower()) in TECHNICAL:
            unused.append(header)
            continue
        scheme = _scheme(header, frame[header])
        name = _name(header)
        if scheme is None or name in labels or name in RESERVED_LABELS:
            unused.append(header)
        else:
            labels[name] = scheme if name == header else {**scheme, "column": header}
    views = {
        name: {"label": name} if scheme["type"] == "category" else {"labels": [name]} for name, scheme in labels.items()
    }
    name = _name(path.stem)
    name += "_table" if name in built_in_names() else ""  # it has not that corpus' views, splits and terms
    data = {"name": name, "labels": labels, "views": views, "splits": _splits(frame)}
    notes = [
        f"label {name}: {_describe(scheme)}{_note_no_value(scheme, frame[scheme.get('column', name)])}"
        for name, scheme in labels.items()
    ]
    if unused:
        notes.append(f"columns that are not used: {', '.join(map(str, unused))}")
    return CorpusSchema.parse(data, str(path)), tuple(notes)


def _scheme(header: str, column: "pd.Series[str]") -> dict[str, Any] | None:
    cells = column.str.strip()
    cells = cells[~cells.str.lower().isin(MISSING_CELLS)]
    if cells.empty:
        return None
    values = sorted(cells.unique())
    is_class = _name(header).lower() in CLASS_HEADERS
    if cells.str.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?").all():
        whole = cells.str.fullmatch(r"\d+").all()
        if not (is_class and whole and len(values) <= MAX_VALUES):
            return {"type": "number"}
        values = sorted(values, key=int)
    if len(values) <= MAX_VALUES and (is_class or 2 * len(values) <= len(cells)):
        return {"type": "category", "values": values}
    return None


def _name(header: str) -> str:
    """Turn a header into the name of a label: letters, digits, "_" and "-", starting with a letter."""
    text = re.sub(r"[^A-Za-z0-9_-]+", "_", header).strip("_-")[:60]
    return text if re.match(r"[A-Za-z]", text) else f"label_{text}"


def _splits(frame: "pd.DataFrame") -> dict[str, Any]:
    splits: dict[str, Any] = {}
    if "split" in frame.columns and frame["split"].str.strip().any():
        splits["official"] = {"rule": "column", "title": "The table's own split"}
    groups = frame["speaker"].str.strip() if "speaker" in frame.columns else None
    if groups is not None and (number := int(groups[groups != ""].nunique())) >= 3 and (groups != "").all():
        title = "Folds of speakers: one tests, the next one validates, the others train; no speaker is in two parts"
        splits["speaker"] = {"rule": "group_kfold", "group": "speaker", "k": min(FOLDS, number), "title": title}
    splits["dialog"] = {
        "rule": "hash", "group": "dialog",
        "title": "A dialog (else a file) falls by sha256 of its name: 80 % train, 10 % valid, 10 % test",
    }  # fmt: skip
    return splits


def _note_no_value(scheme: dict[str, Any], column: "pd.Series[str]") -> str:
    """Words that may be a category, such as none, and are read as an empty cell."""
    words = column.str.strip()
    words = words[words.str.lower().isin(MISSING_CELLS - {""})]
    if scheme["type"] == "number" or words.empty:
        return ""
    names = ", ".join(sorted(words.unique()))
    return f"; {len(words)} cells with {names} have no value, unless a corpus.toml has {names} among the values"


def _describe(scheme: dict[str, Any]) -> str:
    if scheme["type"] == "number":
        return "a number"
    values = scheme["values"]
    return f"one of {len(values)} categories ({', '.join(values[:8])}{' …' if len(values) > 8 else ''})"
