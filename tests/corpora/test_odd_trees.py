"""Guarantees: in damaged copies of IEMOCAP, every utterance has a row, and every loss is reported."""

import os
import shutil
from pathlib import Path

import pytest
from test_iemocap_scan import add_dialog, by_id, notes_about, put

from mesm_data.corpora.iemocap.scan import scan
from mesm_data.corpora.source_tree import decode
from mesm_data.dataset.manifest import manifest_row
from mesm_data.errors import InputError
from mesm_data.pipeline.records import corpus_findings
from mesm_data.storage.json_files import canonical_json
from mesm_data.storage.safe_text import valid_unicode

DIALOG = "Ses01F_impro01"
TURNS = {"F000": (5.0, 7.0), "F001": (20.0, 22.5), "M000": (1.0, 4.0), "M001": (6.5, 9.25)}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Session1 with two regular dialogs."""
    root = tmp_path / "IEMOCAP_full_release"
    add_dialog(root, DIALOG, TURNS)
    add_dialog(root, "Ses01F_impro02", {"F000": (1.0, 2.0), "M000": (3.0, 4.0)})
    return root


def texts_of(root: Path, dialog: str) -> list[Path]:
    return [root / f"Session1/dialog/{folder}/{dialog}.txt" for folder in ("EmoEvaluation", "transcriptions")]


def test_an_empty_text_has_the_flag_of_a_missing_one(release: Path) -> None:
    path = texts_of(release, DIALOG)[1]
    path.write_text(path.read_text().replace("Words of F001.", ""))
    corpus = scan(release)
    assert by_id(corpus)[f"{DIALOG}_F001"].flags == ("no_transcript",)
    assert notes_about(corpus, "1 of 6 utterances have no text", "1 of 2 dialogs", f"{DIALOG}_F001")


def test_lost_texts_and_media_are_a_finding_of_the_build(release: Path) -> None:
    assert corpus_findings([manifest_row(u, "ok", None) for u in scan(release).utterances()]) == []
    texts_of(release, DIALOG)[1].unlink()
    rows = [manifest_row(u, "ok", None) for u in scan(release).utterances()]
    rows = [{**row, "audio": "ok", "video": "none"} for row in rows]
    rows[0] |= {"audio": "none", "video": "ok"}
    assert corpus_findings([*rows, {**rows[0], "status": "failed"}]) == [
        "4 of 6 utterances have no text (flag no_transcript), in 1 of 2 dialogs",
        "1 of 6 utterances have no sound, in 1 of 2 dialogs",
        "5 of 6 utterances have no video, in 2 of 2 dialogs",
    ]


def test_texts_are_read_up_to_nul_bytes_and_behind_them(release: Path) -> None:
    """NUL bytes at the end of both texts cost no utterance; those in the middle cost only the line that they damage."""
    clean = by_id(scan(release))
    for path in texts_of(release, DIALOG):
        path.write_bytes(path.read_bytes() + bytes(4096))
    corpus = scan(release)
    assert by_id(corpus) == clean
    for path in texts_of(release, DIALOG):
        assert notes_about(corpus, str(path.relative_to(release)), "4096 NUL bytes")
    evaluation, transcription = texts_of(release, DIALOG)
    transcription.write_bytes(
        transcription.read_bytes().strip(b"\0").replace(b"Words of M000.\r\n", bytes(512) + b"\r\n")
    )
    corpus = scan(release)
    assert {u.id: u.text for u in corpus.utterances()} == {
        key: "" if key == f"{DIALOG}_M000" else u.text for key, u in clean.items()
    }
    assert notes_about(corpus, transcription.name, "512 NUL bytes after line 3")
    evaluation.write_bytes(bytes(16) + evaluation.read_bytes())
    assert notes_about(scan(release), evaluation.name, "is not text")


@pytest.mark.parametrize("wavs", [True, False])
def test_a_dialog_with_media_and_no_text_is_named_with_its_number_of_wavs(release: Path, wavs: bool) -> None:
    for path in texts_of(release, DIALOG):
        path.unlink()
    (release / f"Session1/dialog/avi/DivX/{DIALOG}.avi").unlink()
    if not wavs:
        shutil.rmtree(release / f"Session1/sentences/wav/{DIALOG}")
    corpus = scan(release)
    media = f"{4 if wavs else 0} sentence wavs, a dialog wav and no video"
    assert notes_about(corpus, f"Session1: {DIALOG} has {media}, but no text")
    rows = {key: u.exclusion for key, u in by_id(corpus).items() if u.dialog == DIALOG}
    assert set(rows) == ({f"{DIALOG}_{turn}" for turn in TURNS} if wavs else set())
    assert all(exclusion is not None and exclusion[0] == "failed" for exclusion in rows.values())


def test_a_sentence_wav_that_no_text_names_is_a_failed_row_and_its_dialog_is_noted(release: Path) -> None:
    for path in texts_of(release, DIALOG):
        path.write_text("".join(path.read_text().replace(f"{DIALOG}_M001", f"torn {DIALOG}_M001")))
    corpus = scan(release)
    row = by_id(corpus)[f"{DIALOG}_M001"]
    assert row.exclusion is not None
    assert row.exclusion[0] == "failed"
    assert row.flags == ("no_evaluation", "no_transcript", "no_times", "no_alignment")
    assert (row.audio, row.labels["emotion"]) == ((), None)
    assert notes_about(corpus, f"{DIALOG} has 1 sentence wavs that no text file lists, such as {DIALOG}_M001")


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_utf16_texts_are_read_by_their_mark(release: Path, mark: str) -> None:
    clean = by_id(scan(release))
    for path in texts_of(release, DIALOG):
        path.write_bytes(("\ufeff" + path.read_text()).encode(mark))
    assert by_id(scan(release)) == clean


def test_one_line_in_another_encoding_affects_no_other_line(release: Path) -> None:
    path = texts_of(release, DIALOG)[1]
    text = path.read_bytes().replace(b"Words of F000", "Crème brûlée – né".encode())
    path.write_bytes(text.replace(b"Words of M000", "Déjà vu – né".encode("cp1252")))
    corpus = scan(release)
    rows = by_id(corpus)
    assert rows[f"{DIALOG}_F000"].text == "Crème brûlée – né."
    assert rows[f"{DIALOG}_M000"].text == "Déjà vu – né."
    assert notes_about(corpus, path.name, "is UTF-8, but for 1 lines (3), which are read as Windows-1252")


def test_bytes_are_decoded_line_by_line() -> None:
    remarks: list[str] = []
    assert decode("né\r\n".encode() + b"n\xe9\rn\x81\xe9", remarks.append) == "né\nné\nn\x81é"
    assert len(remarks) == 1
    assert decode(b"n\xe9\nok", remarks.append) == "né\nok"
    assert len(remarks) == 1  # one encoding is no mixture
    assert decode(b"a clip\0\0\0", remarks.append) == "a clip\n"
    for binary in (b"\0\0", b"\x89PNG\r\n\x1a\n\0\0", b"T\0h\0e\0", b"MZ\x90\0\x03"):
        with pytest.raises(ValueError, match="NUL"):
            decode(binary)


def test_names_that_are_not_utf8_are_noted_escaped_and_the_dataset_can_be_written(release: Path) -> None:
    clean = by_id(scan(release))
    for folder in (".", "Session1/dialog/transcriptions", "Session1/dialog/avi/DivX"):
        (release / folder / os.fsdecode(b"caf\xe9.txt")).touch()
    (release / "Session1/sentences/wav" / os.fsdecode(b"\xff")).mkdir()
    corpus = scan(release)
    assert by_id(corpus) == clean
    canonical_json(list(corpus.notes))
    assert notes_about(corpus, "Session1/dialog/transcriptions/caf\\xe9.txt: its name is not text")
    assert notes_about(corpus, "Session1/sentences/wav/\\xff")
    strange = release.parent / os.fsdecode(b"Kopie \xfc")
    release.rename(strange)
    assert by_id(scan(strange)) == clean
    with pytest.raises(InputError, match=r"Kopie \\xfc"):
        scan(release.parent)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [("caf\udce9", "caf\\xe9"), ("caf\udcc3\udca9", "café"), ("\ud800 x", "\\ud800 x"), ("né\\x", "né\\x")],
)
def test_any_text_can_be_written_and_valid_text_is_unchanged(name: str, escaped: str) -> None:
    assert valid_unicode(name) == escaped


def in_capitals(path: Path) -> None:
    for inner in path.iterdir():
        if inner.is_dir():
            in_capitals(inner)
        inner.rename(inner.with_name(inner.name.upper()))


def test_a_copy_in_capitals_gives_the_same_rows(release: Path) -> None:
    clean = by_id(scan(release))
    in_capitals(release)
    assert (release / "SESSION1/DIALOG/AVI/DIVX/SES01F_IMPRO01.AVI").exists()
    corpus = scan(release)
    rows = by_id(corpus)
    assert rows.keys() == clean.keys()
    assert [note for note in corpus.notes if "is not there" in note] == []
    for key, utterance in rows.items():
        assert (utterance.text, utterance.labels, utterance.words, utterance.flags) == (
            clean[key].text,
            clean[key].labels,
            clean[key].words,
            clean[key].flags,
        )
        assert [source.path for source in utterance.audio] == [source.path.upper() for source in clean[key].audio]
    assert corpus.recordings[0].video == "SESSION1/DIALOG/AVI/DIVX/SES01F_IMPRO01.AVI"
    assert all((corpus.root / path).exists() for row in rows.values() for path in row.annotation_files)
    for path in (release / "SESSION1/DIALOG").glob("*/SES01F_IMPRO02.TXT"):
        path.unlink()
    assert notes_about(scan(release), "Ses01F_impro02 has 2 sentence wavs, a dialog wav and a video, but no text")


def test_links_without_content_are_reported_in_one_sentence(release: Path) -> None:
    for path in sorted((release / "Session1/sentences/wav").glob("*/*.wav")):
        path.unlink()
        path.symlink_to("../../../../.git/annex/objects/x1/SHA256E-s3.wav")
    corpus = scan(release)
    about = notes_about(corpus, "links have no target")
    assert about == [note for note in corpus.notes if "annex/objects" in note]
    assert about[0].startswith("6 links have no target")
    assert f"the first is Session1/sentences/wav/{DIALOG}/{DIALOG}_F000.wav -> " in about[0]
    assert len(corpus.utterances()) == 6


def test_the_notes_of_a_broken_copy_are_limited_by_kind(release: Path) -> None:
    path = texts_of(release, DIALOG)[0]
    path.write_text(path.read_text() + "what is this\n" * 300_000)
    put(texts_of(release, "Ses01F_impro02")[1], "Ses01F_impro02_F000 torn\n" * 100_000)
    corpus = scan(release)
    assert len(notes_about(corpus, "what is this")) == 20
    assert notes_about(corpus, "and 299980 more odd lines in dialog/EmoEvaluation")
    assert notes_about(corpus, "and 99980 more odd lines in dialog/transcriptions")
    assert len(canonical_json(list(corpus.notes))) < 20_000
