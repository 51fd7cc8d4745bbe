"""CMU-MOSEI's transcripts, ids and answers: the real format is read back, and nothing is dropped silently."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mosei_trees import COLUMNS, answer, put, table

from mesm_data.corpora.mosei.ratings import (
    EMOTIONS,
    ITEMS,
    candidate_means,
    mean_ratings,
    mosei_labels,
    parse_answers,
    read_answers,
)
from mesm_data.corpora.mosei.transcripts import Clip, is_video_id, parse_clip_number, parse_transcript, parse_video_id
from mesm_data.corpora.parsing import Parsed

# The kinds of ids that the 3293 labelled videos have, the three with two underscores among them.
REAL_IDS = [
    "--qXJuDtHPw", "-3g5yACwYnA", "_0efYOjQYRc", "_HanACduNJk", "FcAgbLF6__s", "mjQfQx2K__8", "PtH_8O__EAY", "188343",
    "24196", "4321",
]  # fmt: skip
# An explicit alphabet: Hypothesis' own tables of categories take 3 s to build.
PRINTABLE = "".join(filter(str.isprintable, map(chr, range(32, 256)))) + "—…’漢"
ID = "abcXYZ0189-_"
videos = st.sampled_from(REAL_IDS) | st.text(ID, min_size=11, max_size=11).filter(
    lambda id_: "___" not in id_ and not id_.endswith("_")
)
texts = st.lists(st.text(PRINTABLE, max_size=12) | st.sampled_from(["___", "_____", '"', ",", " "]), max_size=5).map(
    lambda parts: "".join(parts).strip()
)
times = st.floats(-0.5, 300, allow_nan=False).map(lambda second: round(second, 13))
clips = st.builds(Clip, line=st.just(0), video=videos, number=st.integers(0, 999), start=times, end=times, text=texts)


def line_of(clip: Clip) -> str:
    return f"{clip.video}___{clip.number}___{clip.start!r}___{clip.end!r}___{clip.text}"


@given(st.lists(clips, max_size=6), st.sampled_from(["\n", "\n\n", " \n"]))
def test_a_transcript_in_the_real_format_is_read_completely(expected: list[Clip], end: str) -> None:
    parsed = parse_transcript(end.join(line_of(clip) for clip in expected), expected[0].video if expected else "x")
    lines_read = [
        Clip(line=0, video=c.video, number=c.number, start=c.start, end=c.end, text=c.text) for c in parsed.records
    ]
    assert lines_read == expected
    assert all("another video" in problem.message for problem in parsed.problems)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        # Real starts of lines, as users quote them in the SDK's and other issues; the words are made up.
        ("_0efYOjQYRc___0___0.0___8.025___Good morning …", ("_0efYOjQYRc", 0, 0.0, 8.025, "Good morning …")),
        ("-3g5yACwYnA___2___4.84___14.052___Well, yes. ", ("-3g5yACwYnA", 2, 4.84, 14.052, "Well, yes.")),
        (
            "-mJ2ud6oKI8___1___0.47029478458___6.51882086168___No",
            ("-mJ2ud6oKI8", 1, 0.47029478458, 6.51882086168, "No"),
        ),
        ('188343___11___-0.487528344671___3___He said "___", or _____', None),
        ("FcAgbLF6__s___7___1e-05___2.5___", ("FcAgbLF6__s", 7, 1e-05, 2.5, "")),
        ("mjQfQx2K__8___7___1.5___2.5", ("mjQfQx2K__8", 7, 1.5, 2.5, "")),
        ("4321___0___.5___2.___x", ("4321", 0, 0.5, 2.0, "x")),
    ],
)
def test_every_form_of_a_line_is_understood(line: str, expected: tuple[Any, ...] | None) -> None:
    expected = expected or ("188343", 11, -0.487528344671, 3.0, 'He said "___", or _____')
    parsed = parse_transcript(line, expected[0])
    assert parsed.problems == []
    (clip,) = parsed.records
    assert (clip.video, clip.number, clip.start, clip.end, clip.text) == expected


def test_a_line_without_separators_continues_the_text_above_and_is_reported() -> None:
    parsed = parse_transcript("4321___0___0.0___2.0___one\ntwo\n\nthree ___\n4321___1___2.0___3.0___four", "4321")
    assert [clip.text for clip in parsed.records] == ["one two three ___", "four"]
    assert [problem.line for problem in parsed.problems] == [2, 4]


def test_a_damaged_line_is_dropped_with_its_continuation() -> None:
    torn = ["4321___1___nan___3.0___b", "4321___x___1.0___3.0___b", "4321___", "4321___1___2.0"]
    for line in torn:
        parsed = parse_transcript(f"4321___0___0.0___2.0___a\n{line}\nlost\n", "4321")
        assert [clip.text for clip in parsed.records] == ["a"]
        assert [problem.line for problem in parsed.problems] == [2, 3]
    assert [problem.line for problem in parse_transcript("no clip above", "4321").problems] == [1]


def test_a_line_of_another_video_keeps_its_video_and_is_reported() -> None:
    parsed = parse_transcript("24196___0___0.0___2.0___a\n../x___0___0.0___2.0___b", "4321")
    assert [clip.video for clip in parsed.records] == ["24196"]
    assert [(p.line, "another video" in p.message) for p in parsed.problems] == [(1, True), (2, False)]


nearly = st.one_of(
    st.text(PRINTABLE + "\t\x1c\x85\u2028\u0663\0", max_size=30),
    st.from_regex(r"\A[a-z0-9_.-]{0,8}___[0-9]{0,3}___-?[0-9.e]{0,6}___[0-9.]{0,4}(___[a-z_]{0,6})?\Z"),
)


@given(st.lists(nearly, max_size=8))
def test_the_parser_never_raises_and_every_line_of_a_transcript_is_a_clip_or_reported(lines: list[str]) -> None:
    parsed = parse_transcript("\n".join(lines), "ab")
    heads = {clip.line for clip in parsed.records}
    reported = {problem.line for problem in parsed.problems}
    assert heads | reported == {number for number, line in enumerate(lines, start=1) if line.strip()}
    assert all(is_video_id(clip.video) for clip in parsed.records)


@given(videos, st.sampled_from(["{}", " {} ", "dir/{}", "/a/b/{}", "a\\{}", "{}.mp4", "dir/{}.mp4"]))
def test_a_video_is_recognised_in_every_spelling_of_its_cell(video: str, spelling: str) -> None:
    assert parse_video_id(spelling.format(video)) == video


def test_numbers_stay_text_and_conversions_of_spreadsheets_are_reversed() -> None:
    assert [parse_video_id(cell) for cell in ("188343", "188343.0", "dir/188343.0")] == ["188343"] * 3
    assert [parse_video_id(cell) for cell in ("", "nan", "NaN", "dir/", "a b", "../..", "a.b", "é", "1.88E+05")] == [
        None
    ] * 9


@given(st.integers(0, 999_999), st.sampled_from(["{}", "{}.0", " {} ", "{}.", "0{}", "{}.00"]))
def test_a_clip_number_is_recognised_in_every_spelling(number: int, spelling: str) -> None:
    cell = spelling.format(number)
    assert parse_clip_number(cell) == (number if len(cell.strip().partition(".")[0]) <= 6 else None)


@pytest.mark.parametrize("cell", ["", "nan", "-1", "3.5", "1e2", "inf", "٣", "3 4", "9" * 30])
def test_other_cells_are_not_clip_numbers(cell: str) -> None:
    assert parse_clip_number(cell) is None


cells = st.none() | st.integers(0, 3) | st.sampled_from([1.0, 2.5])
spellings = st.sampled_from(["{}", " {} ", "{}.0"])
rows = st.lists(st.tuples(videos, st.integers(0, 99), st.lists(cells, min_size=7, max_size=7)), max_size=8)
# No bare carriage return: it ends a row, and the csv module quotes it only where it is the end of its own rows.
fats = st.text(PRINTABLE + '\n",;\t', max_size=60)


@given(rows, st.permutations(COLUMNS), fats, st.sampled_from(["\n", "\r\n"]), st.sampled_from([0, 1]), st.data())
def test_answers_are_read_for_any_order_of_columns_and_any_other_columns(
    answers: list[tuple[str, int, list[float | None]]],
    columns: list[str],
    fat: str,
    line_end: str,
    quoting: int,
    data: st.DataObject,
) -> None:
    written = []
    for index, (video, clip, values) in enumerate(answers):
        row = answer(video, clip, index) | {"Title": fat}
        for item, value in zip(ITEMS, values, strict=True):
            row[f"Answer.{item}"] = "" if value is None else str(value)
        row["Input.CLIP"] = data.draw(spellings).format(clip)
        written.append(row)
    text = table(written, columns, lineterminator=line_end, quoting=quoting)
    parsed = parse_answers(io.StringIO(text, newline=""))
    assert parsed.problems == []
    assert [(a.video, a.clip, list(a.values)) for a in parsed.records] == answers
    assert parsed.skipped.total() == len(answers) - len(parsed.records)


def test_rows_without_a_rating_are_counted_and_values_outside_the_scale_are_kept_and_reported() -> None:
    rows = [
        answer("4321", "3.0", anger="3.0", sentiment="-3"),
        answer("", 1),
        answer("4321", ""),
        answer("nan", "nan"),
        answer("4321", 1, **dict.fromkeys(ITEMS, "")),
        answer("4321", 1, **dict.fromkeys(ITEMS, "NaN")),
        answer("a b", 1),
        answer("4321", 2, anger=4, sentiment=-3.5, fear="very", sadness="inf", disgust="1e999", surprise=-1),
        answer("4321", 5, happiness=""),
    ]
    parsed = parse_answers(io.StringIO(table(rows), newline=""))
    assert parsed.skipped == {"without a video or a clip": 3}
    by_clip = {a.clip: dict(zip(ITEMS, a.values, strict=True)) for a in parsed.records}
    assert by_clip[3] == {**dict.fromkeys(ITEMS, 0.0), "anger": 3.0, "sentiment": -3.0}
    odd = {"anger": 4.0, "sentiment": -3.5, "surprise": -1.0, "fear": None, "sadness": None, "disgust": None}
    assert by_clip[2] == {"happiness": 0.0, **odd}
    assert by_clip[5]["happiness"] is None
    assert [a.values for a in parsed.records if a.clip == 1] == [(None,) * len(ITEMS)] * 2
    messages = [problem.message for problem in parsed.problems]
    assert [sum(word in message for message in messages) for word in ("names no clip", "outside", "no number")] == [
        1,
        3,
        3,
    ]


def test_cells_of_any_size_are_read_and_the_limit_of_the_process_is_restored(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    html = '<td class="a">a, "b"\r\n</td>' * 40_000  # a megabyte; csv's own limit is 128 KiB
    path = put(tmp_path / "a.csv", b"\xef\xbb\xbf" + table([answer("4321", 0, 0) | {"Title": html}]).encode())
    path.write_bytes(path.read_bytes() + table([answer("4321", 1) | {"Title": "caf\xe9"}]).encode("latin-1"))
    parsed = read_answers(path)
    assert [(a.video, a.clip) for a in parsed.records] == [("4321", 0), ("4321", 1)]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_copy_that_a_spreadsheet_saved_is_read(delimiter: str) -> None:
    text = table([answer("4321", 1)], delimiter=delimiter)
    assert len(parse_answers(io.StringIO(text, newline="")).records) == 1


def test_a_truncated_file_and_a_file_without_ratings_are_reported() -> None:
    text = table([answer("4321", 0), answer("4321", 1)])
    cut = parse_answers(io.StringIO(text[: text.rindex('Rate ""it') + 4], newline=""))
    assert [a.clip for a in cut.records] == [0]
    assert ["cells" in problem.message for problem in cut.problems] == [True]
    other = parse_answers(["file,index,start,end,sentiment\n", "a,0,1,2,3\n"])
    assert (other.records, [problem.line for problem in other.problems]) == ([], [1])
    assert [problem.line for problem in parse_answers([]).problems] == [1]


@given(st.text(PRINTABLE + '\n\r",\0', max_size=80), st.booleans())
def test_the_reader_never_raises_whatever_the_table(text: str, with_header: bool) -> None:
    parsed = parse_answers(io.StringIO((table([]) if with_header else "") + text, newline=""))
    assert isinstance(parsed, Parsed)
    assert all(is_video_id(a.video) and a.clip >= 0 for a in parsed.records)


raters = st.lists(
    st.fixed_dictionaries({item: st.none() | st.integers(0, 3).map(float) for item in ITEMS}), min_size=1, max_size=6
)


@given(raters)
def test_an_emotion_is_present_whether_empty_cells_are_skipped_or_zero_and_answers_are_averaged_or_summed(
    raters: list[dict[str, float | None]],
) -> None:
    means = mean_ratings(raters)
    for emotion in EMOTIONS:
        present = (means[emotion] or 0) > 0
        assert present == (sum(rater[emotion] or 0 for rater in raters) > 0)
    json.dumps(mosei_labels(means, raters), allow_nan=False)


def test_a_missing_answer_counts_as_zero_as_in_the_published_means() -> None:
    zeros = dict.fromkeys(ITEMS, 0.0)
    means = mean_ratings([{**zeros, "fear": 1.0, "sentiment": -3.0}, {**zeros, "fear": None}, {**zeros, "anger": 1.0}])
    assert means == {**zeros, "fear": 1 / 3, "anger": 1 / 3, "sentiment": -1.0}
    assert mean_ratings([{**zeros, "fear": None}])["fear"] == 0.0


def test_every_reading_of_missing_answers_is_a_possible_mean() -> None:
    zeros, nothing = dict.fromkeys(ITEMS, 0.0), dict.fromkeys(ITEMS, None)
    whole = [{**zeros, "fear": 3.0}, zeros]
    assert candidate_means(whole) == [mean_ratings(whole)]
    candidates = candidate_means([{**zeros, "fear": 3.0}, {**zeros, "fear": None}, nothing])
    assert [means["fear"] for means in candidates] == [1.0, 1.5, 3.0]
    assert candidate_means([nothing])[0] == zeros


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be"])
def test_a_table_in_utf16_is_read_by_its_mark(tmp_path: Path, mark: str) -> None:
    path = put(tmp_path / "a.csv", ("\ufeff" + table([answer("4321", 1, anger=2)], delimiter="\t")).encode(mark))
    [record] = read_answers(path).records
    assert (record.video, record.clip, record.values[0]) == ("4321", 1, 2.0)


@pytest.mark.parametrize(("line", "delimiter"), [("sep=,", ","), ("sep=;", ";"), ('"SEP=|"', "|"), ("sep=\t", "\t")])
def test_the_separator_line_of_a_spreadsheet_is_not_a_header(line: str, delimiter: str) -> None:
    text = f"{line}\r\n" + table([answer("4321", 1), answer("", 1)], delimiter=delimiter)
    parsed = parse_answers(io.StringIO(text, newline=""))
    assert [(a.video, a.clip) for a in parsed.records] == [("4321", 1)]
    assert (parsed.problems, parsed.skipped) == ([], {"without a video or a clip": 1})


def test_the_record_has_the_emotions_by_name_and_no_workers() -> None:
    zeros = dict.fromkeys(ITEMS, 0.0)
    record = mosei_labels(mean_ratings([{**zeros, "happiness": 2.0}]), [{**zeros, "happiness": 2.0}])
    assert record == {
        **dict.fromkeys(EMOTIONS, 0.0),
        "happiness": 2.0,
        "sentiment": 0.0,
        "raters": [{"rater": None, "self": False, "comment": None, **zeros, "happiness": 2.0}],
    }
    assert mosei_labels(None, []) == {**dict.fromkeys(ITEMS), "raters": []}


def test_every_id_of_the_papers_split_is_a_clip_of_a_video_in_the_same_official_fold(shared: Path) -> None:
    counts = {}
    for part in ("train", "valid", "test"):
        fold = set((shared / f"splits/mosei_official_{part}_videos.txt").read_text().split())
        ids = (shared / f"splits/mosei_{part}_split.txt").read_text().split()
        counts[part] = len(ids)
        for id_ in ids:
            video, _, clip = id_.rpartition("_")
            assert parse_video_id(video) == video
            assert parse_clip_number(clip) == int(clip)
            assert f"{video}_{int(clip)}" == id_
            assert video in fold
            (parsed,) = parse_transcript(f"{video}___{clip}___0.0___1.5___x", video).records
            assert (parsed.video, parsed.number) == (video, int(clip))
            assert re.fullmatch(r"[A-Za-z0-9_-]+", id_)
    assert counts == {"train": 14524, "valid": 1765, "test": 4188}
