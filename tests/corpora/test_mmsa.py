"""Guarantees: CMU-MOSEI in MMSA's layout is read completely, with the emotions of the SDK's label file, if any."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosei_trees import VIDEO, by_id, label_csd, notes_about, put, write_csd

from mesm_data.corpora.mosei.mmsa_table import parse_table
from mesm_data.corpora.mosei.ratings import EMOTIONS
from mesm_data.corpora.open_corpus import scan_corpus
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.dataset.summary import inspect
from mesm_data.errors import InputError
from mesm_data.media.toolchain import ffmpeg_binary
from mesm_data.pipeline.build import build_dataset
from mesm_data.schema.recordings import AudioSource, ClipSource, Utterance, Word

HEADER = "video_id,clip_id,text,label,annotation,mode,label_T,label_A,label_V"
ROWS = (
    f'{VIDEO},2,"Two, and ""more"".",1.0,Positive,train,1.0,1.0,1.0',
    f"{VIDEO},10,Ten.,-2.0,Negative,train,-2.0,-2.0,-2.0",
    "188343,0,Zero.,0.3333333,Positive,test,0.3,0.3,0.3",
)
OFFICIAL = {
    # In the order of the numbers as texts: "10" comes before "2".
    VIDEO: [(20.5, 25.0, {"sadness": 3.0, "sentiment": -2.0}), (4.84, 14.052, {"happiness": 1.0, "sentiment": 1.0})],
    "188343": [(-0.4875, 3.25, {"fear": 1.0, "sentiment": 1 / 3})],
}
NO_EMOTIONS = dict.fromkeys(EMOTIONS)


@pytest.fixture
def mosei(tmp_path: Path) -> Path:
    """MOSEI next to MOSI, which has the same layout. Media are empty files."""
    for name, rows in (("MOSEI", ROWS), ("MOSI", ("abc,1,A.,1.0,Positive,train,1,1,1",))):
        put(tmp_path / name / "label.csv", "\n".join([HEADER, *rows]) + "\n")
        for row in rows:
            video, clip = row.split(",")[:2]
            put(tmp_path / name / f"Raw/{video}/{clip}.mp4")
    return tmp_path / "MOSEI"


def test_a_clip_has_the_emotions_and_times_of_the_label_file(mosei: Path) -> None:
    label_csd(mosei / "CMU_MOSEI_Labels.csd", OFFICIAL)
    words = ([[b"two"], [b"sp"], [b"more"]], [[4.9, 5.0], [5.0, 6.0], [13.0, 13.5]])
    write_csd(mosei / "CMU_MOSEI_TimestampedWords.csd", {VIDEO: words}, ["word"], "words")
    corpus = scan_corpus("mosei", mosei)
    rows = by_id(corpus)
    assert rows[f"{VIDEO}_2"] == Utterance(
        id=f"{VIDEO}_2",
        dialog=VIDEO,
        speaker=VIDEO,
        start=4.84,
        end=14.052,
        text='Two, and "more".',
        words=(Word(word="two", start=0.06, end=0.16), Word(word="more", start=8.16, end=8.66)),
        labels={
            **{**dict.fromkeys(EMOTIONS, 0.0), "happiness": 1.0},
            "sentiment": 1.0,
            "raters": [],
        },
        audio=(AudioSource(path=f"Raw/{VIDEO}/2.mp4"),),
        region=rows[f"{VIDEO}_2"].region,
        annotation_files=("label.csv", "CMU_MOSEI_Labels.csd", "CMU_MOSEI_TimestampedWords.csd"),
        clip_source=ClipSource(path=f"Raw/{VIDEO}/2.mp4"),
        flags=("labels_from_csd",),
    )
    assert rows[f"{VIDEO}_10"].labels["sadness"] == 3.0
    assert (rows["188343_0"].start, rows["188343_0"].flags[:2]) == (0.0, ("no_alignment", "negative_start"))
    assert notes_about(corpus, "MMSA's layout, 3 clips of 2 videos in label.csv (mode: test 1, train 2)")
    assert not notes_about(corpus, "no emotions")


def test_without_the_label_file_a_clip_has_its_sentiment_and_no_emotions(mosei: Path) -> None:
    corpus = scan_corpus("mosei", mosei)
    clip = by_id(corpus)[f"{VIDEO}_10"]
    assert clip.labels == {**NO_EMOTIONS, "sentiment": -2.0, "raters": []}
    assert clip.flags == ("no_times", "no_emotions", "no_alignment")
    assert clip.exclusion is None
    assert notes_about(corpus, "3 of 3 clips have a sentiment but no emotions", "CMU_MOSEI_Labels.csd")


def test_rows_of_the_label_file_are_joined_only_where_all_sentiments_of_a_video_agree(mosei: Path) -> None:
    changed = [OFFICIAL[VIDEO][0], (*OFFICIAL[VIDEO][1][:2], {"happiness": 1.0, "sentiment": 0.0})]
    label_csd(mosei / "CMU_MOSEI_Labels.csd", {**OFFICIAL, VIDEO: changed, "elsewhere": [(0.0, 1.0, {})]})
    corpus = scan_corpus("mosei", mosei)
    rows = by_id(corpus)
    assert "no_emotions" in rows[f"{VIDEO}_2"].flags
    assert "no_emotions" not in rows["188343_0"].flags
    assert {key: row.exclusion for key, row in rows.items() if "_csd" in key} == {
        f"{VIDEO}_csd{index}": ("excluded", "no_clip") for index in range(2)
    }
    assert notes_about(corpus, "1 videos have other clips or sentiments", VIDEO)
    assert notes_about(corpus, "1 videos of CMU_MOSEI_Labels.csd are not in this copy, such as elsewhere")


def test_the_parent_folder_is_accepted_and_mosi_beside_it_is_ignored(mosei: Path) -> None:
    label_csd(mosei.parent / "CMU_MOSEI_Labels.csd", OFFICIAL)
    corpus = scan_corpus("mosei", mosei.parent)
    assert set(by_id(corpus)) == {f"{VIDEO}_2", f"{VIDEO}_10", "188343_0"}
    assert by_id(corpus)["188343_0"].annotation_files == ("MOSEI/label.csv", "CMU_MOSEI_Labels.csd")
    assert by_id(corpus)["188343_0"].clip_source == ClipSource(path="MOSEI/Raw/188343/0.mp4")
    for below in ("Raw", f"Raw/{VIDEO}"):
        with pytest.raises(InputError, match="part of a copy") as error:
            scan_corpus("mosei", mosei / below)
        assert str(mosei) in str(error.value)
    shutil.copytree(mosei, mosei.parent / "CMU_MOSEI")
    with pytest.raises(InputError, match="CMU_MOSEI, MOSEI"):
        scan_corpus("mosei", mosei.parent)


def test_folders_in_capitals_are_those_of_the_videos(mosei: Path) -> None:
    clean = by_id(scan_corpus("mosei", mosei))
    (mosei / f"Raw/{VIDEO}").rename(mosei / f"Raw/{VIDEO.upper()}")
    (mosei / "label.csv").rename(mosei / "LABEL.CSV")
    rows = by_id(scan_corpus("mosei", mosei))
    assert rows.keys() == clean.keys()
    assert rows[f"{VIDEO}_2"].audio == (AudioSource(path=f"Raw/{VIDEO.upper()}/2.mp4"),)


def test_every_clip_of_the_table_and_of_the_media_has_a_row(mosei: Path) -> None:
    put(mosei / "Raw/188343/7.mp4")
    put(mosei / "Raw/24196/0.webm")
    put(mosei / "Raw/188343/seven.mp4")
    (mosei / f"Raw/{VIDEO}/10.mp4").unlink()
    lines = [
        "188343,8,Eight.,,,train,,,",
        "188343,9.0,,9,Positive,train,,,",
        "188343,0,again,1,,train,,,",
        ",1,x,1,,,,,",
        "torn",
    ]
    with (mosei / "label.csv").open("a") as file:
        file.write("\n".join(lines))
    corpus = scan_corpus("mosei", mosei)
    exclusion = {key: row.exclusion for key, row in by_id(corpus).items()}
    unlabelled = ("excluded", "unlabelled")
    assert exclusion == {
        f"{VIDEO}_2": None,
        f"{VIDEO}_10": None,
        "188343_0": None,
        "188343_7": unlabelled,
        "188343_8": unlabelled,
        "188343_9": unlabelled,
        "24196_0": unlabelled,
    }
    assert by_id(corpus)["188343_0"].text == "Zero."
    for part in (
        "label.csv:5: is no sentiment",
        "label.csv:6: is no sentiment from -3 to 3; taken as not rated: '9'",
        "label.csv:7: 188343_0 occurs a second time",
        "label.csv:8: names no clip",
        "label.csv:9: has 1 cells, not 9",
        "seven.mp4: is not named after a clip",
        f"1 clips of label.csv have no file in Raw/, the first is {VIDEO}_10",
    ):
        assert len(notes_about(corpus, part)) == 1, part


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_columns_are_found_by_name_in_any_order_and_encoding(mosei: Path, encoding: str) -> None:
    text = f"label, text, clip_id , video_id\r\n1.0,Déjà vu,2,{VIDEO}\r\n0,,0,188343.0\r\n"
    put(mosei / "label.csv", text.encode(encoding))
    rows = {key: row for key, row in by_id(scan_corpus("mosei", mosei)).items() if row.exclusion is None}
    assert {key: (row.text, row.labels["sentiment"]) for key, row in rows.items()} == {
        f"{VIDEO}_2": ("Déjà vu", 1.0),
        "188343_0": ("", 0.0),
    }
    assert "no_transcript" in rows["188343_0"].flags


def test_a_table_without_a_needed_column_or_a_usable_row_is_refused(mosei: Path) -> None:
    put(mosei / "label.csv", "video_id,clip_id,label\na,1,1\n")
    with pytest.raises(InputError, match=r"(?s)label.csv: contains no clip.*has no column text"):
        scan_corpus("mosei", mosei)


@given(st.text('abc1,"\n\r\0;.-', max_size=60), st.booleans())
def test_the_parser_never_raises_whatever_the_table(text: str, with_header: bool) -> None:
    parse_table(f"{HEADER}\n{text}" if with_header else text)


@pytest.mark.parametrize("with_csd", [True, False])
def test_clips_are_built_from_their_own_files(mosei: Path, tmp_path: Path, with_csd: bool) -> None:
    """Test patterns of 1.5 s with a tone; without the label file a clip spans its whole file."""
    for path in (mosei / "Raw").glob("*/*.mp4"):
        pattern = ("-f", "lavfi", "-i", "testsrc2=s=128x96:r=10:d=1.5", "-f", "lavfi", "-i", "sine=r=16000:d=1.5")
        subprocess.run([ffmpeg_binary(), "-v", "error", "-y", *pattern, f"file:{path}"], check=True)
    put(mosei / "Raw/188343/0.mp4", b"torn")
    if with_csd:
        times = {VIDEO: [(7.0, 8.5), (1.0, 2.5)], "188343": [(0.0, 1.5)]}
        rows = {
            v: [(*time, row[2]) for time, row in zip(times[v], video_rows, strict=True)]
            for v, video_rows in OFFICIAL.items()
        }
        label_csd(mosei / "CMU_MOSEI_Labels.csd", rows)
    out = tmp_path / "out"
    build_dataset(scan_corpus("mosei", mosei), out, Recipe(corpus="mosei"), workers=1)
    rows_built = Dataset(out).rows
    assert {key: row["status"] for key, row in rows_built.items()} == {
        f"{VIDEO}_2": "ok",
        f"{VIDEO}_10": "ok",
        "188343_0": "failed",
    }
    for clip in (2, 10):
        row = rows_built[f"{VIDEO}_{clip}"]
        assert (row["audio"], row["video"], row["n_faces"]) == ("ok", "ok", 3)
        assert row["end"] - row["start"] == pytest.approx(1.5, abs=0.1)
    present = {name: number for name, number in inspect(out)["views"]["six"]["classes"].items() if number}
    assert present == ({"happiness": 1, "sadness": 1} if with_csd else {})
