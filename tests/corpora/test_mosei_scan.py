"""The scan of CMU-MOSEI on small trees, as users have them. Media are empty files, because a scan opens none."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from mesm_manifests import load
from mosei_trees import (
    CLIPS,
    LABELS,
    SOUND,
    TRANSCRIPTS,
    VIDEO,
    VIDEOS,
    add_video,
    answer,
    by_id,
    label_csd,
    notes_about,
    put,
    table,
    write_csd,
)

from mesm_data.corpora.mosei.layout import match_case
from mesm_data.corpora.mosei.ratings import EMOTIONS, ITEMS
from mesm_data.corpora.mosei.scan import scan
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.corpora.release_check import compare_counts
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.pipeline.selection import select_utterances
from mesm_data.schema.recordings import AudioSource, ClipSource, Utterance, VideoRegion, Word

ZEROS = dict.fromkeys(ITEMS, 0.0)
NOBODY = {"rater": None, "self": False, "comment": None}
NAMES = ["5000_batch_raw", "mturk_extra_v2"]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Raw with two videos: -3g5yACwYnA with two rated clips and one unrated, and 188343 with one rated clip."""
    root = tmp_path / "CMU_MOSEI/Raw"
    # Not in the order of the clips, as in the real files.
    add_video(root, VIDEO, {10: (20.5, 25.0, "Ten."), 2: (4.84, 14.052, "Two ___ and more."), 3: (14, 15, "Three.")})
    add_video(root, "188343", {0: (-0.4875, 3.25, "Zero.")})
    rated = [answer(VIDEO, 2, rater, happiness=rater, sentiment=rater - 1) for rater in range(3)]
    put(root / LABELS / "5000_batch_raw.csv", table([*rated, answer(VIDEO, "10.0", sadness=3)]))
    put(root / LABELS / "mturk_extra_v2.csv", table([answer("dir/188343", 0, fear=1, surprise="")]))
    return root


OFFICIAL = {
    # In the order of the numbers as texts: "10" comes before "2".
    VIDEO: [
        (20.5, 25.0, {"sadness": 3.0}),
        (4.84, 14.052, {"happiness": 1.0}),
    ],
    "188343": [(-0.4875, 3.25, {"fear": 1.0})],
}


def test_a_row_contains_all_information_of_the_files(raw: Path) -> None:
    recording, other = scan(raw).recordings
    assert (recording.id, recording.video) == (VIDEO, f"{VIDEOS}/{VIDEO}.mp4")
    assert (other.id, other.video) == ("188343", f"{VIDEOS}/188343.mp4")
    assert [u.id for u in recording.utterances] == [f"{VIDEO}_2", f"{VIDEO}_3", f"{VIDEO}_10"]
    assert recording.utterances[0] == Utterance(
        id=f"{VIDEO}_2",
        dialog=VIDEO,
        speaker=VIDEO,
        start=4.84,
        end=14.052,
        text="Two ___ and more.",
        words=None,
        labels={
            **dict.fromkeys(EMOTIONS, 0.0),
            "happiness": 1.0,
            "sentiment": 0.0,
            "raters": [{**NOBODY, **ZEROS, "happiness": float(rater), "sentiment": rater - 1.0} for rater in range(3)],
        },
        audio=(
            AudioSource(path=f"{SOUND}/{VIDEO}.wav", channel=0, span=(4.84, 14.052)),
            AudioSource(path=f"{VIDEOS}/{VIDEO}.mp4", span=(4.84, 14.052)),
            AudioSource(path=f"{CLIPS}/{VIDEO}_2.mp4"),
        ),
        region=VideoRegion(),
        annotation_files=(f"{TRANSCRIPTS}/{VIDEO}.txt", f"{LABELS}/5000_batch_raw.csv"),
        clip_source=ClipSource(path=f"{CLIPS}/{VIDEO}_2.mp4"),
        flags=("no_alignment",),
    )
    json.dumps(recording.utterances[0].labels, allow_nan=False)


def test_no_row_contains_the_ids_of_workers(raw: Path) -> None:
    assert "WORKER" in (raw / LABELS / "5000_batch_raw.csv").read_text()
    corpus = scan(raw)
    assert "WORKER" not in repr(corpus)
    assert "A_H_" not in repr(corpus)


