"""Guarantees of predict: the same input as the build makes, nothing invented, everything named."""

import json
import os
import re
import shutil
import subprocess
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mesm_cli.train import app
from typer.testing import CliRunner

import mesm_train
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Word
from mesm_train.explain.contents import clip_subjects
from mesm_train.explain.page import write_explanation
from mesm_train.inference import Clip, Failure, Prediction, output
from mesm_train.inference.decode import decode
from mesm_train.inference.timeline_figure import write_timeline
from mesm_train.inference.windows import windows
from mesm_train.runs.run import start_run
from mesm_train.training.progress import NullLogger


def test_a_run_folder_is_enough(fe2e_run: Path, dialog: Path, tmp_path: Path) -> None:
    """Copied elsewhere, with settings that name no data."""
    shutil.copytree(fe2e_run, tmp_path / "run")
    settings = (tmp_path / "run/config.yaml").read_text()
    changed = [line for line in settings.splitlines() if not line.startswith("data:")]
    (tmp_path / "run/config.yaml").write_text("\n".join([*changed, "data: /nowhere"]))
    there, here = (
        mesm_train.load(run, device="cpu").predict(dialog, text="hello", end=2) for run in (tmp_path / "run", fe2e_run)
    )
    assert there.logits == here.logits
    assert list(here.values) == ["ang", "exc", "fru", "hap", "neu", "sad"]
    assert here.meaning("ang") == "Anger"
    assert "trained on synthetic data in the layout of iemocap" in repr(mesm_train.load(fe2e_run, device="cpu"))


@pytest.mark.slow
def test_on_a_terminal_predictions_begin_a_line_of_their_own(fe2e_run: Path, dialog: Path, tmp_path: Path) -> None:
    """Not behind the bar, which is cleared first."""
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no media")
    command = [sys.executable, "-c", "from mesm_cli.train import main; main()", "predict", fe2e_run, broken, dialog]
    terminal, end = os.openpty()
    termios.tcsetwinsize(end, (40, 100))  # without a width, no bar is drawn
    with subprocess.Popen([*command, "--allow-missing", "--end", "2"], stdout=end, stderr=end):
        os.close(end)
        shown = b""
        with suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as output:  # EIO when the process ends
            while block := output.read(4096):
                shown += block
    lines = re.split(r"[\r\n]+", shown.decode())
    assert any(line.startswith("predict:   0%") for line in lines)
    for begin in ("failed: ", f"{dialog.name} 0.00-2.00 s"):
        assert any(line.startswith(begin) for line in lines), lines


def test_a_run_of_an_earlier_version_names_the_command_that_completes_it(
    fe2e_run: Path, settings_file: Path, tmp_path: Path
) -> None:
    shutil.copytree(fe2e_run, tmp_path / "run")
    before = (tmp_path / "run/input_spec.json").read_bytes()
    (tmp_path / "run/input_spec.json").unlink()
    with pytest.raises(InputError, match="--resume"):
        mesm_train.load(tmp_path / "run")
    config = mesm_train.config.recipe_files.load_recipe(str(settings_file))
    assert start_run(config, tmp_path / "run", resume=True, stop=lambda: False, logger=NullLogger())
    assert (tmp_path / "run/input_spec.json").read_bytes() == before


def test_a_modality_that_no_training_utterance_had_is_left_out(fe2e_run: Path, dialog: Path) -> None:
    """Its branch has the weights of the start."""
    model = mesm_train.load(fe2e_run, device="cpu")
    missing = {"t": 0, "v": model.spec.train["utterances"], "a": 0}
    unread = replace(model, spec=replace(model.spec, train={**model.spec.train, "missing": missing}))
    answer = unread.predict(dialog, text="hello", end=2)
    assert answer.missing == {"faces": "no training utterance had faces"}
    assert set(answer.branches) == {"text", "sound"}
    assert answer.input is not None
    assert not answer.notes
    assert answer.logits == model.predict_inputs([replace(answer.input)])[0].logits
    with pytest.raises(InputError, match=r"nothing that the model reads: .*faces \(no training utterance had faces\)"):
        replace(unread, spec=replace(unread.spec, train={"utterances": 9, "missing": dict.fromkeys("tva", 9)})).predict(
            dialog, text="hello", end=2
        )


