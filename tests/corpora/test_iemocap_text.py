"""The parsers of IEMOCAP's text formats: the real format is read back completely, and no line is dropped silently."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.corpora.iemocap.annotations import (
    Parsed,
    Rating,
    TranscriptLine,
    Turn,
    parse_evaluation,
    parse_transcription,
    parse_wdseg,
)
from mesm_data.corpora.source_tree import decode
from mesm_data.schema.recordings import Word

WORDS = ("Neutral", "Frustration", "Excited", "Happiness", "Anger", "Sadness", "Surprise", "Fear", "Disgust", "Other")
LABELS = ("ang", "dis", "exc", "fea", "fru", "hap", "neu", "oth", "sad", "sur", "xxx")

# What Latin-1 and Windows-1252 agree on. An explicit alphabet: Hypothesis' own tables of categories take 3 s to build.
LATIN = "".join(filter(str.isprintable, map(chr, range(32, 256))))
texts = st.text(LATIN, max_size=40)
comments = st.one_of(
    st.none(),
    texts,
    st.sampled_from(["tired; polite, a bit", "a (b) c", ") (", "((", "val 1; act 1", "[1.0 - 2.0]"]),
).map(lambda comment: (comment or "").strip() or None)
values = st.none() | st.integers(1, 5).map(float) | st.sampled_from([2.5, 3.25])
times = st.integers(0, 9_999_999).map(lambda tenth_ms: tenth_ms / 10_000)
ids = st.builds(
    "Ses0{}{}_{}_{}{:03d}".format,
    st.integers(1, 5),
    st.sampled_from("FM"),
    st.sampled_from(["impro01", "impro05a", "script01_1", "script01_1b", "script03_2"]),
    st.sampled_from("FM"),
    st.integers(0, 999),
)


@st.composite
def ratings(draw: st.DrawFn) -> Rating:
    person = draw(st.sampled_from(["E1", "E2", "E6", "F1", "M5"]))
    comment = draw(comments)
    if draw(st.booleans()):
        names = tuple(draw(st.lists(st.sampled_from(WORDS), max_size=4)))
        return Rating(rater=f"C-{person}", categories=names, comment=comment)
    return Rating(rater=f"A-{person}", val=draw(values), act=draw(values), dom=draw(values), comment=comment)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    return Turn(
        line=0,
        id=draw(ids),
        start=draw(times),
        end=draw(times),
        label=draw(st.sampled_from(LABELS)),
        dimensions=draw(st.tuples(*[st.integers(2, 10).map(lambda half: half / 2)] * 3)),
        ratings=draw(st.lists(ratings(), max_size=6)),
    )


def render_rating(rating: Rating) -> str:
    r"""`C-E2:\tNeutral; Anger;\t()` or `A-E3:\tval 3; act 2; dom  2;\t()`, two spaces before the digit of dom."""
    if rating.categories is not None:
        body = " ".join(f"{name};" for name in rating.categories) or ";"
    else:
        val, act, dom = ("" if v is None else f"{v:g}" for v in (rating.val, rating.act, rating.dom))
        body = f"val {val}; act {act}; dom  {dom};"
    return f"{rating.rater}:\t{body}\t({rating.comment or ''})"


def render_turn(turn: Turn) -> list[str]:
    assert turn.dimensions is not None
    means = ", ".join(f"{value:.4f}" for value in turn.dimensions)
    head = f"[{turn.start:.4f} - {turn.end:.4f}]\t{turn.id}\t{turn.label}\t[{means}]"
    return [head, *map(render_rating, turn.ratings), ""]


@st.composite
def encodings(draw: st.DrawFn, lines: list[str]) -> str:
    """The lines as in a file, with blank lines inserted, decoded again."""
    for position in draw(st.lists(st.integers(0, len(lines)), max_size=3)):
        lines.insert(position, draw(st.sampled_from(["", " ", "\t"])))
    text = draw(st.sampled_from(["\n", "\r\n", "\r"])).join(lines)
    return decode(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig"]))))


def without_lines(records: list[Turn]) -> list[Turn]:
    return [
        Turn(line=0, id=t.id, start=t.start, end=t.end, label=t.label, dimensions=t.dimensions, ratings=t.ratings)
        for t in records
    ]


@given(st.lists(turns(), max_size=5), st.data())
def test_an_evaluation_in_the_real_format_is_read_completely(expected: list[Turn], data: st.DataObject) -> None:
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for turn in expected:
        lines += render_turn(turn)
    parsed = parse_evaluation(data.draw(encodings(lines)))
    assert parsed.problems == []
    assert without_lines(parsed.records) == expected


def test_the_documented_block_is_read_as_documented() -> None:
    text = (
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[7.1204 - 9.4810]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
        "C-E2:\tNeutral;\t()\n"
        "C-F1:\tOther; ;\t(a comment)\n"
        "A-E3:\tval 3; act 2; dom  ;\t()\n"
        "A-E4:\tval 2.5; act 3; dom  3;\t(tired; polite, a little (very) annoyed)\n\n"
    )
    assert parse_evaluation(text) == Parsed(
        records=[
            Turn(
                line=3,
                id="Ses01F_impro01_F000",
                start=7.1204,
                end=9.481,
                label="neu",
                dimensions=(2.5, 2.5, 2.5),
                ratings=[
                    Rating(rater="C-E2", categories=("Neutral",)),
                    Rating(rater="C-F1", categories=("Other",), comment="a comment"),
                    Rating(rater="A-E3", val=3.0, act=2.0),
                    Rating(rater="A-E4", val=2.5, act=3.0, dom=3.0, comment="tired; polite, a little (very) annoyed"),
                ],
            )
        ]
    )


def test_a_rating_is_one_entry_with_every_key() -> None:
    assert Rating(rater="A-M5", val=3.0).as_label() == {
        "rater": "A-M5",
        "self": True,
        "comment": None,
        "emotion": None,
        "valence": 3.0,
        "activation": None,
        "dominance": None,
    }
    assert Rating(rater="C-E4", categories=("Anger", "Fear")).as_label() == {
        "rater": "C-E4",
        "self": False,
        "comment": None,
        "emotion": ["Anger", "Fear"],
        "valence": None,
        "activation": None,
        "dominance": None,
    }


def test_the_raters_of_a_broken_turn_do_not_count_for_the_turn_above() -> None:
    text = (
        "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[2.5, 2.5, 2.5]\nC-E2:\tNeutral;\t()\n\n"
        "[3.0 - \tSes01F_impro01_F001\tang\t[2.5, 2.5, 2.5]\nC-E2:\tAnger;\t()\n"
    )
    parsed = parse_evaluation(text)
    assert [(turn.id, len(turn.ratings)) for turn in parsed.records] == [("Ses01F_impro01_F000", 1)]
    assert [problem.line for problem in parsed.problems] == [4, 5]


@pytest.mark.parametrize(
    ("dimensions", "vad"),
    [
        ("[2.5000, nan, 3.0000]", (2.5, None, 3.0)),
        ("[, , ]", None),
        ("[2.5000, 3.0000]", None),
        (f"[{'9' * 400}, 1, 1]", (None, 1.0, 1.0)),
        ("", None),
    ],
)
def test_a_turn_with_broken_dimensions_keeps_its_label_and_is_reported(
    dimensions: str, vad: tuple[float | None, ...] | None
) -> None:
    parsed = parse_evaluation(f"[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t{dimensions}")
    assert [(turn.label, turn.dimensions) for turn in parsed.records] == [("neu", vad)]
    assert len(parsed.problems) == 1


@pytest.mark.parametrize("body", ["val x; act 2; dom  2;", "val 1; val 2; dom  2;", "valence 1; act 2; dom  2;"])
def test_a_dimension_that_is_not_a_number_is_reported_and_the_rating_is_kept(body: str) -> None:
    parsed = parse_evaluation(f"[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[1, 1, 1]\nA-E1:\t{body}\t()")
    assert parsed.records[0].ratings[0].dom == 2.0
    assert [problem.line for problem in parsed.problems] == [2]


@given(
    st.lists(st.builds(TranscriptLine, line=st.just(0), id=ids, start=times, end=times, text=texts.map(str.strip))),
    st.data(),
)
def test_a_transcription_in_the_real_format_is_read_completely(
    expected: list[TranscriptLine], data: st.DataObject
) -> None:
    lines = [f"{row.id} [{row.start:08.4f}-{row.end:08.4f}]: {row.text}" for row in expected]
    others = data.draw(st.lists(st.sampled_from(["M: no id", "F:", "Ses03F_impro06_FXX1 [001.0000-002.0000]: hm"])))
    for other in others:
        lines.insert(data.draw(st.integers(0, len(lines))), other)
    parsed = parse_transcription(data.draw(encodings(lines)))
    assert parsed.problems == []
    assert [TranscriptLine(line=0, id=r.id, start=r.start, end=r.end, text=r.text) for r in parsed.records] == expected
    assert parsed.skipped.total() == len(others)
    assert parsed.skipped["with an XX id"] == sum("XX" in other for other in others)


tokens = st.text(LATIN.replace(" ", ""), min_size=1, max_size=12).filter(
    lambda token: token not in ("<s>", "</s>", "<sil>") and not re.search(r"\(\d+\)$", token)
)


@given(st.lists(st.tuples(st.integers(1, 300), tokens, st.sampled_from(["", "(2)", "(13)"]))), st.data())
def test_an_alignment_in_the_real_format_gives_the_words_in_seconds(
    segments: list[tuple[int, str, str]], data: st.DataObject
) -> None:
    lines = ["\t%5s %5s %10s %s" % ("SFrm", "EFrm", "SegAScr", "Word")]  # noqa: UP031  (SPHINX's own format string)
    expected, frame = [], 0
    for length, word, variant in [(35, "<s>", ""), *segments, (3, "<sil>", ""), (20, "</s>", "")]:
        last = frame + length - 1
        lines.append("\t%5d %5d %10d %s" % (frame, last, -91830, word + variant))  # noqa: UP031
        if word not in ("<s>", "<sil>", "</s>"):
            expected.append(Word(word=word, start=frame / 100, end=(last + 1) / 100))
        frame = last + 1
    lines.append(" Total score:   -1234567")
    parsed = parse_wdseg(data.draw(encodings(lines)))
    assert parsed.problems == []
    assert parsed.records == expected


def test_fillers_stay_and_the_right_edge_is_the_end_of_the_last_frame() -> None:
    parsed = parse_wdseg("\t   35    61     -91830 ++LAUGHTER++\n\t   62    80     -91830 THE(2)\n")
    assert parsed.records == [Word(word="++LAUGHTER++", start=0.35, end=0.62), Word(word="THE", start=0.62, end=0.81)]


# Lines that look much like real ones, so that the branches behind the first check are reached.
nearly = st.one_of(
    st.text(LATIN + "\t\x1c\x85\u2028\u0663", max_size=30),
    st.from_regex(r"\A\[[0-9. ]*-[0-9. ]*\]\t[a-zA-Z0-9]*\t[a-z]*\t\[[0-9., ]*\]\Z"),
    st.from_regex(r"\A[CA]-[EFM][0-9]:\t[a-z0-9; ]*\t?\(?[a-z;()]*\)?\Z"),
    st.from_regex(r"\ASes0[1-6][FMX0-9_]{0,12} ?\[[0-9.]*-[0-9.]*\]:? [a-z]*\Z"),
    st.from_regex(r"\A\t? *[0-9]{1,12} +[0-9]{0,3} +-?[0-9]* [a-z]*(\([0-9]\))?\Z"),
)


@given(st.lists(nearly).map("\n".join) | st.binary().map(lambda data: decode(data.replace(b"\0", b"?"))))
def test_the_parsers_never_raise_and_every_line_is_a_record_or_known_or_reported(text: str) -> None:
    lines = {number for number, line in enumerate(text.split("\n"), start=1) if line.strip()}

    evaluation = parse_evaluation(text)
    known = {n for n in lines if text.split("\n")[n - 1].strip().startswith("%")}
    heads = {turn.line for turn in evaluation.records}
    reported = {problem.line for problem in evaluation.problems}
    ratings_kept = sum(len(turn.ratings) for turn in evaluation.records)
    # A rating may be kept and reported both (a value that is no number), hence at least.
    assert ratings_kept >= len(lines - known - heads - reported)
    assert heads | reported <= lines

    transcription = parse_transcription(text)
    problems = [problem.line for problem in transcription.problems]
    assert len(transcription.records) + len(problems) + transcription.skipped.total() == len(lines)

    alignment = parse_wdseg(text)
    frame = {n for n in lines if re.match(r"\s*(SFrm|Total score:)", text.split("\n")[n - 1])}
    assert len(alignment.records) + len(alignment.problems) + alignment.skipped.total() == len(lines - frame)


@given(texts)
def test_text_is_decoded_from_utf8_windows_1252_or_latin1(text: str) -> None:
    assert decode(text.encode("utf-8")) == text
    assert decode(text.encode("utf-8-sig")) == text
    assert decode(b"caf\xe9 " + text.encode("cp1252")).startswith("café ")
    assert decode(b"\xe9 \x85 ok").endswith("\u2026 ok")
    assert decode(b"\xe9\x81") == "é\x81"


def test_binary_data_is_not_text() -> None:
    with pytest.raises(ValueError, match="NUL"):
        decode(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
