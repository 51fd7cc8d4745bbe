"""Guarantee: a fingerprint says which copy of a corpus this is, and what is missing, altered or extra in another."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mesm_data.errors import InputError
from mesm_data.integrity.fingerprint import compare_files, read_reference

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_fingerprint_has_the_lines_of_sha256sum(corpus: Path, mesm_data: Command) -> None:
    done = mesm_data("fingerprint", corpus)
    subprocess.run(["sha256sum", "-c", "--quiet", "--strict"], input=done.stdout, text=True, cwd=corpus, check=True)
    wavs = {str(path.relative_to(corpus)) for path in corpus.rglob("*.wav")}
    assert wavs <= {line.split("  ", 1)[1] for line in done.stdout.splitlines()}
    assert "iemocap" in done.stderr


def test_missing_altered_extra_and_moved_files_are_distinguished(
    corpus: Path, tmp_path: Path, mesm_data: Command
) -> None:
    mesm_data("fingerprint", corpus, "--corpus", "iemocap", "--out", tmp_path / "one.json")
    copy = shutil.copytree(corpus, tmp_path / "Renamed Root")
    same = mesm_data("fingerprint", copy, "--against", tmp_path / "one.json")
    assert same.stdout == ""
    assert "0 missing, 0 altered, 0 extra, 0 moved" in same.stderr
    altered, missing, copied = sorted(copy.glob("Session1/sentences/wav/*/*.wav"))[:3]
    data = bytearray(altered.read_bytes())
    data[-1] ^= 255
    altered.write_bytes(data)
    missing.unlink()
    content = json.loads((tmp_path / "one.json").read_text())
    del content["files"][str(copied.relative_to(copy))]
    (tmp_path / "one.json").write_text(json.dumps(content))
    done = mesm_data("fingerprint", copy, "--against", tmp_path / "one.json", check=False)
    assert done.returncode == 1
    differences = {line.split()[0]: line.split(maxsplit=1)[1].split(":")[0] for line in done.stdout.splitlines()}
    names = {"altered": altered, "missing": missing, "extra": copied}
    assert differences == {kind: str(path.relative_to(copy)) for kind, path in names.items()}


def test_a_moved_file_is_not_a_difference() -> None:
    one = {"a/x.wav": {"sha256": "1" * 64, "size": 3}}
    [difference] = compare_files(one, {"b/x.wav": {"sha256": "1" * 64, "size": 3}})
    assert (difference.kind, difference.path, difference.what) == ("moved", "b/x.wav", "lies at a/x.wav there")


def test_other_folders_and_files_are_refused(tmp_path: Path, mesm_data: Command) -> None:
    (tmp_path / "empty").mkdir()
    assert mesm_data("fingerprint", tmp_path / "empty", check=False).returncode == 2
    for text in ("{}", "[]", '{"fingerprint": 1, "files": {"a": {}}}', '{"fingerprint": 2, "files": {}}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(InputError, match=r"other\.json"):
            read_reference(tmp_path / "other.json")
