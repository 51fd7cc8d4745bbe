"""Guarantee: whatever files and folders are called, and in any locale, a build ends as a dataset and can be retried."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from mesm_data.dataset.dataset_dir import read_dataset_info, read_manifest_rows
from mesm_data.pipeline.source_record import load_source_index


def test_a_build_completes_with_names_that_are_not_utf8_and_in_an_ascii_locale(
    corpus: Path, tmp_path: Path, mesm_data: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    source = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xbc 100%")
    shutil.copytree(corpus, source, symlinks=True)
    for name in (b"caf\xe9.txt", b"caf\xc3\xa9.txt"):
        (next(source.glob("Session*/dialog/transcriptions")) / os.fsdecode(name)).touch()
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    options = ("--only", "*_F000", "--limit", "1", "--no-video")
    for number, process in enumerate(({}, {"env": ascii_only})):
        out = tmp_path / os.fsdecode(b"out \xe9 %d" % number)
        mesm_data("build", "iemocap", "--source", source, "--out", out, *options, **process)
        info = read_dataset_info(out)
        [built] = [row for row in read_manifest_rows(out, info) if row["status"] == "ok"]
        assert (built["audio"], built["video"], built["reason"]) == ("ok", "ok", None)
        noted = [note for note in info["notes"] if "not text in" in note]
        assert any("transcriptions/caf\\xe9.txt" in note for note in noted)
        mesm_data("inspect", out, **process)
        known = load_source_index(out)
        assert known is not None
        assert known[0] == source.resolve()
        assert "nothing to retry" in mesm_data("retry", out, **process).stderr