def test_a_clip_without_ratings_is_excluded_by_a_rule_and_its_media_are_not_read(raw: Path) -> None:
    corpus = scan(raw)
    clip = by_id(corpus)[f"{VIDEO}_3"]
    assert clip.exclusion == ("excluded", "unlabelled")
    assert (clip.audio, clip.clip_source) == ((), None)
    assert clip.labels == {**dict.fromkeys(EMOTIONS), "sentiment": None, "raters": []}
    recordings, rows = select_utterances(corpus, Recipe(corpus="mosei"))
    assert sorted(u.id for r in recordings for u in r.utterances) == [f"{VIDEO}_10", f"{VIDEO}_2", "188343_0"]
    assert [(row["key"], row["status"], row["reason"]) for row in rows] == [(f"{VIDEO}_3", "excluded", "unlabelled")]
    # What was not asked for is not asked for, and a clip that is not built does not use up the limit.
    recordings, rows = select_utterances(corpus, Recipe(corpus="mosei", only=f"{VIDEO}*", limit=2))
    assert sorted(u.id for r in recordings for u in r.utterances) == [f"{VIDEO}_10", f"{VIDEO}_2"]
    assert sorted(row["reason"] for row in rows) == ["only", "unlabelled"]
    with pytest.raises(InputError, match=r"none of the selected utterances.*unlabelled"):
        select_utterances(corpus, Recipe(corpus="mosei", only=f"{VIDEO}_3"))


def test_a_rated_clip_of_unknown_times_has_failed_with_that_reason(raw: Path) -> None:
    path = raw / TRANSCRIPTS / f"{VIDEO}.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "___10___" not in line))
    clip = by_id(scan(raw))[f"{VIDEO}_10"]
    assert clip.exclusion is not None
    assert clip.exclusion[0] == "failed"
    assert "no times" in clip.exclusion[1]
    assert clip.flags == ("no_transcript", "no_times", "no_alignment")
    assert clip.labels["sadness"] == 3.0
    rows = select_utterances(scan(raw), Recipe(corpus="mosei"))[1]
    assert {row["key"]: row["status"] for row in rows} == {f"{VIDEO}_10": "failed", f"{VIDEO}_3": "excluded"}


def test_what_the_limit_leaves_out_does_not_fail(raw: Path) -> None:
    put(raw / LABELS / "more.csv", table([answer("z", 0, fear=1)]))  # of unknown times
    rows = select_utterances(scan(raw), Recipe(corpus="mosei", limit=1))[1]
    assert {row["key"]: row["reason"] for row in rows} == {
        f"{VIDEO}_3": "unlabelled",
        f"{VIDEO}_10": "limit",
        "188343_0": "limit",
        "z_0": "limit",
    }


def test_a_clip_that_begins_below_zero_begins_at_zero(raw: Path) -> None:
    clip = by_id(scan(raw))["188343_0"]
    assert (clip.start, clip.end) == (0.0, 3.25)
    assert clip.audio[0].span == (0.0, 3.25)
    assert clip.flags == ("no_alignment", "negative_start", "empty_answers")


def test_the_label_file_is_joined_by_times_and_never_by_position(raw: Path) -> None:
    label_csd(raw / "CMU_MOSEI_Labels.csd", OFFICIAL)
    agreed = by_id(scan(raw))
    assert not any(flag in u.flags for u in agreed.values() for flag in ("csd_differs", "not_in_csd"))
    assert agreed[f"{VIDEO}_2"].labels["happiness"] == 1.0
    assert agreed[f"{VIDEO}_2"].annotation_files[-1] == "CMU_MOSEI_Labels.csd"
    (raw / "CMU_MOSEI_Labels.csd").unlink()
    label_csd(raw / "CMU_MOSEI_Labels.csd", {**OFFICIAL, VIDEO: OFFICIAL[VIDEO][::-1]})
    assert by_id(scan(raw)) == agreed


def test_times_that_differ_by_up_to_a_millisecond_are_the_same(raw: Path) -> None:
    near, far = (20.5009, 24.9991, {"sadness": 3.0}), (4.84, 14.0532, {"happiness": 1.0})
    label_csd(raw / "CMU_MOSEI_Labels.csd", {**OFFICIAL, VIDEO: [near, far]})
    corpus = scan(raw)
    assert "not_in_csd" not in by_id(corpus)[f"{VIDEO}_10"].flags
    assert "not_in_csd" in by_id(corpus)[f"{VIDEO}_2"].flags
    assert by_id(corpus)[f"{VIDEO}_csd1"].exclusion == ("excluded", "no_clip")
    assert notes_about(corpus, "1 clips have the flag not_in_csd")


