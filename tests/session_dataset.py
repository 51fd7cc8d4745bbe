"""A small dataset of five sessions, so that the splits and folds that the pages name can be trained and tested."""

import shutil
from pathlib import Path
from typing import Any

from mesm_data.dataset.dataset_dir import write_dataset
from mesm_data.dataset.parts import PartWriter, open_part
from mesm_data.dataset.reader import Dataset
from mesm_data.pipeline.unpack import without_places
from mesm_data.storage.json_files import canonical_json, read_json

LABELS = ("ang", "exc", "fru", "hap", "neu", "sad")
FACTS = ("corpus", "schema", "recipe", "toolchain", "synthetic", "source", "notes", "findings")


def write_sessions(source: Path, out: Path) -> None:
    """Write a dataset of ten speakers with one utterance of each of the six classes.

    Args:
        source: The synthetic IEMOCAP. Its six shortest utterances are said by all speakers.
        out: A new folder.
    """
    dataset = Dataset(source)
    shortest = sorted(dataset.keys, key=lambda key: dataset.rows[key]["n_samples"])[: len(LABELS)]
    rows = []
    (out / "parts").mkdir(parents=True)
    with open_part(out / "parts", "all", clips=False) as part:
        for speaker in (f"Ses0{session}{sex}" for session in range(1, 6) for sex in "FM"):
            for number, key in enumerate(shortest):
                rows.append(_write_sample(part, dataset, key, speaker, number))
    info = read_json(source / "dataset.json")
    facts = {name: info[name] for name in FACTS}
    write_dataset(out, out / "parts", rows, facts, limit=2**20, step=lambda _: None)
    shutil.rmtree(out / "parts")


def _write_sample(part: PartWriter, dataset: Dataset, key: str, speaker: str, number: int) -> dict[str, Any]:
    """The utterance `key` as that of another speaker, with class `number`. Returns its row."""
    dialog = f"{speaker[:5]}F_impro01"
    name = f"{dialog}_{speaker[5]}{number:03}"
    labels = {**dataset.rows[key]["labels"], "emotion": LABELS[number]}
    names = {
        "dialog": dialog, "speaker": speaker, "session": speaker[4], "start": 9.0 * number, "end": 9.0 * number + 5,
        "labels": labels,
    }  # fmt: skip
    members = {extension: bytes(dataset.member(key, extension)) for extension in ("faces.npy", "txt", "wav")}
    members["json"] = canonical_json({**dataset[key].record, **names, "id": name})
    row = {
        **without_places(dataset.rows[key]),
        **names,
        "key": name,
        "id": name,
        "recording": dialog,
        "source": "all",
        "group": "all",
    }
    return {**row, "source": "all", "group": "all", **part.add(name, members)}
