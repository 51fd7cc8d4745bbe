"""Guarantee: the machine's trouble is not the corpus' failure. It ends a build with a sentence, and loses nothing."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError, MesmError
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset
from mesm_data.pipeline.executors.local import run_local
from mesm_data.pipeline.retry import retry_dataset
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json

Command = Callable[..., "subprocess.CompletedProcess[str]"]
FIRST = "Ses0[12]*_F000"  # two utterances
RECIPE = Recipe(corpus="iemocap", only=FIRST)
FEW = ("--only", FIRST, "--no-video")
MAIN = [sys.executable, "-c", "from mesm_cli.data import main; main()"]


@pytest.fixture(scope="module")
def whole(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> Path:
    """What a machine without trouble builds."""
    return once("whole", lambda path: build_dataset(scan_corpus("iemocap", corpus), path, RECIPE, workers=1) and None)


@pytest.fixture(scope="module")
def root(whole: Path) -> str:
    return str(read_json(whole / "dataset.json")["root"])


@pytest.fixture(scope="module")
def root_without_clips(once: Callable[[str, Callable[[Path], None]], Path], mesm_data: Command, corpus: Path) -> str:
    def make(path: Path) -> None:
        mesm_data("build", "iemocap", "--source", corpus, "--out", path, *FEW, "--workers", "1")

    return str(read_json(once("whole-without-clips", make) / "dataset.json")["root"])


# Resources that a process runs out of

LIMITED = """
import os, resource, sys
from pathlib import Path
from mesm_data.pipeline.build import build_dataset
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.errors import MesmError
from test_machine import RECIPE

corpus, folder, kind = scan_corpus("iemocap", Path(sys.argv[1])), Path(sys.argv[2]), sys.argv[3]
build_dataset(corpus, folder / "warm", RECIPE, workers=1)  # what is imported later is imported now
files = max(map(int, os.listdir("/proc/self/fd")))
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
number, limits = {
    "files": (resource.RLIMIT_NOFILE, [files + more for more in (1, 3, 4, 5, 6, 7, 8)]),
    "size": (resource.RLIMIT_FSIZE, [100, 5_000, 100_000, 300_000]),
    "memory": (resource.RLIMIT_AS, [used + (more << 20) for more in (2, 5, 8, 11, 14, 20)]),
}[kind]
out = folder / "out"
for limit in limits:
    soft, hard = resource.getrlimit(number)
    resource.setrlimit(number, (limit, hard))
    try:
        summary = build_dataset(corpus, out, RECIPE, workers=1)
        answer = summary["root"]
    except (MesmError, OSError, MemoryError) as error:
        answer = f"ended: {type(error).__name__}: {error}"
    finally:
        resource.setrlimit(number, (soft, hard))
    print(answer.replace(chr(10), " "))