def test_the_means_of_the_label_file_take_precedence_and_the_raters_are_kept(raw: Path) -> None:
    changed = {**OFFICIAL, "188343": [(-0.4875, 3.25, {"fear": 1.0, "surprise": 2.0})]}
    label_csd(raw / "CMU_MOSEI_Labels.csd", changed)
    corpus = scan(raw)
    clip = by_id(corpus)["188343_0"]
    assert "csd_differs" in clip.flags
    assert clip.labels["surprise"] == 2.0
    assert clip.labels["raters"] == [{**NOBODY, **ZEROS, "fear": 1.0, "surprise": None}]
    assert notes_about(corpus, "1 clips have the flag csd_differs")


def test_rated_clips_that_the_label_file_lacks_are_kept_and_flagged(raw: Path) -> None:
    label_csd(raw / "CMU_MOSEI_Labels.csd", {VIDEO: OFFICIAL[VIDEO]})
    clip = by_id(scan(raw))["188343_0"]
    assert clip.exclusion is None
    assert "not_in_csd" in clip.flags


def test_from_the_label_file_alone_the_labels_are_its_means_without_raters(raw: Path) -> None:
    shutil.rmtree(raw / LABELS)
    label_csd(raw / "CMU_MOSEI_Labels.csd", OFFICIAL)
    rows = by_id(scan(raw))
    assert rows[f"{VIDEO}_10"].labels == {
        **{**dict.fromkeys(EMOTIONS, 0.0), "sadness": 3.0},
        "sentiment": 0.0,
        "raters": [],
    }
    assert "labels_from_csd" in rows[f"{VIDEO}_10"].flags
    assert rows[f"{VIDEO}_3"].exclusion == ("excluded", "unlabelled")


def test_without_transcripts_the_label_files_rows_give_the_times_if_all_means_agree(raw: Path) -> None:
    shutil.rmtree(raw / "Transcript")
    label_csd(raw / "CMU_MOSEI_Labels.csd", {**OFFICIAL, "188343": [(0.0, 3.25, {"fear": 2.0})]})
    rows = by_id(scan(raw))
    assert (rows[f"{VIDEO}_2"].start, rows[f"{VIDEO}_2"].end) == (4.84, 14.052)
    assert (rows[f"{VIDEO}_10"].start, rows[f"{VIDEO}_10"].end) == (20.5, 25.0)
    assert rows[f"{VIDEO}_10"].flags == ("no_transcript", "no_alignment")
    # The other video's mean is another: which clip the row is of stays unknown, and both are rows.
    assert rows["188343_0"].exclusion is not None
    assert rows["188343_csd0"].exclusion == ("excluded", "no_clip")
    assert len(rows) == 4


def empty_zeros(raw: Path, *names: str) -> None:
    """Label files from a spreadsheet that hides zeros."""
    for name in names:
        path = raw / LABELS / f"{name}.csv"
        rows = list(csv.DictReader(io.StringIO(path.read_text(), newline="")))
        hidden = [
            {k: "" if k.startswith("Answer.") and v in ("0", "0.0") else v for k, v in row.items()} for row in rows
        ]
        path.write_text(table(hidden))


