"""CMU-MOSI: segments are cut from whole videos at the label's times. Media are empty: a scan opens none."""

from collections.abc import Callable
from pathlib import Path

import pytest
from open_trees import by_id, put

from mesm_data.corpora.mosi import scan
from mesm_data.errors import InputError
from mesm_data.schema.recordings import AudioSource, Corpus

VIDEO = "I5y0__X72p0"
LABELS = "Labels/OpinionLevelSentiment.csv"


def test_a_complete_copy_is_cut_from_the_whole_videos(complete_copy: Callable[[str], Corpus]) -> None:
    corpus = complete_copy("mosi")
    segments = by_id(corpus)
    assert (len(segments), len(corpus.recordings)) == (2199, 93)
    second = segments[f"{VIDEO}_2"]
    assert (second.dialog, second.speaker, second.start, second.end) == (VIDEO, None, 7.9, 11.95)
    assert second.audio[0] == AudioSource(path=f"Raw/Audio/WAV_16000/Full/{VIDEO}.wav", span=(7.9, 11.95))
    assert second.text == "I THOUGHT IT WAS 2 TIMES AS GOOD"
    assert set(second.labels) == {"sentiment", "raters"}


def test_sentiment_is_a_number_and_not_an_emotion(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"51.90,55.95,{VIDEO},1,2.4\n56,57.5,{VIDEO},2,0.0\n58,59,{VIDEO},3,-3.0\n")
    put(tmp_path / f"Video/Full/{VIDEO}.mp4")
    corpus = scan(tmp_path)
    records = [one.labels for one in corpus.utterances()]
    number, positive = corpus.schema.view("sentiment"), corpus.schema.view("positive")
    assert [number.target(record).tolist() for record in records] == [[pytest.approx(2.4)], [0.0], [-3.0]]  # type: ignore[union-attr]
    assert [positive.target(record).tolist() for record in records] == [[1], [0], [0]]  # type: ignore[union-attr]
    assert all(one.flags == ("no_transcript",) for one in corpus.utterances())


def test_a_negative_start_becomes_0_and_is_flagged(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"-0.25,5.5,{VIDEO},1,2.4\n")
    put(tmp_path / f"Video/Full/{VIDEO}.mp4")
    [segment] = scan(tmp_path).utterances()
    assert (segment.start, segment.end, segment.flags) == (0.0, 5.5, ("no_transcript", "negative_start"))


def test_the_file_of_a_segment_replaces_a_missing_whole_video(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"51.9,55.95,{VIDEO},1,2.4\n56,57.5,{VIDEO},2,1.0\n")
    put(tmp_path / f"Video/Segmented/{VIDEO}_1.mp4")
    put(tmp_path / f"Audio/WAV_16000/Segmented/{VIDEO}_1.wav")
    put(tmp_path / f"Transcript/Segmented/{VIDEO}.annotprocessed", "1_DELIM_YES\nno line of it\n3_DELIM_NEVER RATED\n")
    corpus = scan(tmp_path)
    segments = by_id(corpus)
    assert segments[f"{VIDEO}_1"].flags == ("segmented",)
    assert segments[f"{VIDEO}_1"].start == 0.0
    assert segments[f"{VIDEO}_1"].audio[0] == AudioSource(path=f"Audio/WAV_16000/Segmented/{VIDEO}_1.wav")
    assert segments[f"{VIDEO}_2"].exclusion == ("failed", f"Video/Full/{VIDEO}.mp4 not found")
    assert segments[f"{VIDEO}_3"].exclusion == ("excluded", "unlabelled")
    assert [note for note in corpus.notes if note.startswith("1 segments are read from separate files")]
    assert [note for note in corpus.notes if "annotprocessed:2 is not <number>_DELIM_<text>" in note]


def test_a_copy_of_the_segments_sound_alone_is_read(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"51.9,55.95,{VIDEO},1,2.4\n")
    put(tmp_path / f"WAV_16000/Segmented/{VIDEO}_1.wav")
    [segment] = scan(tmp_path).utterances()
    assert segment.exclusion is None
    assert segment.audio == (AudioSource(path=f"WAV_16000/Segmented/{VIDEO}_1.wav"),)
    assert set(segment.flags) == {"segmented", "no_transcript"}


