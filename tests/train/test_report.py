"""The report of a run stands on its own, says what its numbers are worth, and is there however little the run left."""

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from browser import browser
from matplotlib.image import imread
from mesm_cli.report import report
from torch import Tensor, nn

from mesm_data.errors import InputError
from mesm_data.pages.media import png
from mesm_data.storage.json_files import write_json
from mesm_train.config.model_settings import MODALITIES, ModelSettings
from mesm_train.data.batch import Batch
from mesm_train.evaluation.metrics import auc, average_precision
from mesm_train.models import flops
from mesm_train.models.fe2e_mesm import Model
from mesm_train.report.comparison import write_comparison
from mesm_train.report.evidence import Evidence, Media, worst_predictions
from mesm_train.report.operations import count_operations
from mesm_train.report.page import render_report
from mesm_train.report.predictions import Predictions, resample
from mesm_train.report.record import read_record
from mesm_train.report.scores import UtteranceFacts, wilson
from mesm_train.report.site_selection import fusion_weights, predict_with_sites

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


N = 40


def predictions(epoch: int) -> Predictions:
    """Of 40 utterances; `sad` is nowhere true, and the weighted loss has shifted the logits."""
    rng = np.random.default_rng(epoch)
    truth = np.eye(6)[np.arange(N) % 5]
    weight = np.full(6, 4.0)
    return Predictions(
        task="binary", keys=tuple(f"utt{number:03d}" for number in range(N)),
        logits=2 * truth + np.log(weight) + rng.normal(size=(N, 6)), targets=truth > 0,
        thresholds=np.full(6, 0.45), offset=np.log(weight), exclusive=True,
    )  # fmt: skip