@pytest.mark.parametrize("transcripts", [True, False])
def test_a_file_that_leaves_its_zeros_empty_gives_the_published_means(raw: Path, transcripts: bool) -> None:
    """One rater of clip 2 and all raters of clip 3 gave no answer: their rows are empty."""
    path = raw / LABELS / "5000_batch_raw.csv"
    rated = [answer(VIDEO, 2, rater, happiness=rater, sentiment=rater) for rater in range(3)]
    path.write_text(table([*rated, answer(VIDEO, 10, sadness=3), answer(VIDEO, 3)]))
    official = {**OFFICIAL, VIDEO: [*OFFICIAL[VIDEO][:1], (4.84, 14.052, {"happiness": 1.0, "sentiment": 1.0})]}
    official[VIDEO] = [*official[VIDEO], (14.0, 15.0, {})]
    label_csd(raw / "CMU_MOSEI_Labels.csd", official)
    if not transcripts:
        shutil.rmtree(raw / "Transcript")
        official["188343"] = [(0.0, 3.25, {"fear": 1.0})]
    clean = by_id(scan(raw))
    empty_zeros(raw, "5000_batch_raw")
    for csd_is_there in (True, False) if transcripts else (True,):
        if not csd_is_there:
            (raw / "CMU_MOSEI_Labels.csd").unlink()
        corpus = scan(raw)
        rows = by_id(corpus)
        assert rows.keys() == clean.keys()
        for key, row in rows.items():
            assert {item: row.labels[item] for item in ITEMS} == {item: clean[key].labels[item] for item in ITEMS}
            assert (row.exclusion, row.start, row.end) == (clean[key].exclusion, clean[key].start, clean[key].end)
            assert "empty_answers" in row.flags
            assert "csd_differs" not in row.flags
        assert len(rows[f"{VIDEO}_2"].labels["raters"]) == 3
        assert notes_about(corpus, "5000_batch_raw.csv: contains empty cells and no 0")
        assert notes_about(corpus, "4 clips have the flag empty_answers")


@pytest.mark.parametrize(("fear", "differs"), [(1.0, False), (1.5, False), (3.0, False), (2.0, True)])
def test_the_published_means_decide_what_a_missing_answer_is(raw: Path, fear: float, differs: bool) -> None:
    """Answers: 3, an empty cell, and a row without answers. Both are 0, or the last does not count, or neither."""
    rows = [
        answer("188343", 0, 0, fear=3),
        answer("188343", 0, 1, fear=""),
        answer("188343", 0, 2, **dict.fromkeys(ITEMS, "")),
    ]
    put(raw / LABELS / "mturk_extra_v2.csv", table(rows))
    label_csd(raw / "CMU_MOSEI_Labels.csd", {**OFFICIAL, "188343": [(-0.4875, 3.25, {"fear": fear})]})
    clip = by_id(scan(raw))["188343_0"]
    assert clip.labels["fear"] == fear
    assert len(clip.labels["raters"]) == 3
    assert ("csd_differs" in clip.flags) is differs
    (raw / "CMU_MOSEI_Labels.csd").unlink()
    clip = by_id(scan(raw))["188343_0"]
    assert clip.labels["fear"] == 1.0
    assert "empty_answers" in clip.flags


def test_a_clip_with_empty_answers_only_is_not_rated(raw: Path) -> None:
    put(raw / LABELS / "a.csv", table([answer(VIDEO, 3, **dict.fromkeys(ITEMS, "")), answer(VIDEO, 10, anger=1)]))
    clip = by_id(scan(raw))[f"{VIDEO}_3"]
    assert clip.exclusion == ("excluded", "unlabelled")
    assert all(clip.labels[item] is None for item in ITEMS)


@pytest.mark.parametrize("with_csd", [True, False])
def test_lost_transcripts_are_counted(raw: Path, with_csd: bool) -> None:
    if with_csd:
        label_csd(raw / "CMU_MOSEI_Labels.csd", OFFICIAL)
        shutil.rmtree(raw / "Transcript")
    else:
        path = raw / TRANSCRIPTS / "188343.txt"
        path.write_text("188343___0___-0.4875___3.25___\n")
    corpus = scan(raw)
    rows = [row for row in corpus.utterances() if row.exclusion is None]
    without = [row.id for row in rows if "no_transcript" in row.flags]
    assert without == [row.id for row in rows if not row.text]
    assert len(without) == (3 if with_csd else 1)
    assert notes_about(corpus, f"{len(without)} of {len(rows)} utterances have no text (flag no_transcript)")


def test_videos_of_the_label_file_whose_names_are_no_ids_are_noted(raw: Path) -> None:
    label_csd(raw / "CMU_MOSEI_Labels.csd", {**OFFICIAL, "a b": [(0.0, 1.0, {})]})
    corpus = scan(raw)
    assert "a b" not in {recording.id for recording in corpus.recordings}
    assert notes_about(corpus, "CMU_MOSEI_Labels.csd", "'a b' is not the id of a video")