def test_without_the_table_times_and_labels_of_the_sdk_are_used(tmp_path: Path) -> None:
    """Row 0 of a video is its segment 1."""
    h5py = pytest.importorskip("h5py")
    put(tmp_path / f"Raw/Video/Full/{VIDEO}.mp4")
    with h5py.File(tmp_path / "CMU_MOSI_Opinion_Labels.csd", "w") as file:
        file[f"Opinion Segment Labels/data/{VIDEO}/features"] = [[2.4], [-0.6]]
        file[f"Opinion Segment Labels/data/{VIDEO}/intervals"] = [[2.4, 7.5], [8.0, 9.25]]
    corpus = scan(tmp_path)
    segments = by_id(corpus)
    assert sorted(segments) == [f"{VIDEO}_1", f"{VIDEO}_2"]
    assert (segments[f"{VIDEO}_2"].start, segments[f"{VIDEO}_2"].end) == (8.0, 9.25)
    assert segments[f"{VIDEO}_2"].labels["sentiment"] == -0.6
    assert [note for note in corpus.notes if "OpinionLevelSentiment.csv is missing" in note]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (LABELS, b"\n", "OpinionLevelSentiment.csv is empty or cannot be read"),
        ("CMU_MOSI_Opinion_Labels.csd", b"<html>", "CMU_MOSI_Opinion_Labels.csd is not a readable HDF5 file"),
    ],
)
def test_labels_that_cannot_be_read_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    pytest.importorskip("h5py")
    put(tmp_path / name, content)
    with pytest.raises(InputError, match=message):
        scan(tmp_path)


def test_a_line_without_a_label_is_quoted(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"51.9,55.95,{VIDEO},1,2.4\n<html>\n")
    with pytest.raises(InputError, match="'<html>' is not start,end,video,segment,sentiment"):
        scan(tmp_path)


def test_a_table_that_pandas_saved_again_is_read(tmp_path: Path) -> None:
    """It has headers, and 1.0 for segment 1. Names may be in capitals, as on a memory stick."""
    table = f"start,end,video_id,segment_no,label\n51.9,55.95,{VIDEO},1.0,2.4\n56,57.5,{VIDEO},2.0,\n"
    put(tmp_path / LABELS.upper(), table)
    put(tmp_path / f"{VIDEO}.MP4")
    put(tmp_path / f"{VIDEO}.ANNOTPROCESSED", "1_DELIM_NO\x85 YES\n2_DELIM_MAYBE\n")
    segments = by_id(scan(tmp_path))
    assert {id_: (one.text, one.labels["sentiment"], one.exclusion) for id_, one in segments.items()} == {
        f"{VIDEO}_1": ("NO\x85 YES", 2.4, None),
        f"{VIDEO}_2": ("MAYBE", None, None),
    }


def test_of_two_labels_of_a_segment_the_first_counts_and_the_second_is_noted(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"51.9,55.95,{VIDEO},1,2.4\n51.9,55.95,{VIDEO},1,-1.0\n")
    put(tmp_path / "other" / LABELS, f"1,2,{VIDEO},1,0\n")
    for folder in ("Video/Full", "old"):
        put(tmp_path / folder / f"{VIDEO}.mp4")
    corpus = scan(tmp_path)
    assert [one.labels["sentiment"] for one in corpus.utterances()] == [2.4]
    note = f"{LABELS}:2: {VIDEO}_1 occurs a second time; the first counts ({LABELS}:1)"
    assert {note, f"other/{LABELS} is not read, because {LABELS} has the same name"} <= set(corpus.notes)
    assert [one for one in corpus.notes if one.startswith("1 files have the same name") and "old/" in one]


def test_an_invalid_label_is_reported_with_its_line(tmp_path: Path) -> None:
    put(tmp_path / LABELS, f"51.9,55.95,{VIDEO},2,2.4\n57,56,{VIDEO},1,5\n")
    with pytest.raises(InputError) as error:
        scan(tmp_path)
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        f"{LABELS}:2, column sentiment: '5' is outside -3.0 to 3.0",
        f"{LABELS}:2, column end: ends at 56.0 s, before it starts (57.0 s)",
    ]
