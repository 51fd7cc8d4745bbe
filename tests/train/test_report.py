"""The report of a run stands on its own, says what its numbers are worth, and is there however little the run left."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import Tensor, nn

from mesm_data.errors import InputError
from mesm_data.storage.json_files import write_json
from mesm_train.config.model_settings import MODALITIES, ModelSettings
from mesm_train.data.batch import Batch
from mesm_train.evaluation.scores import binary_scores
from mesm_train.models import flops
from mesm_train.models.fe2e_mesm import Model
from mesm_train.report import pictures
from mesm_train.report import site_selection as looks
from mesm_train.report.page import leaks, write

CLASSES = ("ang", "exc", "fru", "hap", "neu", "sad")
KEYS = ("Ses05F_impro01_F000", "Ses05M_impro01_M001", "Ses05F_impro02_F003", "Ses05M_script01_1_M000")
SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "seed": 0,
    "model": {"kind": "mesm", "sparse": {"p": 0.7, "selection": "published"}},
    "optim": {"lr": 1e-3, "pos_weight": True},
}
PROVENANCE: dict[str, Any] = {
    "dataset": {"corpus": "iemocap", "root": "ab" * 32, "format": 1, "synthetic": True, "counts": {"ok": 60}},
    "split": {
        "name": "session-5",
        "digest": "cd" * 32,
        "counts": {"train": 40, "valid": 10, "test": 10},
        "missing": {"failed": 0, "excluded": 0, "absent": 2},
        "leaks": {"speakers": 0, "dialogs": 0, "overlaps": 0},
    },
    "labels": {"view": "six", "classes": list(CLASSES)},
    "config": SETTINGS,
    "seed": 0,
    "code": {"version": "0.1.0", "commit": "ef" * 20, "modified": False},
    "environment": {"python": "3.11.2", "torch": "2.13.0", "gpu": None, "threads": 1},
}


class Encoder(nn.Module):
    """A text encoder of one embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=12, num_hidden_layers=1, intermediate_size=8, model_type="bert")
        self.embedding = nn.Embedding(20, 12)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=self.embedding(input_ids) * attention_mask[..., None])


def model(kind: Literal["fe2e", "mesm"]) -> Model:
    torch.manual_seed(0)
    sizes = {"hidden": 16, "dim": 8, "layers": 1, "heads": 2, "feedforward": 8, "stem_blocks": 1}
    return Model(ModelSettings(kind=kind, channels=(4, 6, 8), **sizes), Encoder()).eval()  # type: ignore[arg-type]


def batch(keys: tuple[str, ...] = KEYS) -> Batch:
    """One with everything and longer than what is shown, one without faces, one without sound, one without text."""
    rng = torch.Generator().manual_seed(1)
    faces, samples, tokens = (
        torch.tensor([11, 0, 2, 3]),
        torch.tensor([96000, 9000, 0, 20000]),
        torch.tensor([5, 3, 4, 0]),
    )
    labels = torch.eye(6)[torch.tensor([0, 4, 4, 5])]
    return Batch(
        keys=keys,
        faces=torch.randint(0, 256, (int(faces.sum()), 48, 48, 3), dtype=torch.uint8, generator=rng),
        face_counts=faces,
        samples=torch.randint(-9000, 9000, (int(samples.sum()),), dtype=torch.int16, generator=rng),
        sample_counts=samples,
        tokens=torch.randint(0, 20, (4, 5), generator=rng),
        token_counts=tokens,
        labels=labels,
    )  # fmt: skip