def scored(kind: str, epoch: int) -> dict[str, Any]:
    """A line of metrics.jsonl."""
    scores = predictions(epoch).scores(CLASSES)
    return {"kind": kind, "epoch": epoch, "step": 5 * (epoch + 1), "loss": 0.6, "metrics": scores}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of four epochs that has been tested."""
    folder = tmp_path / "run"
    write_json(folder / "provenance.json", PROVENANCE)
    limits = {"classes": CLASSES, "thresholds": [0.45] * 6, "pos_weight": [4.0] * 6, "epoch": 2, "part": "valid"}
    write_json(folder / "thresholds.json", limits)
    (folder / "config.yaml").write_text(json.dumps(SETTINGS))
    lines: list[dict[str, Any]] = []
    for epoch in range(4):
        for step in range(5 * epoch + 1, 5 * epoch + 6):
            loss = {"loss": 1 / step, "lr": 1e-3, "samples_per_s": 9.5, "data_wait": 0.01}
            lines.append({"kind": "train", "epoch": epoch, "step": step, **loss})
        lines.append(scored("valid", epoch))
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, scored("test", 2)]))
    predicted = predictions(2)
    columns: dict[str, Any] = {"key": list(predicted.keys)}
    for index, name in enumerate(CLASSES):
        columns[f"logit_{name}"] = predicted.logits[:, index]
        columns[f"label_{name}"] = predicted.targets[:, index].astype(np.float32)
    pq.write_table(pa.table(columns), folder / "predictions-test.parquet")
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
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "

    @property
    def words(self) -> str:
        """The text with single spaces."""
        return " ".join(self.text.split())


def seen(kind: Literal["fe2e", "mesm"], keys: tuple[str, ...] = KEYS, text: str = "a spoken sentence") -> Evidence:
    """What a report shows of a model and four utterances."""
    mesm, data = model(kind), batch(keys)
    facts = {f"utt{n:03d}": UtteranceFacts(speaker="AB"[n % 2], seconds=n, faces=4, detected=n % 5) for n in range(N)}
    media = Media(faces="data:image/png;base64,AAAA", sound="data:audio/flac;base64,AAAA", text=text)
    return Evidence(
        facts=facts, media=dict.fromkeys([*keys, *facts], media), inputs=keys, fusion=fusion_weights(mesm),
        predictions={one.key: one for one in predict_with_sites(mesm, data)},
    )  # fmt: skip


def page(run: Path, evidence: Evidence | None = None) -> Page:
    return Page(render_report(read_record(run), evidence))


@pytest.mark.parametrize("kind", ["fe2e", "mesm"])
def test_no_request_leaves_the_page(run: Path, kind: Literal["fe2e", "mesm"]) -> None:
    html = render_report(read_record(run), seen(kind))
    html_page = Page(html)
    assert html_page.addresses
    assert all(re.match(r"data:(image/png|audio/flac);base64,|#", address) for address in html_page.addresses)
    assert not {"script", "link", "iframe", "object"} & {*html_page.tags}
    assert not re.search(r"url\((?!#)|@import|https?:", html)
    assert "default-src &#39;none&#39;" in html


def test_the_head_has_the_utterances_inside_the_view_beside_those_of_the_split(run: Path) -> None:
    counts = {"train": 50, "valid": 45, "test": N}
    write_json(run / "provenance.json", PROVENANCE | {"split": {**PROVENANCE["split"], "counts": counts}})
    head = "split session-5 : train 50, valid 40 of 45, test 40 utterances; the others are outside the view."
    assert head in Page(render_report(read_record(run))).words
    write_json(run / "input_spec.json", {"train": {"utterances": 44}})
    assert head.replace("train 50", "train 44 of 50") in Page(render_report(read_record(run))).words


def test_the_report_states_the_limits_of_its_numbers(run: Path) -> None:
    words = page(run).words
    assert "Synthetic data" in words
    assert "say nothing about people" in words
    scores = scored("test", 2)["metrics"]
    for title in ("Anger", "Excited", "Frustration", "Happiness", "Neutral", "Sadness"):
        assert words.count(title) >= 3  # scores, confusion down and across
    baselines = scores["baselines"]
    for value in (
        scores["mean"]["f1"],
        baselines["always_yes"]["f1"],
        baselines["always_no"]["accuracy"],
        scores["multiclass"]["baselines"]["majority"]["accuracy"],
    ):
        assert f"{100 * value:.1f}" in words
    low, high = resample(predictions(2)).of_mean("f1") or (0, 0)
    assert f"95 % interval {100 * low:.1f}–{100 * high:.1f}" in words
    assert "Not defined for Sadness" in words
    assert "share no speaker and no dialog" in words
    assert "2 absent" in words
    assert all(digest in words for digest in ("ab" * 32, "cd" * 32, "ef" * 20))


def test_shared_speakers_are_reported_as_a_leak(run: Path) -> None:
    leaking = {**PROVENANCE["split"], "leaks": {"speakers": 10, "dialogs": 1, "overlaps": 12}}
    write_json(run / "provenance.json", {**PROVENANCE, "split": leaking})
    assert "share 10 speakers and 1 dialog; 12 pairs of utterances" in page(run).words


def test_real_data_are_not_called_synthetic(run: Path) -> None:
    real = {**PROVENANCE, "dataset": {**PROVENANCE["dataset"], "synthetic": False}}
    write_json(run / "provenance.json", real)
    words = page(run).words
    assert "Synthetic data" not in words
    assert "synthetic no" in words


def test_the_settings_are_complete_and_name_no_place_on_the_disk(run: Path) -> None:
    (run / "config.yaml").write_text(json.dumps({**SETTINGS, "data": "/home/somebody/shards"}))
    text = page(run).text
    assert "pos_weight: true" in text
    assert "somebody" not in text


HOSTILE = "<script>alert('&\"')</script>"


def test_text_of_the_dataset_cannot_become_markup(run: Path) -> None:
    write_json(run / "provenance.json", {**PROVENANCE, "config": {**SETTINGS, "name": HOSTILE}})
    html_page = page(run, seen("mesm", (HOSTILE, "../outside", *KEYS[2:]), HOSTILE))
    assert "script" not in html_page.tags
    assert (
        html_page.text.count(HOSTILE) == 2 + 1 + 1 + 4 + 6
    )  # title, heading; settings; key; transcripts, also of mistakes


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda run: [path.unlink() for path in run.iterdir()], "Nothing has been scored yet"),
        (lambda run: (run / "provenance.json").unlink(), "not recorded whether the data are real or synthetic"),
        (lambda run: (run / "provenance.json").write_text("{"), "provenance.json is damaged"),
        (lambda run: (run / "thresholds.json").unlink(), "no epoch has been chosen yet"),
        (lambda run: cut(run, 20), "1 line could not be read and is left out"),
        (lambda run: drop(run, "test"), "There is no test yet"),
        (lambda run: (drop(run, "test"), drop(run, "valid")), "Nothing has been scored yet"),
        (lambda run: (drop(run, "train"), drop(run, "valid")), "Nothing has been trained yet"),
        (lambda run: (run / "predictions-test.parquet").write_bytes(b"no"), "no intervals, groups and mistakes"),
        (lambda run: None, "Operations were not counted"),
    ],
)
def test_the_page_states_what_is_missing(run: Path, harm: Callable[[Path], Any], sentence: str) -> None:
    harm(run)
    assert sentence in page(run).words


def test_a_report_can_be_made_from_an_empty_run_folder(run: Path) -> None:
    for path in run.iterdir():
        path.unlink()
    text = page(run, seen("mesm")).text
    assert KEYS[0] in text
    assert "class 6" in text


def test_intervals_of_resampled_utterances_agree_with_scoring_each_resample() -> None:
    predicted, drawn = predictions(1), resample(predictions(1))
    weights = np.random.default_rng(0).multinomial(N, np.full(N, 1 / N), size=3)
    for number, counts in enumerate(weights):
        again = predicted.take(np.repeat(np.arange(N), counts).tolist()).scores(CLASSES)
        for metric in ("f1", "accuracy", "balanced_accuracy", "auc", "average_precision"):
            assert drawn.mean(metric)[number] == pytest.approx(again["mean"][metric])
        assert drawn.right is not None
        assert drawn.right[number] == pytest.approx(again["multiclass"]["accuracy"])
    assert auc(predicted.logits[:, 0], predicted.targets[:, 0]) <= (drawn.of_class("auc", 0) or (0, 0))[1]
    assert average_precision(predicted.logits[:, 0], predicted.targets[:, 0]) <= 1


def test_a_share_has_wilsons_interval() -> None:
    proportion_confint = (0.2366, 0.7634)  # of 5 in 10, as R's binom.confint(5, 10, methods="wilson") has it
    assert wilson(0.5, 10) == pytest.approx(proportion_confint, abs=1e-4)
    assert wilson(0.0, 10)[0] == 0


def test_the_worst_mistakes_are_the_most_certain_wrong_predictions() -> None:
    predicted = predictions(3)
    rows = worst_predictions(predicted, 5)
    shifted = predicted.logits - predicted.offset
    wrong = shifted.argmax(axis=1) != predicted.targets.argmax(axis=1)
    assert all(wrong[row] for row in rows)
    probability = 1 / (1 + np.exp(-shifted))
    loss = -np.log(np.where(predicted.targets, probability, 1 - probability)).mean(axis=1)
    assert loss[rows].tolist() == sorted(loss[wrong], reverse=True)[: len(rows)]


def test_groups_contain_each_utterance_once(run: Path) -> None:
    words = page(run, seen("fe2e")).words
    for name in ("Speaker", "Duration", "Faces", "16 s and more", "under 1 s", "detected in every frame"):
        assert name in words


def cut(run: Path, count: int) -> None:
    """Tear the end off metrics.jsonl."""
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-count])


def drop(run: Path, kind: str) -> None:
    """Take the lines of a kind out of metrics.jsonl."""
    path = run / "metrics.jsonl"
    kept = [line for line in path.read_text().splitlines(keepends=True) if json.loads(line)["kind"] != kind]
    path.write_text("".join(kept))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the folder of a run"):
        read_record(tmp_path / "none")


def test_a_folder_that_holds_no_run_gets_no_report(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()  # as a folder of cross-validation
    with pytest.raises(InputError, match="is not the folder of a run"):
        report([tmp_path])
    assert not (tmp_path / "report.html").exists()


def test_a_repeated_step_counts_once(run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_text(path.read_text() + path.read_text())
    assert "20 steps, 4 epochs validated" in page(run).words


def test_predictions_are_those_of_the_forward_pass() -> None:
    """Logits and amounts are the utterance's own, whatever stands before it in the batch."""
    mesm, data = model("mesm"), batch()
    explained = predict_with_sites(mesm, data)
    with torch.no_grad():
        expected = mesm.forward_details(data)
    assert [one.amounts for one in explained] == [
        {"t": 5, "v": 11, "a": 16},
        {"t": 3, "v": 0, "a": 2},
        {"t": 4, "v": 2, "a": 0},
        {"t": 0, "v": 3, "a": 4},
    ]
    for n, one in enumerate(explained):
        assert one.logits == expected.logits[n].tolist()
        assert list(one.branches) == [m for m in MODALITIES if expected.present[m][n]]
        assert all(one.branches[m] == expected.branches[m][n].tolist() for m in one.branches)
        assert len(one.strips) == 3 * ((one.amounts["v"] > 0) + (one.amounts["a"] > 0))
    alone = predict_with_sites(mesm, data.split()[3])[0]
    for strip, same in zip(alone.strips, explained[3].strips, strict=True):
        np.testing.assert_array_equal(strip.pixels, same.pixels)
    assert [(strip.count, strip.seconds) for strip in explained[0].strips[::3]] == [(8, 4.0), (10, 4.0)]