def test_a_clip_without_a_modality_that_training_always_had_is_refused_by_name(
    fe2e_run: Path, corpus: Path, dataset: Path
) -> None:
    model, wav = mesm_train.load(fe2e_run, device="cpu"), corpus / "Session1/dialog/wav/Ses01F_impro04.wav"
    with pytest.raises(InputError, match=r"without text \(no text\); without faces \(no video file\)"):
        model.predict(wav, end=3)
    with pytest.raises(InputError, match=r"All \d+ training utterances have text and faces"):
        model.predict(wav, end=3)
    answer = model.predict(wav, end=3, text="hello", allow_missing=True)
    assert answer.missing == {"faces": "no video file"}
    assert set(answer.branches) == {"text", "sound"}
    assert "without faces: no video file" in repr(answer)
    fused = model.model.fusion
    assert fused is not None
    weights = dict(zip(("text", "faces", "sound"), fused.weight[0].tolist(), strict=True))
    for name, logit in answer.logits.items():
        assert logit == pytest.approx(sum(weights[m] * branch[name] for m, branch in answer.branches.items()), abs=1e-6)


def test_the_chosen_face_is_that_of_the_half_or_the_number(fe2e_run: Path, dialog: Path) -> None:
    model = mesm_train.load(fe2e_run, device="cpu")
    choices = ("left", "right", 1, 2, 3)
    inputs = {face: model.predict(dialog, text="hello", end=1, face=face).input for face in choices}
    left, right, first, second, third = (inputs[face] for face in choices)
    assert left is not None and right is not None  # noqa: PT018
    assert first is not None and second is not None and third is not None  # noqa: PT018
    assert all(box[2] <= 360 for box in (*left.boxes, *first.boxes))
    assert all(box[0] >= 360 for box in second.boxes)
    assert max(third.counts) == 0
    count = len(third.counts)
    assert third.notes("v") == [
        f"fewer than 3 faces were detected in {count} of {count} frames: the centre of the picture stands in"
    ]
    assert np.array_equal(left.faces, first.faces)
    centres = [[(box[0] + box[2]) / 2 for box in one.boxes] for one in (right, second)]
    assert np.abs(np.array(centres[0]) + 360 - centres[1]).max() < 20


def test_a_channel_that_the_sound_does_not_have_is_no_other_one(fe2e_run: Path, dialog: Path) -> None:
    model = mesm_train.load(fe2e_run, device="cpu")
    with pytest.raises(MesmError, match="has no channel 3: it has 2"):
        model.predict(dialog, text="hello", end=1, channel=3)
    result = model.predict(dialog, text="hello", end=1, channel=3, allow_missing=True)
    assert "has no channel 3: it has 2" in result.missing["sound"]


def test_windows_cover_the_clip_and_contain_the_words_whose_middle_they_contain(dialog: Path) -> None:
    words = [Word(word=f"w{i}", start=i, end=i + 1.0) for i in range(9)]
    clip = Clip(path=dialog, start=1.0, end=10.0, text="…", words=tuple(words))
    parts = windows(clip, seconds=4, step=2)
    assert [(one.start, one.end) for one in parts] == [(1, 5), (3, 7), (5, 9), (7, 10)]
    assert [one.text for one in parts] == ["w0 w1 w2 w3", "w2 w3 w4 w5", "w4 w5 w6 w7", "w6 w7 w8"]
    assert parts[1].words is not None
    assert parts[1].words[0] == Word(word="w2", start=0.0, end=1.0)
    late = replace(clip, words=(*words[:8], Word(word="late", start=8.5, end=30.0)))
    assert windows(late, seconds=4, step=2)[-1].text == "w6 w7 late"
    assert len(windows(replace(clip, end=2.0), seconds=4, step=2)) == 1
    with pytest.raises(InputError, match="times of the words"):
        windows(replace(clip, words=None), seconds=4, step=2)