def scored(kind: str, epoch: int, n: int = 10) -> dict[str, Any]:
    """A line of metrics.jsonl; `sad` is nowhere true."""
    rng = np.random.default_rng(epoch)
    truth = np.eye(6)[rng.integers(0, 5, n)]
    found = binary_scores(truth + rng.normal(size=(n, 6)), truth, [0.5] * 6, CLASSES, exclusive=True)
    return {"kind": kind, "epoch": epoch, "step": 5 * (epoch + 1), "loss": 0.6, "metrics": found}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four epochs that has been tested."""
    folder = tmp_path / "run"
    write_json(folder / "provenance.json", PROVENANCE)
    write_json(folder / "thresholds.json", {"classes": CLASSES, "thresholds": [0.45] * 6, "epoch": 2, "part": "valid"})
    (folder / "config.yaml").write_text(json.dumps(SETTINGS))
    lines: list[dict[str, Any]] = []
    for epoch in range(4):
        for step in range(5 * epoch + 1, 5 * epoch + 6):
            loss = {"loss": 1 / step, "lr": 1e-3, "samples_per_s": 9.5, "data_wait": 0.01}
            lines.append({"kind": "train", "epoch": epoch, "step": step, **loss})
        lines.append(scored("valid", epoch))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, scored("test", 2)]))
    return folder


class Page(HTMLParser):
    """Tags that are closed in order, addresses, and the text outside the style sheet."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]
        if tag not in ("meta", "img", "source"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "


def page(run: Path, kind: Literal["fe2e", "mesm"] | None = None, texts: dict[str, str] | None = None) -> Page:
    given = (model(kind), batch()) if kind else (None, None)
    return Page(write(run, model=given[0], batch=given[1], texts=texts).read_text())


@pytest.mark.parametrize("kind", ["fe2e", "mesm"])
def test_the_page_needs_nothing_but_itself(run: Path, kind: Literal["fe2e", "mesm"]) -> None:
    found = page(run, kind)
    assert found.addresses
    assert all(address.startswith("data:image/png;base64,") for address in found.addresses)
    assert not {"script", "link", "iframe", "object"} & {*found.tags}
    assert not re.search(r"url\(|@import|https?:", (run / "report.html").read_text())


def test_it_says_what_the_numbers_are_worth(run: Path) -> None:
    found = page(run).text
    assert "SYNTHETIC" in found
    assert "say nothing about people" in found
    result = scored("test", 2)["metrics"]
    for name in CLASSES:
        assert len(re.findall(rf"\b{name}\b", found)) >= 3  # scores, confusion down and across
    for value in (
        result["mean"]["f1"],
        result["baselines"]["always_yes"]["f1"],
        result["baselines"]["always_no"]["accuracy"],
    ):
        assert f"{100 * value:.1f}" in found
    assert "Not defined for sad" in found
    assert "share no speaker and no dialog" in found
    assert "2 absent" in found
    assert all(digest in found for digest in ("ab" * 32, "cd" * 32, "ef" * 20))


def test_shared_speakers_are_said_to_leak() -> None:
    said = leaks({"leaks": {"speakers": 10, "dialogs": 1, "overlaps": 12}, "missing": {}})
    assert "10 speakers, 1 dialog; 12 pairs" in said


def test_real_data_are_not_called_synthetic(run: Path) -> None:
    real = {**PROVENANCE, "dataset": {**PROVENANCE["dataset"], "synthetic": False}}
    write_json(run / "provenance.json", real)
    found = page(run).text
    assert "SYNTHETIC" not in found
    assert "synthetic no" in " ".join(found.split())


def test_the_settings_are_complete_and_name_no_place_on_the_disk(run: Path) -> None:
    (run / "config.yaml").write_text(json.dumps({**SETTINGS, "data": "/home/somebody/shards"}))
    found = page(run).text
    assert "pos_weight: true" in found
    assert "somebody" not in found


HOSTILE = "<script>alert('&\"')</script>"


def test_text_from_elsewhere_cannot_become_markup(run: Path) -> None:
    write_json(run / "provenance.json", {**PROVENANCE, "config": {**SETTINGS, "name": HOSTILE}})
    keys = (HOSTILE, "../outside", *KEYS[2:])
    path = write(run, model=model("mesm"), batch=batch(keys), texts={"../outside": HOSTILE})
    found = Page(path.read_text())
    assert "script" not in found.tags
    assert found.text.count(HOSTILE) == 5  # title, heading, settings, key, transcript
    assert not list(run.parent.glob("*.png"))
    assert (run / "looks-.._outside.png").exists()


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda run: [path.unlink() for path in run.iterdir()], "Nothing has been scored yet"),
        (lambda run: (run / "provenance.json").unlink(), "not recorded whether the data are real or synthetic"),
        (lambda run: (run / "provenance.json").write_text("{"), "provenance.json is damaged"),
        (lambda run: (run / "thresholds.json").unlink(), "no epoch has been chosen yet"),
        (lambda run: cut(run, 20), "1 line could not be read and is left out"),
        (lambda run: drop(run, "test"), "There is no test yet"),
        (lambda run: (drop(run, "test"), drop(run, "valid")), "Nothing has been scored yet"),
        (lambda run: (drop(run, "train"), drop(run, "valid")), "Nothing has been trained yet"),
        (lambda run: None, "Operations were not counted"),
    ],
)
def test_what_is_missing_is_said_on_the_page(run: Path, harm: Callable[[Path], Any], said: str) -> None:
    harm(run)
    assert said in " ".join(page(run).text.split())


def test_a_model_can_be_looked_at_before_the_run_has_left_anything(run: Path) -> None:
    for path in run.iterdir():
        path.unlink()
    found = page(run, "mesm").text
    assert KEYS[0] in found
    assert "class 6" in found


def cut(run: Path, count: int) -> None:
    """Tear the end off metrics.jsonl."""
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-count])


def drop(run: Path, kind: str) -> None:
    """Take the lines of a kind out of metrics.jsonl."""
    path = run / "metrics.jsonl"
    kept = [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["kind"] != kind]
    path.write_text("".join(kept))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the folder of a run"):
        page(tmp_path / "none")


