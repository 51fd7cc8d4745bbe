"""Guarantees: retry gives what a fresh build of the repaired corpus gives, and what was complete is not done again."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from test_accounting import files_of, utterances, video_of
from test_same_bytes import content

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.parts import read_part
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.integrity.verify import verify
from mesm_data.media.toolchain import toolchain_versions
from mesm_data.pipeline.build import build_dataset, run_jobs
from mesm_data.pipeline.executors.base import WorkerDied
from mesm_data.pipeline.executors.local import run_local
from mesm_data.pipeline.job import Job
from mesm_data.pipeline.retry import retry_dataset
from mesm_data.publishing.croissant import write_croissant
from mesm_data.storage.files import sha256_file
from mesm_data.storage.json_files import read_json
from mesm_data.storage.progress import no_progress

# Two utterances of each dialog, and shards small enough that there are several.
RECIPE = Recipe(corpus="iemocap", only="*_[FM]000", shard_bytes=2**18)


def damage(root: Path) -> list[Path]:
    """Hurt a corpus of three dialogs; returns the files that were hurt."""
    rotten, short, third = sorted(utterances(root))
    video = video_of(root, rotten)  # which has the same size when it is repaired
    data = video.read_bytes()
    quarter = len(data) // 4
    video.write_bytes(data[:quarter] + bytes(quarter) + data[2 * quarter :])
    os.truncate(video_of(root, short), video_of(root, short).stat().st_size // 20)
    late = [key for key in utterances(root)[short] if fnmatch(key, RECIPE.only or "")][-1]  # beyond that
    sounds = [files_of(root, late)[0], root / f"Session{short[4]}" / "dialog" / "wav" / f"{short}.wav"]
    sounds.append(files_of(root, utterances(root)[third][0])[0])  # its dialog wav is there
    for sound in sounds:
        sound.write_text("this is not a sound")
    return [video, video_of(root, short), *sounds]


@pytest.fixture(scope="module")
def broken(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> Path:
    """A folder with `source`, a damaged corpus, and `out`, what could be built of it."""

    def make(path: Path) -> None:
        shutil.copytree(corpus, path / "source")
        damage(path / "source")
        build_dataset(scan_corpus("iemocap", path / "source"), path / "out", RECIPE, workers=2)

    return once("broken", make)


@pytest.fixture
def repaired(broken: Path, corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of both, (source, out), after the source was repaired."""
    shutil.copytree(broken / "out", tmp_path / "out")
    shutil.copytree(corpus, tmp_path / "source")
    shutil.copy(broken / "out" / ".build" / "source.json", tmp_path / "out" / ".build" / "source.json")
    return tmp_path / "source", tmp_path / "out"


def everything(out: Path) -> dict[str, Any]:
    """All of a dataset: what `content` has, the clips, and what dataset.json says."""
    clips = {path.name: sha256_file(path) for path in sorted((out / "video").glob("*.tar"))}
    return {**content(out), "clips": clips, "described": read_json(out / "dataset.json")}


