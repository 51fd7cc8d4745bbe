"""Guarantee: whatever the files of a run, of an encoder or of the kernel cache hold, they are used or named."""

import json
import os
import shutil
import stat
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_report import CLASSES, PROVENANCE, SETTINGS, scored
from torch import nn

from mesm_data.errors import InputError, MesmError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import mismatch, read_checked_json
from mesm_train.analysis.compare import compare
from mesm_train.analysis.compare_tables import summary_table
from mesm_train.analysis.systems import read_systems
from mesm_train.config.model_settings import TextSettings, TinySettings
from mesm_train.config.recipe_files import load_recipe
from mesm_train.models import text
from mesm_train.models.kernels import build
from mesm_train.models.tiny_text import make_tiny
from mesm_train.report.page import render_report
from mesm_train.report.record import read_record
from mesm_train.runs.evaluate import recorded_scores
from mesm_train.training import checkpoint
from mesm_train.training.metrics_log import MetricsLog
from mesm_train.training.run_files import LAST, parse_line
from mesm_train.training.run_files import PROVENANCE as PROVENANCE_SHAPE
from mesm_train.training.run_state import RunState

OPERATIONS = {"input": {"faces": 9}, "models": {"fe2e": {"v.stem": 5}, "mesm": {"v.stem": 2}}, "kept": {"v": [0.5]}}

