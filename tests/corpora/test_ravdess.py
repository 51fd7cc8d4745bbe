"""RAVDESS: which files of a take are read. Media are empty files, because a scan opens none."""

from collections.abc import Callable
from pathlib import Path

from open_trees import by_id, flagged, put, ravdess_takes

from mesm_data.corpora.ravdess import scan
from mesm_data.schema.recordings import AudioSource, Corpus

TAKE = "01-05-02-01-02-07"  # speech, angry, strong, first statement, second repetition, actor 7


def test_a_take_has_the_picture_of_01_and_the_sound_of_03(
    complete_copy: Callable[[str], Corpus],
) -> None:
    corpus = complete_copy("ravdess")
    assert len(corpus.utterances()) == len({*ravdess_takes()}) == 2452
    take = by_id(corpus)[TAKE]
    assert [sound.path for sound in take.audio] == [f"Actor_07/03-{TAKE}.wav", f"Actor_07/01-{TAKE}.mp4"]
    assert f"Actor_07/01-{TAKE}.mp4" in {recording.video for recording in corpus.recordings}
    assert not [recording for recording in corpus.recordings if (recording.video or "").startswith("Actor_07/02")]
    assert (take.speaker, take.text) == ("Actor_07", "Kids are talking by the door")
    assert take.labels == {
        "emotion": "angry", "vocal_channel": "speech", "intensity": "strong", "statement": "kids", "repetition": "2",
        "gender": "male", "raters": [],
    }  # fmt: skip
    assert flagged(corpus, "identical_sound") == ["01-03-01-02-01-07", "01-03-01-02-02-07"]


def test_archives_may_be_in_separate_folders_and_parts_of_a_take_may_be_missing(tmp_path: Path) -> None:
    """Audio only, video only, audio with the silent video, and the silent video only, which cannot be built."""
    put(tmp_path / f"Audio_Song_Actors_01-24/Actor_01/03-{(sound := '02-01-01-01-01-01')}.WAV")
    put(tmp_path / f"Video_Speech_Actor_02/Actor_02/01-{(video := '01-01-01-01-01-02')}.mp4")
    for name in (
        f"03-{(both := '01-01-01-02-01-03')}.wav",
        f"02-{both}.mp4",
        f"02-{(silent := '01-02-01-01-01-03')}.mp4",
    ):
        put(tmp_path / "Actor_03" / name)
    corpus = scan(tmp_path)
    takes = by_id(corpus)
    assert takes[sound].audio == (AudioSource(path=f"Audio_Song_Actors_01-24/Actor_01/03-{sound}.WAV"),)
    assert takes[video].audio == (AudioSource(path=f"Video_Speech_Actor_02/Actor_02/01-{video}.mp4"),)
    videos = {one.id: recording.video for recording in corpus.recordings for one in recording.utterances}
    assert videos[sound] is None
    assert videos[both] == f"Actor_03/02-{both}.mp4"
    assert takes[both].audio[0].path == f"Actor_03/03-{both}.wav"
    assert takes[silent].exclusion == ("failed", "no sound: only the version without audio (02) of this take is there")
    assert takes[both].exclusion is None


def test_duplicate_files_of_kaggles_copies_are_read_once(tmp_path: Path) -> None:
    for take in (takes := [take for take in ravdess_takes() if take.startswith("01")]):
        for folder in ("", "audio_speech_actors_01-24"):
            put(tmp_path / folder / f"Actor_{take[-2:]}" / f"03-{take}.wav")
    put(tmp_path / "Actor_01/._03-01-01-01-01-01-01.wav")
    for unknown in ("01-01-01-01-01-01-01.wav", "03-01-09-01-01-01-01.wav", "03-01-01-01-01-01-25.wav"):
        put(tmp_path / "Actor_01" / unknown)
    corpus = scan(tmp_path)
    assert len(corpus.utterances()) == len(takes) == 1440
    assert {sound.path.split("/")[0][:5] for one in corpus.utterances() for sound in one.audio} == {"Actor"}
    assert [
        note
        for note in corpus.notes
        if note.startswith(
            "1440 files have the same name as another one; only one of them is read, the first is audio_"
        )
    ]
    assert [note for note in corpus.notes if note.startswith("3 files are not of a kind of the release")]
    assert corpus.notes[:2] == (
        "utterances: 1440 here, 2452 in the release as it is known",
        "videos: 0 here, 2452 in the release as it is known",
    )