@pytest.fixture(scope="module")
def fresh(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> dict[str, Any]:
    """A fresh build of the undamaged corpus."""
    return everything(
        once("fresh", lambda path: build_dataset(scan_corpus("iemocap", corpus), path, RECIPE, workers=1) and None)
    )


def test_failures_csv_lists_everything_that_was_lost(broken: Path) -> None:
    rows = Dataset(broken / "out").rows
    text = (broken / "out" / "failures.csv").read_text()
    lines = list(csv.DictReader(text.splitlines()))
    assert [line["key"] for line in lines] == sorted(line["key"] for line in lines)
    lost = {(line["key"], line["what"]): line for line in lines}
    assert len(lost) == len(lines)
    assert {what for _, what in lost} == {"utterance", "audio", "video"}
    for key, row in rows.items():
        if row["status"] == "failed":
            assert lost.pop((key, "utterance"))["reason"] == row["reason"]
        elif row["status"] == "ok":
            reasons = [lost.pop((key, what))["reason"] for what in ("audio", "video") if (key, what) in lost]
            assert "; ".join(reasons) == (row["reason"] or "")
            assert reasons or (row["audio"], row["video"]) == ("ok", "ok")
    assert not lost
    counts = Counter(row["status"] for row in rows.values())
    assert counts["failed"] == 1
    assert sum(counts.values()) == len([key for keys in utterances(broken / "source").values() for key in keys])


def test_retry_equals_a_new_build_of_the_repaired_corpus(
    repaired: tuple[Path, Path], fresh: dict[str, Any], mesm_data: Callable[..., "subprocess.CompletedProcess[str]"]
) -> None:
    source, out = repaired
    before = Dataset(out)
    lost = {line["key"] for line in csv.DictReader((out / "failures.csv").read_text().splitlines())}
    built = [row for row in before.rows.values() if row["status"] != "excluded"]
    kept = [row for row in built if row["key"] not in lost and row["dialog"] != sorted(utterances(source))[0]]
    assert 0 < len(kept) < len(built)
    described = write_croissant(out)
    done = mesm_data("retry", out, "--source", source, "--workers", "1")
    assert everything(out) == fresh
    assert list(verify(out)) == []
    assert not (out / "failures.csv").exists()
    assert not described.exists()  # its digests were those of the dataset before
    assert done.stdout.strip() == f"root {fresh['described']['root']}"
    assert f"changed: {video_of(source, sorted(utterances(source))[1]).relative_to(source)}" in done.stderr
    assert f"{len(built) - len(kept)} of {len(built)} utterances are done again" in done.stderr
    again = mesm_data("retry", out)  # the source is remembered
    assert "nothing was lost" in again.stderr
    assert everything(out) == fresh


KILLED = """
import os, signal, sys
from pathlib import Path
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.pipeline.retry import retry_dataset
from mesm_data.pipeline.build import build_dataset
from test_retry import RECIPE

def progress(what, total, todo):
    def step(number):
        if what == sys.argv[3]:
            os.kill(os.getpid(), signal.SIGKILL)
    return step

corpus, out = scan_corpus("iemocap", Path(sys.argv[1])), Path(sys.argv[2])
if sys.argv[4] == "retry":
    retry_dataset(corpus, out, workers=1, progress=progress)
else:
    build_dataset(corpus, out, RECIPE, workers=1, progress=progress)
"""


def killed(source: Path, out: Path, moment: str, command: str) -> None:
    """Run a command that is killed after the first step of `moment`."""
    places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OPENBLAS_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", KILLED, str(source), str(out), moment, command]
    assert subprocess.run(arguments, env=environment).returncode == -signal.SIGKILL


def test_a_killed_retry_loses_nothing_and_resumes(repaired: tuple[Path, Path], fresh: dict[str, Any]) -> None:
    """On top of it a sample that was whole has rotted in its shard: it is made again too."""
    source, out = repaired
    row = next(row for row in Dataset(out).rows.values() if row["status"] == "ok" and row["reason"] is None)
    path = out / "shards" / row["shard"]
    data = bytearray(path.read_bytes())
    data[row["wav_offset"] + 1000] ^= 1
    path.write_bytes(data)
    before = everything(out)
    killed(source, out, "unpack", "retry")
    assert everything(out) == before  # until the parts are whole, the dataset is
    killed(source, out, "build", "retry")
    assert not (out / "dataset.json").exists()
    killed(source, out, "pack", "retry")
    retry_dataset(scan_corpus("iemocap", source), out, workers=1)
    assert everything(out) == fresh


@pytest.fixture(scope="module")
def whole(once: Callable[[str, Callable[[Path], None]], Path], corpus: Path) -> Path:
    """A folder with `source`, a whole corpus in which one sentence wav says something else, and `out`, its build."""

    def make(path: Path) -> None:
        shutil.copytree(corpus, path / "source")
        for wav in wrong_wavs(path / "source"):
            change_sound(wav)
        build_dataset(scan_corpus("iemocap", path / "source"), path / "out", RECIPE, workers=2)

    return once("whole-machine", make)


def wrong_wavs(root: Path) -> list[Path]:
    """The sentence wavs of the second dialog's utterances that the recipe builds."""
    keys = [key for key in utterances(root)[sorted(utterances(root))[1]] if fnmatch(key, RECIPE.only or "")]
    return [files_of(root, key)[0] for key in keys[:1]]


def change_sound(wav: Path) -> None:
    """Another sound of the same size."""
    data = bytearray(wav.read_bytes())
    data[2000] ^= 1
    wav.write_bytes(data)


@pytest.mark.parametrize("longer", [True, False])
def test_a_repaired_source_file_is_detected_even_if_nothing_was_lost(
    whole: Path, corpus: Path, fresh: dict[str, Any], tmp_path: Path, longer: bool
) -> None:
    """By the sizes of files, and where those are the same by their digests."""
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(whole / "out", out)
    assert not (out / "failures.csv").exists()
    shutil.copytree(corpus, source)
    if longer:  # what the build does not use has changed in size too
        for name in read_json(out / ".build" / "source.json")["files"]:
            if name.endswith(".wdseg"):
                (source / name).write_bytes((source / name).read_bytes() + b"\n")
        with pytest.raises(InputError, match="mesm-data retry"):
            build_dataset(scan_corpus("iemocap", source), out, RECIPE)
    messages: list[str] = []
    retry_dataset(scan_corpus("iemocap", source), out, workers=1, report=messages.append)
    assert any("changed: " in sentence for sentence in messages) is longer
    if not longer:
        assert any(sentence.startswith("1 of ") for sentence in messages)
        assert everything(out) == fresh
    assert build_dataset(scan_corpus("iemocap", source), out, RECIPE) == read_json(out / "dataset.json")
    messages.clear()
    retry_dataset(scan_corpus("iemocap", source), out, workers=1, report=messages.append)
    assert [sentence for sentence in messages if "nothing to retry" in sentence]


@pytest.mark.parametrize("command", ["build", "retry"])
def test_a_stopped_build_or_retry_resumes_after_a_repair(
    broken: Path, corpus: Path, fresh: dict[str, Any], tmp_path: Path, command: str
) -> None:
    """Parts of what was broken, or is another file now, are made again; the others are kept."""
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(broken / "source", source)
    if command == "retry":
        shutil.copytree(broken / "out", out)
    killed(source, out, "pack", command)
    assert not (out / "dataset.json").exists()
    parts = out / ".build" / "parts"
    done = {path.name for path in parts.glob("*.json")}
    shutil.rmtree(source)
    shutil.copytree(corpus, source)
    with pytest.raises(InputError, match="mesm-data retry"):
        build_dataset(scan_corpus("iemocap", source), out, RECIPE)
    assert {path.name for path in parts.glob("*.json")} == done
    messages: list[str] = []
    retry_dataset(scan_corpus("iemocap", source), out, workers=1, report=messages.append)
    assert everything(out) == fresh
    assert list(verify(out)) == []
    assert [sentence for sentence in messages if "goes on" in sentence and "are done again" in sentence]


def test_retry_does_not_change_a_stopped_build_whose_source_is_missing(broken: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(broken / "source", source)
    killed(source, out, "build", "build")
    before = sorted(path.name for path in (out / ".build" / "parts").iterdir())
    video_of(source, sorted(utterances(source))[0]).unlink()
    with pytest.raises(InputError, match="are missing"):
        retry_dataset(scan_corpus("iemocap", source), out)
    assert sorted(path.name for path in (out / ".build" / "parts").iterdir()) == before


def test_a_killed_build_does_not_repeat_complete_recordings(
    tmp_path: Path, corpus: Path, fresh: dict[str, Any]
) -> None:
    out = tmp_path / "out"
    killed(corpus, out, "build", "build")

    def parts() -> dict[str, tuple[int, int]]:
        files = ((path.name, path.stat()) for path in (out / ".build" / "parts").iterdir() if path.name[0] != ".")
        return {name: (status.st_ino, status.st_mtime_ns) for name, status in files}

    before = parts()
    assert sum(name.endswith(".json") for name in before) == 1
    compared, after = [], {}

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        compared.append((what, total - todo))
        if what == "pack":
            after.update(parts())
        return no_progress(what, total, todo)

    build_dataset(scan_corpus("iemocap", corpus), out, RECIPE, workers=1, progress=progress)
    assert compared[0][1] > 0
    assert {name: after[name] for name in before} == before
    assert len(after) > len(before)
    assert everything(out) == fresh


def test_a_killed_build_with_overwrite_goes_on_and_a_first_one_begins_again(
    tmp_path: Path, corpus: Path, fresh: dict[str, Any]
) -> None:
    """The same command resumes; `--overwrite` given for the first time keeps nothing of an earlier build."""
    out = tmp_path / "out"
    killed(corpus, out, "build", "build")
    done = []

    def progress(what: str, total: int, todo: int) -> Callable[[int], object]:
        done.append((what, total - todo))
        if what == "pack" and len(done) == 2:
            raise KeyboardInterrupt
        return no_progress(what, total, todo)

    def build() -> dict[str, Any]:
        return build_dataset(scan_corpus("iemocap", corpus), out, RECIPE, workers=1, overwrite=True, progress=progress)

    with pytest.raises(KeyboardInterrupt):
        build()
    build()
    (_, first), _, (_, second), *_ = done
    assert (first, second) == (0, sum(row["status"] != "excluded" for row in Dataset(out).rows.values()))
    assert everything(out) == fresh


def test_retry_refuses_another_source_and_changes_nothing(
    repaired: tuple[Path, Path], corpus: Path, tmp_path: Path
) -> None:
    source, out = repaired
    before = everything(out)
    names = utterances(source)
    texts = source / "Session1" / "dialog" / "EmoEvaluation"
    evaluation = next(path for path in sorted(texts.glob("*.txt")))
    text = evaluation.read_text()
    label = next(word for word in text.split() if word in {"ang", "fru", "neu", "sad", "exc", "hap"})
    cases = {
        "another labels": lambda: evaluation.write_text(text.replace(f"\t{label}\t", "\tsur\t")),
        "only the dataset holds": lambda: (
            evaluation.unlink(),
            (texts.parent / "transcriptions" / evaluation.name).unlink(),
            shutil.rmtree(texts.parents[1] / "sentences" / "wav" / evaluation.stem),  # each wav is a row of its own
        ),
        "are missing": lambda: video_of(source, sorted(names)[0]).unlink(),
    }
    for message, edit in cases.items():
        edit()
        with pytest.raises(InputError, match=message):
            retry_dataset(scan_corpus("iemocap", source), out)
        assert everything(out) == before
        shutil.rmtree(source)
        shutil.copytree(corpus, source)
    with pytest.raises(InputError, match="mesm-data retry"):
        build_dataset(scan_corpus("iemocap", source), out, RECIPE)


def test_a_recording_that_kills_its_worker_loses_the_picture_and_keeps_the_sound(tmp_path: Path, corpus: Path) -> None:
    recording = scan_corpus("iemocap", corpus).recordings[0]
    parts = tmp_path / ".build" / "parts"
    parts.mkdir(parents=True)
    (tmp_path / ".build" / "recipe.json").write_text("{}")
    job = Job(root=corpus, parts=parts, recipe=RECIPE, recording=recording, toolchain=toolchain_versions())

    def fatal(function: Any, items: Sequence[Job], workers: int | None) -> Iterator[tuple[Job, Any]]:
        """An engine whose workers die of every video."""
        return ((j, WorkerDied()) if j.skip_video_reason is None else next(run_local(function, [j], 1)) for j in items)

    steps: list[int] = []
    run_jobs(fatal, [job], 1, steps.append)
    rows = read_part(parts, recording.id)
    assert rows
    assert sum(steps) == len(rows) == len(recording.utterances)
    assert {(row["status"], row["audio"], row["video"]) for row in rows} == {("ok", "ok", "none")}
    assert all("the worker process died" in row["lost"]["video"] for row in rows)
