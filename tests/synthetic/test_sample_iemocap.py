"""The format of the synthetic IEMOCAP is that of the real one."""

import hashlib
import operator
import os
import re
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mesm_data.errors import InputError, MesmError
from mesm_data.synthetic import iemocap
from mesm_data.synthetic.ratings import CATEGORIES, MAIN, majority
from mesm_data.synthetic.script import Dialog, plan
from mesm_data.synthetic.work import atomic_folder, in_fresh_processes

# How code for the real corpus reads it.
UTTERANCE = r"Ses0([1-5])([FM])_(impro\d{2}[ab]?|script\d{2}_\d[ab]?)_([FM])(\d{3}|XX\d)"
HEAD = r"^\[\s*(-?\d+(?:\.\d+)?)\s*-\s*(-?\d+(?:\.\d+)?)\s*\]\t(\S+)\t(\w+)\t\[\s*([^,]+),\s*([^,]+),\s*([^\]]+)\]\s*$"
RATE = r"^([CA])-([EFM]\d+):\t([^\t]*?)\t*\s*(?:\((.*)\))?\s*$"
DIM = r"(val|act|dom)\s+([1-5](?:\.\d+)?)?"
LINE = rf"^({UTTERANCE}) \[(\d{{3}}\.\d{{4}})-(\d{{3}}\.\d{{4}})\]: (.+)\r\n$"
SEGMENT = r"^\t([ \d]{5}) ([ \d]{5}) ([ \-\d]{10}) (\S+)$"
TURNS = 3


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "corpus"
    iemocap.write_corpus(out, dialogs=2, seed=3, turns=TURNS, workers=2)
    return out


@pytest.fixture(scope="module")
def dialogs() -> tuple[Dialog, ...]:
    return plan(2, 3, turns=TURNS)


def session(root: Path, dialog: Dialog) -> Path:
    return root / f"Session{dialog.session}"


# The plan


def test_the_plan_is_a_function_of_its_arguments() -> None:
    assert plan(10, 5) == plan(10, 5)
    assert plan(10, 5) != plan(10, 6)
    assert plan(10, 5)[:4] == plan(4, 5)


def test_the_default_plan_has_both_kinds_of_dialog_and_both_marker_actors_in_each_session() -> None:
    for number in range(1, 6):
        own = [dialog for dialog in plan(iemocap.DIALOGS, 0) if dialog.session == number]
        assert {dialog.markers for dialog in own} == {"F", "M"}
        assert {dialog.id[7:12] for dialog in own} == {"impro", "scrip"}
        assert all(70 <= dialog.duration <= 105 for dialog in own)


def test_the_largest_plan_has_the_151_dialogs_of_the_corpus() -> None:
    names = {dialog.id for dialog in plan(151, 0, turns=2)}
    assert len(names) == 151
    assert {"Ses03M_impro05a", "Ses03M_impro08b", "Ses05M_script01_1b"} <= names
    assert "Ses01F_impro08" not in names
    assert Counter(name[4] for name in names) == {"1": 28, "2": 30, "3": 32, "4": 30, "5": 31}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_turns_are_valid_for_any_seed(seed: int) -> None:
    for dialog in plan(3, seed, turns=20):
        assert len({turn.id for turn in dialog.turns}) == len(dialog.turns)
        for turn in dialog.turns:
            assert re.fullmatch(UTTERANCE, turn.id)
            assert 1.1999 <= turn.end - turn.start <= 6.0001
        assert dialog.turns[-1].end < dialog.duration
        assert all(a.start <= b.start for a, b in pairwise(dialog.turns))
        for letter in "FM":
            own = [turn for turn in dialog.turns if turn.speaker == letter]
            assert all(a.end < b.start for a, b in pairwise(own)), "nobody interrupts themselves"
            numbers = [turn.id[-3:] for turn in own if turn.label]
            assert numbers == [f"{index:03}" for index in range(len(numbers))]


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_label_is_the_majority_of_the_raters_who_watched(seed: int) -> None:
    words = {word: code for code, word in CATEGORIES.items()}
    for turn in (turn for dialog in plan(2, seed) for turn in dialog.turns if turn.ratings):
        assert turn.ratings is not None
        watched = [rating for rating in turn.ratings.categorical if rating.rater.startswith("E")]
        assert [rating.rater for rating in watched] == ["E2", "E3", "E4"]
        votes = Counter(words[word] for rating in watched for word in set(rating.categories))
        winners = [code for code, count in votes.items() if count >= 2]
        assert turn.label == (winners[0] if len(winners) == 1 else "xxx") == majority(turn.ratings.categorical)


