"""What a person sees who gives the wrong thing: one sentence, the right exit code, nothing half-written."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., "subprocess.CompletedProcess[str]"]
FEW = ("--only", "*_[FM]000", "--workers", "1", "--no-video")


def sentence(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The error message. Checks that it is the only line on stderr and that stdout is empty."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code, done.stderr
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture(scope="module")
def few(once: Callable[[str, Callable[[Path], None]], Path], mesm_data: Command, corpus: Path) -> Path:
    """A dataset of a few utterances."""
    return once("few", lambda out: mesm_data("build", "iemocap", "--source", corpus, "--out", out, *FEW) and None)


@pytest.fixture
def own(few: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(few, tmp_path / "own"))


def test_sources_that_are_not_iemocap_are_refused(mesm_data: Command, tmp_path: Path, out: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "videos").mkdir()
    for name, expected in {
        "missing": "No such file",
        "file": "is a file",
        "empty": "found nothing",
        "other": "found videos/",
    }.items():
        done = mesm_data("build", "iemocap", "--source", tmp_path / name, "--out", out, check=False)
        message = sentence(done, 2)
        assert expected in message
        assert str(tmp_path / name) in message
        assert "Session1" in message
        assert not out.exists()


def test_no_source_at_all_names_the_option_and_the_variable(mesm_data: Command, out: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MESM_IEMOCAP"}
    done = mesm_data("build", "iemocap", "--out", out, check=False, env=environment)
    message = sentence(done, 2)
    assert "--source" in message
    assert "MESM_IEMOCAP" in message


def test_the_environment_variable_names_the_source(mesm_data: Command, out: Path, tmp_path: Path) -> None:
    done = mesm_data("build", "iemocap", "--out", out, check=False, env={**os.environ, "MESM_IEMOCAP": str(tmp_path)})
    assert str(tmp_path) in sentence(done, 2)


def test_output_folders_that_cannot_be_used_are_refused(mesm_data: Command, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    for place, expected in {
        tmp_path / "file": "is a file",
        tmp_path / "full": "thesis.tex",
        corpus / "out": "lie inside each other",
        corpus: "lie inside each other",
    }.items():
        for options in ((), ("--overwrite",)):
            done = mesm_data("build", "iemocap", "--source", corpus, "--out", place, *options, check=False)
            assert expected in sentence(done, 2)
    assert (tmp_path / "full" / "thesis.tex").read_text() == "x"
    assert not (corpus / "out").exists()


def test_a_glob_that_matches_nothing_is_refused(mesm_data: Command, corpus: Path, out: Path) -> None:
    done = mesm_data("build", "iemocap", "--source", corpus, "--out", out, "--only", "Ses09*", check=False)
    assert "matches none" in sentence(done, 2)
    assert not out.exists()


@pytest.mark.parametrize(("options", "message"), [(("--only", "Ses09*"), "matches none"), (("--engine", "ray"), "ray")])
def test_a_typing_error_beside_overwrite_deletes_nothing(
    mesm_data: Command, corpus: Path, own: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, str], message: str
) -> None:
    build = ("build", "iemocap", "--source", corpus, "--out", own, "--overwrite")
    monkeypatch.setitem(sys.modules, "ray", None)  # not installed
    assert message in sentence(mesm_data(*build, *options, check=False), 2)
    mesm_data("verify", own)


def test_an_offset_that_is_not_a_number_of_seconds_is_refused(mesm_data: Command, corpus: Path, out: Path) -> None:
    for text in ("5 frames", "-1e3"):
        done = mesm_data("build", "iemocap", "--source", corpus, "--out", out, "--video-offset", text, check=False)
        assert f"'{text}' is not a number of seconds" in sentence(done, 2)
    assert not out.exists()


def test_another_recipe_is_refused_until_overwrite(mesm_data: Command, corpus: Path, own: Path) -> None:
    before = (own / "dataset.json").read_bytes()
    build = ("build", "iemocap", "--source", corpus, "--out", own, "--workers", "1", "--no-video")
    done = mesm_data(*build, "--only", "*_[FM]001", check=False)
    assert "only is '*_[FM]000' there and '*_[FM]001' now" in sentence(done, 2)
    assert (own / "dataset.json").read_bytes() == before
    mesm_data(*build, "--only", "*_[FM]001", "--overwrite")
    assert (own / "dataset.json").read_bytes() != before
    mesm_data("verify", own)


def test_another_source_is_refused(mesm_data: Command, corpus: Path, own: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "copy"))
    text = next(copy.glob("Session*/dialog/transcriptions/*.txt"))
    text.write_text(text.read_text() + "M: an edit\n")
    done = mesm_data("build", "iemocap", "--source", copy, "--out", own, *FEW, check=False)
    assert "another source" in sentence(done, 2)


def test_a_finished_dataset_is_not_built_again(mesm_data: Command, corpus: Path, own: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*.*") if ".build" not in path.parts}
    done = mesm_data("build", "iemocap", "--source", corpus, "--out", own, *FEW)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert re.fullmatch("root [0-9a-f]{64}", done.stdout.strip())


def test_a_second_build_in_the_same_folder_is_refused(mesm_data: Command, corpus: Path, out: Path) -> None:
    from mesm_data.storage.file_locks import folder_lock

    with folder_lock(out / ".build" / "lock"):
        done = mesm_data("build", "iemocap", "--source", corpus, "--out", out, *FEW, check=False)
    message = sentence(done, 2)
    assert f"pid {os.getpid()}" in message


@pytest.mark.parametrize("clips", [(), ("--no-video",)])
def test_a_full_disk_is_reported_and_the_build_resumes_with_free_space(
    mesm_data: Command, corpus: Path, small_disk: Callable[[str], Path], clips: tuple[str, ...]
) -> None:
    disk = small_disk("500k")
    out = disk / "out"
    build = ("build", "iemocap", "--source", corpus, "--out", out, "--only", "*_[FM]000", "--workers", "2", *clips)
    done = mesm_data(*build, check=False)
    message = sentence(done, 1)
    assert "disk is full" in message
    assert not (out / "dataset.json").exists()
    assert not list(out.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
    mesm_data(*build)
    mesm_data("verify", out)


def test_more_than_five_percent_failed_is_exit_code_1_after_all_output_is_written(
    mesm_data: Command, corpus: Path, tmp_path: Path, out: Path
) -> None:
    copy = Path(shutil.copytree(corpus, tmp_path / "copy"))
    for path in copy.rglob("*"):
        if path.suffix in {".wav", ".avi"} and not path.name.endswith("F000.wav"):
            path.write_bytes(b"")
    done = mesm_data("build", "iemocap", "--source", copy, "--out", out, *FEW, check=False)
    assert "utterances failed" in sentence(done, 1)
    mesm_data("verify", out)
    reasons = mesm_data("inspect", out).stdout
    assert "not a sound file" in reasons
    assert "not a video" in reasons


def test_ctrl_c_and_sigterm_end_cleanly_and_the_same_command_resumes(corpus: Path, out: Path) -> None:
    command = [sys.executable, "-c", "from mesm_cli.data import main; main()", "build", "iemocap"]
    command += ["--source", str(corpus), "--out", str(out), "--no-video"]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stderr is not None
        read = ""
        while "utt/s" not in read and "?utt" not in read:  # the bar stands: work has begun
            character = process.stderr.read(1)
            assert character, read
            read += character
        process.send_signal(number)
        stderr, _ = process.communicate(timeout=60)[::-1]
        assert process.returncode == 130, stderr
        assert "run the same command again to resume" in stderr
        assert "Traceback" not in stderr
        assert not (out / "dataset.json").exists()


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_folders_that_are_not_datasets_are_refused(mesm_data: Command, tmp_path: Path, command: str, own: Path) -> None:
    assert "is not a folder" in sentence(mesm_data(command, tmp_path / "missing", check=False), 2)
    assert "no dataset.json" in sentence(mesm_data(command, tmp_path, check=False), 2)
    (own / "manifest.parquet").write_text("text")
    assert "manifest.parquet" in sentence(mesm_data(command, own, check=False), 2)
    described = (own / "dataset.json").read_text()
    (own / "dataset.json").write_text(described.replace('"format": 2,', '"format": 9,'))
    message = sentence(mesm_data(command, own, check=False), 2)
    assert "format 9" in message
    assert "format 2" in message
    (own / "dataset.json").write_text("{")
    assert "not valid JSON" in sentence(mesm_data(command, own, check=False), 2)


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    program = "import sys; from mesm_cli.data import app\nprint(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pandas", "pyarrow", "av", "webdataset", "ffmpeg", "soundfile"} & set(modules)


@pytest.mark.parametrize("command", ["sample", "build", "retry", "verify", "inspect"])
def test_every_help_has_an_example(mesm_data: Command, command: str) -> None:
    output = mesm_data(command, "--help").stdout
    assert f"mesm-data {command}" in output.split("Example")[1]


def test_an_unknown_command_is_exit_code_2(mesm_data: Command) -> None:
    for arguments in (
        ("biuld",),
        ("build", "iemocpa", "--out", "x"),
        ("build", "iemocap"),
        ("build", "iemocap", "--out", "x", "--limit", "0"),
    ):
        assert mesm_data(*arguments, check=False).returncode == 2
