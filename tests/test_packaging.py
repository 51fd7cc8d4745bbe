"""What installing puts on a machine."""

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from mesm_train.models.kernels import build, compiler
from mesm_train.models.kernels.native import NativeKernels

ROOT = Path(__file__).parents[1]
KERNELS = "mesm_train/models/kernels"
NO_COMPILER = {**os.environ, "CXX": "no-such-compiler"}

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or sys.platform != "linux" or platform.machine() != "x86_64",
    reason="an installation compiles on Linux on x86-64 with g++",
)


def built_wheel(folder: Path, environment: dict[str, str]) -> Path:
    """The wheel of this checkout, made without a network by the hatchling that is installed."""
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, env=environment)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel for any machine: made without a compiler."""
    return built_wheel(tmp_path_factory.mktemp("wheel"), NO_COMPILER)


def test_a_wheel_contains_the_packages_and_their_data_and_no_module_named_cli_or_manifests(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {
        "mesm_data", "mesm_train", "mesm_cli", "mesm_manifests",
    }  # fmt: skip
    assert {f"{package}/py.typed" for package in ("mesm_data", "mesm_train", "mesm_cli", "mesm_manifests")} <= {*names}
    assert "mesm_manifests/iemocap.toml" in names
    assert "mesm_cli/data.py" in names
    assert "mesm_train/config/recipes/demo-fe2e.yaml" in names
    assert {f"{KERNELS}/{name}" for name in ("conv.cpp", "vectors.h", "compiler.py")} <= set(names)
    assert not any(name.endswith(".so") for name in names)
    [metadata] = [name for name in names if name.endswith("/licenses/LICENSE")]
    assert "Apache License" in zipfile.ZipFile(wheel).read(metadata).decode()


@needs_compiler
@pytest.mark.slow  # the kernels are compiled twice
def test_a_wheel_built_with_a_compiler_contains_kernels_with_identical_results_at_every_level(
    tmp_path: Path,
) -> None:
    wheel = built_wheel(tmp_path, dict(os.environ))
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    installed = site / KERNELS / "installed"
    assert {path.stem for path in installed.glob("*.so")} == {f"kernels-{level}" for level in compiler.LEVELS}

    # Where it is installed there need not be a compiler, and nothing is compiled.
    show = "from mesm_train.models.kernels.build import library; print(library()._name)"
    environment = {**NO_COMPILER, "PYTHONPATH": str(site), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-P", "-c", show], env=environment, capture_output=True, text=True)
    best = installed / f"kernels-{compiler.supported_levels()[0]}.so"
    assert done.stdout.strip() == str(best), done.stderr
    assert not (tmp_path / "cache").exists()

    build.share_openmp()
    paths = [installed / f"kernels-{level}.so" for level in compiler.supported_levels()]
    native, *others = (results(library) for library in [build.cached_library(), *map(ctypes.CDLL, map(str, paths))])
    assert others
    assert all(torch.equal(*pair) for other in others for pair in zip(native, other, strict=True))


def results(library: ctypes.CDLL) -> list[torch.Tensor]:
    """What each kernel computes, of widths that do and do not fill vectors, in both dtypes, plainly and by Winograd."""
    outputs = []
    mask = torch.rand(9, 24, 24, generator=torch.Generator().manual_seed(0)) < 0.9
    pooled = mask.view(9, 12, 2, 12, 2).any(4).any(2)
    for dtype in (torch.float32, torch.float64):
        for cin, cout in ((64, 80), (17, 33), (5, 7)):
            ops = NativeKernels(library)
            table = ops.tables(mask, int(mask.sum()), int(pooled.sum()))
            generator = torch.Generator().manual_seed(1)
            sizes = ((int(mask.sum()), cin), (int(mask.sum()), cout), (9, cin, cout), (cout,), (cout,))
            x, dy, weight, scale, shift = (torch.randn(size, generator=generator).to(dtype) for size in sizes)
            y = ops.conv(x, weight, table, bias=shift)
            assert (len(ops._windows(table, x, cin, cout)[0]) >= ops.min_windows) == (cin > 5)  # Winograd's way
            positive, (most, which) = ops.normalise(y, scale, shift), ops.normalise_pool(y, scale, shift, table.pool)
            outputs += [y, ops.conv(dy, weight, table, mirror=True), ops.conv_weight(x, dy, table)]
            outputs += [positive, most, which]
            outputs += [ops.product(x, weight[0]), ops.moments(y), ops.as_batch_invariant().conv(x, weight, table)]
            for gradient, kept, pool in ((dy, positive, None), (most, which, table.pool)):
                sums, dx = ops.norm_backward(gradient, kept, y, pool, shift, lambda _, s=scale: (s, s, s))
                assert dx is not None
                outputs += [sums, dx]
    return outputs


@needs_compiler
@pytest.mark.slow  # the kernels are compiled once more
def test_kernels_read_and_write_every_vector_at_an_address_that_its_type_permits(tmp_path: Path) -> None:
    """Which of the others fault depends on the compiler: GCC 12 happened to place all of them well, GCC 13 not."""
    path = tmp_path / "checked.so"
    checks = ("-O0", "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")
    compiler.compile_sources("g++", (*build.NATIVE, *checks), compiler.SOURCES, path)
    run = f"build.share_openmp(); results(ctypes.CDLL({str(path)!r}))"
    code = f"import ctypes; from mesm_train.models.kernels import build; from test_packaging import results; {run}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"  # -4: such an access, by the signal SIGILL


@needs_compiler
def test_an_installed_library_is_used_if_it_is_complete_and_the_processor_supports_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = tmp_path / "small.cpp", tmp_path / "kernels-avx2.so"
    source.write_text('extern "C" int seven() { return 7; }\n')
    monkeypatch.setattr(compiler, "cpu_description", lambda: "x86_64 flags : sse2 avx avx2 fma")
    assert build.installed_library(tmp_path) is None
    compiler.compile_sources("g++", compiler.level_options("avx2"), [source], path)
    path.with_suffix(".sha256").write_text(sha256(path.read_bytes()).hexdigest())
    taken = build.installed_library(tmp_path)
    assert taken is not None
    assert taken.seven() == 7
    monkeypatch.setattr(compiler, "cpu_description", lambda: "x86_64 flags : sse2 avx")
    assert build.installed_library(tmp_path) is None
    monkeypatch.setattr(compiler, "cpu_description", lambda: "x86_64 flags : sse2 avx avx2 fma avx512f")
    torn = path.read_bytes()[:-1]
    path.unlink()  # what is loaded stays mapped
    path.write_bytes(torn)
    assert build.installed_library(tmp_path) is None


@pytest.mark.slow
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
    run("mesm-data", "sample", "mosei", "corpus", "--dialogs", "1")
    build = ("--source", "corpus", "--out", "shards", "--limit", "2", "--workers", "1", "--no-video")
    assert run("mesm-data", "build", "mosei", *build).stdout.startswith("root ")
    assert "all 2 samples are as recorded" in run("mesm-data", "verify", "shards").stderr


def test_pyproject_states_the_running_python_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11"
    stated = {text.rpartition(" ")[2] for text in project["classifiers"] if text.startswith("Programming Language")}
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in stated
