"""The commands of docs/reports.md work as they stand there."""

from dataclasses import replace
from pathlib import Path

import pytest
from documented_elsewhere import commands_to_run
from page_commands import put, run_page_command

from mesm_train.explain import occlusion
from mesm_train.report.record import read_record


def test_the_page_on_reports(
    trained_run: Path, dataset: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = read_record(trained_run).predictions
    assert predictions is not None
    keys = predictions.keys[:2]
    places = {"runs/demo-mesm": trained_run, "runs/demo-fe2e": trained_run, "clip.wav": min(corpus.rglob("*_F000.wav"))}
    places |= {f"data/iemocap{year}": dataset for year in ("", "-2025", "-2026")}
    put(tmp_path, places)
    monkeypatch.chdir(tmp_path)
    for limit in ("MAX_WORDS", "MAX_FACES", "MAX_STRETCHES"):  # test_explain.py takes all parts away
        monkeypatch.setattr(occlusion, limit, 2)
    names = {"Ses01F_impro01_F000,Ses01F_impro01_M001": ",".join(keys), "clip.mp4": "clip.wav"}
    names["/data/iemocap/croissant.json"] = "croissant.json"  # not into the dataset of other tests
    for command in commands_to_run("docs/reports.md"):
        run_page_command(replace(command, words=tuple(names.get(word, word) for word in command.words)))
    for name in ("comparison.html", "clip.html", "iemocap.html", "croissant.json"):
        page = (tmp_path / name).read_text()
        assert len(page) > 1000
        assert "&lt;br" not in page, name  # markup that is shown as text