RESULTS = {
    "schema": "mesm-run-results/1",
    "name": "demo",
    "model": {"kind": "mesm", "modalities": ["t"], "parameters": 5, "trainable_parameters": 5},
    "labels": {"view": "six", "classes": CLASSES, "heads": [{"view": "six", "loss": "bce", "kind": "binary"}]},
    "seed": 0,
    "training": {"best_epoch": 1, "seconds": 0.1},
    "scores": {"test": scored("test", 1)["metrics"]},
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two epochs that has been tested, with one checkpoint."""
    folder = tmp_path / "run"
    write_json(folder / "provenance.json", PROVENANCE)
    write_json(folder / "thresholds.json", {"classes": CLASSES, "thresholds": [0.45] * 6, "epoch": 1, "part": "valid"})
    write_json(folder / "operations.json", OPERATIONS)
    write_json(folder / "results.json", RESULTS)
    columns = {f"{kind}_{name}": np.eye(6)[n] for n, name in enumerate(CLASSES) for kind in ("logit", "label")}
    pq.write_table(pa.table({"key": list("abcdef"), **columns}), folder / "predictions-test.parquet")
    (folder / "config.yaml").write_text(json.dumps(SETTINGS))
    lines: list[dict[str, Any]] = [{"kind": "train", "epoch": 0, "step": 1, "loss": 0.5, "lr": 1e-3, "seconds": 0.1}]
    lines += [scored("valid", 0), scored("valid", 1), scored("test", 1)]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    state = {"position": {"total": 1}}
    checkpoint.save(folder / "checkpoints", 1, {"w": torch.zeros(2)}, state, score=0.5)
    return folder


def page(run: Path) -> str:
    """The report as far as the run's own files go."""
    return render_report(read_record(run))


def read_everything(run: Path) -> str | None:
    """All that reads the JSON files of a run, but for its report; the sentence that refuses one of them."""
    sentences = []
    for use in (
        lambda: summary_table(compare(read_systems([run]))),
        lambda: recorded_scores(run, "test"),
        lambda: checkpoint.load(run / "checkpoints", "last"),
        lambda: checkpoint.load(run / "checkpoints", "best"),
        lambda: checkpoint.best_checkpoints(run / "checkpoints"),
    ):
        try:
            use()
        except MesmError as error:
            sentences.append(str(error))
    return next(iter(sentences), None)


def test_a_valid_run_is_read(run: Path) -> None:
    assert read_everything(run) is None
    assert page(run)
    assert read_record(run).remarks == ()


JSON = [
    b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b"[" * 10**5, b"NaN", b'{"step": NaN}', b"\xff",
    b'{"step": "../x"}', b'{"step": 1.5}', b'{"step": true}', b'{"step": 1, "step": 1}', b'{"step": 7, "kept": [1]}',
    b'{"step": 7, "kept": 5}', b'{"dataset": 1}', b'{"dataset": {"root": 5}}', b'{"thresholds": [null]}',
    b'{"models": {"mesm": 1}}',
]  # fmt: skip
NAMES = [
    "provenance.json", "thresholds.json", "operations.json", "results.json", "checkpoints/last.json",
    "checkpoints/best.json",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_json_of_the_wrong_shape_is_one_message(run: Path, name: str) -> None:
    drawn = set()
    for data in JSON:
        (run / name).write_bytes(data)
        message = read_everything(run)
        assert message is not None, data
        assert Path(name).name in message or "step-00000007" in message
        assert len(message) < 1000
        record = read_record(run)
        rest = repr(replace(record, remarks=()))
        if rest not in drawn:  # a page takes half a second, and differs in its remarks alone where nothing else does
            assert render_report(record)  # which says what is damaged
            drawn.add(rest)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[]", "it is not an object"),
        ("{", "Expecting property name"),
        ('{"kind": "train", "epoch": 0}', "step is missing"),
        ('{"kind": ["train"], "epoch": 0, "step": 0}', "kind is not a text"),
        ('{"kind": "train", "epoch": 0, "step": 1.5}', "step is not a whole number"),
        ('{"kind": "train", "epoch": 0, "step": 99999999999999999999}', "step is not a whole number"),
        ('{"kind": "train", "epoch": 0, "step": 0, "loss": "low"}', "loss is not a whole number or a number or null"),
        ('{"kind": "valid", "epoch": 0, "step": 0, "loss": 1}', "metrics is missing"),
        ('{"kind": "test", "epoch": 0, "step": 0, "loss": 1, "metrics": {}}', "metrics.task is missing"),
    ],
)
def test_a_damaged_line_of_the_metrics_log_is_named_by_its_number(run: Path, line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_line(line.encode())
    path = run / "metrics.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(InputError, match=r"metrics\.jsonl:1 is damaged: .*Remove the line"):
        MetricsLog(path).read()
    assert "1 line could not be read" in page(run)


def test_a_confusion_of_other_classes_is_damage() -> None:
    line = scored("test", 1)
    parse_line(json.dumps(line).encode())
    line["metrics"]["multiclass"]["confusion"].pop()
    with pytest.raises(ValueError, match="not a table of 6 classes"):
        parse_line(json.dumps(line).encode())


def test_the_first_difference_from_a_shape_is_named() -> None:
    assert mismatch({"step": 1}, LAST) is None
    assert mismatch(PROVENANCE, PROVENANCE_SHAPE) is None
    assert mismatch({"a": [1, "x"]}, {"a": [int]}) == "a[1] is not a whole number"
    assert mismatch({"a": {"b": True}}, {"a": {"b": int}}) == "a.b is not a whole number"
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert mismatch({"step": 1, "x": deep}, LAST) == "it is nested more than 50 levels deep"


def test_a_pipe_or_a_link_in_a_run_does_not_block(run: Path, tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "provenance.json", "config.yaml"):
        (run / name).unlink()
        os.mkfifo(run / name)
    assert "metrics.jsonl cannot be read (it is not a regular file)" in page(run)
    with pytest.raises(InputError, match="not a regular file"):
        MetricsLog(run / "metrics.jsonl").read()
    with pytest.raises(InputError, match="not a regular file"):
        read_checked_json(run / "provenance.json", PROVENANCE_SHAPE)
    with pytest.raises(InputError, match="not a regular file"):
        load_recipe(str(run / "config.yaml"))


# Checkpoints


def state_file(run: Path) -> Path:
    return run / "checkpoints" / "step-00000001" / "state.pt"


def test_a_damaged_or_compressed_checkpoint_is_named(run: Path) -> None:
    whole = state_file(run).read_bytes()
    for data in (b"", b"text", whole[: len(whole) // 2], bytes(len(whole))):
        state_file(run).write_bytes(data)
        with pytest.raises(MesmError, match="step-00000001 is not a complete checkpoint"):
            checkpoint.load(run / "checkpoints", "last")
    with zipfile.ZipFile(state_file(run), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("state/data.pkl", bytes(2**26))
    assert state_file(run).stat().st_size < 2**17
    with pytest.raises(MesmError, match=f"it expands to {2**26} bytes"):
        checkpoint.load(run / "checkpoints", "last")
    torch.save([1, 2], state_file(run))
    with pytest.raises(MesmError, match="the state is not a dictionary"):
        checkpoint.load(run / "checkpoints", "last")


class Planted:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_checkpoint_executes_nothing(run: Path, tmp_path: Path) -> None:
    torch.save({"position": Planted(tmp_path / "executed")}, state_file(run))
    with pytest.raises(MesmError, match="not a complete checkpoint"):
        checkpoint.load(run / "checkpoints", "last")
    assert not (tmp_path / "executed").exists()


POSITION = {"epoch": 1, "step": 0, "total": 1, "best": 0.5, "best_epoch": 0, "finished": False}


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("position"),
        lambda state: state.pop("optimizer"),
        lambda state: state.update(position=5),
        lambda state: state.update(position={**POSITION, "epoch": "1"}),
        lambda state: state.update(position={**POSITION, "finished": 1}),
        lambda state: state.update(plateau={"best": "low", "epochs_since_best": 0, "factor": 1.0}),
        lambda state: state.update(optimizer={}),
        lambda state: state.update(optimizer={"state": {}, "param_groups": []}),
        lambda state: state.update(optimizer=[]),
    ],
)
def test_a_state_of_the_wrong_shape_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    model = nn.Linear(2, 2)
    started = RunState(
        optimizer=torch.optim.AdamW(model.parameters()), scaler=torch.amp.GradScaler("cpu", enabled=False), mean=None,
        position=cast(Any, SimpleNamespace(**POSITION)),
    )  # fmt: skip
    setup: Any = SimpleNamespace(model=model)
    state = {
        "position": dict(POSITION), "optimizer": started.optimizer.state_dict(), "scaler": started.scaler.state_dict(),
    }  # fmt: skip
    checkpoint.save(tmp_path / "checkpoints", 1, model.state_dict(), state, score=None)
    started.resume(setup, tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))
    change(state)
    checkpoint.save(tmp_path / "checkpoints", 2, model.state_dict(), state, score=None)
    with pytest.raises(MesmError, match="the last checkpoint is not of this run"):
        started.resume(setup, tmp_path, MetricsLog(tmp_path / "metrics.jsonl"))


def test_weights_have_the_file_mode_of_the_other_files(run: Path) -> None:
    old = os.umask(0o077)
    try:
        checkpoint.save(run / "checkpoints", 2, {"w": torch.zeros(2)}, {}, score=0.9)
    finally:
        os.umask(old)
    for path in (run / "checkpoints" / "step-00000002").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


# Settings

BOMB = """a: &a [x, x, x, x, x, x, x, x, x]
b: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]
c: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]
d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]
e: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]
name: [*e, *e, *e, *e, *e, *e, *e, *e, *e]
"""


def test_settings_that_expand_or_are_huge_are_refused_with_a_short_message(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    for content, message in (
        (BOMB, "aliases"),
        ("name: " + "x" * 2**20, "more than 1024 KiB"),
        ("name: [" + "x," * 10**5 + "]", "expected a text"),
        ("x" * 1000 + ": 1", "there is no such setting"),
        ("model: {kind: " + "x" * 10**5 + "}", "expected one of fe2e, mesm"),
        ("name: " + "[" * 10**4, "not valid YAML"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=message) as refused:
            load_recipe(str(path))
        assert len(str(refused.value)) < 2000 + len(str(path))


@pytest.mark.parametrize(
    "name",
    ["..", ".", "../../x", "/etc/x", "a/../../x", "a//b", "a/", "", "x\0", "x\n", "\x1b[2J", "~", "a" * 200, ".x"],
)
def test_a_name_that_leads_out_of_the_folder_of_runs_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "r.yaml").write_text(json.dumps({"name": name}))
    with pytest.raises(InputError, match="name is "):
        load_recipe(str(tmp_path / "r.yaml"))


def test_common_run_names_are_accepted(tmp_path: Path) -> None:
    for name in ("iemocap-mesm", "fold 3", "p=.7", "größe_2", "sweep/p-0.7"):
        (tmp_path / "r.yaml").write_text(json.dumps({"name": name}))
        assert load_recipe(str(tmp_path / "r.yaml")).name == name


# Text encoders


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder") / "text"
    tiny = TinySettings(vocabulary=60, embedding=8, width=8, layers=1, heads=2, feedforward=8)
    make_tiny(["yes no"], folder, 1, TextSettings(encoder="tiny", tiny=tiny))
    return folder


def test_a_generated_encoder_loads_and_is_readable_by_all_users(encoder: Path) -> None:
    text.load(TextSettings(encoder=str(encoder)))
    assert {stat.S_IMODE(path.stat().st_mode) for path in encoder.iterdir()} == {0o644}


def edited(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: [path.unlink() for path in folder.iterdir()],
        lambda folder: (folder / "config.json").write_text("[]"),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: edited(folder / "config.json", model_type="no-such"),
        lambda folder: edited(folder / "config.json", model_type=5),
        lambda folder: edited(folder / "config.json", hidden_size="x"),
        lambda folder: edited(folder / "config.json", hidden_size=-1),
        lambda folder: edited(folder / "config.json", num_attention_heads=0),
        lambda folder: edited(folder / "config.json", vocab_size=3),
        lambda folder: edited(folder / "config.json", model_type="vit"),
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100),
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        lambda folder: (folder / "tokenizer.json").write_text("{}"),
        lambda folder: (folder / "tokenizer.json").write_text("[" * 10**4),
        lambda folder: (folder / "tokenizer_config.json").write_text("[]"),
    ],
)
def test_a_damaged_encoder_is_reported_in_one_sentence(
    encoder: Path, tmp_path: Path, harm: Callable[[Path], Any]
) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "text"))
    harm(folder)
    with pytest.raises(InputError, match=r"does not load: .*It must hold config\.json"):
        text.load(TextSettings(encoder=str(folder)))