def test_the_columns_of_the_label_file_are_found_by_name(raw: Path) -> None:
    shutil.rmtree(raw / LABELS)
    names = ("fear", "surprise", "sentiment", "sad", "happy", "disgust", "anger")
    features = [[1.0, 0.0, -2.0, 0.0, float("nan"), 0.0, 3.0]]
    path = raw / "CMU_MOSEI_Labels.csd"
    write_csd(path, {"188343": (features, [[-0.4875, 3.25]])}, names, "All Labels")
    labels = by_id(scan(raw))["188343_0"].labels
    assert (labels["fear"], labels["anger"], labels["sentiment"]) == (1.0, 3.0, -2.0)
    assert labels["happiness"] is None


def test_a_label_file_that_cannot_be_used_is_noted_and_the_raters_count(raw: Path) -> None:
    clean = by_id(scan(raw))
    path = put(raw / "CMU_MOSEI_Labels.csd", b"\x89HDF\r\n\x1a\n torn")
    assert notes_about(scan(raw), "CMU_MOSEI_Labels.csd", "HDF5")
    assert by_id(scan(raw)) == clean
    path.unlink()
    write_csd(path, {"188343": ([[1.0] * 7], [[0.0, 3.25]])}, None, "All Labels")
    assert notes_about(scan(raw), "CMU_MOSEI_Labels.csd", "dimension names")
    path.unlink()
    broken = {"a": ([[1.0] * 7], [[0.0, 3.25], [1.0, 2.0]]), "b": ([[1.0] * 6], [[0.0, 1.0]])}
    names = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")
    write_csd(path, broken, names, "All Labels")
    assert notes_about(scan(raw), "CMU_MOSEI_Labels.csd: a:")
    assert notes_about(scan(raw), "CMU_MOSEI_Labels.csd: b:")


def test_without_h5py_a_label_file_is_refused_with_the_line_that_installs_it(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_csd(raw / "CMU_MOSEI_Labels.csd", OFFICIAL)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=r"CMU_MOSEI_Labels.csd.*pip install 'mesm\[csd\]'"):
        scan(raw)


def test_timed_words_are_cut_to_the_clip_and_pauses_left_out(raw: Path) -> None:
    words = [b"before", b"sp", b"two", b"and", b"more", b"after"]
    times = [[3.0, 4.8], [4.8, 4.9], [4.8, 5.0], [13.0, 13.5], [13.5, 14.2], [14.0, 14.4]]
    put(raw / "CMU_MOSEI_TimestampedWordVectors.csd", b"not read")
    write_csd(raw / "CMU_MOSEI_TimestampedWords.csd", {VIDEO: ([[word] for word in words], times)}, ["word"], "words")
    rows = by_id(scan(raw))
    assert rows[f"{VIDEO}_2"].words == (
        Word(word="two", start=0.0, end=0.16),
        Word(word="and", start=8.16, end=8.66),
        Word(word="more", start=8.66, end=9.212),
    )
    assert rows[f"{VIDEO}_2"].flags == ()
    assert rows[f"{VIDEO}_2"].annotation_files[-1] == "CMU_MOSEI_TimestampedWords.csd"
    assert rows[f"{VIDEO}_10"].words == ()
    assert rows["188343_0"].words is None


def test_a_renamed_copy_of_a_label_file_counts_once(raw: Path) -> None:
    clean = by_id(scan(raw))
    shutil.copy(raw / LABELS / "mturk_extra_v2.csv", raw / LABELS / "saved_mturk_extra_v2.csv")
    corpus = scan(raw)
    assert by_id(corpus) == clean
    assert notes_about(corpus, "saved_mturk_extra_v2.csv: 1 rows that were read before")
    (raw / LABELS / "mturk_extra_v2.csv").unlink()
    assert by_id(scan(raw))["188343_0"].labels == clean["188343_0"].labels


def test_four_to_six_raters_in_two_files_are_all_kept_in_the_order_of_the_files(raw: Path) -> None:
    path = raw / LABELS / "mturk_extra_v2.csv"
    path.write_text(table([answer(VIDEO, 2, rater, anger=3) for rater in (7, 8)]))
    labels = by_id(scan(raw))[f"{VIDEO}_2"].labels
    assert [rater["anger"] for rater in labels["raters"]] == [0, 0, 0, 3, 3]
    assert labels["anger"] == 6 / 5