print(build_dataset(corpus, out, RECIPE, workers=1)["root"])
"""


@pytest.mark.parametrize("kind", ["files", "size", "memory"])
def test_a_process_without_descriptors_room_or_memory_fails_no_utterance(
    tmp_path: Path, corpus: Path, root: str, kind: str
) -> None:
    """RLIMIT_NOFILE, RLIMIT_FSIZE and RLIMIT_AS at several heights: every build ends, or is the same dataset."""
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(corpus), str(tmp_path), kind],
        capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    answers = done.stdout.splitlines()
    assert len(answers) > 4, done.stderr
    assert {answer for answer in answers if not answer.startswith("ended: ")} == {root}, answers
    assert answers[-1] == root
    assert answers[0].startswith("ended: ")
    sentence = {"files": "too many files are open", "size": "larger than files may be", "memory": "no memory is left"}[
        kind
    ]
    assert any(sentence in answer for answer in answers) or kind == "memory", (
        answers
    )  # which may be out before any step


def test_a_killed_ffmpeg_is_not_reported_as_an_encoding_failure(
    mesm_data: Command, tmp_path: Path, corpus: Path, root: str
) -> None:
    """As the kernel kills where memory is out. A program that kills itself when it is to encode."""
    fake = tmp_path / "ffmpeg"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -version ] && exec {ffmpeg_binary()} -version\nkill -9 $$\n')
    fake.chmod(0o755)
    command = ("build", "iemocap", "--source", corpus, "--out", tmp_path / "out", "--only", FIRST, "--workers", "1")
    done = mesm_data(*command, check=False, env={**os.environ, "IMAGEIO_FFMPEG_EXE": str(fake)})
    assert done.returncode == 1
    assert "ended by signal 9" in done.stderr or "no memory is left" in done.stderr
    assert mesm_data(*command).stdout.strip() == f"root {root}"


def test_a_worker_that_cannot_start_stops_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it needs cannot be imported there: no item is to blame."""
    (tmp_path / "vanishing.py").write_text("def double(number): return 2 * number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import vanishing  # type: ignore[import-not-found]

    (tmp_path / "vanishing.py").unlink()
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    with pytest.raises(MesmError, match="a worker process could not start"):
        list(run_local(vanishing.double, range(4), 2))


# File systems that refuse what others can


@pytest.fixture(scope="session")
def refuse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """refuse("flock fchmod"): an environment in which these calls fail (see refuse.c)."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("refuse") / "refuse.so"
    source = str(Path(__file__).with_name("refuse.c"))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), source, "-ldl"], check=True)
    return lambda words: {**os.environ, "LD_PRELOAD": str(library), "REFUSE": words}


def test_a_build_works_on_a_file_system_without_locks_modes_and_folder_sync(
    mesm_data: Command, tmp_path: Path, corpus: Path, root_without_clips: str, refuse: Callable[[str], dict[str, str]]
) -> None:
    """flock ENOSYS, fchmod EPERM, fsync of a folder EINVAL. The missing lock is a note, once a command."""
    environment, out = refuse("flock fchmod folder"), tmp_path / "out"
    done = mesm_data("build", "iemocap", "--source", corpus, "--out", out, *FEW, "--workers", "2", env=environment)
    assert done.stdout.strip() == f"root {root_without_clips}"
    assert done.stderr.count("this file system has no locks") == 1
    mesm_data("verify", out)
    fetched = mesm_data("fetch", out, tmp_path / "copy", env=environment)
    assert fetched.returncode == 0
    mesm_data("verify", tmp_path / "copy")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("fsync", "Input/output error"),  # of what is written
        ("stale:/DivX/", "the file system does not answer"),  # of the videos
        ("stale:/sentences/wav/", "the file system does not answer"),
        ("stale:/transcriptions/", "the file system does not answer"),
        ("stale:/parts/", "the file system does not answer"),
    ],
)
def test_a_failing_file_system_stops_a_build_without_failed_utterances(
    mesm_data: Command, tmp_path: Path, corpus: Path, root_without_clips: str, refuse: Callable[[str], dict[str, str]],
    words: str, sentence: str,
) -> None:  # fmt: skip
    command = ("build", "iemocap", "--source", corpus, "--out", tmp_path / "out", *FEW, "--workers", "1")
    done = mesm_data(*command, check=False, env=refuse(words))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "out" / "dataset.json").exists()
    if words == "stale:/parts/":
        assert mesm_data(*command).stdout.strip() == f"root {root_without_clips}"


# Bare environments


def test_without_home_user_and_shared_memory_a_build_works(
    tmp_path: Path, corpus: Path, root_without_clips: str
) -> None:
    """As in a container that runs as a number: an empty passwd file, no HOME, /dev/shm read-only."""
    hidden = "for file in passwd nsswitch.conf; do mount --bind /dev/null /etc/$file || exit; done"
    bare = f'{hidden}; mount -t tmpfs -o ro tmpfs /dev/shm && exec "$@"'
    inside = ["unshare", "--mount", "sh", "-c", bare, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True).returncode != 0:
        pytest.skip("hiding files from a process needs root")
    environment = {
        name: value for name, value in os.environ.items() if name != "HOME" and not name.startswith(("XDG_", "MESM_"))
    }

    def mesm(*arguments: object, check: bool = True) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            [*inside, *MAIN, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=120
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, done.stderr
        return done

    out = tmp_path / "out"
    done = mesm("build", "iemocap", "--source", corpus, "--out", out, *FEW, "--workers", "2")
    assert done.stdout.strip() == f"root {root_without_clips}"
    mesm("inspect", out)
    refused = mesm("splits", "fetch", "mosei", "official", check=False)
    assert refused.returncode == 2
    assert "set MESM_SPLITS" in refused.stderr


def test_closed_standard_streams_change_nothing(tmp_path: Path, corpus: Path, root_without_clips: str) -> None:
    """Else the next file gets the number of stderr, and libraries write into it."""
    command = [*MAIN, "build", "iemocap", "--source", str(corpus), "--out", str(tmp_path / "out"), *FEW]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    assert subprocess.run([*closed, *command, "--workers", "2"], timeout=120).returncode == 0
    assert read_json(tmp_path / "out" / "dataset.json")["root"] == root_without_clips
    program = "from mesm_cli.console import open_standard_streams as o; o(); import os, sys; sys.exit(os.open('.', 0))"
    assert subprocess.run([*closed, sys.executable, "-c", program], timeout=120).returncode > 2


LONG = "n" * 300


@pytest.mark.parametrize(
    "command",
    [
        *(("build", "iemocap", "--source", "CORPUS", "--out", place) for place in ("file/x", LONG, "/proc/x")),
        ("fingerprint", "CORPUS", "--out", LONG),
        ("sample", "iemocap", "/proc/x", "--dialogs", "1"),
        ("inspect", LONG),
    ],
    ids=lambda command: f"{command[0]} {command[-1][:7]}",
)
def test_an_unusable_output_folder_is_reported_before_any_work(
    mesm_data: Command, tmp_path: Path, corpus: Path, whole: Path, command: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("x")
    places = {"CORPUS": str(corpus), "DATASET": str(whole)}
    done = mesm_data(*(places.get(word, word) for word in command), check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    [error] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any(place in error for place in ("file", LONG, "/proc/x"))
    assert "utt/s" not in done.stderr
    assert not done.stdout


def test_publishing_to_the_hub_without_a_network_is_refused_in_one_sentence(whole: Path) -> None:
    """A real connection, to a port where nothing listens."""
    pytest.importorskip("huggingface_hub")
    program = "import mesm_data.storage.remote_bytes as r; r.FIRST_PAUSE = 0; from mesm_cli.data import main; main()"
    command = [sys.executable, "-c", program, "publish", str(whole), "hf://datasets/owner/name", "--tier", "gated"]
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    [error] = [line for line in done.stderr.splitlines() if "error: " in line]
    assert "no connection" in error


# What changes or breaks while a build is going on


def packed(out: Path, corpus: Path) -> None:
    """A build that is stopped when all parts are there."""

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        if what == "pack":
            raise InterruptedError
        return lambda number: None

    with pytest.raises(InterruptedError):
        build_dataset(scan_corpus("iemocap", corpus), out, RECIPE, workers=1, progress=progress)


@pytest.fixture(scope="module")
def stopped(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> Path:
    return once("stopped", lambda path: packed(path, corpus))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "its samples are gone": lambda part: part.with_suffix(".tar").unlink(),
    "its clips are gone": lambda part: part.with_suffix(".clips.tar").unlink(),
    "its samples are cut off": lambda part: os.truncate(part.with_suffix(".tar"), 2000),
    "a bit of a header": lambda part: flip(part.with_suffix(".tar"), 3),
    "a bit of a member": lambda part: flip(part.with_suffix(".tar"), 1000),
    "a bit of a clip": lambda part: flip(part.with_suffix(".clips.tar"), 1000),
    "a bit of its rows": lambda part: flip(part, part.read_bytes().index(b'"emotion":"') + 12),
    "its rows are cut off": lambda part: os.truncate(part, 1000),
    "its rows are another's": lambda part: part.write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_rebuilt(tmp_path: Path, corpus: Path, stopped: Path, whole: Path, damage: str) -> None:
    out = Path(shutil.copytree(stopped, tmp_path / "out"))
    part = sorted((out / ".build" / "parts").glob("*.json"))[0]
    DAMAGES[damage](part)
    part_numbers: list[int] = []

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        return part_numbers.append if what == "build" else lambda number: None

    build_dataset(scan_corpus("iemocap", corpus), out, RECIPE, workers=1, progress=progress)
    assert part_numbers == [1]  # utterances: no other part was made again
    assert {path.name: sha256_file(path) for path in (out / "shards").iterdir()} == {
        path.name: sha256_file(path) for path in (whole / "shards").iterdir()
    }
    assert read_json(out / "dataset.json") == read_json(whole / "dataset.json")


def test_parts_are_deleted_after_a_kill_between_the_last_two_steps(tmp_path: Path, corpus: Path, root: str) -> None:
    """SIGKILL at the moment when the dataset is there and the parts are about to go."""
    program = """
import os, shutil, sys
from pathlib import Path
import test_machine as t
delete = shutil.rmtree
shutil.rmtree = lambda path, *a, **k: os.kill(os.getpid(), 9) if Path(path).name == "parts" else delete(path, *a, **k)
t.build_dataset(t.scan_corpus("iemocap", Path(sys.argv[1])), Path(sys.argv[2]), t.RECIPE, workers=1)
"""
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", program, str(corpus), str(out)], env=environment, timeout=120)
    assert done.returncode == -9
    assert (out / "dataset.json").exists()
    assert list((out / ".build" / "parts").iterdir())
    assert build_dataset(scan_corpus("iemocap", corpus), out, RECIPE, workers=1)["root"] == root
    assert not (out / ".build" / "parts").exists()
    assert (out / "recipe.lock").exists()


@pytest.mark.parametrize("kind", ["sound", "video", "text"])
def test_a_source_that_is_replaced_while_it_is_read_stops_the_build(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It has the same size, and is exchanged when it has been decoded and not been hashed."""
    from mesm_data.media.extract import extract_video
    from mesm_data.pipeline import worker

    source = Path(shutil.copytree(corpus, tmp_path / "IEMOCAP"))
    recording = scan_corpus("iemocap", source).recordings[0]
    utterance = next(u for u in recording.utterances if u.id.endswith("_F000"))
    assert recording.video
    name = {"sound": utterance.audio[0].path, "video": recording.video, "text": utterance.annotation_files[0]}[kind]

    def exchange(*arguments: object) -> object:
        seen = extract_video(*arguments)  # type: ignore[arg-type]
        data = bytearray((source / name).read_bytes())
        data[-40] ^= 1
        (tmp_path / "other").write_bytes(data)
        (tmp_path / "other").replace(source / name)
        return seen

    only = Recipe(corpus="iemocap", only=utterance.id)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "extract_video", exchange)
        with pytest.raises(MesmError, match=f"{name} was changed after the corpus was scanned"):
            build_dataset(scan_corpus("iemocap", source), tmp_path / "out", only, workers=1)
    assert not list((tmp_path / "out" / ".build" / "parts").glob("*.json"))
    if kind == "text":  # the scan reads it, and what it says now is not what the build was begun with
        with pytest.raises(InputError, match="labels, texts, times or names of files are others now"):
            build_dataset(scan_corpus("iemocap", source), tmp_path / "out", only, workers=1)
        retry_dataset(scan_corpus("iemocap", source), tmp_path / "out", workers=1)
    else:
        build_dataset(scan_corpus("iemocap", source), tmp_path / "out", only, workers=1)
    sources = Dataset(tmp_path / "out")[utterance.id].record["sources"]
    assert {one["path"]: one["sha256"] for one in sources}[name] == sha256_file(source / name)


def test_a_source_that_disappears_is_reported(tmp_path: Path, corpus: Path) -> None:
    source = Path(shutil.copytree(corpus, tmp_path / "IEMOCAP"))
    scanned = scan_corpus("iemocap", source)

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        shutil.rmtree(source / "Session1" / "sentences" / "wav", ignore_errors=True)
        return lambda number: None

    with pytest.raises(MesmError, match="is gone now"):
        build_dataset(scanned, tmp_path / "out", RECIPE, workers=1, progress=progress)
    with pytest.raises(InputError, match="another source"):
        build_dataset(scan_corpus("iemocap", source), tmp_path / "out", RECIPE, workers=1)
