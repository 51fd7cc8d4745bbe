"""Folds test each group once, and no test speaker is in the validation part."""

from pathlib import Path
from typing import Any

import pytest

from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.splits.folds import fold_names
from mesm_data.splits.resolve import resolve_split

IEMOCAP, MELD, RAVDESS, MOSEI = (built_in_schema(name) for name in ("iemocap", "meld", "ravdess", "mosei"))


def rows(dialogs: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Two utterances of each speaker of each dialog: {"Ses01_a": "FM"} has the speakers Ses01F and Ses01M."""
    table = {}
    for number, (dialog, letters) in enumerate(dialogs.items()):
        for letter in letters:
            for turn in range(2):
                key = f"{dialog}_{letter}{turn}"
                table[key] = {
                    "key": key, "id": key, "status": "ok", "reason": None, "recording": dialog, "dialog": dialog,
                    "speaker": f"{dialog[:5]}{letter}", "session": dialog[4], "split": None,
                    "start": 10.0 * turn + number, "end": 10.0 * turn + number + 1,
                }  # fmt: skip
    return table


SESSIONS = rows({f"Ses0{session}_{part}": "FM" for session in range(1, 6) for part in "ab"})


@pytest.mark.parametrize(("protocol", "count"), [("session", 5), ("speaker", 10), ("3", 3), ("5", 5)])
def test_each_utterance_is_tested_once_and_no_speaker_is_in_two_parts(protocol: str, count: int) -> None:
    names = fold_names(SESSIONS, IEMOCAP, protocol)
    assert len(names) == count
    tested = [key for name in names for key in resolve_split(SESSIONS.values(), IEMOCAP, name).parts["test"]]
    assert sorted(tested) == sorted(SESSIONS)
    for name in names:
        split = resolve_split(SESSIONS.values(), IEMOCAP, name)
        assert split.name == name
        assert not split.missing
        speakers = [{SESSIONS[key]["speaker"] for key in keys} for keys in split.parts.values()]
        assert sum(map(len, speakers)) == len(set().union(*speakers)) == 10


def test_a_schema_s_own_rule_names_its_folds() -> None:
    assert fold_names(SESSIONS, IEMOCAP, "session") == [f"session-{number}" for number in range(1, 6)]
    assert fold_names(SESSIONS, IEMOCAP, "session-3") == ["session-3"]


def test_speakers_who_share_recordings_with_the_tested_speaker_are_in_the_validation_part() -> None:
    """The other speaker of an IEMOCAP session is in the same audio and video."""
    split = resolve_split(SESSIONS.values(), IEMOCAP, "speaker:Ses02M")
    assert {SESSIONS[key]["speaker"] for key in split.parts["valid"]} == {"Ses02F"}
    shared = {SESSIONS[key]["dialog"] for key in split.parts["train"]} & {
        SESSIONS[key]["dialog"] for key in split.parts["test"]
    }
    assert not shared


def test_if_all_speakers_share_recordings_the_next_speaker_is_the_validation_part() -> None:
    everybody = rows({"scene_a": "RMJ", "scene_b": "JPC"})
    split = resolve_split(everybody.values(), MELD, "speaker:sceneJ")
    assert {everybody[key]["speaker"] for key in split.parts["valid"]} == {"sceneM"}
    assert {everybody[key]["speaker"] for key in split.parts["train"]} == {"sceneR", "sceneP", "sceneC"}


def test_official_is_the_corpus_own_split() -> None:
    assert fold_names({}, MOSEI, "official") == ["official"]
    assert fold_names({}, IEMOCAP, "official") == ["paper"]
    with pytest.raises(InputError, match="ravdess has no published split: choose other folds"):
        fold_names({}, RAVDESS.model_copy(update={"splits": {}}), "official")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("speaker:Ses09F", r"no speaker 'Ses09F'; it has Ses01F, Ses01M"),
        ("speaker:6of5", "a fold from 1 to the number of folds"),
        ("speaker:1of2", "which is 3 to 1000"),
        ("speaker:12of12", "fewer speakers than folds"),
        ("speakers:1of3", r"no split 'speakers:1of3'.*a fold such as speaker:2of5"),
    ],
)
def test_an_unknown_fold_is_refused_by_name(name: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        resolve_split(SESSIONS.values(), IEMOCAP, name)


def test_a_protocol_that_the_dataset_is_too_small_for_is_refused() -> None:
    with pytest.raises(InputError, match="has 1 sessions, and folds need at least three"):
        fold_names(rows({"Ses01_a": "FM"}), IEMOCAP, "session")
    with pytest.raises(InputError, match="folds 'random': expected session, speaker, official"):
        fold_names(SESSIONS, IEMOCAP, "random")


def test_a_table_without_a_valid_part_says_what_to_do(tmp_path: Path) -> None:
    """Train and test alone are common; a folder of lists then makes three parts of the same dataset."""
    keys = sorted(SESSIONS)
    table = [{**row, "split": "test" if row["session"] == "5" else "train"} for row in SESSIONS.values()]
    with pytest.raises(InputError, match=r"part valid is empty; .* has test, train\. Write the ids .* to train\.txt"):
        resolve_split(table, MELD, "official")
    for part, ids in {"train": keys[8:], "valid": keys[4:8], "test": keys[:4]}.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(ids))
    assert resolve_split(table, MELD, str(tmp_path)).parts["valid"] == tuple(keys[4:8])