def test_known_anomalies_are_flagged_and_not_excluded(raw: Path) -> None:
    anomalies = load("mosei")["anomalies"]
    videos = [anomalies["mistimed"][0], anomalies["faceless"][0], "_0efYOjQYRc"]
    for video in videos:
        add_video(raw, video, {0: (0.0, 1.0, "a")})
    put(raw / LABELS / "a.csv", table([answer(video, 0) for video in videos]))
    rows = by_id(scan(raw))
    flags = [rows[f"{video}_0"].flags for video in videos]
    assert flags == [("no_alignment", name) for name in ("mistimed", "faceless", "corrupt_segmented")]
    assert all(rows[f"{video}_0"].exclusion is None for video in videos)


MOVES = {
    "transcripts": (TRANSCRIPTS, ["Transcript/Combined", "transcript/segmented", "Transcripts"]),
    "videos": (VIDEOS, ["Videos/Full", "Video", "VIDEOS/FULL/COMBINED"]),
    "clips": (CLIPS, ["Videos/Segmented"]),
    "sound": (SOUND, ["Audio/WAV_16000", "Audio", "audio/full/wav_16000"]),
    "labels": (LABELS, ["labels", "."]),
}


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind, (_, to) in MOVES.items() for place in to])
def test_flattened_and_renamed_layouts_give_the_same_rows_and_the_place_is_noted(
    raw: Path, kind: str, place: str
) -> None:
    def essence(root: Path) -> list[tuple[object, ...]]:
        return [(u.id, u.start, u.labels, u.text, len(u.audio), u.exclusion) for u in scan(root).utterances()]

    expected = essence(raw)
    moved = raw / "moved"
    files = sorted((raw / MOVES[kind][0]).iterdir())
    for file in files:
        put(moved / file.name, file.read_bytes())
        file.unlink()
    shutil.rmtree(raw / MOVES[kind][0])
    for file in moved.iterdir():
        put(raw / place / file.name, file.read_bytes())
    shutil.rmtree(moved)
    assert essence(raw) == expected
    assert notes_about(scan(raw), f"{kind} in {place}/ ({len(files)})")


def test_the_parent_folder_gives_the_same_rows_and_its_csd_files_are_read(raw: Path) -> None:
    assert by_id(scan(raw.parent)) == by_id(scan(raw))
    assert scan(raw.parent).root == raw
    label_csd(raw.parent / "CMU_MOSEI_Labels.csd", OFFICIAL)
    assert notes_about(scan(raw), "CMU_MOSEI_Labels.csd", f"{raw.parent}")
    corpus = scan(raw.parent)
    assert corpus.root == raw.parent
    clip = by_id(corpus)[f"{VIDEO}_2"]
    assert clip.annotation_files == (
        f"Raw/{TRANSCRIPTS}/{VIDEO}.txt",
        f"Raw/{LABELS}/5000_batch_raw.csv",
        "CMU_MOSEI_Labels.csd",
    )
    assert all((corpus.root / source.path).exists() for source in clip.audio)
    raw.rename(raw.parent / "my copy")
    assert by_id(scan(raw.parent)).keys() == by_id(corpus).keys()
    put(raw / "notes.txt")
    (raw.parent / "my copy").rename(raw / "Raw")
    assert by_id(scan(raw.parent)).keys() == by_id(corpus).keys()
    assert notes_about(scan(raw.parent), f"labels in Raw/Raw/{LABELS}/", "csd in ./ (1)")


def test_videos_in_other_containers_are_used_and_mp4_is_preferred(raw: Path) -> None:
    put(raw / VIDEOS / f"{VIDEO}.mkv")
    put(raw / VIDEOS / "188343.WEBM")
    (raw / VIDEOS / "188343.mp4").unlink()
    videos = {recording.id: recording.video for recording in scan(raw).recordings}
    assert videos == {VIDEO: f"{VIDEOS}/{VIDEO}.mp4", "188343": f"{VIDEOS}/188343.WEBM"}


