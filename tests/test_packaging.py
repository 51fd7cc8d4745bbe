"""What installing puts on a machine."""

import subprocess
import sys
import zipfile
from pathlib import Path


def test_a_wheel_holds_our_packages_and_their_data_and_no_module_called_cli_or_manifests(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "mesm_data", "mesm_train", "mesm_cli", "mesm_manifests",
    }  # fmt: skip
    assert {f"{package}/py.typed" for package in ("mesm_data", "mesm_train", "mesm_cli", "mesm_manifests")} <= {*names}
    assert "mesm_manifests/iemocap.toml" in names
    assert "mesm_cli/data.py" in names
    assert "mesm_train/recipes/demo-fe2e.yaml" in names
    [metadata] = [name for name in names if name.endswith("/licenses/LICENSE")]
    assert "Apache License" in zipfile.ZipFile(wheel).read(metadata).decode()
