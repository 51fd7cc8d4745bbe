"""Guarantee: every utterance is accounted for. A corpus with damage of every kind, built for real."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.dataset.summary import inspect
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset


@dataclass
class Damage:
    """What was done to the copy, and to which utterances."""

    root: Path
    short: str  # dialog whose AVI ends early
    text: str  # dialog whose AVI is a text
    gone: str  # dialog without AVI
    no_wav: str  # utterance without sentence wav (its dialog wav is there)
    bad_wav: str  # utterance whose sentence wav is a text
    lost: str  # utterance of `gone` without any sound
    no_alignment: str


def utterances(root: Path) -> dict[str, list[str]]:
    return {r.id: [u.id for u in r.utterances] for r in scan_corpus("iemocap", root).recordings}


def files_of(root: Path, key: str) -> tuple[Path, Path]:
    """The sentence wav and the word alignment of an utterance."""
    session, dialog = root / f"Session{key[4]}" / "sentences", key[:-5]
    return session / "wav" / dialog / f"{key}.wav", session / "ForcedAlignment" / dialog / f"{key}.wdseg"


def video_of(root: Path, dialog: str) -> Path:
    return root / f"Session{dialog[4]}" / "dialog" / "avi" / "DivX" / f"{dialog}.avi"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Damage:
    root = tmp_path_factory.mktemp("damaged") / "IEMOCAP"
    shutil.copytree(corpus, root)
    names = utterances(root)
    short, text, gone = sorted(names)
    whole = video_of(root, short).with_suffix(".whole.avi")
    video_of(root, short).rename(whole)
    command = [ffmpeg_binary(), "-v", "error", "-i", str(whole), "-t", "6.0", "-c", "copy", str(video_of(root, short))]
    subprocess.run(command, check=True)
    whole.unlink()
    video_of(root, text).write_text("this is not a video\n" * 100)
    video_of(root, gone).unlink()
    no_wav, bad_wav, no_alignment = names[text][:3]
    files_of(root, no_wav)[0].unlink()
    files_of(root, bad_wav)[0].write_text("this is not a sound")
    files_of(root, no_alignment)[1].unlink()
    lost = names[gone][0]
    files_of(root, lost)[0].unlink()
    (root / f"Session{gone[4]}" / "dialog" / "wav" / f"{gone}.wav").unlink()
    (video_of(root, short).parent / f"._{short}.avi").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    return Damage(root, short, text, gone, no_wav, bad_wav, lost, no_alignment)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, damaged: Damage) -> Dataset:
    out = tmp_path_factory.mktemp("built") / "out"
    build_dataset(scan_corpus("iemocap", damaged.root), out, Recipe(corpus="iemocap"), workers=2)
    return Dataset(out)


def test_the_counts_add_up_to_the_corpus(built: Dataset, damaged: Damage) -> None:
    names = [key for keys in utterances(damaged.root).values() for key in keys]
    assert sorted(built.rows) == sorted(names)
    counts = built.info["counts"]
    assert counts == {"total": len(names), "ok": len(names) - 1, "failed": 1, "excluded": 0}


def test_utterances_without_sound_and_video_fail_with_a_reason(built: Dataset, damaged: Damage) -> None:
    row = built.rows[damaged.lost]
    assert row["status"] == "failed"
    assert "no video file" in row["reason"]
    assert "no sound file" in row["reason"]
    assert row["shard"] is None
    with pytest.raises(KeyError, match="is failed"):
        built[damaged.lost]


def test_a_missing_or_unreadable_video_affects_only_the_faces(built: Dataset, damaged: Damage) -> None:
    for dialog in (damaged.text, damaged.gone):
        keys = [key for key in built.keys if built.rows[key]["dialog"] == dialog]
        assert len(keys) >= 5
        for key in keys:
            sample = built[key]
            assert sample.faces.shape == (0, 48, 48, 3)
            assert len(sample.samples) > 0
            assert sample.record["video"] == {"status": "none", "fps": None, "width": None, "height": None}
            assert ("not a video" if dialog == damaged.text else "no video file") in built.rows[key]["reason"]


def test_a_video_that_ends_early_gives_its_existing_frames(built: Dataset, damaged: Damage) -> None:
    rows = [row for row in built.rows.values() if row["dialog"] == damaged.short]
    for row in rows:
        if row["end"] < 5.9:
            assert (row["video"], row["reason"]) == ("ok", None)
        elif row["start"] > 6.1:
            assert (row["video"], row["n_faces"]) == ("none", 0)
            assert "ends at 6.0" in row["reason"]
        elif row["start"] < 5.5 and row["end"] > 6.6:
            assert row["video"] == "partial"
            assert 0 < row["n_faces"] < 2 * (row["end"] - row["start"])
    assert {row["video"] for row in rows} >= {"ok", "none"}
    assert {row["audio"] for row in rows} == {"ok"}


@pytest.mark.parametrize("which", ["no_wav", "bad_wav"])
def test_without_a_sentence_wav_the_speakers_channel_of_the_dialog_is_cut(
    built: Dataset, damaged: Damage, corpus: Path, which: str
) -> None:
    key = getattr(damaged, which)
    sample = built[key]
    [source] = [source for source in sample.record["sources"] if source["path"].endswith(".wav")]
    assert source["path"].endswith(f"dialog/wav/{key[:-5]}.wav")
    assert source["span"] == [sample.record["start"], sample.record["end"]]
    dialog, rate = soundfile.read(damaged.root / source["path"], dtype="int16")
    first, last = (round(second * rate) for second in source["span"])
    channel = 0 if key[-4] == key[5] else 1
    assert np.array_equal(sample.samples, dialog[first:last, channel])
    sentence, _ = soundfile.read(files_of(corpus, key)[0], dtype="int16")
    error = [np.abs(sentence - dialog[first:last, side].astype(float)).mean() for side in (channel, 1 - channel)]
    assert error[0] < 0.5 * error[1]  # the other channel holds the same voice, 20 dB down
    if which == "bad_wav":
        assert "not a sound file" in built.rows[key]["reason"]


def test_a_missing_alignment_is_null_and_flagged(built: Dataset, damaged: Damage) -> None:
    record = built[damaged.no_alignment].record
    assert record["words"] is None
    assert "no_alignment" in record["flags"]
    others = [key for key in built.keys if key != damaged.no_alignment]
    assert all(built[key].record["words"] is not None for key in others)


def test_inspect_reports_every_loss(built: Dataset, damaged: Damage) -> None:
    summary = inspect(built.path)
    assert summary["synthetic"] is True
    assert sum(summary["video"].values()) == summary["counts"]["ok"]
    assert summary["flags"] == {"no_alignment": 1}
    assert len(summary["reasons"]) == 1
    assert any("not a video" in reason for reason in summary["incomplete"])


def test_utterances_that_were_not_selected_are_excluded_by_a_named_rule(tmp_path: Path, corpus: Path) -> None:
    names = [key for keys in utterances(corpus).values() for key in keys]
    selected = sorted(utterances(corpus))[1]
    recipe = Recipe(corpus="iemocap", only=f"{selected}_*", limit=2, clips=False)
    info = build_dataset(scan_corpus("iemocap", corpus), tmp_path / "out", recipe, workers=1)
    assert info["counts"] == {"total": len(names), "ok": 2, "failed": 0, "excluded": len(names) - 2}
    rows = Dataset(tmp_path / "out").rows.values()
    assert {row["reason"] for row in rows if row["status"] == "excluded" and row["dialog"] != selected} == {"only"}
    assert {row["reason"] for row in rows if row["status"] == "excluded" and row["dialog"] == selected} == {"limit"}
    assert not (tmp_path / "out" / "video").exists()


def test_no_label_is_a_reason_to_drop_an_utterance(dataset: Path, corpus: Path) -> None:
    """xxx, oth, sur: every label of the evaluation files is in the dataset, and its record is whole."""
    from mesm_data.corpora.iemocap.annotations import parse_evaluation

    built = Dataset(dataset)
    labels = set()
    for path in corpus.glob("Session*/dialog/EmoEvaluation/*.txt"):
        for turn in parse_evaluation(path.read_text()).records:
            record = built[turn.id].record["labels"]
            assert record["emotion"] == turn.label
            assert record["raters"] == [rating.as_label() for rating in turn.ratings]
            labels.add(turn.label)
    assert labels - {"ang", "exc", "fru", "hap", "neu", "sad"}


def test_a_build_reports_whether_the_stereo_channels_belong_to_the_right_actors(dataset: Path, corpus: Path) -> None:
    """On the synthetic corpus they are; where an utterance's wav holds the other actor it is flagged."""
    names = [key for keys in utterances(corpus).values() for key in keys]
    [finding] = Dataset(dataset).info["findings"]
    assert finding.startswith(f"channel check: of {len(names)} utterances with a file of their own, {len(names)} fit")


def test_an_utterance_whose_wav_is_the_other_channel_is_flagged(tmp_path: Path, corpus: Path) -> None:
    root = tmp_path / "IEMOCAP"
    shutil.copytree(corpus, root)
    key = next(key for keys in utterances(root).values() for key in keys)
    utterance = next(u for u in scan_corpus("iemocap", root).utterances() if u.id == key)
    whole = utterance.audio[1]
    assert whole.span
    assert whole.channel is not None
    sound, rate = soundfile.read(root / whole.path, dtype="int16")
    first, last = (round(second * rate) for second in whole.span)
    soundfile.write(root / utterance.audio[0].path, sound[first:last, 1 - whole.channel], rate)
    recipe = Recipe(corpus="iemocap", only=key, clips=False, video_offset="-0.167")
    info = build_dataset(scan_corpus("iemocap", root), tmp_path / "out", recipe, workers=1)
    assert info["recipe"]["video_offset"] == "-0.167"
    assert "0 fit the channel that the corpus' rule gives them, 1 another one" in info["findings"][0]
    record = Dataset(tmp_path / "out")[key].record
    assert "other_channel" in record["flags"]
    assert record["sources"][-2]["span"] == pytest.approx([utterance.start - 0.167, utterance.end - 0.167])
