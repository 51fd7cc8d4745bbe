"""The commands of docs/sharing.md work as they stand there, with an S3 server on this machine."""

import shutil
from pathlib import Path

import pytest
from documented_elsewhere import commands_to_run
from page_commands import run_page_command
from sharing_servers import Store

from mesm_data.integrity.verify import verify


def test_the_page_on_sharing(dataset: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(dataset, "data/iemocap")
    for command in commands_to_run("docs/sharing.md"):
        run_page_command(command)
    assert {path.name for path in Path("srv/iemocap-recipe").iterdir()} >= {"README.md", "splits.json", "recipe.lock"}
    assert list(verify(Path("data/iemocap-copy"))) == []
