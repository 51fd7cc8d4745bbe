"""Builds of CMU-MOSEI: ids that look like options, and the counts. Media are test patterns with a tone."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mosei_trees import LABELS, SOUND, TRANSCRIPTS, VIDEOS, answer, put, table

from mesm_data.corpora.mosei.ratings import EMOTIONS
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.manifest import read_table_rows
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.dataset.summary import inspect
from mesm_data.integrity.content_check import check_content
from mesm_data.integrity.verify import verify
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset

IDS = ["-3g5yACwYnA", "--qXJuDtHPw", "_0efYOjQYRc", "FcAgbLF6__s", "188343"]


def make(path: Path, *options: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([ffmpeg_binary(), "-v", "error", *options, f"file:{path}"], check=True)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two-second videos with three clips: the second starts below 0, the third is unrated, a fourth has no times."""
    root = tmp_path_factory.mktemp("mosei") / "Raw"
    rows = []
    for video in IDS:
        make(root / VIDEOS / f"{video}.mp4", "-f", "lavfi", "-i", "testsrc2=s=128x96:r=10:d=2")
        make(root / SOUND / f"{video}.wav", "-f", "lavfi", "-i", "sine=r=16000:d=2", "-ac", "2")
        lines = [f"{video}___1___0.5___1.5___One.", f"{video}___0___-0.25___2.5___Zero.", f"{video}___10___1___2___No."]
        put(root / TRANSCRIPTS / f"{video}.txt", "\n".join(lines))
        rows += [answer(f"dir/{video}", clip, rater, happiness=clip) for clip in (0, 1, 2) for rater in range(3)]
    put(root / LABELS / "5000_batch_raw.csv", table(rows))
    return root


@pytest.fixture(scope="module")
def built(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("built") / "dataset"
    return out, build_dataset(scan_corpus("mosei", raw), out, Recipe(corpus="mosei"), workers=1)


def test_every_clip_ends_as_ok_failed_or_excluded_and_ids_like_options_are_built(
    built: tuple[Path, dict[str, Any]],
) -> None:
    out, info = built
    assert info["counts"] == {"total": 20, "ok": 10, "failed": 5, "excluded": 5}
    rows = {row["key"]: row for row in read_table_rows(out / "manifest.parquet")}
    assert len(rows) == 20
    for video in IDS:
        one, zero = rows[f"{video}_1"], rows[f"{video}_0"]
        assert (one["status"], one["audio"], one["video"]) == ("ok", "ok", "ok")
        assert (one["n_samples"], one["n_faces"]) == (16_000, 2)
        # Past the end of the video and its sound.
        assert (zero["status"], zero["audio"], zero["video"], zero["n_samples"]) == ("ok", "partial", "partial", 32_000)
        assert (rows[f"{video}_10"]["status"], rows[f"{video}_10"]["reason"]) == ("excluded", "unlabelled")
        assert rows[f"{video}_2"]["status"] == "failed"
        assert "no times" in rows[f"{video}_2"]["reason"]
        assert rows[f"{video}_2"]["labels"]["happiness"] == 2.0
        assert rows[f"{video}_10"]["labels"] == {**dict.fromkeys(EMOTIONS), "sentiment": None, "raters": []}
    assert list(verify(out)) == []
    assert list(check_content(out)) == []


def test_inspect_counts_the_emotions(built: tuple[Path, dict[str, Any]]) -> None:
    summary = inspect(built[0])
    assert {name for name, count in summary["views"]["six"]["classes"].items() if count} == {"happiness"}
    assert summary["views"]["six"]["utterances"] == summary["counts"]["ok"]


def test_a_sample_contains_its_labels_by_name_and_no_ids_of_workers(built: tuple[Path, dict[str, Any]]) -> None:
    out, _ = built
    sample = Dataset(out)["--qXJuDtHPw_1"]
    record = sample.record
    assert (record["dialog"], record["speaker"], record["text"]) == ("--qXJuDtHPw", "--qXJuDtHPw", "One.")
    assert record["labels"]["happiness"] == 1.0
    assert [rater["happiness"] for rater in record["labels"]["raters"]] == [1.0, 1.0, 1.0]
    assert all("WORKER" not in path.read_bytes().decode("latin-1") for path in (out / "shards").iterdir())
    json.dumps(record, allow_nan=False)