def test_a_copy_in_capitals_has_the_same_media(raw: Path) -> None:
    clean = by_id(scan(raw))
    for folder in (VIDEOS, CLIPS, SOUND, TRANSCRIPTS):
        for path in list((raw / folder).iterdir()):
            path.rename(path.with_name(path.name.upper()))
    rows = by_id(scan(raw))
    assert rows.keys() == clean.keys()
    for key, row in rows.items():
        assert (row.text, row.flags) == (clean[key].text, clean[key].flags)
        assert [Path(source.path).name for source in row.audio] == [
            Path(source.path).name.upper() for source in clean[key].audio
        ]


def test_ids_that_differ_in_case_alone_never_share_a_file() -> None:
    assert match_case(["ABC", "x"], ["abc", "X"]) == {"abc": "ABC", "X": "x"}
    assert match_case(["ABC"], ["abc", "aBc", "ABC"]) == {"ABC": "ABC"}
    assert match_case(["ABC"], ["abc", "aBc"]) == {}


def test_only_media_that_exist_are_named_and_missing_ones_are_counted(raw: Path) -> None:
    (raw / VIDEOS / f"{VIDEO}.mp4").unlink()
    (raw / SOUND / f"{VIDEO}.wav").unlink()
    corpus = scan(raw)
    clip = by_id(corpus)[f"{VIDEO}_2"]
    assert [source.path for source in clip.audio] == [f"{CLIPS}/{VIDEO}_2.mp4"]
    assert notes_about(corpus, "1 labelled videos have no whole video", VIDEO)
    assert notes_about(corpus, "1 labelled videos have no whole sound", VIDEO)
    (raw / CLIPS / f"{VIDEO}_2.mp4").unlink()
    clip = by_id(scan(raw))[f"{VIDEO}_2"]
    assert (clip.audio, clip.clip_source, clip.exclusion) == ((), None, None)


def test_junk_and_other_files_change_nothing(raw: Path) -> None:
    clean = scan(raw)
    for folder in (TRANSCRIPTS, VIDEOS, CLIPS, SOUND, LABELS):
        put(raw / folder / f"._{VIDEO}.txt", b"\0\5\x16\7")
        put(raw / folder / ".DS_Store", b"\0\0\0\1Bud1")
        put(raw / folder / "Thumbs.db", b"\xd0\xcf")
    put(raw / "Transcript/Full/Combined/188343.plaintext", "all of it")
    put(raw / "Audio/Full/COVAREP/188343.mat", b"\0")
    put(raw / "Metadata/a.txt")
    assert scan(raw) == clean


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_encodings_and_line_ends_of_transcripts_do_not_matter(raw: Path, encoding: str) -> None:
    text = "188343___0___-0.4875___3.25___À la carte, “né”?\r\nand on\r\n"
    put(raw / TRANSCRIPTS / "188343.txt", text.encode(encoding))
    corpus = scan(raw)
    assert by_id(corpus)["188343_0"].text == "À la carte, “né”? and on"
    assert notes_about(corpus, "188343.txt:2: continues")


def test_unreadable_files_are_noted_and_affect_only_themselves(raw: Path) -> None:
    put(raw / TRANSCRIPTS / "24196.txt", b"\0binary")
    put(raw / TRANSCRIPTS / "a b.txt", "x")
    put(raw / LABELS / "CMU_MOSEI_Labels.csv", "file,index,start,end,sentiment\na,0,1,2,3\n")
    (raw / LABELS / "mosi_pom_output.csv").mkdir()
    path = raw / TRANSCRIPTS / f"{VIDEO}.txt"
    path.write_text(f"{path.read_text()}{VIDEO}___2___9.0___10.0___again\n{VIDEO}___4___9.0___9.0___x\n")
    corpus = scan(raw)
    assert len(corpus.utterances()) == 5
    assert by_id(corpus)[f"{VIDEO}_2"].start == 4.84
    for part in ("24196.txt: is not text", "a b.txt: is not named", "CMU_MOSEI_Labels.csv:1: has no column"):
        assert len(notes_about(corpus, part)) == 1
    assert notes_about(corpus, f"{VIDEO}_2 occurs a second time")
    assert notes_about(corpus, f"{VIDEO}_4 ends at 9.0")


def test_many_notes_of_a_kind_are_counted(raw: Path) -> None:
    path = raw / TRANSCRIPTS / f"{VIDEO}.txt"
    path.write_text(path.read_text() + "on\n" * 100)
    corpus = scan(raw)
    assert len(notes_about(corpus, "continues")) == 20
    assert notes_about(corpus, "and 80 more odd lines of transcripts")


