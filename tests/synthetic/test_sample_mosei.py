"""The format of the synthetic CMU-MOSEI is that of the real raw data."""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import fmean

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.corpora.mosei.ratings import EMOTIONS
from mesm_data.errors import InputError
from mesm_data.synthetic import mosei
from mesm_data.synthetic.mosei_ratings import NAMES
from mesm_data.synthetic.mosei_script import FORMS, Monologue, plan

# How code for the real corpus reads it.
TIME = r"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
LINE = rf"^(.+?)___(\d+)___{TIME}___{TIME}___(.*)$"
TABLES = (
    "5000_batch_raw", "Batch_2980374_batch_results", "extreme_sentiment_results", "mosi_pom_output", "mturk_extra_v2",
    "pom_extra_sqa_mono_results",
)  # fmt: skip


@pytest.fixture(scope="module")
def monologues() -> tuple[Monologue, ...]:
    """The plan of the shared test corpus."""
    return plan(2, 1, clips=3)


# The plan


def test_the_plan_is_a_function_of_its_arguments() -> None:
    assert plan(20, 5) == plan(20, 5)
    assert plan(20, 5) != plan(20, 6)
    assert plan(20, 5)[:4] == plan(4, 5)


def test_ids_contain_characters_that_need_escaping() -> None:
    ids = [monologue.id for monologue in plan(24, 0)]
    assert len({id_.casefold() for id_ in ids}) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{11}|[1-9]\d{4,5}", id_) and not id_.endswith("_") for id_ in ids)
    kinds = (str.isdigit, lambda i: i[0] == "-", lambda i: i[0] == "_", lambda i: "__" in i)
    assert all(any(kind(id_) for id_ in ids) for kind in kinds)


@given(seed=st.integers(0, 10**6))
def test_clips_are_valid_and_neighbours_overlap_for_any_seed(seed: int) -> None:
    for monologue in plan(3, seed):
        numbers = [clip.number for clip in monologue.clips]
        assert numbers == sorted(set(numbers))
        for clip in monologue.clips:
            assert 0 <= float(clip.start) <= clip.at
            assert clip.at + clip.room <= float(clip.end) < monologue.duration
        assert all(a.at + a.room < b.at for a, b in pairwise(monologue.clips)), "one sentence after the other"
        overlaps = [float(a.end) - float(b.start) for a, b in pairwise(monologue.clips)]
        assert all(-0.1 < overlap < 3 for overlap in overlaps)


def test_every_emotion_is_common_and_several_go_together() -> None:
    rated = [clip.votes for monologue in plan(60, 0) for clip in monologue.clips if clip.votes]
    means = [{name: fmean(vote.emotions[name] for vote in votes) for name in NAMES.values()} for votes in rated]
    counts = Counter(name for mean in means for name, value in mean.items() if value > 0)
    assert min(counts[name] for name in NAMES.values()) > 0.1 * len(rated)
    assert sum(sum(value > 0 for value in mean.values()) > 1 for mean in means) > 0.2 * len(rated)
    assert 0.08 < sum(not any(mean.values()) for mean in means) / len(rated) < 0.25
    assert 0.05 < sum(len(votes) > 3 for votes in rated) / len(rated) < 0.2
    assert {len(votes) for votes in rated} == {3, 4, 5, 6}
    assert {value for votes in rated for vote in votes for value in vote.emotions.values()} == {0, 1, 2, 3}
    assert {vote.sentiment for votes in rated for vote in votes} <= set(range(-3, 4))
    clips = [clip for monologue in plan(60, 0) for clip in monologue.clips]
    assert 0 < sum(not clip.votes for clip in clips) < 0.15 * len(clips)


def test_the_default_has_12_videos_and_60_to_80_clips() -> None:
    clips = [len(monologue.clips) for monologue in plan(mosei.VIDEOS, 0)]
    assert len(clips) == 12
    assert 60 <= sum(clips) <= 80