@pytest.mark.parametrize(("interval", "expected"), [(0.25, (11, 2.75)), (1.0, (4, 4.0)), (9.0, (1, 4.0))])
def test_faces_are_laid_out_by_the_datasets_frame_interval(interval: float, expected: tuple[int, float]) -> None:
    strip = predict_with_sites(model("fe2e"), batch(), frame_interval=interval)[0].strips[0]
    assert (strip.count, strip.seconds) == expected


def test_kept_sites_are_shown_as_they_are_and_dropped_ones_in_grey() -> None:
    mesm, data = model("mesm"), batch()
    plain, *blocks = predict_with_sites(mesm, data)[0].strips[:3]
    with torch.no_grad():
        selections = mesm.forward_details(data).selections["v"]
    for block, selection in zip(blocks, selections, strict=True):
        scale = 48 // selection.kept.shape[1]
        kept = np.concatenate([np.kron(face, np.ones((scale, scale))) for face in selection.kept[:8]], axis=1) > 0
        assert 0 < kept.mean() < 1
        np.testing.assert_array_equal(block.pixels[kept], plain.pixels[kept])
        assert (block.pixels[~kept] == block.pixels[~kept][:, :1]).all()
        assert (block.pixels[~kept].max(axis=1) <= 127).all()


def test_low_frequencies_are_at_the_bottom() -> None:
    tone = (9000 * np.sin(2 * np.pi * 300 * np.arange(6400) / 16000)).astype(np.int16)
    data = batch().split()[1]
    data = Batch(
        **{
            **{name: getattr(data, name) for name in data.__slots__},
            "samples": torch.from_numpy(tone),
            "sample_counts": torch.tensor([6400]),
        }
    )
    strip = predict_with_sites(model("fe2e"), data)[0].strips[0]
    loud = strip.pixels[:, :31].mean(axis=(1, 2)).argmax()
    assert loud > 100