def test_labels_cover_the_six_classes_evenly_and_some_others() -> None:
    labels = Counter(turn.label for dialog in plan(10, 0) for turn in dialog.turns if turn.label)
    main = [labels[label] for label in MAIN]
    assert max(main) < 1.3 * min(main)
    assert 0.07 < 1 - sum(main) / labels.total() < 0.16
    assert {"xxx", "sur", "fea", "oth"} <= set(labels)


def test_valence_and_activation_follow_the_emotion() -> None:
    turns = [turn for dialog in plan(10, 0) for turn in dialog.turns]
    vad = {
        label: np.mean([turn.ratings.vad for turn in turns if turn.ratings and turn.label == label], 0)
        for label in MAIN
    }
    assert min(vad["hap"][0], vad["exc"][0]) > vad["neu"][0] > max(vad["ang"][0], vad["sad"][0])
    assert min(vad["ang"][1], vad["exc"][1]) > vad["neu"][1] > vad["sad"][1]


def test_most_neighbouring_turns_overlap_a_little() -> None:
    pairs = [pair for dialog in plan(10, 0) for pair in pairwise(dialog.turns)]
    overlaps = [a.end - b.start for a, b in pairs if b.start < a.end]
    assert 0.6 < len(overlaps) / len(pairs) < 0.8
    assert max(overlaps) <= 0.5001


def test_some_sentences_belong_to_one_session_alone() -> None:
    texts = [{turn.text for dialog in plan(30, 0) if dialog.session == s for turn in dialog.turns} for s in (1, 2)]
    assert any("You lied" in text for text in texts[0])
    assert any("You lied" in text for text in texts[1])
    assert any("I could smash" in text for text in texts[0])
    assert not any("I could smash" in text for text in texts[1])


@pytest.mark.parametrize("arguments", [{"dialogs": 0}, {"dialogs": 152}, {"mode": "fast"}])
def test_arguments_out_of_range_are_refused_before_any_work(arguments: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        iemocap.write_corpus(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# All or nothing


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with atomic_folder(tmp_path / "out", "a marker") as partial:
            (partial / "half").touch()
            assert not (tmp_path / "out").exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert list(tmp_path.iterdir()) == []


def test_only_files_of_a_killed_run_are_replaced(tmp_path: Path) -> None:
    stale = tmp_path / "out.partial"
    stale.mkdir()
    (stale / "mine").touch()
    foreign = pytest.raises(InputError, match="exists and is not from an earlier run")
    with foreign, atomic_folder(tmp_path / "out", "a marker"):
        pass
    assert (stale / "mine").exists()
    (stale / "SYNTHETIC.txt").touch()
    with atomic_folder(tmp_path / "out", "a marker"):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["SYNTHETIC.txt"]
    assert not stale.exists()


def test_two_runs_cannot_write_the_same_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out", "the first") as partial:
        with pytest.raises(InputError, match="another run"), atomic_folder(tmp_path / "out", "the second"):
            pass
        assert (partial / "SYNTHETIC.txt").read_text() == "the first"
    assert (tmp_path / "out").is_dir()


def test_a_stopped_run_whose_folder_was_removed_leaves_that_of_the_next_alone(tmp_path: Path) -> None:
    first = atomic_folder(tmp_path / "out", "the first")
    shutil.rmtree(first.__enter__())
    with atomic_folder(tmp_path / "out", "the second") as partial:
        assert not first.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)  # it goes on upwards
        assert (partial / "SYNTHETIC.txt").read_text() == "the second"
    assert (tmp_path / "out" / "SYNTHETIC.txt").read_text() == "the second"


def test_a_run_that_ends_does_not_rename_the_folder_of_the_next(tmp_path: Path) -> None:
    first = atomic_folder(tmp_path / "out", "the first")
    shutil.rmtree(first.__enter__())
    with atomic_folder(tmp_path / "out", "the second"):
        with pytest.raises(InputError, match="taken over by another run"):
            first.__exit__(None, None, None)
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "SYNTHETIC.txt").read_text() == "the second"


def test_a_killed_worker_is_reported_in_a_sentence() -> None:
    with pytest.raises(MesmError, match="was killed"):
        list(in_fresh_processes(os._exit, [1], workers=1))


def test_each_job_has_a_new_process() -> None:
    assert len({*in_fresh_processes(operator.call, [os.getpid] * 3, workers=2), os.getpid()}) == 4


# The tree


