"""A scan of five sessions compares them with the release. The tree of texts is generated from the known counts."""

import re
from collections import Counter
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from mesm_manifests import load

from mesm_data.corpora.iemocap.scan import scan
from mesm_data.corpora.release_check import compare_counts

KNOWN = load("iemocap")
COUNTS = KNOWN["counts"]

WDSEG = "\t SFrm  EFrm    SegAScr Word\n\t   35    61     -91830 GOOD\n Total score:   -1234567\n"


def ids() -> list[str]:
    """Invented ids with the known numbers of each session, kind and letter; the two without alignment are real."""
    exempt = KNOWN["anomalies"]["no_alignment"]
    letters = Counter(COUNTS["speaker_letters"]) - Counter(key[-4] for key in exempt)
    speakers = letters.elements()
    ids: list[str] = []
    for session, improvised in enumerate(shares(COUNTS["improvised"], 5), 1):
        session_counts = COUNTS["sessions"][f"Session{session}"]
        names = [f"Ses0{session}F_impro{number}" for number in range(10, 8 + session_counts["dialogs"])]
        if session == 3:
            names[:2] = [key[:-5] for key in exempt]
        sizes = shares(improvised, len(names)) + shares(session_counts["utterances"] - improvised, 2)
        names += [f"Ses0{session}F_script01_{number}" for number in (1, 2)]
        for name, size in zip(names, sizes, strict=True):
            fixed = [key for key in exempt if key[:-5] == name]
            ids += fixed + [f"{name}_{next(speakers)}{number}" for number in range(100, 100 + size - len(fixed))]
    assert len(set(ids)) == COUNTS["utterances"]
    return ids


def shares(total: int, number: int) -> list[int]:
    """Divide `total` into `number` shares, as equal as possible."""
    return [total // number + (n < total % number) for n in range(number)]


def write_release(root: Path) -> None:
    labels = iter([label for label, number in COUNTS["labels"].items() for _ in range(number)])
    texts: dict[str, list[str]] = {}
    for key in ids():
        texts.setdefault(key[:-5], []).append(key)
    for dialog, keys in texts.items():
        session = root / f"Session{dialog[4]}"
        turns = [f"[{n}.0 - {n}.9]\t{key}\t{next(labels)}\t[2.5, 2.5, 2.5]\n\n" for n, key in enumerate(keys)]
        evaluation = session / "dialog/EmoEvaluation" / f"{dialog}.txt"
        evaluation.parent.mkdir(parents=True, exist_ok=True)
        evaluation.write_text("".join(turns))
        lines = [f"{key} [{n}.0-{n}.9]: Words.\n" for n, key in enumerate(keys)]
        transcription = session / "dialog/transcriptions" / f"{dialog}.txt"
        transcription.parent.mkdir(parents=True, exist_ok=True)
        transcription.write_text("".join(lines))
        folder = session / "sentences/ForcedAlignment" / dialog
        folder.mkdir(parents=True)
        for key in set(keys) - set(KNOWN["anomalies"]["no_alignment"]):
            (folder / f"{key}.wdseg").write_text(WDSEG)


def about_counts(root: Path) -> list[str]:
    notes = scan(root).notes
    return [note for note in notes if not re.search(r"is not there|have no (video|sound file)", note)]


def test_a_complete_release_is_recognised_and_every_difference_is_reported(tmp_path: Path) -> None:
    release = tmp_path / "IEMOCAP"
    write_release(release)
    notes = about_counts(release)
    assert len(notes) == 1
    assert notes[0].startswith("as released: 151 dialogs and 10039 utterances")

    file = release / "Session2/dialog/EmoEvaluation/Ses02F_script01_1.txt"
    before = file.read_text()
    folder = release / "Session3/sentences/ForcedAlignment/Ses03F_impro07"
    [extra, lost] = [folder / "Ses03F_impro07_M030.wdseg", next(folder.glob("*.wdseg"))]
    first = before.split("\n\n")[0]
    label, letter = first.split("\t")[2], first.split("\t")[1][-4]
    file.write_text(before.removeprefix(first + "\n\n"))
    transcription = release / "Session2/dialog/transcriptions/Ses02F_script01_1.txt"
    transcription.write_text(transcription.read_text().partition("\n")[2])
    lost.rename(extra)

    def differs(name: str, known: int) -> str:
        return f"{name}: {known - 1} here, {known} in the release as it is known"

    assert about_counts(release) == [
        differs("utterances", 10_039),
        differs("scripted", COUNTS["scripted"]),
        differs("utterances with text", 10_039),
        differs("utterances of Session2", 1811),
        differs(f"label {label}", COUNTS["labels"][label]),
        differs(f"utterances of speakers {letter}", COUNTS["speaker_letters"][letter]),
        f"without forced alignment, which the release has: 1 utterances ({lost.stem})",
        "with a forced alignment, which the release as it is known does not have: Ses03F_impro07_M030",
    ]


def test_lost_transcriptions_are_counted_and_are_a_difference_from_the_release(tmp_path: Path) -> None:
    write_release(tmp_path)
    lost = tmp_path / "Session5/dialog/transcriptions"
    names = sorted(path.name for path in lost.iterdir())
    for name in names[1:]:
        (lost / name).unlink()
    corpus = scan(tmp_path)
    without = [u for u in corpus.utterances() if "no_transcript" in u.flags]
    assert without
    assert {u.text for u in without} == {""}
    assert corpus.notes[:2] == (
        f"utterances with text: {10_039 - len(without)} here, 10039 in the release as it is known",
        f"{len(without)} of 10039 utterances have no text (flag no_transcript), in {len(names) - 1} of 151 dialogs; "
        f"the first is {without[0].id}",
    )
    assert not [note for note in corpus.notes if "as released" in note]


def test_a_part_of_a_release_and_a_synthetic_corpus_are_not_compared(tmp_path: Path) -> None:
    for session in ("Session1", "Session2", "Session3", "Session4", "Session5"):
        evaluation = tmp_path / session / "dialog/EmoEvaluation" / f"Ses0{session[-1]}F_impro01.txt"
        evaluation.parent.mkdir(parents=True)
        evaluation.write_text(f"[1.0 - 2.0]\tSes0{session[-1]}F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\n")
    assert [note for note in scan(tmp_path).notes if "dialogs: 5 here, 151" in note]
    (tmp_path / "SYNTHETIC.txt").touch()
    assert not [note for note in scan(tmp_path).notes if "as it is known" in note or "as released" in note]
    (tmp_path / "SYNTHETIC.txt").unlink()
    (tmp_path / "Session5").rename(tmp_path / "Session6")
    assert not [note for note in scan(tmp_path).notes if "as it is known" in note or "as released" in note]


numbers = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3))


@given(numbers, numbers)
def test_each_number_that_differs_has_a_sentence(counts: dict[str, int], known: dict[str, int]) -> None:
    notes = compare_counts(counts, known)
    assert {sentence.split(":")[0] for sentence in notes} == {
        name for name in "abcd" if counts.get(name, 0) != known.get(name, 0)
    }
    assert compare_counts(counts, counts) == []
