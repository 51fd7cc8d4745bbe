"""The scan of IEMOCAP on small trees, as users have them. Media are empty files, because a scan opens none."""

import json
from pathlib import Path

import pytest
from mesm_manifests import load

from mesm_data.corpora.iemocap.scan import scan
from mesm_data.errors import InputError
from mesm_data.schema.recordings import AudioSource, Corpus, Utterance, VideoRegion, Word

APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        \x00\x02"
WDSEG = (
    "\t SFrm  EFrm    SegAScr Word\n\t    0    34    -250144 <s>\n\t   35    61     -91830 GOOD(2)\n"
    "\t   62    80     -91830 ++LAUGHTER++\n\t   81    99     -91830 </s>\n Total score:   -1234567\n"
)


def put(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def block(utterance: str, start: float, end: float, label: str = "neu") -> str:
    """One turn with a category and a dimensional rater."""
    return (
        f"[{start:.4f} - {end:.4f}]\t{utterance}\t{label}\t[2.5000, 2.0000, 2.5000]\n"
        f"C-E2:\tNeutral;\t()\nC-{utterance[-4]}{utterance[4]}:\tNeutral; Anger;\t(a; (b))\n"
        "A-E3:\tval 3; act 2; dom  ;\t()\n\n"
    )


def add_dialog(root: Path, dialog: str, turns: dict[str, tuple[float, float]], *, media: bool = True) -> None:
    """Write `turns` (end of the id, such as F000 -> start, end) with all files, in this order."""
    session = root / f"Session{dialog[4]}"
    evaluation = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
    transcription = ""
    for turn, (start, end) in turns.items():
        utterance = f"{dialog}_{turn}"
        evaluation += block(utterance, start, end)
        transcription += f"{utterance} [{start:08.4f}-{end:08.4f}]: Words of {turn}.\r\n"
        if media:
            put(session / f"sentences/wav/{dialog}/{utterance}.wav")
        put(session / f"sentences/ForcedAlignment/{dialog}/{utterance}.wdseg", WDSEG)
    put(session / f"dialog/EmoEvaluation/{dialog}.txt", evaluation)
    put(session / f"dialog/transcriptions/{dialog}.txt", transcription)
    if media:
        put(session / f"dialog/wav/{dialog}.wav")
        put(session / f"dialog/avi/DivX/{dialog}.avi")


def by_id(corpus: Corpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in corpus.utterances()}


def notes_about(corpus: Corpus, *parts: str) -> list[str]:
    return [note for note in corpus.notes if all(part in note for part in parts)]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Session1 with one regular dialog, F turns before M turns as in the real files."""
    root = tmp_path / "IEMOCAP_full_release"
    turns = {"F000": (5.0, 7.0), "F001": (20.0, 22.5), "M000": (1.0, 4.0), "M001": (6.5, 9.25)}
    add_dialog(root, "Ses01F_impro01", turns)
    return root


def test_a_row_contains_all_information_of_the_files(release: Path) -> None:
    (recording,) = scan(release).recordings
    assert recording.id == "Ses01F_impro01"
    assert recording.video == "Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    assert [u.id[-4:] for u in recording.utterances] == ["M000", "F000", "M001", "F001"]
    assert recording.utterances[2] == Utterance(
        id="Ses01F_impro01_M001",
        dialog="Ses01F_impro01",
        speaker="Ses01M",
        session="1",
        start=6.5,
        end=9.25,
        text="Words of M001.",
        words=(Word(word="GOOD", start=0.35, end=0.62), Word(word="++LAUGHTER++", start=0.62, end=0.81)),
        labels={
            "emotion": "neu",
            "valence": 2.5,
            "activation": 2.0,
            "dominance": 2.5,
            "raters": [
                {"rater": "C-E2", "self": False, "emotion": ["Neutral"]}
                | {"valence": None, "activation": None, "dominance": None, "comment": None},
                {"rater": "C-M1", "self": True, "emotion": ["Neutral", "Anger"]}
                | {"valence": None, "activation": None, "dominance": None, "comment": "a; (b)"},
                {"rater": "A-E3", "self": False, "emotion": None}
                | {"valence": 3.0, "activation": 2.0, "dominance": None, "comment": None},
            ],
        },
        audio=(
            AudioSource(path="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M001.wav"),
            AudioSource(
                path="Session1/dialog/wav/Ses01F_impro01.wav", channel=1, span=(6.5, 9.25), channel_per_speaker=True
            ),
        ),
        region=VideoRegion(left=0.5, right=1.0, square=224 / 480),
        annotation_files=(
            "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
            "Session1/dialog/transcriptions/Ses01F_impro01.txt",
            "Session1/sentences/ForcedAlignment/Ses01F_impro01/Ses01F_impro01_M001.wdseg",
        ),
        flags=(),
    )
    json.dumps(recording.utterances[2].labels, allow_nan=False)


@pytest.mark.parametrize(
    ("dialog", "letter", "speaker", "left", "channel"),
    [
        ("Ses02F_impro01", "F", "Ses02F", 0.0, 0),
        ("Ses02F_impro01", "M", "Ses02M", 0.5, 1),
        ("Ses05M_script01_1b", "F", "Ses05F", 0.5, 1),
        ("Ses03M_impro05a", "M", "Ses03M", 0.0, 0),
    ],
)
def test_the_speaker_is_the_letter_of_the_turn_and_half_and_channel_follow_the_marker_actor(
    tmp_path: Path, dialog: str, letter: str, speaker: str, left: float, channel: int
) -> None:
    add_dialog(tmp_path, dialog, {f"{letter}012": (1.0, 2.0)})
    (utterance,) = scan(tmp_path).utterances()
    assert (utterance.dialog, utterance.speaker) == (dialog, speaker)
    assert (utterance.region.left, utterance.region.right) == (left, left + 0.5)
    assert utterance.audio[1].channel == channel


def test_dialogs_with_a_common_prefix_are_distinguished(tmp_path: Path) -> None:
    for dialog in ("Ses05M_script01_1b", "Ses05M_script01_1", "Ses05M_script01_2", "Ses05F_script01_1"):
        add_dialog(tmp_path, dialog, {"F000": (1.0, 2.0)})
    corpus = scan(tmp_path)
    names = ["Ses05F_script01_1", "Ses05M_script01_1", "Ses05M_script01_1b", "Ses05M_script01_2"]
    assert [recording.id for recording in corpus.recordings] == names
    assert [len(recording.utterances) for recording in corpus.recordings] == [1, 1, 1, 1]


def test_irrelevant_files_change_nothing(release: Path) -> None:
    clean = scan(release)
    session = release / "Session1"
    for folder, name in [
        ("dialog/EmoEvaluation", "Ses01F_impro01.txt"),
        ("dialog/transcriptions", "Ses01F_impro01.txt"),
        ("dialog/avi/DivX", "Ses01F_impro01.avi"),
        ("dialog/wav", "Ses01F_impro01.wav"),
        ("sentences/wav/Ses01F_impro01", "Ses01F_impro01_F000.wav"),
        ("sentences/ForcedAlignment/Ses01F_impro01", "Ses01F_impro01_F000.wdseg"),
    ]:
        put(session / folder / f"._{name}", APPLE_DOUBLE)
        put(session / folder / f".{name}", "hidden")
        put(session / folder / ".DS_Store", b"\x00\x00\x00\x01Bud1")
        put(session / folder / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    put(release / "._Session1", APPLE_DOUBLE)
    put(release / ".Session2/dialog/EmoEvaluation/Ses02F_impro01.txt", block("Ses02F_impro01_F000", 1, 2))
    assert scan(release) == clean


def test_the_rater_folders_are_never_entered(release: Path) -> None:
    clean = scan(release)
    folder = release / "Session1/dialog/EmoEvaluation"
    put(folder / "Categorical/Ses01F_impro01_e2_cat.txt", "Ses01F_impro01_F000 :Sadness; ()\n")
    put(folder / "Categorical/Ses01F_impro01.txt", block("Ses01F_impro01_F000", 1, 2, "sad"))
    put(folder / "Self-evaluation/Ses01F_impro02.txt", block("Ses01F_impro02_F000", 1, 2, "sad"))
    (folder / "Ses01F_impro03.txt").mkdir()
    assert scan(release) == clean


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "cp1252"])
def test_line_ends_and_encodings_of_the_texts_do_not_matter(release: Path, ends: str, encoding: str) -> None:
    session = release / "Session1"
    text = "Ses01F_impro01_F000 [005.0000-007.0000]: À la carte, né?\n\nSes01F_impro01_F001 [020.0000-022.5000]: Yes.\n"
    put(session / "dialog/transcriptions/Ses01F_impro01.txt", text.replace("\n", ends).encode(encoding))
    for path in (
        session / "dialog/EmoEvaluation/Ses01F_impro01.txt",
        session / "sentences/ForcedAlignment/Ses01F_impro01/Ses01F_impro01_F000.wdseg",
    ):
        path.write_bytes(path.read_text().replace("\n", ends).encode(encoding))
    corpus = scan(release)
    first = by_id(corpus)["Ses01F_impro01_F000"]
    assert first.text == "À la carte, né?"
    assert first.labels["emotion"] == "neu"
    assert first.words is not None
    assert [word.word for word in first.words] == ["GOOD", "++LAUGHTER++"]
    assert notes_about(corpus, ".txt:") == []


def test_lines_of_the_transcription_that_are_no_utterances_are_counted(release: Path) -> None:
    path = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    extra = "Ses01F_impro01_FXX0 [002.0000-003.0000]: hm\nM: [LAUGHTER]\nF: no id\nSes01F_impro01_F001 torn\n"
    path.write_text(extra + path.read_text())
    corpus = scan(release)
    assert len(corpus.utterances()) == 4
    assert notes_about(corpus, "1 lines with an XX id")
    assert notes_about(corpus, "2 lines without an id")
    assert len(notes_about(corpus, "transcriptions/Ses01F_impro01.txt:4: ", "torn")) == 1


def test_a_transcript_without_evaluation_is_an_utterance_without_label(release: Path) -> None:
    path = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    path.write_text(path.read_text() + "Ses01F_impro01_M007 [030.0000-031.5000]: More.\n")
    utterance = by_id(scan(release))["Ses01F_impro01_M007"]
    assert (utterance.start, utterance.end, utterance.text) == (30.0, 31.5, "More.")
    assert utterance.labels == {
        "emotion": None, "valence": None, "activation": None, "dominance": None, "raters": [],
    }  # fmt: skip
    assert utterance.flags == ("no_evaluation", "no_alignment")
    assert utterance.annotation_files == ("Session1/dialog/transcriptions/Ses01F_impro01.txt",)
    assert [source.path for source in utterance.audio] == ["Session1/dialog/wav/Ses01F_impro01.wav"]


def test_a_turn_without_transcript_has_an_empty_text(release: Path) -> None:
    path = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "F001" not in line))
    utterance = by_id(scan(release))["Ses01F_impro01_F001"]
    assert (utterance.text, utterance.flags) == ("", ("no_transcript",))


def test_the_evaluation_gives_the_times_and_a_difference_of_more_than_1_ms_is_noted(release: Path) -> None:
    path = release / "Session1/dialog/transcriptions/Ses01F_impro01.txt"
    text = path.read_text().replace("005.0000-007.0000", "005.0000-007.0011").replace("020.0000", "020.0010")
    path.write_text(text)
    corpus = scan(release)
    assert by_id(corpus)["Ses01F_impro01_F000"].end == 7.0
    assert len(notes_about(corpus, "Ses01F_impro01_F000", "7.0011")) == 1
    assert notes_about(corpus, "Ses01F_impro01_F001") == []


def test_the_first_of_two_records_of_an_id_counts(release: Path) -> None:
    path = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.write_text(path.read_text() + block("Ses01F_impro01_F000", 100, 101, "ang"))
    corpus = scan(release)
    assert len(corpus.utterances()) == 4
    assert by_id(corpus)["Ses01F_impro01_F000"].labels["emotion"] == "neu"
    assert len(notes_about(corpus, "Ses01F_impro01_F000 occurs a second time", "Ses01F_impro01.txt:3")) == 1


def test_unusable_lines_of_an_evaluation_are_noted(release: Path) -> None:
    path = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    odd = [
        "what is this",
        "[1.0 - 2.0]\tSes07F_impro01_F000\tneu\t[1, 1, 1]",
        "[1.0 - 2.0]\t../../etc_F000\tneu\t[1, 1, 1]",
    ]
    odd.append("[9.0 - 9.0]\tSes01F_impro01_F050\tneu\t[1, 1, 1]")
    odd.append("[9.0 - 9.5]\tSes01F_impro02_F050\tneu\t[1, 1, 1]")
    path.write_text("\n".join([*odd, path.read_text()]))
    corpus = scan(release)
    assert len(corpus.utterances()) == 6
    for line, part in enumerate(["what is this", "Ses07F_", "../../etc", "ends at 9.0", "another dialog"], start=1):
        assert len(notes_about(corpus, f"EmoEvaluation/Ses01F_impro01.txt:{line}: ", part)) == 1
    put(path.with_name("Ses01F_impro01 (copy).txt"), block("Ses01F_impro01_F060", 1, 2))
    assert len(notes_about(scan(release), "(copy).txt", "not named after a dialog")) == 1


@pytest.mark.parametrize(("folder", "flag"), [("EmoEvaluation", "no_evaluation"), ("transcriptions", "no_transcript")])
def test_a_binary_text_file_is_noted_and_flags_its_utterances(release: Path, folder: str, flag: str) -> None:
    put(release / f"Session1/dialog/{folder}/Ses01F_impro01.txt", APPLE_DOUBLE)
    corpus = scan(release)
    assert len(corpus.utterances()) == 4
    assert {utterance.flags for utterance in corpus.utterances()} == {(flag,)}
    assert len(notes_about(corpus, f"Session1/dialog/{folder}/Ses01F_impro01.txt: ", "not text")) == 1


def test_utterances_without_an_evaluation_are_counted_in_a_note(release: Path) -> None:
    """An evaluation that lacks one turn, then one that a broken copy left empty."""
    path = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    put(path, path.read_text().partition("[6.5000")[0])
    about = "of 4 utterances have no evaluation: their label is null (flag no_evaluation); the first is Ses01F_impro01_"
    assert len(notes_about(scan(release), f"1 {about}M001")) == 1
    put(path)
    assert len(notes_about(scan(release), f"4 {about}M000")) == 1


def test_a_negative_start_becomes_0_and_is_flagged(release: Path) -> None:
    """An utterance from -5 to -2 s was built with the dialog's first picture, 5 s after its own start."""
    path = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    put(path, block("Ses01F_impro01_F000", -5, -2) + block("Ses01F_impro01_F001", -0.25, 22.5))
    utterances = by_id(scan(release))
    assert [(u.start, u.end, u.flags) for u in (utterances[f"Ses01F_impro01_F00{n}"] for n in (0, 1))] == [
        (0.0, -2.0, ("negative_start",)),
        (0.0, 22.5, ("negative_start",)),
    ]
    assert utterances["Ses01F_impro01_F001"].audio[1].span == (0.0, 22.5)


def test_a_label_has_the_releases_spelling_or_is_null_with_a_note(release: Path) -> None:
    """Any other value would be in no class, and `verify --full` would refuse the finished dataset."""
    path = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    put(path, block("Ses01F_impro01_F000", 5, 7, "ANG") + block("Ses01F_impro01_F001", 20, 22.5, "neutral"))
    corpus = scan(release)
    labels = {id_: utterance.labels["emotion"] for id_, utterance in by_id(corpus).items()}
    assert (labels["Ses01F_impro01_F000"], labels["Ses01F_impro01_F001"]) == ("ang", None)
    assert len(notes_about(corpus, "Ses01F_impro01.txt:6: ", "F001: label 'neutral' is none of ang, dis, exc, ")) == 1


@pytest.mark.skipif(
    not Path("/proc/self/mem").exists(), reason="needs a file that even root cannot read from its start"
)
def test_an_unreadable_file_is_noted_and_flags_its_utterances(release: Path) -> None:
    path = release / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.unlink()
    path.symlink_to("/proc/self/mem")
    (path.parent / "Ses01F_impro02.txt").symlink_to("Ses01F_impro02.txt")  # a link to itself
    corpus = scan(release)
    assert {utterance.flags for utterance in corpus.utterances()} == {("no_evaluation",)}
    assert len(notes_about(corpus, "EmoEvaluation/Ses01F_impro01.txt: cannot be read")) == 1
    assert len(notes_about(corpus, "EmoEvaluation/Ses01F_impro02.txt: cannot be read")) == 1


def test_a_missing_empty_or_broken_alignment_is_flagged(release: Path) -> None:
    folder = release / "Session1/sentences/ForcedAlignment/Ses01F_impro01"
    (folder / "Ses01F_impro01_F000.wdseg").unlink()
    put(folder / "Ses01F_impro01_F001.wdseg")
    put(folder / "Ses01F_impro01_M000.wdseg", "torn\n")
    put(folder / "Ses01F_impro01_M001.wdseg", "\t    0    34    -250144 <sil>\n")
    corpus = scan(release)
    utterances = by_id(corpus)
    for name in ("F000", "F001", "M000"):
        utterance = utterances[f"Ses01F_impro01_{name}"]
        assert (utterance.words, utterance.flags, len(utterance.annotation_files)) == (None, ("no_alignment",), 2)
    assert utterances["Ses01F_impro01_M001"].words == ()
    assert utterances["Ses01F_impro01_M001"].flags == ()
    assert len(notes_about(corpus, "Ses01F_impro01_F001.wdseg: contains no segments")) == 1
    assert len(notes_about(corpus, "Ses01F_impro01_M000.wdseg:1: ", "torn")) == 1


def test_only_media_that_exist_are_named(release: Path) -> None:
    session = release / "Session1"
    (session / "sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav").unlink()
    assert [s.path for s in by_id(scan(release))["Ses01F_impro01_F000"].audio] == [
        "Session1/dialog/wav/Ses01F_impro01.wav"
    ]
    (session / "dialog/wav/Ses01F_impro01.wav").unlink()
    (session / "dialog/avi/DivX/Ses01F_impro01.avi").unlink()
    (recording,) = scan(release).recordings
    assert recording.video is None
    assert [len(utterance.audio) for utterance in recording.utterances] == [1, 0, 1, 1]


def test_missing_media_are_counted(release: Path) -> None:
    add_dialog(release, "Ses01F_impro02", {"F000": (1.0, 2.0)})
    assert not notes_about(scan(release), "the first is")
    session = release / "Session1"
    wavs = session / "sentences/wav/Ses01F_impro01"
    for wav in wavs.iterdir():  # a copy that has all wavs in one folder
        wav.rename(wavs.parent / wav.name)
    (session / "dialog/avi/DivX/Ses01F_impro02.avi").unlink()
    (session / "sentences/wav/Ses01F_impro02/Ses01F_impro02_F000.wav").unlink()
    (session / "dialog/wav/Ses01F_impro02.wav").unlink()
    assert notes_about(scan(release), "the first is") == [
        "1 of 2 dialogs have no video; the first is Ses01F_impro02",
        "4 of 5 utterances have no sentence wav: their channel of the dialog wav is used; "
        "the first is Ses01F_impro01_M000",
        "1 of 5 utterances have no sound file; the first is Ses01F_impro02_F000",
    ]


def test_an_avi_is_preferred_to_its_copies_and_the_case_of_suffixes_does_not_matter(release: Path) -> None:
    folder = release / "Session1/dialog/avi/DivX"
    avi = folder / "Ses01F_impro01.avi"
    put(folder / "Ses01F_impro01.mkv")
    put(folder / "Ses01F_impro01.MP4")
    assert scan(release).recordings[0].video == "Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    avi.rename(folder / "Ses01F_impro01.AVI")
    assert scan(release).recordings[0].video == "Session1/dialog/avi/DivX/Ses01F_impro01.AVI"
    (folder / "Ses01F_impro01.AVI").unlink()
    assert scan(release).recordings[0].video == "Session1/dialog/avi/DivX/Ses01F_impro01.MP4"
    (folder / "Ses01F_impro01.MP4").unlink()
    assert scan(release).recordings[0].video == "Session1/dialog/avi/DivX/Ses01F_impro01.mkv"


def test_missing_sessions_and_folders_are_noted(release: Path) -> None:
    add_dialog(release, "Ses03M_impro08b", {"M000": (1.0, 2.0)}, media=False)
    corpus = scan(release)
    assert notes_about(corpus, "2 of 5 sessions", "Session2, Session4, Session5")
    assert notes_about(corpus, "Session3/dialog/avi/DivX/: is not there")
    assert notes_about(corpus, "Session1/", "is not there") == []


def test_the_folder_above_one_release_is_accepted_under_any_name(release: Path) -> None:
    expected = scan(release)
    (release.parent / "other").mkdir()
    assert scan(release.parent) == expected
    renamed = release.rename(release.parent / "my copy")
    assert [u.id for u in scan(renamed).utterances()] == [u.id for u in expected.utterances()]


def test_a_release_in_a_folder_of_its_own_name_is_found(release: Path) -> None:
    expected = scan(release)
    outer = release.rename(release.with_name("moved"))
    (release / "Documentation").mkdir(parents=True)
    outer.rename(release / release.name)
    corpus = scan(release.parent)
    assert corpus.root == release / release.name
    assert corpus.utterances() == expected.utterances()


def test_two_releases_in_a_folder_are_refused(release: Path) -> None:
    add_dialog(release.parent / "second", "Ses01F_impro01", {"F000": (1.0, 2.0)})
    with pytest.raises(InputError, match="IEMOCAP_full_release, second"):
        scan(release.parent)


@pytest.mark.parametrize("below", ["Session1", "Session1/dialog", "Session1/sentences/wav/Ses01F_impro01"])
def test_a_folder_inside_a_release_is_refused_and_the_release_named(release: Path, below: str) -> None:
    with pytest.raises(InputError, match="part of a release") as error:
        scan(release / below)
    assert f"give {release.resolve()} instead" in str(error.value)


def test_a_folder_that_is_not_iemocap_is_refused_with_the_expected_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No such file.*Session1 .. Session5"):
        scan(tmp_path / "missing")
    with pytest.raises(InputError, match=r"is a file.*Session1 .. Session5"):
        scan(put(tmp_path / "archive.tar.gz"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Session1 .. Session5.*found nothing"):
        scan(tmp_path / "empty")
    put(tmp_path / "MOSEI/Videos/a.mp4")
    with pytest.raises(InputError, match=r"Session1 .. Session5.*found Videos/"):
        scan(tmp_path / "MOSEI")


def test_an_unreadable_release_is_refused_with_the_reasons(tmp_path: Path) -> None:
    put(tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", APPLE_DOUBLE)
    with pytest.raises(InputError, match=r"(?s)no utterance could be read.*Ses01F_impro01.txt: is not text"):
        scan(tmp_path)


def test_the_manifest_agrees_with_itself() -> None:
    """Counts that occur in several places agree, and every class consists of known labels."""
    manifest = load("iemocap")
    counts = manifest["counts"]
    assert sum(counts["labels"].values()) == counts["utterances"]
    assert sum(counts["speaker_letters"].values()) == counts["utterances"]
    assert counts["scripted"] + counts["improvised"] == counts["utterances"]
    for what in ("dialogs", "utterances"):
        assert sum(session[what] for session in counts["sessions"].values()) == counts[what]
    assert manifest["labels"]["emotion"]["values"].keys() == counts["labels"].keys()
    for name in ("six", "four", "majority"):
        view = manifest["views"][name]
        classes = {of: sum(counts["labels"][label] for label in view["classes"][of]) for of in view["classes"]}
        assert classes == view["counts"]
        assert view["utterances"] == sum(classes.values()) + sum(counts["labels"][of] for of in view.get("none", ()))
    assert manifest["views"]["soft"]["utterances"] == counts["utterances"]
    parts = manifest["splits"]["paper"]["parts"]
    assert all(sum(part["labels"].values()) == part["lines"] for part in parts.values())
    assert {
        name: sum(part["labels"][name] for part in parts.values()) for name in manifest["views"]["six"]["counts"]
    } == manifest["views"]["six"]["counts"]


def test_an_unknown_manifest_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(ValueError, match="iemocap"):
        load("../pyproject")