@pytest.mark.parametrize("arguments", [{"videos": 0}, {"videos": 1001}, {"mode": "fast"}])
def test_arguments_out_of_range_are_refused_before_any_work(arguments: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        mosei.write_corpus(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_actor_fills_a_frame_of_any_format(form: object) -> None:
    from mesm_data.synthetic.mosei_script import Form

    assert isinstance(form, Form)
    picture = np.zeros((480, 360, 3), np.uint8)
    picture[120:360] = 200
    frame = mosei.fit_to_frame(picture, form.width, form.height)
    assert frame.shape == (form.height, form.width, 3)
    assert frame.min() > 190, "no black bar is left"


# The tree


def test_the_tree_is_that_of_the_corpus(mosei_corpus: Path, monologues: tuple[Monologue, ...]) -> None:
    files = {str(path.relative_to(mosei_corpus)) for path in mosei_corpus.rglob("*") if path.is_file()}
    expected = {"README.txt", "SYNTHETIC.txt", "Raw/SYNTHETIC.txt"}
    expected |= {"CMU_MOSEI_Labels.csd", "CMU_MOSEI_TimestampedWords.csd"}
    expected |= {f"Raw/Labels/{name}.csv" for name in TABLES}
    for monologue in monologues:
        expected |= {
            f"Raw/Audio/Full/WAV_16000/{monologue.id}.wav",
            f"Raw/Videos/Full/Combined/{monologue.id}.mp4",
            f"Raw/Transcript/Segmented/Combined/{monologue.id}.txt",
            f"Raw/Transcript/Full/Combined/{monologue.id}.plaintext",
            *(f"Raw/Videos/Segmented/Combined/{monologue.id}_{clip.number}.mp4" for clip in monologue.clips),
        }
    assert files == expected


def test_every_text_file_states_that_the_corpus_is_synthetic(mosei_corpus: Path) -> None:
    for name in ("README.txt", "SYNTHETIC.txt", "Raw/SYNTHETIC.txt"):
        assert "SYNTHETIC" in (mosei_corpus / name).read_text()
    for path in mosei_corpus.rglob("*.wav"):
        assert "SYNTHETIC" in soundfile.SoundFile(path).comment
    videos = list(mosei_corpus.rglob("*.mp4"))
    assert videos
    for path in videos:
        with av.open(str(path)) as video:
            assert "SYNTHETIC" in video.metadata["comment"]


def test_transcripts_have_a_line_for_every_clip(mosei_corpus: Path, monologues: tuple[Monologue, ...]) -> None:
    for monologue in monologues:
        path = mosei_corpus / f"Raw/Transcript/Segmented/Combined/{monologue.id}.txt"
        lines = [re.fullmatch(LINE, line) for line in path.read_text().splitlines()]
        clips = {int(line[2]): (line[1], line[3], line[4], line[5].strip()) for line in lines if line}
        assert len(clips) == len(lines)
        assert clips == {clip.number: (monologue.id, clip.start, clip.end, clip.text) for clip in monologue.clips}


def test_the_answers_are_those_of_the_plan_in_the_columns_that_code_counts(
    mosei_corpus: Path, monologues: tuple[Monologue, ...]
) -> None:
    by_clip: dict[tuple[str, str], list[tuple[int, ...]]] = {}
    for name in TABLES:
        with (mosei_corpus / f"Raw/Labels/{name}.csv").open(newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                answers = (int(row[f"Answer.{item}"]) for item in (*NAMES.values(), "sentiment"))
                by_clip.setdefault((row["Input.VIDEO_ID"], row["Input.CLIP"]), []).append(tuple(answers))
        if name == "5000_batch_raw":
            head = list(reader.fieldnames or ())
            assert [head.index(column) for column in ("WorkerId", "Input.VIDEO_ID", "Input.CLIP")] == [15, 27, 28]
            assert [head.index(f"Answer.{item}") for item in ("anger", "sentiment", "surprise")] == [29, 38, 39]
    assert {clip: sorted(answers) for clip, answers in by_clip.items()} == {
        (monologue.id, str(clip.number)): sorted((*vote.emotions.values(), vote.sentiment) for vote in clip.votes)
        for monologue in monologues
        for clip in monologue.clips
        if clip.votes
    }


def test_the_label_file_of_the_sdk_has_the_means_in_its_own_order(
    mosei_corpus: Path, monologues: tuple[Monologue, ...]
) -> None:
    import h5py

    with h5py.File(mosei_corpus / "CMU_MOSEI_Labels.csd") as file:
        root = file["All Labels"]
        names = json.loads(root["metadata/dimension names"][0])
        assert names == ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]
        for monologue in monologues:
            rated = sorted((clip for clip in monologue.clips if clip.votes), key=lambda clip: str(clip.number))
            table = root[f"data/{monologue.id}"]
            assert table["intervals"][()].tolist() == [[float(clip.start), float(clip.end)] for clip in rated]
            happy = [fmean(vote.emotions["happiness"] for vote in clip.votes) for clip in rated]
            assert np.allclose(table["features"][:, 1], happy)


def test_words_lie_inside_their_clips(mosei_corpus: Path, monologues: tuple[Monologue, ...]) -> None:
    import h5py

    with h5py.File(mosei_corpus / "CMU_MOSEI_TimestampedWords.csd") as file:
        for monologue in monologues:
            table = file[f"words/data/{monologue.id}"]
            words = [word.decode() for word in table["features"][:, 0]]
            times = table["intervals"][()]
            assert (times[1:, 0] >= times[:-1, 1] - 1e-9).all()
            for clip in monologue.clips:
                inside = (times[:, 0] >= clip.at - 1e-6) & (times[:, 1] <= clip.at + clip.room)
                words_inside = [word for word, is_in in zip(words, inside, strict=True) if is_in and word != "sp"]
                assert words_inside == [re.sub(r"[.,!?\"()]", "", token).lower() for token in clip.text.split()]


def test_media_match_the_plan(mosei_corpus: Path, monologues: tuple[Monologue, ...]) -> None:
    for monologue in monologues:
        info = soundfile.info(mosei_corpus / f"Raw/Audio/Full/WAV_16000/{monologue.id}.wav")
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        assert abs(info.duration - monologue.duration) < 1e-3
        with av.open(str(mosei_corpus / f"Raw/Videos/Full/Combined/{monologue.id}.mp4")) as video:
            stream = video.streams.video[0]
            assert [s.codec_context.name for s in video.streams] == ["h264", "aac"]
            assert (stream.width, stream.height) == (monologue.form.width, monologue.form.height)
            assert stream.average_rate == monologue.form.fps
            frames = [frame.to_ndarray(format="gray") for frame in video.decode(stream)]
        assert abs(len(frames) / float(monologue.form.fps) - monologue.duration) < 0.2
        assert np.std([frame.astype(float) for frame in frames[::10]], axis=0).mean() > 1, "somebody moves"
        for clip in monologue.clips:
            path = mosei_corpus / f"Raw/Videos/Segmented/Combined/{monologue.id}_{clip.number}.mp4"
            with av.open(str(path)) as video:
                assert [s.codec_context.name for s in video.streams] == ["h264", "aac"]
                seconds = float((video.duration or 0) / av.time_base)
            assert abs(seconds - (float(clip.end) - float(clip.start))) < 0.2


def test_the_same_arguments_give_the_same_bytes_with_any_workers(
    mosei_corpus: Path, monologues: tuple[Monologue, ...], tmp_path: Path
) -> None:
    mosei.write_corpus(tmp_path / "again", videos=1, seed=1, clips=3, workers=1)
    here = {path.name: path for path in (tmp_path / "again/Raw").rglob("*") if monologues[0].id in path.name}
    there = {path.name: path for path in (mosei_corpus / "Raw").rglob("*") if monologues[0].id in path.name}
    assert {name: digest(path) for name, path in here.items()} == {n: digest(path) for n, path in there.items()}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_scanner_of_the_real_corpus_understands_all_of_it(
    mosei_corpus: Path, monologues: tuple[Monologue, ...]
) -> None:
    scan = pytest.importorskip("mesm_data.corpora.mosei.scan").scan
    utterances = {utterance.id: utterance for utterance in scan(mosei_corpus).utterances()}
    assert set(utterances) == {f"{monologue.id}_{clip.number}" for monologue in monologues for clip in monologue.clips}
    for monologue in monologues:
        for clip in monologue.clips:
            utterance = utterances[f"{monologue.id}_{clip.number}"]
            assert (utterance.dialog, utterance.speaker, utterance.text) == (monologue.id, monologue.id, clip.text)
            assert (utterance.start, utterance.end) == (float(clip.start), float(clip.end))
            if clip.votes:
                assert len(utterance.labels["raters"]) == len(clip.votes)
                for name, mean in ((name, utterance.labels[name]) for name in EMOTIONS):
                    assert mean == pytest.approx(fmean(vote.emotions[name] for vote in clip.votes))


@pytest.mark.slow
def test_the_command_writes_every_form_of_video(mesm_data: Callable[..., object], tmp_path: Path) -> None:
    """Twelve videos: all sizes and rates, one without audio, one with a variable rate, one truncated."""
    out = tmp_path / "out"
    mesm_data("sample", "mosei", out)
    planned = plan(mosei.VIDEOS, 0)
    seen = Counter[str]()
    for monologue in planned:
        path = out / f"Raw/Videos/Full/Combined/{monologue.id}.mp4"
        try:
            with av.open(str(path)) as video:
                stream = video.streams.video[0]
                assert (stream.width, stream.height) == (monologue.form.width, monologue.form.height)
                times = [frame.time or 0.0 for frame in video.decode(stream)]
                steps = np.diff(times)
                seen["varying"] += bool(steps.max() > 1.5 * steps.min())
                seen["silent"] += not video.streams.audio
        except av.InvalidDataError:
            seen["torn"] += 1
            for clip in monologue.clips:
                av.open(str(out / f"Raw/Videos/Segmented/Combined/{monologue.id}_{clip.number}.mp4")).close()
    assert seen == {"varying": 1, "silent": 1, "torn": 1}
