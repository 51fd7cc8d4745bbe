"""A split assigns every utterance to one part, and reports what its parts share."""

import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import mesm_manifests
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.dataset.manifest import manifest_schema, read_table_rows, write_table
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_names, built_in_schema
from mesm_data.splits.leaks import find_leaks
from mesm_data.splits.lists import PARTS, read_lists
from mesm_data.splits.resolve import resolve_all_splits, resolve_split
from mesm_data.splits.rules import named_splits

IEMOCAP, MOSEI = built_in_schema("iemocap"), built_in_schema("mosei")
RULES = (*(f"session-{number}" for number in range(1, 6)), "dialog")


def row(
    key: str, start: float = 0.0, end: float = 1.0, status: str = "ok", reason: str | None = None
) -> dict[str, Any]:
    """The manifest row of an utterance; speaker and dialog follow from its id, of IEMOCAP or CMU-MOSEI."""
    video = key.rsplit("_", 1)[0]
    dialog, speaker = (key[:-5], key[:5] + key[-4]) if key.startswith("Ses0") else (video, video)
    session = key[4] if key.startswith("Ses0") else None
    common = {"key": key, "id": key, "status": status, "reason": reason, "start": start, "end": end}
    return {**common, "recording": dialog, "dialog": dialog, "speaker": speaker, "session": session}


def sessions(*numbers: int) -> list[dict[str, Any]]:
    keys = [
        f"Ses0{n}{marker}_impro0{i}_{who}00{j}"
        for n in numbers
        for marker in "FM"
        for i in (1, 2)
        for who in "FM"
        for j in (0, 1)
    ]
    return [row(key, start=2.0 * place, end=2.0 * place + 1) for place, key in enumerate(keys)]


# Rules


@pytest.mark.parametrize("test", [1, 2, 3, 4, 5])
def test_leave_one_session_out_shares_no_speaker_and_no_dialog(test: int) -> None:
    rows = sessions(1, 2, 3, 4, 5)
    split = resolve_split(rows, IEMOCAP, f"session-{test}")
    numbers = {part: {int(key[4]) for key in keys} for part, keys in split.parts.items()}
    assert (numbers["test"], numbers["valid"]) == ({test}, {test % 5 + 1})
    assert sorted(key for keys in split.parts.values() for key in keys) == sorted(item["key"] for item in rows)
    assert split.leaks.counts() == {"speakers": 0, "dialogs": 0, "overlaps": 0}
    assert split.name == f"session-{test}"


@pytest.mark.parametrize(("there", "enough"), [((1, 5), False), ((2, 3, 5), False), ((1, 3, 5), True), ((), False)])
def test_too_few_sessions_are_named(there: tuple[int, ...], enough: bool) -> None:
    rows = sessions(*there)
    if enough:
        assert resolve_split(rows, IEMOCAP, "session-5").parts["train"][0].startswith("Ses03")
        return
    listed = ", ".join(map(str, there)) or "none"
    with pytest.raises(InputError, match=rf"5 \(test\), 1 \(valid\) and another one \(train\); .* has: {listed}\."):
        resolve_split(rows, IEMOCAP, "session-5")


def test_sessions_are_a_rule_for_iemocap_only() -> None:
    with pytest.raises(InputError, match=r"no split 'session-1': Expected dialog, paper, official, a folder"):
        resolve_split([row("abc_1")], MOSEI, "session-1")


@given(st.sets(st.integers(0, 199), max_size=120))
def test_a_dialog_is_in_the_same_part_whatever_the_other_dialogs(left_out: set[int]) -> None:
    rows = [row(f"video{video}_{clip}") for video in range(200) for clip in range(2)]
    whole = resolve_split(rows, MOSEI, "dialog")
    where = {key: part for part, keys in whole.parts.items() for key in keys}
    assert whole.leaks.dialogs == ()
    assert sorted(where) == sorted(item["key"] for item in rows)
    fewer = resolve_split([item for item in rows if int(item["dialog"][5:]) not in left_out], MOSEI, "dialog")
    assert {key: part for part, keys in fewer.parts.items() for key in keys} == {
        key: part for key, part in where.items() if int(key[5:].split("_")[0]) not in left_out
    }