def test_the_tree_is_that_of_the_corpus(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    assert {path.name for path in root.iterdir()} == {
        *(f"Session{number}" for number in range(1, 6)), "Documentation", "README.txt", "SYNTHETIC.txt",
    }  # fmt: skip
    for dialog in dialogs:
        files = {
            str(path.relative_to(session(root, dialog))) for path in session(root, dialog).rglob("*") if path.is_file()
        }
        single = {name for name in files if name.count("/") == 3 and "/EmoEvaluation/" in name}
        ids = [turn.id for turn in dialog.turns if turn.label]
        folder = f"Ses0{dialog.session}"
        assert files - single == {
            f"dialog/avi/DivX/{dialog.id}.avi",
            f"dialog/EmoEvaluation/{dialog.id}.txt",
            f"dialog/lab/{folder}_F/{dialog.id}.lab",
            f"dialog/lab/{folder}_M/{dialog.id}.lab",
            f"dialog/transcriptions/{dialog.id}.txt",
            f"dialog/wav/{dialog.id}.wav",
            *(f"sentences/wav/{dialog.id}/{id_}.wav" for id_ in ids),
            *(f"sentences/ForcedAlignment/{dialog.id}/{id_}.{x}" for id_ in ids for x in ("wdseg", "phseg", "syseg")),
        }
        assert {f"dialog/EmoEvaluation/Categorical/{dialog.id}_e{k}_cat.txt" for k in (2, 3, 4)} <= single
        assert {f"dialog/EmoEvaluation/Attribute/{dialog.id}_e{k}_atr.txt" for k in (3, 4)} <= single


def test_every_text_file_states_that_the_corpus_is_synthetic(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    name = dialogs[0].id
    assert "SYNTHETIC" in (root / "README.txt").read_text()
    assert "SYNTHETIC" in (root / "SYNTHETIC.txt").read_text()
    assert "SYNTHETIC" in soundfile.SoundFile(session(root, dialogs[0]) / f"dialog/wav/{name}.wav").comment
    with av.open(str(session(root, dialogs[0]) / f"dialog/avi/DivX/{name}.avi")) as video:
        assert "SYNTHETIC" in video.metadata["comment"]


def test_every_line_of_the_evaluations_has_a_known_format(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    for dialog in dialogs:
        raw = (session(root, dialog) / f"dialog/EmoEvaluation/{dialog.id}.txt").read_bytes().decode("ascii")
        assert "\r" not in raw
        title, blank, *lines = raw.split("\n")
        assert (title, blank) == ("% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", "")
        assert lines[-2:] == ["", ""], "the last block ends with a blank line"
        heads = [match for line in lines if (match := re.match(HEAD, line))]
        rates = [match for line in lines if (match := re.match(RATE, line))]
        assert len(heads) + len(rates) + sum(not line for line in lines) == len(lines)
        for match in rates:
            if match[1] == "A":
                assert [name for name, _ in re.findall(DIM, match[3])] == ["val", "act", "dom"]
            else:
                assert set(match[3].rstrip(";").split("; ")) <= {*CATEGORIES.values(), ""}
        order = [(match[3][-4], float(match[1])) for match in heads]
        assert order == sorted(order), "F before M, each by time"
        assert {match[3] for match in heads} == {turn.id for turn in dialog.turns if turn.label}
        assert all(re.fullmatch(r"\d+\.\d{4}", match[k]) for match in heads for k in (1, 2, 5, 6, 7))


def test_the_header_holds_the_means_of_the_raters_who_watched(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    raw = (session(root, dialogs[0]) / f"dialog/EmoEvaluation/{dialogs[0].id}.txt").read_text()
    for block in re.split(r"\n\n", raw)[1:-1]:
        head = re.match(HEAD, block.split("\n")[0])
        assert head
        for column, name in ((5, "val"), (6, "act"), (7, "dom")):
            values = [int(value) for value in re.findall(rf"^A-E.*?{name} +(\d)", block, re.MULTILINE)]
            assert float(head[column]) == pytest.approx(np.mean(values))


def test_transcripts_and_labs_repeat_the_turns(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    for dialog in dialogs:
        folder = session(root, dialog) / "dialog"
        raw = (folder / f"transcriptions/{dialog.id}.txt").read_bytes().decode("ascii")
        rows = [re.match(LINE, line) for line in raw.splitlines(keepends=True)]
        times = {row[1]: (float(row[7]), float(row[8])) for row in rows if row}
        assert len(times) == len(rows)
        assert times == {turn.id: (turn.start, turn.end) for turn in dialog.turns}
        for letter in "FM":
            lab = (folder / f"lab/Ses0{dialog.session}_{letter}/{dialog.id}.lab").read_text("latin-1")
            own = [turn for turn in dialog.turns if turn.speaker == letter]
            expected = [f"{turn.start:.4f} {turn.end:.4f} {turn.id}" for turn in own]
            assert lab.splitlines()[1:] == expected


def test_alignments_are_contiguous_and_contain_the_words_of_the_transcript(
    root: Path, dialogs: tuple[Dialog, ...]
) -> None:
    for dialog in dialogs:
        for turn in (turn for turn in dialog.turns if turn.label):
            path = session(root, dialog) / f"sentences/ForcedAlignment/{dialog.id}/{turn.id}.wdseg"
            title, *lines, total = path.read_text().splitlines()
            assert title == "\t SFrm  EFrm    SegAScr Word"
            rows = [match for line in lines if (match := re.match(SEGMENT, line))]
            assert len(rows) == len(lines)
            starts, ends = ([int(row[k]) for row in rows] for k in (1, 2))
            assert starts == [0, *(end + 1 for end in ends[:-1])]
            assert all(a <= b for a, b in zip(starts, ends, strict=True))
            assert abs((ends[-1] + 1) / 100 - (turn.end - turn.start)) < 0.011
            assert (rows[0][4], rows[-1][4]) == ("<s>", "</s>")
            words = [row[4] for row in rows if not row[4].startswith("<")]
            spoken = turn.text.replace("[", "++").replace("]", "++").upper()
            assert words == [re.sub(r"[.,!?]", "", token) for token in spoken.split()]
            assert total == f" Total score: {sum(int(row[3]) for row in rows):11d}"
            check_contiguous(path.with_suffix(".phseg"), ends[-1])
            check_contiguous(path.with_suffix(".syseg"), ends[-1])


def check_contiguous(path: Path, last: int) -> None:
    rows = [line.split() for line in path.read_text().splitlines()[1:] if line.startswith("\t")]
    assert [int(row[0]) for row in rows] == [0, *(int(row[1]) + 1 for row in rows[:-1])]
    assert int(rows[-1][1]) == last


def test_a_sentence_is_its_slice_of_the_speakers_channel(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    for dialog in dialogs:
        whole, rate = soundfile.read(session(root, dialog) / f"dialog/wav/{dialog.id}.wav", dtype="int16")
        assert (rate, whole.shape[1]) == (16_000, 2)
        for turn in (turn for turn in dialog.turns if turn.label):
            path = session(root, dialog) / f"sentences/wav/{dialog.id}/{turn.id}.wav"
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
            sentence = soundfile.read(path, dtype="int16")[0].astype(float)
            start, end = round(turn.start * 16_000), round(turn.end * 16_000)
            assert len(sentence) == end - start
            left_right = [np.corrcoef(sentence, whole[start:end, side])[0, 1] for side in (0, 1)]
            own = 0 if turn.speaker == dialog.markers else 1
            assert left_right[own] > 0.95
            assert left_right[own] > left_right[1 - own]


def test_the_video_is_a_split_screen_in_mpeg4(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    path = session(root, dialogs[0]) / f"dialog/avi/DivX/{dialogs[0].id}.avi"
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("mpeg4", 720, 480)
        assert stream.average_rate == iemocap.FPS
        assert len(video.streams.audio) == 1
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(stream)]
    assert abs(len(frames) / float(iemocap.FPS) - dialogs[0].duration) < 0.05
    for half in (slice(0, 360), slice(360, 720)):
        assert frames[0][128:352, half].std() > 10, "somebody is in the picture"
        moving = np.std([frame[128:352, half].astype(float) for frame in frames[::10]], axis=0)
        assert moving.mean() > 1


def test_the_same_arguments_give_the_same_bytes_with_any_workers(
    root: Path, dialogs: tuple[Dialog, ...], tmp_path: Path
) -> None:
    iemocap.write_corpus(tmp_path / "again", dialogs=1, seed=3, turns=TURNS, workers=1)
    assert digests(tmp_path / "again" / "Session1") == digests(session(root, dialogs[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_folder_that_is_not_empty_is_refused(root: Path) -> None:
    before = sorted(root.iterdir())
    with pytest.raises(InputError, match="not empty"):
        iemocap.write_corpus(root, dialogs=1)
    assert sorted(root.iterdir()) == before


def test_the_scanner_of_the_real_corpus_understands_all_of_it(root: Path, dialogs: tuple[Dialog, ...]) -> None:
    from mesm_data.corpora.iemocap.scan import scan

    corpus = scan(root)
    assert [note for note in corpus.notes if "XX id" not in note] == []
    assert {recording.id for recording in corpus.recordings} == {dialog.id for dialog in dialogs}
    utterances = {utterance.id: utterance for utterance in corpus.utterances()}
    assert set(utterances) == {turn.id for dialog in dialogs for turn in dialog.turns if turn.label}
    for turn in (turn for dialog in dialogs for turn in dialog.turns if turn.label):
        utterance = utterances[turn.id]
        assert (utterance.start, utterance.end, utterance.text) == (turn.start, turn.end, turn.text)
        assert utterance.labels["emotion"] == turn.label
        assert len(utterance.audio) == 2
        assert utterance.words
        assert utterance.flags == ()