def test_a_truncated_file_and_words_behind_its_end_are_noted(dialog: Path, tmp_path: Path) -> None:
    half, recipe = tmp_path / "half.avi", Recipe(corpus="iemocap", clips=False)
    half.write_bytes(dialog.read_bytes()[: dialog.stat().st_size // 2])
    words = (Word(word="so", start=0, end=1), Word(word="late", start=1000, end=1001))
    clip = Clip(path=half, text="so late", words=words)
    *others, last = windows(clip, seconds=4, step=4)
    assert not any(window.notes for window in others)
    [whole] = decode([clip], recipe, ("t",))
    [truncated] = whole.clip.notes
    assert re.fullmatch(r"half\.avi is truncated: it ends at .* its header counts \d+ bytes, it has \d+", truncated)
    assert last.notes == (truncated, "1 words or subtitles begin after the end of the file, the first at 1000.000 s")
    assert truncated in whole.notes("t")
    [complete] = decode([replace(clip, path=dialog)], recipe, ("t",))
    assert not complete.clip.notes


def test_windows_without_words_fail_one_by_one_and_the_timeline_has_the_others(
    fe2e_run: Path, dialog: Path, tmp_path: Path
) -> None:
    model = mesm_train.load(fe2e_run, device="cpu")
    clip = Clip(
        path=dialog,
        end=6.0,
        text="so angry",
        words=(Word(word="so", start=0, end=1), Word(word="angry", start=3, end=5)),
    )
    timeline, failures = model.predict_windows(clip, seconds=2, step=2)
    assert [(one.start, one.text) for one in timeline] == [(0, "so"), (4, "angry")]
    assert [failure.clip.start for failure in failures] == [2]
    assert "without text" in failures[0].reason
    assert list(timeline.to_pandas().columns[:4]) == ["start", "end", "text", "labels"]
    assert "Timeline of 2 predictions" in repr(timeline)
    for name in ("t.png", "t.svg"):
        write_timeline(tmp_path / name, list(timeline))
        assert (tmp_path / name).stat().st_size > 5000
    with pytest.raises(InputError, match="ending"):
        write_timeline(tmp_path / "t.gif", list(timeline))
    check_tables([*timeline, *failures], tmp_path)


def check_tables(answers: list[Prediction | Failure], folder: Path) -> None:
    """JSON lines, CSV and Parquet hold the same rows, the failed one too."""
    for suffix in output.WRITERS:
        output.write(folder / f"table{suffix}", answers)
    lines = [json.loads(line) for line in (folder / "table.jsonl").read_text().splitlines()]
    assert [line["status"] for line in lines] == ["ok", "ok", "failed"]
    tables = [pd.read_csv(folder / "table.csv"), pd.read_parquet(folder / "table.parquet")]
    for table in tables:
        assert list(table.status) == ["ok", "ok", "failed"]
        assert table.value_sad[:2].tolist() == pytest.approx([line["values"]["sad"] for line in lines[:2]])
        assert table.reason[2] == lines[2]["reason"]
        assert np.isnan(table.value_sad[2])


@pytest.mark.parametrize("name", ["caf\udce9.wav", "a$%$b.wav"])
def test_a_name_that_is_no_utf8_or_no_formula_costs_no_result(
    fe2e_run: Path, corpus: Path, tmp_path: Path, name: str
) -> None:
    """The tables, the picture and the page are written, with the bytes that are no text as \\xe9."""
    path = tmp_path / name
    path.symlink_to(corpus / "Session1/dialog/wav/Ses01F_impro04.wav")
    model, clip = mesm_train.load(fe2e_run, device="cpu"), Clip(path=path, end=1, text="no", channel=1)
    answers = list(model.predict_clips([clip, replace(clip, channel=9)], allow_missing=True))
    for suffix in output.WRITERS:
        output.write(tmp_path / f"table{suffix}", answers)
    first, second = map(json.loads, (tmp_path / "table.jsonl").read_text().splitlines())
    shown = name.replace("\udce9", r"\xe9")
    assert Path(first["path"]).name == shown
    assert shown in second["missing"]["sound"]
    for table in (pd.read_csv(tmp_path / "table.csv"), pd.read_parquet(tmp_path / "table.parquet")):
        assert Path(table.path[0]).name == shown
    write_timeline(tmp_path / "t.svg", [answer for answer in answers if isinstance(answer, Prediction)])
    write_explanation(model, clip_subjects(model, [clip]), tmp_path / "page.html")
    assert shown in (tmp_path / "page.html").read_text()


def command(*arguments: object, code: int = 0) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-c", "from mesm_cli.train import main; main()", *map(str, arguments)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_command_predicts_each_subtitle_and_reports_what_failed(
    fe2e_run: Path, dialog: Path, tmp_path: Path
) -> None:
    """With texts beside the clips; one of three clips cannot be decoded."""
    for name in ("b.avi", "c.avi"):
        (tmp_path / name).symlink_to(dialog)
    (tmp_path / "a.mp4").write_bytes(b"this is no video")
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.vtt").write_text(
        "WEBVTT\n\n00:00.000 --> 00:01.500\n<v Ann>so angry\n\n00:02.250 --> 00:03.000\nno\n"
    )
    (tmp_path / "c.txt").write_text("so\nangry")
    done = command("predict", fe2e_run, tmp_path, "--end", 3, "--json", "--out", tmp_path / "all.csv", code=1)
    assert "1 of 4 clips were not predicted" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(Path(line["path"]).name, line["status"]) for line in lines] == [
        ("a.mp4", "failed"), ("b.avi", "ok"), ("b.avi", "ok"), ("c.avi", "ok"),
    ]  # fmt: skip
    assert [(line["start"], line["end"], line["speaker"], line["text"]) for line in lines[1:]] == [
        (0, 1.5, "Ann", "so angry"), (2.25, 3.0, None, "no"), (0, 3.0, None, "so angry"),
    ]  # fmt: skip
    assert len(pd.read_csv(tmp_path / "all.csv")) == 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere.mp4"], "there is no such file"),
        (["clips", "--text", "hello"], "2 clips: --text"),
        (["clips/*.flac"], "there is no such media file"),
        (["clips/a.wav", "--text", "a", "--srt", "b.srt"], "--text and --srt: give one source"),
        (["clips/a.wav", "--step", "1"], "--step goes with --window"),
        (["clips/a.wav", "--face", "middle"], "expected left, right, or a number"),
        (["clips/a.wav", "--out", "a.xls"], r"expected the ending \.jsonl, \.csv, \.parquet"),
        (["clips/a.wav", "--out", "clips/a.wav/a.csv"], "cannot be created as a folder"),
        (["clips/a.wav", "--timeline", "folder.png"], "folder.png is a folder"),
        (["clips/a.wav", "--start", "3", "--end", "2"], "no stretch of a clip"),
    ],
)
def test_bad_arguments_are_refused_before_any_model_is_loaded(
    arguments: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("clips", "folder.png"):
        (tmp_path / folder).mkdir()
    for name in ("a.wav", "b.wav"):
        (tmp_path / "clips" / name).touch()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["predict", "no-run", *arguments])
    assert isinstance(done.exception, InputError)
    assert re.search(reason, str(done.exception))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run"):
        mesm_train.load(tmp_path)


@pytest.mark.parametrize("path", ["/no/run", "./run", "../run", "runs/one/seed-0"])
def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub(path: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"{path} does not exist: give the folder of a run")):
        mesm_train.load(path)


def test_progress_is_reported_and_several_files_are_decoded_at_a_time(
    fe2e_run: Path, dialog: Path, tmp_path: Path
) -> None:
    model, count = mesm_train.load(fe2e_run, device="cpu"), list[int]()
    names = [tmp_path / f"{name}.avi" for name in "abc"]
    for path in names:
        path.symlink_to(dialog)
    clips = [Clip(path=path, end=0.6, text="hello") for path in names]
    progress: Callable[[int], object] = count.append
    answers = list(model.predict_clips(clips, workers=2, progress=progress))
    assert [answer.path for answer in answers if isinstance(answer, Prediction)] == names
    assert sum(count) == 3
