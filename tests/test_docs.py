"""The documentation builds as a site, offline and without a warning, and its menu names every page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nothing_of_other_hosts(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    pages = {str(path.relative_to(tmp_path / "site")): path.read_text() for path in tmp_path.rglob("*.html")}
    assert "mesm-data build" in pages["reference/mesm-data.html"]
    assert "optim.lr" in pages["reference/settings.html"]
    assert "frame_interval" in pages["reference/json-files.html"]
    assert "mesm_data.pipeline.api.build" in pages["reference/python.html"]
    for name, page in pages.items():
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\bsrc="(https?:[^"]*)', page)
        loaded += re.findall(r'<link[^>]*\brel="(?:stylesheet|preload|icon)"[^>]*\bhref="(https?:[^"]*)', page)
        assert not loaded, name


def test_every_page_is_in_the_menu() -> None:
    menu = (REPOSITORY / "mkdocs.yml").read_text()
    for page in (REPOSITORY / "docs").rglob("*.md"):
        assert f": {page.relative_to(REPOSITORY / 'docs')}\n" in menu, page.name