def test_dialogs_are_divided_80_10_10() -> None:
    rows = [row(f"video{number}_0") for number in range(5000)]
    split = resolve_split(rows, MOSEI, "dialog")
    shares = [len(split.parts[part]) / len(rows) for part in ("train", "valid", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_excluded_utterances_are_not_reported_as_missing(tmp_path: Path) -> None:
    rows = [row(f"video{number}_{clip}") for number in range(50) for clip in range(3)]
    for item in rows[::3]:
        item.update(status="excluded", reason="unlabelled")
    rows[1].update(status="failed", reason="no sound")
    (tmp_path / "train.txt").write_text("\n".join(f"video{number}" for number in range(50)))
    for name in ("dialog", str(tmp_path)):
        split = resolve_split(rows, MOSEI, name)
        assert [(item.key, item.status) for item in split.missing] == [(rows[1]["key"], "failed")]
        assert split.summary()["missing"] == {"failed": 1, "excluded": 0, "absent": 0}


def test_too_few_dialogs_are_reported() -> None:
    with pytest.raises(InputError, match=r"of this dataset's 1 dialogs none falls into: \w+, \w+"):
        resolve_split([row("one_0")], MOSEI, "dialog")


def test_clips_of_one_dialog_in_separate_files_do_not_overlap() -> None:
    """Each starts at 0 of its own file; two of the same file do overlap."""
    first, second = (row(f"video_{number}", end=3.0) for number in range(2))
    apart = {item["key"]: {**item, "recording": item["key"]} for item in (first, second)}
    parts = {"train": [first["key"]], "test": [second["key"]]}
    assert find_leaks(parts, apart).counts() == {"speakers": 1, "dialogs": 1, "overlaps": 0}
    same = {item["key"]: item for item in (first, second)}
    assert find_leaks(parts, same).counts() == {"speakers": 1, "dialogs": 1, "overlaps": 1}


# Lists


@pytest.fixture
def published(shared: Path, tmp_path: Path) -> Any:
    """A folder with the published lists of a corpus, under the authors' names."""

    def copy(corpus: str) -> Path:
        for part in ("train", "valid", "test"):
            shutil.copy(shared / "splits" / f"{corpus}_{part}_split.txt", tmp_path / f"{part}_split.txt")
        return tmp_path

    return copy


def test_the_papers_iemocap_split_leaks_all_speakers_and_dialogs(published: Any) -> None:
    folder = published("iemocap")
    lists, _ = read_lists(folder)
    split = resolve_split([row(key) for keys in lists.values() for key in keys], IEMOCAP, str(folder))
    assert (split.name, split.of) == ("paper", "utterances")
    assert {part: len(keys) for part, keys in split.parts.items()} == {"train": 5162, "valid": 737, "test": 1481}
    assert split.missing == ()
    assert len(split.leaks.speakers) == 10
    assert len(split.leaks.dialogs) == 151


def test_the_papers_mosei_split_shares_no_video(published: Any) -> None:
    folder = published("mosei")
    lists, _ = read_lists(folder)
    rows = [row(key) for keys in lists.values() for key in keys]
    assert {part: len(keys) for part, keys in lists.items()} == {"train": 14524, "valid": 1765, "test": 4188}
    assert len({item["dialog"] for item in rows}) == 3001
    assert find_leaks(lists, {item["key"]: item for item in rows}).counts() == {
        "speakers": 0,
        "dialogs": 0,
        "overlaps": 0,
    }


VIDEOS = [f"mosei_official_{part}_videos.txt" for part in ("train", "valid", "test")]


def as_python(shared: Path) -> bytes:
    """The official folds in the SDK's format."""
    lists = {name.split("_")[2]: (shared / "splits" / name).read_text().split() for name in VIDEOS}
    return "\n\n".join(f"standard_{part}_fold={ids!r}" for part, ids in lists.items()).encode()


def test_lists_of_videos_contain_all_clips_of_the_videos(shared: Path, tmp_path: Path) -> None:
    """The official folds for the paper's clips, each of which is in the fold of its video; both formats agree."""
    paper = {part: (shared / "splits" / f"mosei_{part}_split.txt").read_text().split() for part in PARTS}
    rows = [row(key) for keys in paper.values() for key in keys]
    for name in VIDEOS:
        shutil.copy(shared / "splits" / name, tmp_path)
    (tmp_path / "folds.py").write_bytes(as_python(shared))
    split = resolve_split(rows, MOSEI, str(tmp_path))
    assert split.of == "dialogs"
    assert split.parts == {
        part: tuple(sorted(keys)) for part, keys in paper.items()
    }  # every clip is in its video's fold
    assert split.leaks.counts() == {"speakers": 0, "dialogs": 0, "overlaps": 0}
    assert Counter((item.part, item.status) for item in split.missing) == {
        ("train", "absent"): 163, ("valid", "absent"): 15, ("test", "absent"): 48,
    }  # fmt: skip
    from_file = resolve_split(rows, MOSEI, str(tmp_path / "folds.py"))
    assert (from_file.parts, from_file.digest, from_file.name) == (split.parts, split.digest, "folds")


def test_the_meaning_of_ids_is_decided_for_all_lists_together(tmp_path: Path) -> None:
    rows = [row(f"{video}_{clip}") for video in ("a", "b", "c") for clip in range(2)]
    (tmp_path / "train.txt").write_text("a\nb\nc_0")
    (tmp_path / "test.txt").write_text("c\nd")
    rows[0].update(status="failed", reason="no audio, no video")
    split = resolve_split(rows, MOSEI, str(tmp_path))
    assert split.parts == {"train": ("a_1", "b_0", "b_1"), "test": ("c_0", "c_1")}
    missing = [(item.key, item.status) for item in split.missing]
    assert missing == [("c_0", "absent"), ("d", "absent"), ("a_0", "failed")]
    (tmp_path / "test.txt").write_text("b_0\nb_1\nc_1")
    assert resolve_split(rows, MOSEI, str(tmp_path)).parts == {"train": ("c_0",), "test": ("b_0", "b_1", "c_1")}


def test_python_lists_are_parsed_and_never_run(tmp_path: Path) -> None:
    """Other statements are skipped; anything but a list of strings is rejected, not evaluated."""
    path, ran = tmp_path / "folds.py", tmp_path / "ran"
    path.write_text(f"import os\nopen({str(ran)!r}, 'w')\nx: int = 1\na_train = ['v_1']\na_test = ['v_0']\nb = [2]\n")
    assert read_lists(path)[0] == {"train": ["v_1"], "test": ["v_0"]}
    for line in (
        f"test = [open({str(ran)!r}, 'w')]",
        "test = [1]",
        "test = 'abc'",
        "train_test = 1",
        "x = " + "(" * 999,
    ):
        path.write_text(line)
        with pytest.raises(InputError, match="expected Python lists of ids"):
            read_lists(path)
    path.write_text("train = ['a']\nmy_train = ['b']")
    with pytest.raises(InputError, match="two lists for train"):
        read_lists(path)
    assert not ran.exists()


KEYS = sorted(item["key"] for item in sessions(1, 2))
parts_of_keys = st.lists(st.sampled_from(["train", "valid", "test", None]), min_size=len(KEYS), max_size=len(KEYS))


@given(parts_of_keys, st.randoms(use_true_random=False), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_lists_are_the_same_from_a_folder_and_a_file(
    tmp_path_factory: pytest.TempPathFactory, places: list[str | None], order: Any, newline: str
) -> None:
    """Parts and digest do not depend on order, line breaks or format."""
    lists = {
        part: [key for key, at in zip(KEYS, places, strict=True) if at == part] for part in ("train", "valid", "test")
    }
    if not any(lists.values()):
        return
    folder = tmp_path_factory.mktemp("lists")
    shuffled = {part: order.sample(keys, len(keys)) for part, keys in lists.items()}
    for part, keys in shuffled.items():
        stem = order.choice(["{}.txt", "{}_split.txt"])
        (folder / stem.format(part)).write_bytes(("\ufeff" + newline.join(keys)).encode())
    (folder / "lists.json").write_text(json.dumps(shuffled))
    (folder / "lists.yaml").write_text(yaml.safe_dump(shuffled))
    rows = sessions(1, 2)
    places = (folder, folder / "lists.json", folder / "lists.yaml")
    splits = [resolve_split(rows, IEMOCAP, str(path)) for path in places]
    assert [one.parts for one in splits] == [{part: tuple(keys) for part, keys in lists.items()}] * 3
    assert len({one.digest for one in splits}) == 1


def test_the_digest_changes_with_any_id_and_part(tmp_path: Path) -> None:
    digests = set()
    for number, lists in enumerate(
        [{"train": KEYS[:3], "test": KEYS[3:5]}, {"train": KEYS[:2], "test": KEYS[3:5]},
         {"train": KEYS[:3], "valid": KEYS[3:5]}, {"train": KEYS[:4], "test": KEYS[4:5]}]
    ):  # fmt: skip
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(lists))
        digests.add(resolve_split(sessions(1, 2), IEMOCAP, str(path)).digest)
    assert len(digests) == 4


def test_ids_that_look_like_numbers_remain_texts(tmp_path: Path) -> None:
    (tmp_path / "lists.yaml").write_text("train: [116213_2, 1e5_0]\ntest: [0x1f_1]")
    rows = [row(key) for key in ("116213_2", "1e5_0", "0x1f_1")]
    split = resolve_split(rows, IEMOCAP, str(tmp_path / "lists.yaml"))
    assert split.parts == {"train": ("116213_2", "1e5_0"), "test": ("0x1f_1",)}


def test_ids_that_the_dataset_lacks_are_reported_with_a_reason(tmp_path: Path) -> None:
    """The digest is that of the lists and does not depend on the built utterances."""
    rows = sessions(1, 2)
    (tmp_path / "train.txt").write_text("\n".join(item["key"] for item in rows[:4]) + "\nSes01F_impro99_F000\n")
    (tmp_path / "test.txt").write_text("\n".join(item["key"] for item in rows[4:6]))
    whole = resolve_split(rows, IEMOCAP, str(tmp_path))
    rows[0].update(status="failed", reason="no audio, no video")
    rows[4].update(status="excluded", reason="only")
    split = resolve_split(rows, IEMOCAP, str(tmp_path))
    assert {(item.key, item.part, item.status, item.reason) for item in split.missing} == {
        (rows[0]["key"], "train", "failed", "no audio, no video"),
        ("Ses01F_impro99_F000", "train", "absent", None),
        (rows[4]["key"], "test", "excluded", "only"),
    }
    assert split.parts == {
        part: tuple(key for key in keys if key not in (rows[0]["key"], rows[4]["key"]))
        for part, keys in whole.parts.items()
    }
    assert split.digest == whole.digest
    with pytest.raises(
        InputError, match=r"no utterances of this dataset in the part 'valid'; there are train \(3\), test \(1\)"
    ):
        split.part("valid")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"train.txt": "a\nb\n\na\n"},
            r"train.txt:4: a occurs also in \S+train.txt:1; an id may be in one part",
        ),
        ({"train.txt": "a\n", "test.txt": "b\na"}, r"test.txt:2: a occurs also in \S+train.txt:1"),
        ({"train.txt": "a\n", "train_split.txt": "a\n"}, "both train.txt and train_split.txt"),
        ({"other.txt": "a\n"}, "contains no lists: expected train_split.txt"),
        ({"train.txt": b"\xff\xfe\x00"}, "train.txt cannot be read as text"),
        ({"train.txt": "Ses01F_impro01_F000"}, "this dataset of iemocap contains none of its utterances"),
        (
            {"lists.json": "{"},
            "lists.json: expected lists of ids under train, valid and test; it cannot be read",
        ),
        ({"lists.json": "[]"}, "lists.json: expected lists"),
        ({"lists.yaml": "train: a"}, "train is not a list of ids"),
        ({"lists.json": '{"train": [1]}'}, "train is not a list of ids"),
        ({"lists.yaml": "trian: [a]"}, "found the part 'trian'"),
        ({"lists.yaml": "train: [a, a]"}, "a occurs also in"),
        ({"lists.yaml": "train: [a"}, "it cannot be read"),
    ],
)
def test_lists_with_duplicate_or_invalid_ids_are_refused(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    [first] = list(files)[:1]
    with pytest.raises(InputError, match=message):
        resolve_split([row("a_1")], IEMOCAP, str(tmp_path / first if first.startswith("lists") else tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sesion-5", r"no split 'sesion-5': did you mean session-5\? Expected session-1, .*, dialog, paper, a folder"),
        ("session-6", "did you mean session-"),
        ("paper", "list that must be downloaded, and .*paper lacks it: run `mesm-data splits fetch iemocap paper`"),
        ("/nowhere/lists.yaml", "there is no split '/nowhere/lists.yaml'"),
    ],
)
def test_an_unknown_split_is_refused_with_the_list_of_known_ones(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESM_SPLITS", str(tmp_path))
    with pytest.raises(InputError, match=message):
        resolve_split(sessions(1), IEMOCAP, name)


# Leaks

moments = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 6), st.sampled_from("FM"), st.booleans(), st.integers(1, 2)),
    max_size=12,
)


