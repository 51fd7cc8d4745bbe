"""The processed release of the paper's authors, generated from the synthetic corpus and built."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_data.corpora.dai2021.release_files import find_release
from mesm_data.corpora.dai2021.safe_pickle import load_pickle, loads
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset
from mesm_data.pipeline.retry import retry_dataset
from mesm_data.schema.recordings import SYNTHETIC_MARKER, AudioSource, Corpus, Utterance
from mesm_data.storage.files import sha256_file

FPS = 30000 / 1001


def by_id(corpus: Corpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in corpus.utterances()}


def images(video: Path, target: Path, start: float, seconds: float, filters: str) -> None:
    """Write the frames of a video like the authors' notebook: numbered from 0, 224 x 224."""
    command = [ffmpeg_binary(), "-v", "error", "-ss", str(start), "-t", str(seconds), "-i", str(video)]
    command += ["-vf", filters, "-q:v", "3", "-start_number", "0", str(target)]
    subprocess.run(command, check=True)


def unpacked(root: Path, corpus: Path, count: int = 4) -> dict[str, dict[str, Any]]:
    """Write IEMOCAP_RAW_PROCESSED with the first utterances of each speaker; return the content of meta.pkl."""
    recording = scan_corpus("iemocap", corpus).recordings[0]
    root.mkdir(parents=True)
    shutil.copy(corpus / SYNTHETIC_MARKER, root / SYNTHETIC_MARKER)
    meta = {}
    for utterance in recording.utterances[:count]:
        folder = root / "_".join(utterance.id.split("_")[:2]) / utterance.id
        folder.mkdir(parents=True)
        whole, rate = soundfile.read(corpus / utterance.audio[1].path, dtype="int16")
        sound = whole[round(utterance.start * rate) : round(utterance.end * rate)]
        soundfile.write(folder / "audio.wav", sound, rate)
        for side, name in enumerate("LR"):
            soundfile.write(folder / f"audio_{name}.wav", sound[:, side], rate)
            crop = f"crop=224:224:{68 + 360 * side}:128"
            video = corpus / str(recording.video)
            images(video, folder / f"image_{name}_%d.jpg", utterance.start, utterance.end - utterance.start, crop)
        meta[utterance.id] = {"start_time": utterance.start, "end_time": utterance.end, "sr": rate, "fps": FPS}
        meta[utterance.id] |= {"label": utterance.labels["emotion"], "text": utterance.text}
    (root / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=3))
    return meta


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A download with `data/IEMOCAP_RAW_PROCESSED`, with one utterance for each kind of damage."""
    top = tmp_path_factory.mktemp("release")
    root = top / "data" / "IEMOCAP_RAW_PROCESSED"
    meta = unpacked(root, corpus, count=6)
    whole, gap, no_wav, no_meta, cut, no_folder = sorted(meta, key=lambda id_: meta[id_]["start_time"])
    folders = {path.name: path for path in root.glob("*/*") if path.is_dir()}
    side = {id_: "L" if id_[5] == id_[-4] else "R" for id_ in meta}
    for number in (7, 8):
        (folders[gap] / f"image_{side[gap]}_{number}.jpg").unlink()
    (folders[gap] / f"image_{side[gap]}_9.jpg").write_text("no image")
    (folders[no_wav] / f"audio_{side[no_wav]}.wav").unlink()
    for path in folders[cut].glob(f"image_{side[cut]}_*.jpg"):
        if int(path.stem.split("_")[-1]) >= 30:
            path.unlink()
    shutil.rmtree(folders[no_folder])
    del meta[no_meta]
    meta["Ses01F_impro01_MXX0"] = {"label": "neu"}
    (root / "meta.pkl").write_bytes(pickle.dumps(meta))
    (root / "._meta.pkl").write_bytes(b"\0\5\x16\7")
    names = {"whole": whole, "gap": gap, "no_wav": no_wav, "no_meta": no_meta, "cut": cut, "no_folder": no_folder}
    (top / "names").write_text("\n".join(f"{key} {value}" for key, value in names.items()))
    return top


@pytest.fixture(scope="module")
def names(release: Path) -> dict[str, str]:
    return dict(line.split() for line in (release / "names").read_text().splitlines())  # type: ignore[misc]


@pytest.fixture(scope="module")
def built(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("built") / "out"
    build_dataset(scan_corpus("iemocap", release), out, Recipe(corpus="iemocap"), workers=2)
    return Dataset(out)


def test_the_release_is_recognised_at_any_level_of_the_download(release: Path) -> None:
    root = release / "data" / "IEMOCAP_RAW_PROCESSED"
    assert {scan_corpus("iemocap", place).root for place in (release, release / "data", root)} == {root}
    assert find_release("mosei", release) is None


def test_an_utterance_has_the_side_of_its_speaker_and_the_times_of_meta(
    release: Path, names: dict[str, str], corpus: Path
) -> None:
    processed, raw = (
        by_id(scan_corpus("iemocap", release))[names["whole"]],
        by_id(scan_corpus("iemocap", corpus))[names["whole"]],
    )
    side = "L" if raw.region.left == 0 else "R"
    assert processed.audio[0].path.endswith(f"{raw.id}/audio_{side}.wav")
    assert processed.audio[1] == AudioSource(
        path=processed.audio[1].path, channel=raw.audio[1].channel, channel_per_speaker=True
    )
    assert processed.clip_source
    assert processed.clip_source.images == f"image_{side}_"
    assert processed.clip_source.rate == pytest.approx(FPS)
    same = ("id", "dialog", "speaker", "start", "end", "text")
    assert [getattr(processed, name) for name in same] == [getattr(raw, name) for name in same]
    assert processed.labels == {
        "emotion": raw.labels["emotion"], "valence": None, "activation": None, "dominance": None, "raters": [],
    }  # fmt: skip
    assert processed.flags == ("processed_release", "no_alignment")


def test_every_utterance_of_meta_and_of_the_folders_is_accounted_for(built: Dataset, names: dict[str, str]) -> None:
    assert sorted(built.rows) == sorted(names.values())
    assert built.info["counts"] == {"total": 6, "ok": 5, "failed": 1, "excluded": 0}
    assert built.rows[names["no_folder"]]["reason"] == "no sound file; no video file"
    assert built[names["no_meta"]].record["labels"]["emotion"] is None
    assert {"no_meta", "no_times", "no_transcript"} <= set(built[names["no_meta"]].record["flags"])
    assert any("'Ses01F_impro01_MXX0' is not an utterance id" in note for note in built.info["notes"])
    assert any("1 folders have no entry in meta.pkl" in note for note in built.info["notes"])
    assert any("1 entries of meta.pkl have no folder" in note for note in built.info["notes"])


def test_faces_and_sound_are_those_of_the_raw_corpus(built: Dataset, names: dict[str, str], dataset: Path) -> None:
    """The images are JPEG copies of the same frames, the wav is the same channel."""
    ours, raw = built[names["whole"]], Dataset(dataset)[names["whole"]]
    assert len(ours.faces) == len(raw.faces)
    assert np.allclose(ours.record["faces"]["times"], raw.record["faces"]["times"], atol=0.05)
    assert ours.record["video"] == {"status": "ok", "fps": pytest.approx(29.97, abs=0.01), "width": 224, "height": 224}
    assert abs(len(ours.samples) - len(raw.samples)) <= 1
    boxes = zip(ours.record["faces"]["boxes"], raw.record["faces"]["boxes"], strict=True)
    triples = zip(ours.record["faces"]["detected"], raw.record["faces"]["detected"], boxes, strict=True)
    both = [(own[0] + 68, there[0]) for first, second, (own, there) in triples if first and second]
    assert both
    assert all(abs(left - right) < 30 for left, right in both)


def test_without_a_detected_face_the_whole_image_is_cropped(built: Dataset) -> None:
    for key in built.keys:
        faces = built[key].record["faces"]
        missed = [box for box, is_face in zip(faces["boxes"], faces["detected"], strict=True) if not is_face]
        assert all(box == [0, 0, 224, 224] for box in missed)


def test_images_that_were_replaced_are_another_source_and_others_are_kept(
    release: Path, built: Dataset, names: dict[str, str], tmp_path: Path
) -> None:
    out = shutil.copytree(built.path, tmp_path / "out")
    top = shutil.copytree(release, tmp_path / "release")
    messages: list[str] = []
    assert build_dataset(scan_corpus("iemocap", top), out, Recipe(corpus="iemocap"))["root"] == built.info["root"]
    [pattern] = [source["path"] for source in built[names["whole"]].record["sources"] if source["role"] == "picture"]
    image = min(scan_corpus("iemocap", top).root.glob(pattern))
    data = bytearray(image.read_bytes())
    data[-200] ^= 1
    image.unlink()
    image.write_bytes(data)
    with pytest.raises(InputError, match=rf"one of {names['whole']} .* has another content now.*mesm-data retry"):
        build_dataset(scan_corpus("iemocap", top), out, Recipe(corpus="iemocap"))
    retry_dataset(scan_corpus("iemocap", release), out, workers=1, report=messages.append)
    assert "3 of 6 utterances are done again; of 3 something was lost" in messages[-1]


def test_missing_images_are_reported_with_their_number(built: Dataset, names: dict[str, str]) -> None:
    gap, cut, no_wav = (built.rows[names[name]] for name in ("gap", "cut", "no_wav"))
    assert gap["video"] == "ok"  # a hole of 0.1 s; the next image stands in
    assert "2 images are missing and 1 images could not be decoded" in gap["reason"]
    assert (cut["video"], cut["n_faces"]) == ("partial", 3)
    assert "ends at 1.001 s" in cut["reason"]
    assert no_wav["audio"] == "ok"
    assert built[names["no_wav"]].record["sources"][-1]["path"].endswith("/audio.wav")


def test_the_images_are_one_source_whose_digest_sha256sum_gives_too(
    built: Dataset, names: dict[str, str], release: Path
) -> None:
    [source] = [each for each in built[names["gap"]].record["sources"] if each["path"].endswith(".jpg")]
    pattern = release / "data" / "IEMOCAP_RAW_PROCESSED" / source["path"]
    files = sorted(pattern.parent.glob(pattern.name), key=lambda path: int(path.stem.rpartition("_")[2]))
    lines = "".join(f"{sha256_file(path)}  {path.name}\n" for path in files)
    assert source["sha256"] == sha256(lines.encode()).hexdigest()
    row = built.rows[names["gap"]]
    assert source["span"] == [0.0, pytest.approx(row["end"] - row["start"])]


@pytest.fixture
def mosei(tmp_path: Path, corpus: Path) -> Callable[[dict[str, float]], Path]:
    """mosei({utterance: images per second}): MOSEI_RAW_PROCESSED with three seconds of each."""
    video = corpus / str(scan_corpus("iemocap", corpus).recordings[0].video)
    root = tmp_path / "MOSEI_RAW_PROCESSED"

    def write(rates: dict[str, float]) -> Path:
        for id_, rate in rates.items():
            (root / id_).mkdir(parents=True)
            soundfile.write(root / id_ / "audio.wav", np.full(3 * 16_000, 7, np.int16), 16_000)
            images(video, root / id_ / "image_%d.jpg", 1.0, 3.0, f"fps={rate},scale=320:180")
        label = [1, 0, 0, 0, 0, 1]
        meta = {id_: {"text": f"the words of {id_}", "label": label} for id_ in rates}
        (root / "meta.pkl").write_bytes(pickle.dumps(meta, protocol=4))
        return root

    return write


def test_mosei_is_read_into_the_corpus_own_labels_and_videos(
    mosei: Callable[[dict[str, float]], Path], tmp_path: Path
) -> None:
    root = mosei({"-3g5yACwYnA_2": 2, "-3g5yACwYnA_13": 2, "a_b__c_0": 2})
    corpus = scan_corpus("mosei", root)
    assert [recording.id for recording in corpus.recordings] == ["-3g5yACwYnA", "a_b__c"]
    build_dataset(corpus, tmp_path / "out", Recipe(corpus="mosei", clips=False), workers=1)
    built = Dataset(tmp_path / "out")
    sample = built["-3g5yACwYnA_2"]
    assert sample.record["labels"] == {
        **{"anger": 1.0, "disgust": 0.0, "fear": 0.0, "happiness": 0.0, "sadness": 0.0, "surprise": 1.0},
        "sentiment": None,
        "raters": [],
    }
    assert (sample.record["dialog"], sample.record["speaker"]) == ("-3g5yACwYnA", "-3g5yACwYnA")
    assert (sample.record["start"], sample.record["end"]) == (0.0, 3.0)
    # The images are whole frames of a dialog: two people are in them.
    assert sample.record["flags"] == ["processed_release", "no_times", "no_alignment", "several_faces"]
    assert sample.record["video"] == {"status": "ok", "fps": 2.0, "width": 320, "height": 180}
    assert sample.record["faces"]["times"] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert any("images: 2.000 a second" in note for note in built.info["notes"])


def test_the_rate_of_the_images_is_found_in_each_utterance_where_there_is_no_common_one(
    mosei: Callable[[dict[str, float]], Path],
) -> None:
    declared = {"a_0": 2.0, "b_0": 25.0, "c_0": 30.0, "d_0": 8.0}
    utterances = by_id(scan_corpus("mosei", mosei(declared)))
    rates = {id_: utterances[id_].clip_source.rate for id_ in declared}  # type: ignore[union-attr]
    assert {id_: rates[id_] for id_ in ("a_0", "b_0", "d_0")} == {"a_0": 2.0, "b_0": 25.0, "d_0": pytest.approx(8.0)}
    assert rates["c_0"] == pytest.approx(30.0, rel=0.002)  # 29.97 and 30 are the same in three seconds


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=15,
)


@settings(max_examples=60)
@given(value=plain, protocol=st.integers(0, 5))
def test_plain_pickles_are_read_as_pickle_reads_them(value: Any, protocol: int) -> None:
    assert loads(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_text_with_lone_surrogates_is_read_as_text_that_a_dataset_can_hold(protocol: int) -> None:
    assert loads(pickle.dumps({"text": "\ud83d né", "\udce9": "fine"}, protocol)) == {
        "text": "\\ud83d né",
        "\\xe9": "fine",
    }


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_scalars_are_read_as_numbers(protocol: int) -> None:
    values = [np.float64(1.5), np.float32(0.25), np.int64(-7), np.int32(3), np.uint8(200), np.bool_(True)]
    values.append(np.dtype(">f8").type(2.5))
    assert loads(pickle.dumps(values, protocol)) == [1.5, 0.25, -7, 3, 200, True, 2.5]


@given(data=st.binary(max_size=200))
def test_random_bytes_are_an_error_and_not_a_crash(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "garbage.pkl"
    for content in (data, b"\x80\x04" + data, pickle.dumps({"a": [1.5, "b"]}, 2)[:-1] + data):
        path.write_bytes(content)
        with suppress(InputError):
            load_pickle(path)


def test_nothing_in_a_pickle_is_called(tmp_path: Path) -> None:
    class Call:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/called",)

    (tmp_path / "meta.pkl").write_bytes(pickle.dumps({"a_0": Call()}))
    with pytest.raises(InputError, match=r"meta\.pkl: names the class or function '(posix|nt)\.system'"):
        scan_corpus("mosei", tmp_path)
    assert not (tmp_path / "called").exists()
    for value in ({1, 2}, Path("x"), np.zeros(3), bytearray(b"x")):
        with pytest.raises(InputError):
            loads(pickle.dumps(value))


def test_a_pickle_bomb_costs_no_memory_and_no_stack() -> None:
    """Nested lists, 100 000 deep and 2^40 wide; a memo index of 2^31; a string that claims 2^40 bytes."""
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    wide = b"\x80\x02](K\x00e" + b"".join(b"q%c](h%ch%ce" % (n, n, n) for n in range(40)) + b"."
    memo = b"\x80\x02]r\xff\xff\xff\x7f."
    long = b"\x80\x04\x8d" + (2**40).to_bytes(8, "little") + b"x."
    name = b"\x80\x04" + wide[2:-1] + wide[2:-1] + b"\x93."
    assert loads(memo) == []
    program = "import resource,sys; from mesm_data.corpora.dai2021.safe_pickle import loads\n"
    program += "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
    program += "for data in eval(sys.stdin.read()):\n  try: loads(data)\n  except ValueError: print('refused')\n"
    done = subprocess.run(
        [sys.executable, "-c", program], input=repr([deep, wide, memo, long, name]), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "refused\n" * 2), done.stderr
