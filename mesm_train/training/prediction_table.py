"""predictions-<part>.parquet of a run: what a model predicted of each utterance, beside what is true."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mesm_data.dataset.manifest import read_table
from mesm_data.errors import InputError
from mesm_data.storage.files import atomic_write
from mesm_train.data.labels import Heads
from mesm_train.evaluation.metrics import Floats
from mesm_train.training.evaluation import Predictions


def write_predictions(path: Path, heads: Heads, predictions: Predictions, fold: str) -> None:
    """Write the table of a part.

    Columns: key; fold (the split's name); for each class logit_<class> and label_<class> (0 or 1), of shares also
    share_<class>; for each number prediction_<name> and target_<name>.
    """
    columns: dict[str, Any] = {"key": list(predictions.keys), "fold": [fold] * len(predictions.keys)}
    for head in heads.heads:
        for index, name in zip(range(head.columns.start, head.columns.stop), head.outputs, strict=True):
            if head.kind == "number":
                columns[f"prediction_{name}"] = predictions.logits[:, index]
                columns[f"target_{name}"] = predictions.targets[:, index]
                continue
            columns[f"logit_{name}"] = predictions.logits[:, index]
            columns[f"label_{name}"] = predictions.labels[:, index]
            if head.view.soft:
                columns[f"share_{name}"] = predictions.targets[:, index]
    metadata = {"mesm": json.dumps({"labels": heads.summary(), "fold": fold})}
    with atomic_write(path) as file:
        pq.write_table(pa.table(columns, metadata=metadata), file)


def read_numbers(path: Path, *column_sets: Sequence[str]) -> tuple[tuple[str, ...], list[Floats]]:
    """Read the keys of a table, and for each of `column_sets` the numbers in these columns, float64 (n, columns).

    Raises:
        InputError: The file cannot be read, lacks a column, or a column holds anything but numbers.
    """
    table = read_table(path)
    names = ("key", *(name for columns in column_sets for name in columns))
    if missing := [name for name in names if name not in table.column_names]:
        raise InputError(f"{path} has no column {missing[0]!r}")
    try:
        numbers = [np.stack([np.asarray(table[name], np.float64) for name in columns], 1) for columns in column_sets]
    except (ValueError, TypeError):
        raise InputError(f"{path} is damaged: its columns of {', '.join(names[1:])} hold more than numbers") from None
    return tuple(map(str, table["key"].to_pylist())), numbers