def test_operations_state_their_input_and_a_sparse_model_needs_fewer() -> None:
    counted = count_operations(model("mesm"), batch())
    assert counted["input"] == {"utterances": 4, "faces": 16, "pieces": 22, "tokens": 12}
    assert counted["models"]["mesm"]["v.blocks"] < counted["models"]["fe2e"]["v.blocks"]
    amounts = [(11, 16, 5), (0, 2, 3), (2, 0, 4), (3, 4, 0)]
    dense = model("fe2e")
    assert dense.text is not None
    alone = [
        flops.dense_macs(dense.settings, dense.text.encoder.config, faces=v, pieces=a, tokens=t) for v, a, t in amounts
    ]
    assert sum(counted["models"]["fe2e"].values()) == sum(sum(parts.values()) for parts in alone)
    assert count_operations(dense, batch())["models"] == {"fe2e": counted["models"]["fe2e"]}


def test_operations_are_shown_with_their_input(run: Path) -> None:
    counted = count_operations(model("mesm"), batch())
    write_json(run / "operations.json", counted)
    text = page(run).text
    assert "16 faces, 22 pieces, 12 tokens, 4 utterances" in text
    assert f"{sum(counted['models']['mesm'].values()) / 1e6:,.2f}" in text


def test_a_model_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        predict_with_sites(model("fe2e").train(), batch())