@given(moments)
def test_leaks_are_all_pairs_that_share_time_across_parts(items: list[tuple[int, int, str, bool, int]]) -> None:
    """Compared with a check of every pair."""
    rows = {
        (key := f"Ses0{dialog}F_impro01_{who}{number:03d}"): row(key, start, start + length)
        for number, (start, length, who, _, dialog) in enumerate(items)
    }
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for key, item in zip(rows, items, strict=True):
        parts["test" if item[3] else "train"].append(key)
    leaks = find_leaks(parts, rows)
    expected = {
        frozenset((a, b))
        for a in parts["train"]
        for b in parts["test"]
        if rows[a]["dialog"] == rows[b]["dialog"]
        and min(rows[a]["end"], rows[b]["end"]) > max(rows[a]["start"], rows[b]["start"])
    }
    assert len(leaks.overlaps) == len(expected)
    assert {frozenset(pair) for pair in leaks.overlaps} == expected
    for column, leaked in (("speaker", leaks.speakers), ("dialog", leaks.dialogs)):
        both = Counter(value for keys in parts.values() for value in {rows[key][column] for key in keys})
        assert list(leaked) == sorted(value for value, number in both.items() if number > 1)


def test_every_resolvable_split_states_its_leaks(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's real ids at invented times: neighbours in a dialog overlap, like 7038 of the corpus' 9888."""
    monkeypatch.setenv("MESM_SPLITS", str(tmp_path / "none"))
    lists, _ = read_lists(published("iemocap"))
    places: Counter[str] = Counter()
    rows = []
    for key in sorted(key for keys in lists.values() for key in keys):
        start = 2.0 * places[key[:-5]]
        places[key[:-5]] += 1
        rows.append(row(key, start, start + 2.5))
    splits = resolve_all_splits(rows, IEMOCAP)
    assert list(splits) == [*RULES, "paper"]
    for name in RULES[:-1]:
        by_session = splits[name]
        assert not isinstance(by_session, str)
        assert by_session.leaks.counts() == {"speakers": 0, "dialogs": 0, "overlaps": 0}
    assert isinstance(splits["paper"], str)
    assert "mesm-data splits fetch iemocap paper" in splits["paper"]
    place = tmp_path / "none" / "iemocap" / "paper"
    place.mkdir(parents=True)
    for part in PARTS:
        shutil.copy(tmp_path / f"{part}_split.txt", place)
    paper = resolve_all_splits(rows, IEMOCAP)["paper"]
    assert not isinstance(paper, str)
    leaks_ = paper.leaks.counts()
    assert (leaks_["speakers"], leaks_["dialogs"]) == (10, 151)
    where = {key: part for part, keys in lists.items() for key in keys}
    neighbours = [(a["key"], b["key"]) for a, b in pairwise(rows) if a["dialog"] == b["dialog"]]
    assert leaks_["overlaps"] == sum(where[a] != where[b] for a, b in neighbours) > 1000


def test_the_rules_are_those_that_the_manifests_name() -> None:
    named = {
        corpus: [split.name for split in named_splits(built_in_schema(corpus), {}).values() if split.is_rule]
        for corpus in built_in_names()
    }
    assert {name: named[name] for name in ("iemocap", "mosei")} == {"iemocap": list(RULES), "mosei": ["dialog"]}
    counts = mesm_manifests.load("iemocap")["counts"]["sessions"]
    for number in range(1, 6):
        parts = named_splits(IEMOCAP, {})[f"session-{number}"].counts
        assert parts["test"] == counts[f"Session{number}"]["utterances"]
        assert parts["valid"] == counts[f"Session{number % 5 + 1}"]["utterances"]
        assert sum(parts.values()) == 10_039


# On shards


def test_rows_read_from_a_manifest_give_the_same_split_and_targets(tmp_path: Path) -> None:
    """The types that Parquet returns, with ratings as in the corpus."""
    numbers = {"valence": 2.0, "activation": None, "dominance": 3.0}
    rater = {"rater": "E1", "self": False, "comment": "", "emotion": ["Anger"], **numbers}
    labels = dict(zip(KEYS, ["ang", "xxx", "exc", None] * len(KEYS), strict=False))
    rows = [{**item, "labels": {"emotion": labels[item["key"]], **numbers, "raters": [rater]}}
            for item in sessions(1, 2)]  # fmt: skip
    write_table(tmp_path / "manifest.parquet", rows, manifest_schema(IEMOCAP))
    (tmp_path / "train.txt").write_text("\n".join(KEYS))
    again = read_table_rows(tmp_path / "manifest.parquet")
    assert resolve_split(again, IEMOCAP, str(tmp_path)) == resolve_split(rows, IEMOCAP, str(tmp_path))
    four = IEMOCAP.view("four")
    targets = {item["key"]: four.target(item["labels"]) for item in again}
    assert {key: None if target is None else four.classes[int(target.argmax())] for key, target in targets.items()} == {
        key: {"ang": "ang", "exc": "hap"}.get(str(label)) for key, label in labels.items()
    }
