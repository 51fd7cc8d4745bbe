"""Guarantees: a dataset's page, its Croissant metadata and a comparison say what the manifest says."""

import json
import re
import shutil
import socket
from pathlib import Path

import mlcroissant
import pytest
from mesm_cli.diff import diff
from mesm_cli.inspect import inspect as inspect_command

from mesm_data.dataset.manifest import manifest_schema, read_table_rows, write_table
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError, MesmError
from mesm_data.integrity.diff import compare_datasets
from mesm_data.publishing.croissant import croissant
from mesm_data.publishing.dataset_page import histogram, render_dataset


def test_no_request_leaves_the_page_and_its_counts_are_those_of_inspect(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inspect_command(dataset, report=tmp_path / "page.html")
    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    html, summary = (tmp_path / "page.html").read_text(), inspect(dataset)
    assert not re.search(r"url\(|@import|<link|<script|<iframe", html)
    assert all(address.startswith("data:") for address in re.findall(r'src="([^"]*)"', html))
    words = " ".join(re.sub(r"<[^>]*>", " ", html).split())
    assert f"{summary['counts']['ok']} of {summary['counts']['total']}" in words
    for name, count in summary["speakers"].items():
        assert f"{name} {count} " in words
    for name in ("Anger", "Synthetic data", "session-5", "mtcnn", summary["root"]):
        assert name in words
    assert html.count("<audio") >= 6
    assert "/" + str(Path.home()).lstrip("/") not in html


def test_media_can_be_left_out(dataset: Path) -> None:
    html = render_dataset(dataset, media=False)
    opened = Dataset(dataset)
    assert "<audio" not in html
    assert "<img" not in html
    assert not any(opened[key].text in html for key in opened.keys if opened[key].text)


def test_a_histogram_counts_each_value_once() -> None:
    bins = histogram([0.2, 1.0, 1.9, 2.0, 50], (0, 1, 2, 3, float("inf")), "s")
    assert [(one["name"], one["count"]) for one in bins] == [
        ("0 to 1 s", 1),
        ("1 to 2 s", 2),
        ("2 to 3 s", 1),
        ("3 and more s", 1),
    ]


def test_croissant_is_valid_and_reads_the_manifest_without_a_network(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    inspect_command(folder, croissant=folder / "croissant.json")

    def refuse(*_: object) -> None:
        raise AssertionError("a request")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    described = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert described.metadata.ctx.issues.errors == set()
    rows = list(described.records("utterances"))
    expected = read_table_rows(folder / "manifest.parquet")
    assert [row["utterances/key"].decode() for row in rows] == [row["key"] for row in expected]
    content = json.loads((folder / "croissant.json").read_text())
    files = {file["@id"]: file["sha256"] for file in content["distribution"]}
    info = Dataset(folder).info
    assert files.items() >= {f"shards/{name}": file["sha256"] for name, file in info["shards"].items()}.items()
    assert "No person was recorded" in content["rai:dataCollection"]


def test_croissant_names_terms_and_people_of_a_real_corpus(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    shutil.copytree(dataset, folder)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, "synthetic": False}))
    content = croissant(folder)
    assert content["license"].startswith("https://sail.usc.edu")
    assert "can be recognised" in content["rai:personalSensitiveInformation"]
    assert "Busso" in content["citeAs"]
    assert "synthetic" not in content["name"]


EXTRA = "Ses05F_impro99_F000"


def changed(dataset: Path, folder: Path) -> Path:
    """A copy whose manifest differs in a label, a text and a time, and has an excluded utterance more."""
    shutil.copytree(dataset, folder, ignore=shutil.ignore_patterns("*.tar"))
    rows = read_table_rows(folder / "manifest.parquet")
    rows[0]["labels"]["emotion"] = "oth"
    rows[1]["text_sha256"] = "0" * 64
    rows[2]["end"] += 1
    known = {name: rows[-1][name] for name in ("recording", "dialog", "speaker", "session", "labels", "start", "end")}
    more = {"key": EXTRA, "id": EXTRA, "status": "excluded", "reason": "unlabelled", "flags": []}
    rows.append({**dict.fromkeys(rows[0]), **known, **more})
    digest = write_table(folder / "manifest.parquet", rows, manifest_schema(Dataset(dataset).schema))
    info = json.loads((folder / "dataset.json").read_text())
    counts = {**info["counts"], "total": len(rows), "excluded": 1}
    info |= {"counts": counts, "manifest": {"rows": len(rows), "sha256": digest}}
    info["recipe"]["min_face_size"] = 60
    (folder / "dataset.json").write_text(json.dumps(info))
    return folder


def test_datasets_differ_exactly_in_what_was_changed(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(dataset, tmp_path / "other")
    rows = read_table_rows(dataset / "manifest.parquet")
    comparison = compare_datasets(dataset, other)
    assert {(one.key, one.aspect) for one in comparison.differences} == {
        (rows[0]["key"], "label emotion"),
        (rows[1]["key"], "text"),
        (rows[2]["key"], "time"),
        (EXTRA, "utterance"),
    }
    assert comparison.options == (("min_face_size", 40, 60),)
    with pytest.raises(MesmError, match="4 utterances differ"):
        diff(dataset, other)
    printed = capsys.readouterr().out
    assert f"{rows[0]['key']}: {rows[0]['labels']['emotion']} -> oth" in printed
    with pytest.raises(MesmError):
        diff(dataset, other, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["aspect"] for line in lines} == {"label emotion", "text", "time", "utterance"}


def test_a_dataset_does_not_differ_from_itself(dataset: Path, tmp_path: Path) -> None:
    assert compare_datasets(dataset, dataset).differences == ()
    with pytest.raises(InputError, match="is not a folder"):
        compare_datasets(dataset, tmp_path / "none")
