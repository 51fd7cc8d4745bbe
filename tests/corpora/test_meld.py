"""MELD: splits in the ids, second versions of test clips, rows without clips, clips without rows, repaired texts."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from open_trees import MELD, MELD_FOLDERS, by_id, flagged, put, table

from mesm_data.corpora.meld import repair_text, scan
from mesm_data.errors import InputError
from mesm_data.schema.recordings import Corpus

ROW = (1, "Hi.", "Joey", "joy", "positive", 0, 0, 8, 21, "00:16:16,059", "0:16:21,7")


def write(root: Path, part: str, rows: Sequence[Sequence[object]], folder: str | None = None) -> None:
    put(root / f"{part}_sent_emo.csv", table(MELD, rows, "\r\n"))
    for row in rows:
        put(root / (folder or MELD_FOLDERS[part]) / f"dia{row[5]}_utt{row[6]}.mp4")


def numbered(dialog: int, number: int) -> tuple[object, ...]:
    return (*ROW[:5], dialog, number, *ROW[7:])


def test_every_row_and_every_clip_of_a_complete_copy_is_accounted_for(complete_copy: Callable[[str], Corpus]) -> None:
    corpus = complete_copy("meld")
    status = Counter(one.exclusion for one in corpus.utterances())
    assert status == {
        None: 13_707,
        ("excluded", "no_row"): 9,
        ("failed", "dev_splits_complete/dia110_utt7.mp4 not found"): 1,
    }
    assert Counter(one.split for one in corpus.utterances()) == {"train": 9989, "valid": 1113, "test": 2615}
    assert flagged(corpus, "final_video") == ["test_dia101_utt0", "test_dia1_utt0"]
    assert by_id(corpus)["test_dia0_utt0"].text == 'You must’ve said "0", Monica.'


def test_ids_restart_in_every_split_and_contain_its_name(tmp_path: Path) -> None:
    folders = ("MELD.Raw/train/train_splits", "MELD.Raw/dev", "MELD.Raw/test/output_repeated_splits_test")
    for part, folder in zip(MELD_FOLDERS, folders, strict=True):
        write(tmp_path, part, [ROW], folder)
    clips = by_id(scan(tmp_path))
    assert {id_: one.split for id_, one in clips.items()} == {
        "train_dia0_utt0": "train",
        "dev_dia0_utt0": "valid",
        "test_dia0_utt0": "test",
    }
    assert {one.dialog for one in clips.values()} == {"train_dia0", "dev_dia0", "test_dia0"}
    first = clips["train_dia0_utt0"]
    assert (first.speaker, first.session, first.start) == ("Joey", "s08e21", 0.0)
    assert (first.labels["episode_start"], first.labels["episode_end"]) == (976.059, 981.7)


@pytest.mark.parametrize("prefer_final", [True, False])
def test_the_final_version_of_a_test_clip_is_used_by_default(tmp_path: Path, prefer_final: bool) -> None:
    """1/0 has a wrong length, which its second version has not; of 101/0 there is only the second version."""
    write(tmp_path, "test", [numbered(1, 0), numbered(1, 6)])
    folder = tmp_path / MELD_FOLDERS["test"]
    put(tmp_path / "test_sent_emo.csv", table(MELD, [numbered(1, 0), numbered(1, 6), numbered(101, 0)], "\r\n"))
    for name in ("dia1_utt0", "dia101_utt0"):
        put(folder / f"final_videos_test{name}.mp4")
    corpus = scan(tmp_path, prefer_final=prefer_final)
    clips = by_id(corpus)
    plain = f"{MELD_FOLDERS['test']}/dia1_utt0.mp4"
    twin = f"{MELD_FOLDERS['test']}/final_videos_testdia1_utt0.mp4"
    assert clips["test_dia1_utt0"].audio[0].path == (twin if prefer_final else plain)
    assert clips["test_dia1_utt0"].flags == (("final_video",) if prefer_final else ("length_mismatch",))
    assert clips["test_dia1_utt6"].flags == ("length_mismatch",)
    assert clips["test_dia101_utt0"].flags == ("final_video",)


@pytest.mark.parametrize("suffix", ["mkv", "webm", "avi"])
def test_clips_that_users_encoded_again_are_read_as_in_other_corpora(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, "dev", [ROW])
    clip = next(tmp_path.glob("*/*.mp4")).rename(tmp_path / MELD_FOLDERS["dev"] / f"dia0_utt0.{suffix}")
    put(clip.with_suffix(".wav"))
    [recording] = scan(tmp_path).recordings
    assert recording.video == f"{MELD_FOLDERS['dev']}/dia0_utt0.{suffix}"


def test_sound_that_users_extracted_does_not_replace_the_clip(tmp_path: Path) -> None:
    write(tmp_path, "dev", [ROW, numbered(0, 1)])
    put(tmp_path / MELD_FOLDERS["dev"] / "dia0_utt0.wav")
    (tmp_path / MELD_FOLDERS["dev"] / "dia0_utt1.mp4").rename(tmp_path / MELD_FOLDERS["dev"] / "dia0_utt1.wav")
    clips = by_id(scan(tmp_path))
    assert [sound.path for sound in clips["dev_dia0_utt0"].audio] == [f"{MELD_FOLDERS['dev']}/dia0_utt0.mp4"]
    assert [sound.path for sound in clips["dev_dia0_utt1"].audio] == [f"{MELD_FOLDERS['dev']}/dia0_utt1.wav"]


def test_a_split_without_clips_or_without_its_table_is_skipped_with_a_note(tmp_path: Path) -> None:
    write(tmp_path, "test", [ROW])
    put(tmp_path / "train_sent_emo.csv", table(MELD, [ROW], "\r\n"))
    put(tmp_path / "dev_splits_complete/dia0_utt0.mp4")
    put(tmp_path / "elsewhere/dia7_utt7.mp4")
    corpus = scan(tmp_path)
    assert [*by_id(corpus)] == ["test_dia0_utt0"]
    assert "the split train is skipped: there is no clip" in corpus.notes
    assert "the split dev is skipped: there is no dev_sent_emo.csv" in corpus.notes
    assert [note for note in corpus.notes if note.startswith("1 clips are not in a folder of a split")]


def test_names_in_capitals_and_numbers_as_pandas_writes_them_are_read(tmp_path: Path) -> None:
    """1.0 is the number of a column that has an empty cell."""
    write(tmp_path, "test", [numbered(1, 0)])
    for path in [*tmp_path.glob("*/*.mp4"), *tmp_path.glob("*.csv")]:
        path.rename(path.with_name(path.name.upper()))
    put(tmp_path / "dev_sent_emo.csv", table(MELD, [(*ROW[:5], "2.0", "3.0", "8.0", "21.0", *ROW[9:])], "\n"))
    put(tmp_path / "dev/dia2_utt3.mp4")
    clips = by_id(scan(tmp_path))
    assert clips.keys() == {"test_dia1_utt0", "dev_dia2_utt3"}
    assert {(one.session, one.exclusion) for one in clips.values()} == {("s08e21", None)}


def test_of_two_tables_of_a_split_the_second_is_noted(tmp_path: Path) -> None:
    write(tmp_path, "test", [ROW, numbered(0, 1)])
    put(tmp_path / "older/test_sent_emo.csv", table(MELD, [ROW], "\n"))
    corpus = scan(tmp_path)
    assert all(one.exclusion is None for one in corpus.utterances())
    note = "older/test_sent_emo.csv is not read, because test_sent_emo.csv has the same name"
    assert [one for one in corpus.notes if one == note] == [note]


def test_invalid_cells_are_reported_together_with_their_table_and_row(tmp_path: Path) -> None:
    write(tmp_path, "train", [ROW, numbered(0, 1)])
    write(tmp_path, "test", [(*ROW[:3], "Joy", *ROW[4:]), (*numbered(0, 1)[:9], "soon", ROW[10]), ROW])
    with pytest.raises(InputError) as error:
        scan(tmp_path)
    emotions = "neutral, surprise, fear, sadness, joy, disgust, anger"
    where = "test_sent_emo.csv: row"
    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        f"{where} 1, column emotion: 'Joy' is none of {emotions}",
        f"{where} 2, column episode_start: 'soon' is not a number",
        f"{where} 3, column id: 'test_dia0_utt0' occurs also in {where} 1; an id may occur once",
    ]


# The archive's tables -> those of the repository since November 2020.
@pytest.mark.parametrize(
    ("stored", "meant"),
    [
        ("You must\x92ve had your hands full.", "You must’ve had your hands full."),
        ("\x93No\x94 \x96 oh\x85", "“No” – oh…"),
        ("Oh!\xa0 Wow!\xa0", "Oh!  Wow!"),
        ("café \x81", "café \x81"),
        ("You must’ve", "You must’ve"),
    ],
)
def test_c1_controls_in_texts_are_decoded_as_windows_1252(tmp_path: Path, stored: str, meant: str) -> None:
    assert repair_text(stored) == meant
    write(tmp_path, "dev", [(1, stored, *ROW[2:])])
    assert by_id(scan(tmp_path))["dev_dia0_utt0"].text == meant.strip()


def test_archives_that_were_not_unpacked_are_named(tmp_path: Path) -> None:
    put(tmp_path / "train.tar.gz")
    put(tmp_path / "dev_sent_emo.csv")
    with pytest.raises(InputError, match=r"unpack its train\.tar\.gz"):
        scan(tmp_path)