def test_a_partial_corpus_is_named_partial_and_a_complete_one_is_compared_with_the_known_counts(raw: Path) -> None:
    assert notes_about(scan(raw), "2 of 3293 labelled videos are here")
    videos = [f"v{index}" for index in range(1700)]
    for video in videos:
        put(raw / TRANSCRIPTS / f"{video}.txt", f"{video}___0___0.0___1.0___a")
    put(raw / LABELS / "a.csv", table([answer(video, 0, anger=1) for video in videos]))
    corpus = scan(raw)
    assert notes_about(corpus, "labelled clips: 1703 here, 23259")
    assert notes_about(corpus, "clips with anger: 1700 here, 4997")
    put(raw / "SYNTHETIC.txt")
    assert not notes_about(scan(raw), "as it is known")


def test_numbers_that_agree_are_not_reported() -> None:
    assert compare_counts({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    assert compare_counts({"a": 1, "c": 5}, {"a": 3, "b": 1}) == [
        "a: 1 here, 3 in the release as it is known",
        "b: 0 here, 1 in the release as it is known",
        "c: 5 here, 0 in the release as it is known",
    ]


def test_a_folder_that_is_not_mosei_is_refused_with_the_expected_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file.*Transcript/"):
        scan_corpus("mosei", tmp_path / "missing")
    with pytest.raises(InputError, match=r"is a file.*unpack"):
        scan(put(tmp_path / "CMU_MOSEI.zip"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Transcript/.*found nothing"):
        scan(tmp_path / "empty")
    put(tmp_path / "IEMOCAP/Session1/dialog/wav/a.wav")
    with pytest.raises(InputError, match=r"is not CMU-MOSEI.*found Session1/"):
        scan(tmp_path / "IEMOCAP")


@pytest.mark.parametrize("below", ["Videos", TRANSCRIPTS, "Audio/Full"])
def test_a_part_of_a_copy_is_refused_and_the_copy_named(raw: Path, below: str) -> None:
    with pytest.raises(InputError, match="part of a copy") as error:
        scan(raw / below)
    assert f"give {raw.resolve()} instead" in str(error.value)


@pytest.mark.parametrize(
    ("missing_folders", "what"),
    [
        ([LABELS], "no labels"),
        (["Transcript"], "has no times"),
        (["Videos", "Audio"], "no sound or picture"),
        (["Videos", "Audio", "Transcript"], "no times and no sound or picture"),
    ],
)
def test_a_copy_from_which_nothing_can_be_built_is_refused_with_the_missing_files(
    raw: Path, missing_folders: list[str], what: str
) -> None:
    for folder in missing_folders:
        shutil.rmtree(raw / folder)
    with pytest.raises(InputError, match=what) as error:
        scan(raw)
    assert "Looked for" in str(error.value)
    assert "Found " in str(error.value)


def test_two_copies_in_a_folder_are_refused(raw: Path) -> None:
    shutil.copytree(raw, raw.parent / "second")
    with pytest.raises(InputError, match="Raw, second"):
        scan(raw.parent)


def test_a_copy_in_which_no_clip_has_times_and_labels_is_refused(raw: Path) -> None:
    for name in NAMES:
        put(raw / LABELS / f"{name}.csv", table([answer("other", 0)]))
    with pytest.raises(InputError, match="no clip has both"):
        scan(raw)


def test_the_manifest_agrees_with_itself() -> None:
    manifest = load("mosei")
    counts, anomalies = manifest["counts"], manifest["anomalies"]
    assert sum(fold["utterances"] for fold in counts["folds"].values()) == counts["utterances"]
    assert set(manifest["sdk_names"]) == set(counts["emotions"]) == set(EMOTIONS)
    assert (len(set(anomalies["mistimed"])), len(set(anomalies["faceless"]))) == (38, 12)
    assert manifest["licence"]["redistribution"] is False


def test_the_official_folds_have_the_counted_numbers_of_videos(shared: Path) -> None:
    counts = load("mosei")["counts"]["folds"]
    for part in ("train", "valid", "test"):
        videos = (shared / f"splits/mosei_official_{part}_videos.txt").read_text().split()
        assert len(set(videos)) == counts[part]["videos"]
