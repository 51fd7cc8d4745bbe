"""CREMA-D: names, votes and clips with known errors. Media are empty files, because a scan opens none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from open_trees import VOTES, by_id, crema_d_clips, flagged, put, table

from mesm_data.corpora.crema_d import scan
from mesm_data.errors import InputError
from mesm_data.schema.recordings import AudioSource, Corpus

CLIP = "1001_IEO_NEU_XX"


def votes(*rows: tuple[str, str, tuple[int, ...], str]) -> str:
    """tabulatedVotes.csv: row id, clip, votes for A D F H N S, the winners' letters."""
    cells = ([id_, *counts, clip, sum(counts), 0.5, best, *[-1] * 16] for id_, clip, counts, best in rows)
    return table(VOTES, cells, "\n", quoting=2)


def test_a_complete_copy_has_each_clip_once_with_its_wav_and_its_video(complete_copy: Callable[[str], Corpus]) -> None:
    corpus = complete_copy("crema-d")
    clips = by_id(corpus)
    assert sorted(clips) == sorted(crema_d_clips())
    assert clips[CLIP].audio[0] == AudioSource(path=f"AudioWAV/{CLIP}.wav")
    assert clips[CLIP].text == "It's eleven o'clock"
    assert clips[CLIP].labels["sex"] == "male"
    silent = [recording.id for recording in corpus.recordings if recording.video is None]
    assert len(silent) == len(flagged(corpus, "wrong_picture")) == 2
    assert [sound.path for sound in clips["1064_IEO_DIS_MD"].audio] == ["AudioWAV/1064_IEO_DIS_MD.wav"]
    assert flagged(corpus, "silent") == ["1076_MTI_SAD_XX"]
    assert len(flagged(corpus, "identical_sound")) == 6


def test_perceived_emotions_with_ties_and_shares_are_separate_from_acted_ones(tmp_path: Path) -> None:
    put(tmp_path / f"AudioWAV/{CLIP}.wav")
    rows = (
        ("100001", CLIP, (0, 0, 0, 0, 5, 5), "N:S"),
        ("200001", CLIP, (1, 0, 0, 0, 9, 0), "N"),
        ("300001", CLIP, (3, 1, 0, 0, 0, 0), "A"),
    )
    put(tmp_path / "processedResults/tabulatedVotes.csv", votes(*rows))
    corpus = scan(tmp_path)
    labels = by_id(corpus)[CLIP].labels
    assert labels["emotion"] == "neutral"
    assert (labels["voice"], labels["face"], labels["av"]) == (["neutral", "sad"], ["neutral"], ["anger"])
    assert (labels["voice_votes"], labels["face_votes"], labels["av_votes"]) == (10, 10, 4)
    assert (labels["face_anger"], labels["face_neutral"], labels["face_sad"]) == (0.1, 0.9, 0.0)
    shares = corpus.schema.view("av_share")
    assert shares.soft
    target = shares.target(labels)
    assert target is not None
    assert np.array_equal(target, np.array([0.75, 0.25, 0, 0, 0, 0], np.float32))
    assert corpus.schema.view("voice").target(labels).tolist() == [0, 0, 0, 0, 1, 1]  # type: ignore[union-attr]
    assert shares.target({**labels, "av_sad": None}) is None


def test_votes_that_pandas_saved_again_keep_their_kinds(tmp_path: Path) -> None:
    """It adds a column of running numbers in front, the first digits of which are no kinds of rating."""
    put(tmp_path / f"AudioWAV/{CLIP}.wav")
    rows = (("300001", CLIP, (3, 1, 0, 0, 0, 0), "A"), ("", CLIP, (0, 0, 0, 9, 0, 0), "H"))
    header, *lines = votes(*rows).replace('""', '"Unnamed: 0"', 1).splitlines()
    put(tmp_path / "tabulatedVotes.csv", "\n".join([f",{header}", *(f"{n},{line}" for n, line in enumerate(lines, 1))]))
    corpus = scan(tmp_path)
    labels = by_id(corpus)[CLIP].labels
    assert (labels["voice"], labels["face"], labels["av"]) == (None, None, ["anger"])
    assert [note for note in corpus.notes if note.startswith("1 rows of tabulatedVotes.csv have no row id")]


def test_names_in_small_letters_are_read_and_second_files_of_a_name_noted(tmp_path: Path) -> None:
    put(tmp_path / f"audiowav/{CLIP.lower()}.wav")
    put(tmp_path / f"copy/{CLIP}.wav")
    header = '"ActorID","Age","Sex","Race","Ethnicity"\n'
    put(tmp_path / "copy/VideoDemographics.csv", f'{header}1001,51,"Male","",""\n')
    put(tmp_path / "videodemographics.csv", f'{header}"1001.0",52,"Female","",""\n')
    corpus = scan(tmp_path)
    [clip] = corpus.utterances()
    assert (clip.id, clip.labels["age"], clip.labels["sex"]) == (CLIP, 52, "female")
    assert clip.audio[0].path == f"audiowav/{CLIP.lower()}.wav"
    assert "copy/VideoDemographics.csv is not read, because videodemographics.csv has the same name" in corpus.notes
    assert [note for note in corpus.notes if note.startswith("1 files have the same name as another one")]


def test_sound_alone_without_tables_is_read_and_names_of_older_copies_too(tmp_path: Path) -> None:
    for name in ("1001_DFA_ANG_XX.wav", "1040_ITH_SAD_X.wav", "1002_DFA_ANG_XX.mp3", "2001_DFA_ANG_XX.wav"):
        put(tmp_path / "crema-d" / name)
    put(tmp_path / "videos/1001_DFA_ANG_XX.mp4")
    corpus = scan(tmp_path)
    clips = by_id(corpus)
    assert sorted(clips) == ["1001_DFA_ANG_XX", "1002_DFA_ANG_XX", "1040_ITH_SAD_XX"]
    assert [sound.path for sound in clips["1002_DFA_ANG_XX"].audio] == ["crema-d/1002_DFA_ANG_XX.mp3"]
    assert clips["1040_ITH_SAD_XX"].labels["av"] is None
    assert clips["1040_ITH_SAD_XX"].labels["age"] is None
    assert sum("is missing: its labels are null" in note for note in corpus.notes) == 3


def test_a_listed_clip_that_is_missing_fails(tmp_path: Path) -> None:
    put(tmp_path / f"AudioWAV/{CLIP}.wav")
    put(tmp_path / "SentenceFilenames.csv", f'"Stimulus_Number","Filename"\n1,"{CLIP}"\n2,"1001_IEO_HAP_LO"')
    clips = by_id(scan(tmp_path))
    assert clips[CLIP].exclusion is None
    assert clips["1001_IEO_HAP_LO"].exclusion == ("failed", "AudioWAV/1001_IEO_HAP_LO.wav not found")


def test_a_table_with_other_columns_is_named(tmp_path: Path) -> None:
    put(tmp_path / f"AudioWAV/{CLIP}.wav")
    put(tmp_path / "VideoDemographics.csv", "ActorID,Age\n1001,51\n")
    with pytest.raises(InputError, match=r"VideoDemographics.csv has no column 'Sex'; there are ActorID, Age"):
        scan(tmp_path)