def test_a_step_that_was_done_again_counts_once(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text(path.read_text() + path.read_text())
    assert "20 steps, 4 epochs validated" in page(run).text


def test_the_looks_are_those_of_the_forward_pass() -> None:
    """Logits and amounts are the utterance's own, whatever stands before it in the batch."""
    mesm, given = model("mesm"), batch()
    seen = looks.look(mesm, given)
    with torch.no_grad():
        expected = mesm.look(given)
    assert [one.amounts for one in seen] == [
        {"t": 5, "v": 11, "a": 16},
        {"t": 3, "v": 0, "a": 2},
        {"t": 4, "v": 2, "a": 0},
        {"t": 0, "v": 3, "a": 4},
    ]
    for n, one in enumerate(seen):
        assert one.logits == expected.logits[n].tolist()
        assert list(one.branches) == [m for m in MODALITIES if expected.present[m][n]]
        assert all(one.branches[m] == expected.branches[m][n].tolist() for m in one.branches)
        assert len(one.strips) == 3 * ((one.amounts["v"] > 0) + (one.amounts["a"] > 0))
    alone = looks.look(mesm, given.split()[3])[0]
    for strip, same in zip(alone.strips, seen[3].strips, strict=True):
        np.testing.assert_array_equal(strip.pixels, same.pixels)
    assert [(strip.count, strip.seconds) for strip in seen[0].strips[::3]] == [(8, 4.0), (10, 4.0)]


@pytest.mark.parametrize(("interval", "expected"), [(0.25, (11, 2.75)), (1.0, (4, 4.0)), (9.0, (1, 4.0))])
def test_faces_are_laid_out_by_the_datasets_frame_interval(interval: float, expected: tuple[int, float]) -> None:
    strip = looks.look(model("fe2e"), batch(), frame_interval=interval)[0].strips[0]
    assert (strip.count, strip.seconds) == expected


def test_kept_sites_are_shown_as_they_are_and_dropped_ones_in_grey() -> None:
    mesm, given = model("mesm"), batch()
    plain, *blocks = looks.look(mesm, given)[0].strips[:3]
    with torch.no_grad():
        traces = mesm.look(given).traces["v"]
    for block, trace in zip(blocks, traces, strict=True):
        scale = 48 // trace.kept.shape[1]
        kept = np.concatenate([np.kron(face, np.ones((scale, scale))) for face in trace.kept[:8]], axis=1) > 0
        assert 0 < kept.mean() < 1
        np.testing.assert_array_equal(block.pixels[kept], plain.pixels[kept])
        assert (block.pixels[~kept] == block.pixels[~kept][:, :1]).all()
        assert (block.pixels[~kept].max(axis=1) <= 127).all()


def test_low_tones_are_shown_below() -> None:
    tone = (9000 * np.sin(2 * np.pi * 300 * np.arange(6400) / 16000)).astype(np.int16)
    given = batch().split()[1]
    given = Batch(
        **{
            **{name: getattr(given, name) for name in given.__slots__},
            "samples": torch.from_numpy(tone),
            "sample_counts": torch.tensor([6400]),
        }
    )
    strip = looks.look(model("fe2e"), given)[0].strips[0]
    loud = strip.pixels[:, :31].mean(axis=(1, 2)).argmax()
    assert loud > 100


def test_operations_state_their_input_and_a_sparse_model_needs_fewer() -> None:
    counted = looks.operations(model("mesm"), batch())
    assert counted["input"] == {"utterances": 4, "faces": 16, "pieces": 22, "tokens": 12}
    assert counted["models"]["mesm"]["v.blocks"] < counted["models"]["fe2e"]["v.blocks"]
    amounts = [(11, 16, 5), (0, 2, 3), (2, 0, 4), (3, 4, 0)]
    dense = model("fe2e")
    assert dense.text is not None
    alone = [
        flops.dense_macs(dense.settings, dense.text.encoder.config, faces=v, pieces=a, tokens=t) for v, a, t in amounts
    ]
    assert sum(counted["models"]["fe2e"].values()) == sum(sum(parts.values()) for parts in alone)
    assert looks.operations(dense, batch())["models"] == {"fe2e": counted["models"]["fe2e"]}


def test_operations_are_shown_with_their_input(run: Path) -> None:
    counted = looks.operations(model("mesm"), batch())
    write_json(run / "operations.json", counted)
    found = page(run).text
    assert "16 faces, 22 pieces, 12 tokens, 4 utterances" in found
    assert f"{sum(counted['models']['mesm'].values()) / 1e6:,.2f}" in found


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        looks.look(model("fe2e").train(), batch())


def test_pictures_lie_beside_the_page_and_are_the_same_each_time(run: Path) -> None:
    page(run, "mesm")
    names = {"curves.png", *(f"looks-{key}.png" for key in KEYS)}
    assert {path.name for path in run.glob("*.png")} == names
    before = {name: (run / name).read_bytes() for name in names}
    html = (run / "report.html").read_bytes()
    page(run, "mesm")
    assert {name: (run / name).read_bytes() for name in names} == before
    assert (run / "report.html").read_bytes() == html


def test_a_png_holds_the_pixels_that_it_was_made_of() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    back = imread(BytesIO(pictures.png(pixels)))
    np.testing.assert_array_equal(np.round(back[..., :3] * 255), pixels)