def test_the_page_is_the_same_each_time(run: Path) -> None:
    assert render_report(read_record(run), seen("mesm")) == render_report(read_record(run), seen("mesm"))


def test_a_png_contains_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    back = imread(BytesIO(png(pixels)))
    np.testing.assert_array_equal(np.round(back[..., :3] * 255), pixels)


def test_a_finished_run_has_groups_mistakes_with_media_and_the_command(trained_run: Path) -> None:
    html_page = Page((trained_run / "report.html").read_text())
    for name in ("Speaker", "Duration", "Worst mistakes on test", "Parameters", "mesm-train run", "decided by the"):
        assert name in html_page.words
    assert html_page.tags.count("audio") >= 1
    assert html_page.tags.count("details") == 2
    assert any(address.startswith("data:audio/flac") for address in html_page.addresses)
    [session] = read_record(trained_run).sessions
    assert session.outcome == "finished"
    assert session.seconds is not None
    assert str(trained_run.parent) not in session.command


def test_the_report_can_be_made_again_with_and_without_the_dataset(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / trained_run.name
    shutil.copytree(trained_run, copy)
    before = (copy / "report.html").read_bytes()
    report([copy])
    assert (copy / "report.html").read_bytes() == before
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"^data: .*$", "data: /nowhere", config, flags=re.MULTILINE))
    report([copy])
    assert "the page is made without the dataset" in capsys.readouterr().err
    assert "no pictures and no sound" in Page((copy / "report.html").read_text()).words


def test_tables_that_stand_side_by_side_stay_on_the_page(run: Path, tmp_path: Path) -> None:
    report_page, comparison = tmp_path / "report.html", tmp_path / "comparison.html"
    report_page.write_text(render_report(read_record(run), seen("mesm")))
    write_comparison([run, run], comparison)
    with browser(tmp_path / "profile") as tab:
        for width, path in ((390, report_page), (390, comparison), (1300, comparison)):
            tab.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
            tab.open(path.as_uri())
            tab.wait(f"location.href === '{path.as_uri()}' && document.readyState === 'complete'")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width, path
        cut = "[...document.querySelectorAll('.even > .wide')].filter(one => one.scrollWidth > one.clientWidth).length"
        assert tab.evaluate(cut) == 0


def test_runs_are_compared_with_paired_differences(trained_run: Path, run: Path, tmp_path: Path) -> None:
    html_page = Page(write_comparison([trained_run, trained_run], tmp_path / "page.html").read_text())
    assert "trained (1) · trained (2)" in html_page.words
    assert "+0.0 +0.0 to +0.0" in html_page.words
    assert "They are between trained models: another seed" in html_page.words
    assert "Not comparable" not in html_page.words
    other = Page(write_comparison([trained_run, run], tmp_path / "page.html").read_text())
    assert "Not comparable: the dataset of run differs from that of trained." in other.words
    assert "model.channels" in other.words
    drop(run, "test")
    with pytest.raises(InputError, match="has no test scores yet"):
        write_comparison([trained_run, run], tmp_path / "page.html")
