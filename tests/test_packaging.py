"""What installing puts on a machine."""

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def test_a_wheel_holds_our_packages_and_their_data_and_no_module_called_cli_or_manifests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "mesm_data", "mesm_train", "mesm_cli", "mesm_manifests",
    }  # fmt: skip
    assert "mesm_manifests/iemocap.toml" in names
    assert "mesm_cli/data.py" in names
    assert "mesm_train/recipes/demo-fe2e.yaml" in names
    [metadata] = [name for name in names if name.endswith("/licenses/LICENSE")]
    assert "Apache License" in zipfile.ZipFile(wheel).read(metadata).decode()


@pytest.mark.media
def test_a_wheel_in_a_fresh_environment_writes_the_sample_and_builds_it(wheel: Path, tmp_path: Path) -> None:
    """Installed by pip without a network, and run far from this checkout; only dependencies come from this Python."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    binaries = tmp_path / "venv" / "bin"
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet", "--no-deps"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([*pip, "--no-index", str(wheel)], check=True, env=environment, capture_output=True)
    [site] = (tmp_path / "venv").glob("lib/python*/site-packages")
    # Searched behind site itself; .pth files of these folders, such as that of an editable mesm, are not read.
    dependencies = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in dependencies))

    def run(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [str(binaries / command), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done

    where = run("python", "-c", "import mesm_data, mesm_train, mesm_cli, mesm_manifests as m; print(m.__file__)").stdout
    assert where.startswith(str(site))
    assert "build" in run("mesm-data", "--help").stdout
    assert "demo-fe2e" in run("mesm-train", "run").stdout
    run("mesm-data", "sample", "iemocap", "corpus", "--dialogs", "1")
    build = ("--source", "corpus", "--out", "shards", "--limit", "2", "--workers", "1", "--no-video")
    assert run("mesm-data", "build", "iemocap", *build).stdout.startswith("root ")
    assert "all 2 samples are as recorded" in run("mesm-data", "verify", "shards").stderr


def test_the_python_that_runs_this_is_one_that_is_stated() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    stated = {text.rpartition(" ")[2] for text in project["classifiers"] if text.startswith("Programming Language")}
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in stated
