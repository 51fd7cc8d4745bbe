"""What extractors compute, against the libraries themselves and against joins that are written out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.sample import Sample
from mesm_data.errors import InputError, MesmError
from mesm_data.features.base import Extractor, Features, pool
from mesm_data.features.extractors import open_extractor, sample_extractor
from mesm_data.features.extractors.glove import GloVe, split_words
from mesm_data.features.extractors.openface import OpenFace
from mesm_data.features.extractors.table import Table


def extract(extractor: Extractor, dataset: Dataset, folder: Path, keys: list[str] | None = None) -> dict[str, Features]:
    """The features of the first three utterances, or of `keys`, in this process."""
    folder.mkdir()
    extractor.prepare(dataset, folder)
    function = extractor.open(folder)
    width = len(extractor.describe().columns)
    by_key = {key: function(dataset, key) for key in keys or dataset.keys[:3]}
    for features in by_key.values():
        assert features.values.dtype == np.float32
        assert features.values.shape[1] == width
        assert features.times is None or len(features.times) == len(features.values)
    return by_key


class Changed:
    """A dataset whose samples have other sound."""

    def __init__(self, dataset: Dataset, samples: np.ndarray) -> None:  # type: ignore[type-arg]
        self._dataset, self._samples = dataset, samples

    def __getitem__(self, key: str) -> Sample:
        from dataclasses import replace

        return replace(self._dataset[key], samples=self._samples)


def test_egemaps_are_opensmiles_descriptors_pooled_by_time(own: Dataset, tmp_path: Path) -> None:
    opensmile = pytest.importorskip("opensmile")
    key = own.keys[0]
    features = extract(open_extractor("egemaps"), own, tmp_path / "a", [key])[key]
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    table = smile.process_signal(own[key].samples / 2**15, 16_000).reset_index()
    window = table.groupby(np.floor(table.start.dt.total_seconds() / 0.4 + 1e-9).astype(int))[smile.feature_names]
    expected = np.concatenate([window.mean(), window.std(ddof=0)], axis=1)
    np.testing.assert_allclose(features.values, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features.times, 0.4 * np.arange(len(expected)))


@pytest.mark.parametrize("samples", [1, 800, 1599])
def test_short_sound_gives_finite_features_and_none_gives_no_row(own: Dataset, tmp_path: Path, samples: int) -> None:
    pytest.importorskip("opensmile")
    function = open_extractor("egemaps").open(tmp_path)
    noise = np.random.default_rng(0).integers(-9000, 9000, samples).astype(np.int16)
    features = function(Changed(own, noise), own.keys[0])  # type: ignore[arg-type]
    assert features.values.shape == (1, 50)
    assert np.isfinite(features.values).all()
    empty = function(Changed(own, noise[:0]), own.keys[0])  # type: ignore[arg-type]
    assert empty.values.shape == (0, 50)


def test_hog_is_that_of_scikit_image_and_the_box(own: Dataset, tmp_path: Path) -> None:
    from skimage.feature import hog

    key = own.keys[0]
    features = extract(open_extractor("hog"), own, tmp_path / "a", [key])[key]
    sample = own[key]
    grey = sample.faces[1].astype(np.float64) @ np.array([0.299, 0.587, 0.114]) / 255  # ITU-R BT.601
    np.testing.assert_allclose(features.values[1, :128], hog(grey, 8, (16, 16), (2, 2)), atol=1e-6)
    record = sample.record
    left, top, right, bottom = record["faces"]["boxes"][1]
    width = record["video"]["width"]
    box = [(left + right) / 2 / width, (top + bottom) / 2 / width, max(right - left, bottom - top) / width, 1]
    np.testing.assert_allclose(features.values[1, 128:], box, rtol=1e-6)
    assert features.times is not None
    assert features.times.tolist() == record["faces"]["times"]


def test_landmarks_of_the_crops_are_near_those_of_the_detector(own: Dataset, tmp_path: Path) -> None:
    """On a photograph; in the features they follow those of hog, and are 0 where no face was detected."""
    from skimage.data import astronaut

    from mesm_data.media.faces.crop import crop_face
    from mesm_data.media.faces.mtcnn import MtcnnDetector

    detector, picture = MtcnnDetector(), astronaut()
    [face] = detector.detect(picture)
    crop = crop_face(picture, [face], square=240)
    left, top, right, bottom = crop.box
    expected = (np.array(face.landmarks) - (left, top)) / (right - left, bottom - top)
    np.testing.assert_allclose(detector.landmarks(crop.crop[None])[0], expected, atol=0.02)

    key = own.keys[0]
    plain = extract(open_extractor("hog"), own, tmp_path / "a", [key])[key].values
    both = extract(open_extractor("hog-landmarks"), own, tmp_path / "b", [key])[key].values
    np.testing.assert_array_equal(both[:, :132], plain)
    detected = np.array(own[key].record["faces"]["detected"], bool)
    points = detector.landmarks(own[key].faces).reshape(-1, 10)
    np.testing.assert_allclose(both[:, 132:], np.where(detected[:, None], points, 0), atol=1e-6)


def test_glove_takes_the_vectors_of_a_text_file_by_word_and_time(own: Dataset, tmp_path: Path) -> None:
    words = sorted({word.lower() for key in own.keys for word in split_words(own[key].text)})
    absent, known = words[0], words[1:]
    lines = [f"{word} {number} 0.5 -1e-2" for number, word in enumerate(known)]
    # As in glove.840B: a word with spaces, and capitals of its own.
    file = tmp_path / "vectors.txt"
    file.write_text("\n".join([*lines, ". . . 9 9 9", "happy 7 7 7", "Happy 8 8 8"]) + "\n")
    by_key = extract(open_extractor("glove", source=file), own, tmp_path / "a", own.keys)
    checked = 0
    for key, features in by_key.items():
        aligned = own[key].record["words"]
        pieces = [(word, each["t0"]) for each in aligned for word in split_words(each["w"])]
        assert features.times is not None
        assert features.times.tolist() == [start for _, start in pieces]
        for (word, _), vector in zip(pieces, features.values, strict=True):
            first = 0.0 if word.lower() == absent else known.index(word.lower())
            if word.lower() != "happy":
                assert vector[0] == first
                checked += 1
    assert checked > 50
    of_any_text = GloVe(file=str(file)).open_sample(None)
    for key, features in by_key.items():
        assert np.array_equal(of_any_text(own[key]).values, features.values), key


def test_contractions_are_split_as_in_the_vocabulary_of_glove() -> None:
    assert split_words("I’m sure they don't; it's John's 2nd!") == [
        "I", "'m", "sure", "they", "do", "n't", "it", "'s", "John", "'s", "2nd",
    ]  # fmt: skip


def test_a_line_of_another_width_is_named(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("a 1 2 3\nb 1 2\n")
    with pytest.raises(InputError, match="line 2 is not a word and 3 numbers"):
        dict(GloVe(file=str(file))._vectors({"b"}))


def csd(file: Path, tables: dict[str, tuple[np.ndarray, np.ndarray]], names: list[str]) -> Path:  # type: ignore[type-arg]
    """Write a computational sequence as the SDK does."""
    import json

    import h5py

    with h5py.File(file, "w") as opened:
        for video, (features, intervals) in tables.items():
            opened[f"COVAREP/data/{video}/features"] = features
            opened[f"COVAREP/data/{video}/intervals"] = intervals
        opened["COVAREP/metadata/dimension names"] = np.array([json.dumps(names)], "S")
    return file


def test_csd_rows_are_joined_by_time_whatever_their_order(own: Dataset, tmp_path: Path) -> None:
    """Row i of a recording begins at i / 10 s and holds its time, in a shuffled file; -inf as in COVAREP."""
    random = np.random.default_rng(0)
    tables = {}
    for recording in {own.rows[key]["recording"] for key in own.keys}:
        starts = np.arange(0, 200, 0.1)
        order = random.permutation(len(starts))
        intervals = np.stack([starts, starts + 0.1], axis=1)[order]
        tables[recording] = (np.stack([starts[order], np.full(len(starts), -np.inf)], axis=1), intervals)
    file = csd(tmp_path / "covarep.csd", tables, ["time", "bad"])
    extractor = open_extractor("covarep-csd", source=file)
    assert extractor.describe().columns == ("time", "bad")
    pooled = extract(open_extractor("covarep-csd", source=file, window=0.4), own, tmp_path / "pooled")
    for key, features in extract(extractor, own, tmp_path / "a").items():
        start, end = own.rows[key]["start"], own.rows[key]["end"]
        middles = np.arange(0, 200, 0.1) + 0.05
        expected = (middles - 0.05)[(middles >= start) & (middles < end)]
        np.testing.assert_allclose(features.values[:, 0], expected, atol=1e-4)
        np.testing.assert_allclose(features.times, np.maximum(expected - start, 0), atol=1e-9)
        assert np.isfinite(pooled[key].values).all()
        assert len(pooled[key].values) == len(np.unique(np.floor(np.maximum(expected - start, 0) / 0.4 + 1e-6)))


def test_a_csd_of_another_corpus_and_one_whose_tables_do_not_fit_are_refused(own: Dataset, tmp_path: Path) -> None:
    other = csd(tmp_path / "other.csd", {"video": (np.ones((2, 1)), np.ones((2, 2)))}, ["x"])
    with pytest.raises(InputError, match="none of this dataset's recordings"):
        open_extractor("facet-csd", source=other).prepare(own, tmp_path)
    recording = own.rows[own.keys[0]]["recording"]
    wrong = csd(tmp_path / "wrong.csd", {recording: (np.ones((3, 1)), np.ones((2, 2)))}, ["x"])
    with pytest.raises(MesmError, match=r"features \(3, 1\) and intervals \(2, 2\)"):
        extract(open_extractor("facet-csd", source=wrong), own, tmp_path / "a", [own.keys[0]])
    (tmp_path / "no.csd").write_bytes(b"not HDF5")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        open_extractor("facet-csd", source=tmp_path / "no.csd").describe()


def test_openface_frames_are_joined_by_time_and_lost_faces_left_out(own: Dataset, tmp_path: Path) -> None:
    """Files per recording and speaker; OpenFace writes blanks after the commas."""
    folder = tmp_path / "openface"
    folder.mkdir()
    for row in (own.rows[key] for key in own.keys):
        lines = ["frame, face_id, timestamp, confidence, success, AU01_r, AU45_c"]
        lines += [f"{n}, 0, {n / 30:.3f}, 0.98, {int(n % 3 != 0)}, {n}, 1" for n in range(6000)]
        (folder / f"{row['recording']}_{row['speaker']}.csv").write_text("\n".join(lines))
    key = own.keys[0]
    row = own.rows[key]
    features = extract(OpenFace(folder=str(folder)), own, tmp_path / "a", [key])[key]
    frames = [n for n in range(6000) if row["start"] <= round(n / 30, 3) < row["end"] and n % 3]
    assert features.values[:, 0].tolist() == frames
    np.testing.assert_allclose(features.times, [round(n / 30, 3) - row["start"] for n in frames])
    several = folder / "several.csv"
    several.write_text("face_id, timestamp, success, AU01_r\n0, 0.0, 1, 0.5\n1, 0.0, 1, 0.5\n")
    from mesm_data.features.extractors.openface import _read

    with pytest.raises(InputError, match="several faces"):
        _read(several)


def test_matrices_of_the_user_give_the_same_set_in_every_format(own: Dataset, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    matrices = {key: random.normal(size=(4, 3)).astype(np.float32) for key in own.keys[:2]}
    table = pd.concat(
        pd.DataFrame(matrix, columns=["x", "y", "z"]).assign(key=key, time=0.1 * np.arange(4))
        for key, matrix in matrices.items()
    ).sample(frac=1, random_state=0)
    table.to_parquet(tmp_path / "own.parquet")
    table.to_csv(tmp_path / "own.csv", index=False)
    np.savez(tmp_path / "own.npz", **matrices)
    for name, hop in (("own.parquet", None), ("own.csv", None), ("own.npz", 0.1)):
        by_key = extract(Table(file=str(tmp_path / name), hop=hop), own, tmp_path / f"for-{name}")
        for key, matrix in matrices.items():
            np.testing.assert_allclose(by_key[key].values, matrix, rtol=1e-6)
            np.testing.assert_allclose(by_key[key].times, [0, 0.1, 0.2, 0.3])
        assert len(by_key[own.keys[2]].values) == 0


def test_disvoice_rows_are_found_by_the_name_of_the_sound_file(own: Dataset, tmp_path: Path) -> None:
    ids = [own.rows[key]["id"] for key in own.keys[:2]]
    table = pd.DataFrame({"id": [f"{name}.wav" for name in ids], "BBE1": [1.5, 2.5]})
    table.to_csv(tmp_path / "static.csv", index=False)
    extractor = open_extractor("disvoice-csv", source=tmp_path / "static.csv")
    by_key = extract(extractor, own, tmp_path / "a")
    assert [by_key[key].values.tolist() for key in own.keys[:3]] == [[[1.5]], [[2.5]], []]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\na,1\n", "no column `key`"),
        ("key,x\n1,a,2\n2,b,3\n", "more cells than its header has names"),
        ("key\na\n", "no column of numbers"),
        ("key,x\na,high\n", "must be numbers"),
        ("key,x\nother,1\n", "of none of this dataset"),
    ],
)
def test_tables_that_do_not_fit_are_refused(own: Dataset, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.csv").write_text(text)
    extractor = open_extractor(str(tmp_path / "own.csv"))
    with pytest.raises(InputError, match=message):
        extractor.prepare(own, tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("covarep-csd", {}, "needs --from"),
        ("hog", {"window": 1.0}, "--window does not go with hog"),
        ("hog-landmarks", {"window": 1.0}, "--window does not go with hog-landmarks: it has one row per crop"),
        ("egemaps", {"source": Path("/")}, "leave --from out"),
        ("glove", {"hop": 0.1}, "--hop goes with tables"),
        ("glove", {"source": Path("/nowhere")}, "does not exist"),
        ("egmaps", {}, "not one of egemaps"),
    ],
)
def test_options_that_do_not_go_together_are_refused(kind: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_extractor(kind, **options)  # type: ignore[arg-type]


def test_pooling_is_that_of_pandas_and_a_time_on_the_edge_falls_behind_it() -> None:
    random = np.random.default_rng(0)
    times = np.sort(random.uniform(0, 3, 40))
    values = random.normal(size=(40, 2)).astype(np.float32)
    pooled = pool(Features(values=values, times=times), 0.3, ("mean", "std"))
    groups = pd.DataFrame(values).groupby(np.floor(times / 0.3).astype(int))
    np.testing.assert_allclose(pooled.values, np.concatenate([groups.mean(), groups.std(ddof=0)], axis=1), atol=1e-6)
    edge = pool(Features(values=np.ones((1, 1), np.float32), times=np.array([3 * 0.1])), 0.1)
    assert edge.times is not None
    np.testing.assert_allclose(edge.times, [0.3])


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("covarep-csd", {}, r"'mine' is of the kind covarep-csd \(COVAREP of the CMU-MultimodalSDK\)"),
        ("openface-csv", {}, "it was read from a file and cannot be computed from a clip"),
        ("own", {}, r"of the kind own \(features of a file of your own\)"),
        ("glove", {"vectors": "glove.840B.300d.txt", "sha256": "0" * 64}, r"of the text file glove\.840B\.300d\.txt"),
        ("encoder", {"encoder": "wavlm-base"}, r"wavlm-base, which is not kept with the run: .*sound\.encoder"),
        ("hog", {"orientations": 9}, "computed by another version of mesm, with other options"),
    ],
)
def test_features_that_no_clip_can_have_are_refused_by_set_and_reason(
    kind: str, config: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sample_extractor("mine", kind, config)
