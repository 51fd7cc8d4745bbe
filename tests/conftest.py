"""What tests share: one synthetic corpus and one dataset a session, however many workers pytest runs."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Read when numpy and torch are imported. Two threads on a busy machine take four times the CPU for the same faces. Runs
# are compared bit by bit, some of them in processes of their own: all have the same number of threads.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
# Else each of the hundred processes that the tests start compiles our modules again: .4 s of the 4 s of `mesm-train`.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from commands import run_command
from hypothesis import settings

sys.dont_write_bytecode = False  # as the environment above

# The first example pays for imports, and the machine may be busy.
settings.register_profile("mesm", deadline=None)
settings.load_profile("mesm")

REPOSITORY = Path(__file__).parents[1]

# Tests that `make check` leaves out, because they make or decode media, train, or take longer than a second or two.
MEDIA_FOLDERS = {"executors", "media", "models", "synthetic"}
MEDIA_FILES = {
    "test_bounded.py", "test_elsewhere.py", "test_hostile.py", "test_kills.py", "test_mosei_build.py",
    "test_open_build.py", "test_planted.py", "test_ranks.py",
}  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `media` what uses a corpus or a dataset, which the fixture `once` makes, and what is listed above."""
    for item in items:
        uses_media = "once" in getattr(item, "fixturenames", ())
        if uses_media or item.path.parent.name in MEDIA_FOLDERS or item.path.name in MEDIA_FILES:
            item.add_marker(pytest.mark.media)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Facts and lists that lie beside the repository; tests that need them are skipped where they are not."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder `shared` does not lie beside the repository")
    return folder


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """once(name, make): a path that `make` fills once for all workers of this session.

    Tests that give the same name share one path, so what they make must be the same.
    """
    base = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        base = base.parent

    def make_once(name: str, make: Callable[[Path], None]) -> Path:
        path, done = base / name, base / f"{name}.done"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(path)
                done.touch()
        return path

    return make_once


@pytest.fixture(scope="session")
def mesm_data() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command; `check=False` to look at the exit code.

    With options of subprocess.run it runs as a user runs it, in a process of its own.
    """

    def run(*arguments: object, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        if options:
            command = [sys.executable, "-c", "from mesm_cli.data import main; main()", *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, **options)  # type: ignore[call-overload]
        else:
            done = run_command("mesm-data", *arguments)
        assert not check or done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """small_disk("8m"): an empty file system of that size. Skipped where this user may not mount one."""
    path = tmp_path / "disk"

    def mount(size: str) -> Path:
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True).returncode != 0:
            pytest.skip("mounting a small file system needs root")
        return path

    yield mount
    if path.is_mount():
        subprocess.run(["umount", str(path)], check=True)


@pytest.fixture(scope="session")
def corpus(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A synthetic IEMOCAP of three short dialogs."""
    from mesm_data.synthetic import iemocap

    return once("corpus", lambda path: iemocap.write_corpus(path, dialogs=3, turns=10, seed=1, workers=2))


@pytest.fixture(scope="session")
def mosei_corpus(once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A synthetic CMU-MOSEI of two short videos."""
    from mesm_data.synthetic import mosei

    return once("mosei", lambda path: mosei.write_corpus(path, videos=2, clips=3, seed=1, workers=2))


@pytest.fixture(scope="session")
def dataset(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> Path:
    """The corpus, built by two workers."""
    from mesm_data.corpora.open_corpus import scan_corpus
    from mesm_data.dataset.recipe import Recipe
    from mesm_data.pipeline.build import build_dataset

    recipe = Recipe(corpus="iemocap", shard_bytes=4 * 2**20)
    return once("dataset", lambda path: build_dataset(scan_corpus("iemocap", corpus), path, recipe, workers=2) and None)


TINY_RUN = """
name: tiny
labels: six
model: {kind: mesm, channels: [4, 8, 8], stem_blocks: 0, hidden: 16, dim: 8, layers: 1, heads: 2, feedforward: 16}
text: {encoder: tiny, tiny: {vocabulary: 60, embedding: 8, width: 8, layers: 1, heads: 2, feedforward: 8}}
optim: {lr: 1e-3, batch: 8, epochs: 2}
"""


@pytest.fixture(scope="session")
def six_split(once: Callable[[str, Callable[[Path], None]], Path], dataset: Path) -> Path:
    """A split of the dataset: of each of six classes one utterance to train on, one to validate, the others to test."""
    import yaml

    from mesm_data.dataset.reader import Dataset

    def write(path: Path) -> None:
        rows = Dataset(dataset).rows
        parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
        for label in ("ang", "exc", "fru", "hap", "neu", "sad"):
            same = sorted(key for key, row in rows.items() if row["labels"]["emotion"] == label)
            for number, key in enumerate(same):
                parts[("train", "valid", "test")[min(number, 2)]].append(key)
        path.write_text(yaml.safe_dump(parts))

    return once("six-split.yaml", write)


@pytest.fixture(scope="session")
def tiny_recipe(once: Callable[[str, Callable[[Path], None]], Path], dataset: Path, six_split: Path) -> Path:
    """The settings of two epochs of a tiny MESM on the dataset, with all three modalities."""
    settings = f"{TINY_RUN}split: {six_split}\ndata: {dataset}\n"
    return once("tiny.yaml", lambda path: path.write_text(settings) and None)


@pytest.fixture(scope="session")
def trained_run(once: Callable[[str, Callable[[Path], None]], Path], tiny_recipe: Path) -> Path:
    """A run of `tiny_recipe` that has ended."""

    def train(path: Path) -> None:
        done = run_command("mesm-train", "run", tiny_recipe, "--out", path)
        assert done.returncode == 0, done.stderr

    return once("trained", train)