def test_code_in_an_encoder_is_not_executed_and_causes_no_prompt(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(encoder, tmp_path / "text"))
    (folder / "planted.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    edited(folder / "config.json", model_type="planted", auto_map={"AutoConfig": "planted.C", "AutoModel": "planted.M"})
    edited(folder / "tokenizer_config.json", tokenizer_class="T", auto_map={"AutoTokenizer": ["planted.T", None]})
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=lambda: pytest.fail("it asks")))
    with pytest.raises(InputError, match="does not load"):
        text.load(TextSettings(encoder=str(folder)))
    assert not (tmp_path / "executed").exists()


# Compiled kernels


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")
def test_an_incomplete_kernel_library_is_compiled_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To load an empty library fails, and to load one that was cut off ends the process with SIGBUS."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "SOURCES", (tmp_path / "small.cpp",))
    monkeypatch.setattr(build, "HEADERS", ())
    (tmp_path / "small.cpp").write_text('extern "C" int seven() { return 7; }\n')
    compiled: list[Path] = []
    compile_library = build.compile_library
    monkeypatch.setattr(build, "compile_library", lambda *args: compiled.append(args[2]) or compile_library(*args))
    assert build.library().seven() == 7
    assert build.library().seven() == 7
    [path] = compiled
    whole = path.read_bytes()
    for harm in (b"", whole[: len(whole) // 2], whole[:-1], bytes(len(whole))):
        path.unlink()
        path.write_bytes(harm)
        compiled.clear()
        assert build.is_whole(path) is False
        assert build.library().seven() == 7
        assert build.library().seven() == 7
        assert compiled == [path]
    path.with_suffix(".sha256").unlink()
    assert build.library().seven() == 7
    assert build.is_whole(path)


# The report


def test_a_report_names_the_licence_of_the_corpus_and_can_omit_its_media(tmp_path: Path) -> None:
    """See test_report.py for what is on a page; here: the sentence, and that no media are left."""
    from test_report import seen

    folder = tmp_path / "run"
    licence = built_in_schema("iemocap").as_dict()["licence"]
    real = {**PROVENANCE, "dataset": {**PROVENANCE["dataset"], "synthetic": False, "licence": licence}}
    write_json(folder / "provenance.json", real)
    page = render_report(read_record(folder), seen("fe2e"))
    assert "Signal Analysis and Interpretation Laboratory (SAIL)" in page
    assert "--set report.media=false" in page
    assert "a spoken sentence" in page
    write_json(folder / "provenance.json", {**real, "config": {**SETTINGS, "report": {"media": False}}})
    page = render_report(read_record(folder), replace(seen("fe2e"), media={}, inputs=()))
    assert "left out (report.media=false)" in page
    assert "Licensed media" not in page
    assert "a spoken sentence" not in page
    write_json(folder / "provenance.json", PROVENANCE)
    assert "Licensed media" not in render_report(read_record(folder), seen("fe2e"))
