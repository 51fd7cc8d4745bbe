"""Another package can add a corpus, and the message for an unknown corpus lists all corpora."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.corpora.registry import corpus_names, find_scan
from mesm_data.corpora.table.table_file import read_table
from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows, schema_from_info
from mesm_data.errors import InputError

MODULE = """
from pathlib import Path

import pandas as pd

from mesm_data.schema.recordings import Corpus
from mesm_data.corpora.table.scan import corpus_from_table
from mesm_data.schema.corpus import CorpusSchema

SCHEMA = CorpusSchema.parse(
    {"name": "tones", "licence": {"name": "CC0", "redistribution": True},
     "labels": {"pitch": {"type": "category", "values": ["low", "high"]}}, "views": {"pitch": {"label": "pitch"}}},
    "tones",
)


def scan(root: Path) -> Corpus:
    files = sorted(path.name for path in root.glob("*.wav"))
    frame = pd.DataFrame({"audio": files, "pitch": [name.split("_")[0] for name in files]})
    return corpus_from_table(frame, SCHEMA, root, where=str(root))
"""


def test_a_corpus_of_another_package_is_built_by_its_name(tmp_path: Path) -> None:
    """Installed as by pip: a module, and an entry point in the package's metadata."""
    import numpy as np
    import soundfile

    site = tmp_path / "site"
    (site / "tones-1.0.dist-info").mkdir(parents=True)
    (site / "tones_corpus.py").write_text(MODULE)
    (site / "tones-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: tones\nVersion: 1.0\n")
    (site / "tones-1.0.dist-info" / "entry_points.txt").write_text("[mesm.corpora]\ntones = tones_corpus:scan\n")
    (tmp_path / "media").mkdir()
    for name, hertz in (("low_1", 200), ("high_1", 2000)):
        sound = (3000 * np.sin(np.arange(16_000) * 2 * np.pi * hertz / 16_000)).astype(np.int16)
        soundfile.write(tmp_path / "media" / f"{name}.wav", sound, 16_000)
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from mesm_cli.data import main; main()"

    def run(*words: object) -> str:
        command = [sys.executable, "-c", program, str(site), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "tones" in run("corpora")
    run("build", "tones", "--source", tmp_path / "media", "--out", tmp_path / "out", "--no-video", "--workers", 1)
    described = read_dataset_info(tmp_path / "out")
    assert (described["corpus"], described["counts"]["ok"]) == ("tones", 2)
    # Nothing of the package is needed any more.
    assert schema_from_info(tmp_path / "out", described).view("pitch").classes == ("low", "high")
    assert {row["labels"]["pitch"] for row in read_manifest_rows(tmp_path / "out", described)} == {"low", "high"}


def test_an_unknown_corpus_is_refused_with_the_list_of_known_ones() -> None:
    assert {"crema-d", "iemocap", "meld", "mosei", "mosi", "ravdess"} <= set(corpus_names())
    with pytest.raises(InputError, match=r"no corpus 'iemocapp': did you mean iemocap\? There are .*; or give a table"):
        find_scan("iemocapp")


def test_iemocap_can_be_converted_to_a_table(
    corpus: Path, tmp_path: Path, mesm_data: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    out = tmp_path / "iemocap.parquet"
    mesm_data("table", "iemocap", "--source", corpus, "-o", out)
    frame = read_table(out)
    assert frame["id"].tolist() == [utterance.id for utterance in scan_corpus("iemocap", corpus).utterances()]
    row = frame[frame["id"] == frame["id"].min()].iloc[0]
    assert row["video"].startswith("Session1/dialog/avi/DivX/")
    assert row["utterance_audio"].startswith("Session1/sentences/wav/")
    assert row["channel"] in ("1", "2")
    assert set(frame["session"]) <= {"1", "2", "3", "4", "5"}
    assert set(frame["emotion"]) <= {"ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx"}
