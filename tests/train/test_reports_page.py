"""Every command of docs/reports.md works as it stands there; `app` and `browse` serve, and are run by test_app.py."""

import re
import shlex
from pathlib import Path

import pytest
from mesm_cli import data, train
from typer.testing import CliRunner

from mesm_train.explain import occlusion
from mesm_train.report.record import read_record

PAGE = Path(__file__).parents[2] / "docs" / "reports.md"
PROGRAMS = {"mesm-data": data.app, "mesm-train": train.app}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    lines = [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("mesm-")]


def test_the_page_on_reports(
    trained_run: Path, dataset: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions = read_record(trained_run).predictions
    assert predictions is not None
    keys = predictions.keys[:2]
    places = {"runs/demo-mesm": trained_run, "runs/demo-fe2e": trained_run, "clip.wav": min(corpus.rglob("*_F000.wav"))}
    places |= {f"data/iemocap{year}": dataset for year in ("", "-2025", "-2026")}
    for name, target in places.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    for limit in ("MAX_WORDS", "MAX_FACES", "MAX_STRETCHES"):  # test_explain.py takes all parts away
        monkeypatch.setattr(occlusion, limit, 2)
    served = 0
    for line in commands():
        here = line.replace("/data/", "data/").replace("Ses01F_impro01_F000,Ses01F_impro01_M001", ",".join(keys))
        here = here.replace("data/iemocap/croissant.json", "croissant.json").replace("clip.mp4", "clip.wav")
        program, *arguments = shlex.split(here)
        if arguments[0] in ("app", "browse"):
            served += 1
            continue
        done = CliRunner().invoke(PROGRAMS[program], arguments)
        assert done.exit_code == 0, f"{line}: {done.exception} {done.output}"
    assert served == 2
    for name in ("comparison.html", "clip.html", "iemocap.html", "croissant.json"):
        page = (tmp_path / name).read_text()
        assert len(page) > 1000
        assert "&lt;br" not in page, name  # markup that is shown as text
