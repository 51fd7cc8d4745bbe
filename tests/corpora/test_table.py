"""A table of any origin becomes a corpus, or a message that lists every invalid row and column."""

import errno
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_iemocap_scan import add_dialog

from mesm_data.corpora.export import write_table
from mesm_data.corpora.iemocap.scan import scan as scan_iemocap
from mesm_data.corpora.open_corpus import open_corpus
from mesm_data.corpora.table.cells import parse_seconds
from mesm_data.corpora.table.media_files import MediaFiles
from mesm_data.corpora.table.scan import corpus_from_table
from mesm_data.corpora.table.table_file import read_table
from mesm_data.dataset.tar import check_key
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.schema.recordings import Corpus, Utterance, sample_key


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Write empty media files; a scan opens none."""
    for name in ("a.mp4", "b.wav", "sub/c.mov", "Raw/v1/0001.mp4", "Raw/v1/2.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def corpus_of(folder: Path, name: str, content: str | bytes) -> Corpus:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_corpus(str(folder / name), None)


def by_id(corpus: Corpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in corpus.utterances()}


# Where a table comes from


def test_a_table_needs_only_paths(media: Path) -> None:
    """No start or end: the whole file. No id: the file's name. No text: empty, with its flag."""
    rows = by_id(corpus_of(media, "t.csv", "file\na.mp4\nb.wav\nsub/c.mov\n"))
    assert set(rows) == {"a", "b", "sub/c"}
    assert rows["sub/c"].key == sample_key("sub/c") != "sub/c"
    assert (rows["a"].start, rows["a"].end, rows["a"].text, rows["a"].speaker) == (0.0, math.inf, "", None)
    assert rows["a"].flags == ("no_transcript",)
    assert [source.path for source in rows["a"].audio] == ["a.mp4"]


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_accents_are_found_in_either_spelling(
    media: Path, on_disk: Literal["NFC", "NFD"], in_table: Literal["NFC", "NFD"]
) -> None:
    """A table that was typed names the files of a Mac's archive: ü is one character there and two here."""
    name = "J\u00fcrgen.mp4"
    (media / normalize(on_disk, name)).touch()
    corpus = corpus_of(media, "t.csv", f"file\n{normalize(in_table, name)}\n")
    assert corpus.recordings[0].video == normalize(on_disk, name)
    assert corpus.utterances()[0].exclusion is None


def test_files_in_another_case_are_found_if_there_is_only_one(media: Path) -> None:
    """A table of Windows or macOS, where A.MP4 is a.mp4, is used on Linux."""
    (media / "B.WAV").touch()
    if len(list(media.glob("[bB].[wW]*"))) == 1:
        pytest.skip("this file system ignores case")
    rows = by_id(corpus_of(media, "t.csv", "file\nA.MP4\nSub/C.mov\nb.Wav\nraw/V1/0001.MP4\nb.wav\nno.wav\n"))
    paths = {id_: one.audio[0].path if one.audio else one.exclusion for id_, one in rows.items()}
    assert paths == {
        "A": "a.mp4",
        "Sub/C": "sub/c.mov",
        "b_1": ("failed", "b.Wav not found"),
        "raw/V1/0001": "Raw/v1/0001.mp4",
        "b_2": "b.wav",
        "no": ("failed", "no.wav not found"),
    }


def test_rows_of_one_file_are_cut_from_it_in_the_order_of_time(media: Path) -> None:
    corpus = corpus_of(media, "t.csv", "video,start,end\na.mp4,5,6.5\na.mp4,0.5,2\nb.mp4,00:00:01.5,00:01:02\n")
    recording, missing = corpus.recordings
    assert [(u.id, u.start, u.end) for u in recording.utterances] == [("a_2", 0.5, 2.0), ("a_1", 5.0, 6.5)]
    assert recording.utterances[0].audio[0].span == (0.5, 2.0)
    assert (missing.utterances[0].start, missing.utterances[0].end) == (1.5, 62.0)
    assert missing.utterances[0].exclusion == ("failed", "b.mp4 not found")


def test_a_file_is_found_by_its_name_as_it_is_written(media: Path) -> None:
    """A Windows archive that was unpacked badly has a name with a backslash instead of a folder."""
    for name in (" a.mp4", "sub\\b.mp4", "sub/b.mp4"):
        (media / name).touch()
    corpus = corpus_of(
        media,
        "t.jsonl",
        r"""{"file": " a.mp4"}
{"file": "sub\\b.mp4"}
{"file": " b.wav "}
{"file": "Raw\\v1\\2.mp4"}""",
    )
    paths = {utterance.audio[0].path for utterance in corpus.utterances()}
    assert paths == {" a.mp4", "sub\\b.mp4", "b.wav", "Raw/v1/2.mp4"}


def test_a_file_is_found_by_its_name_without_a_suffix(media: Path) -> None:
    """Of several files none is chosen, a missing one costs its row alone, and ids keep what is no suffix."""
    for name in ("two.mp4", "two.wav", "clip.01.mp4", "clip.02.mp4", "text"):
        (media / name).touch()
    corpus = corpus_of(media, "t.csv", "file\nsub/c\nlost\nclip.01\nclip.02\n")
    media_files = {one.id: one.exclusion or one.audio[0].path for one in corpus.utterances()}
    assert media_files == {
        "sub/c": "sub/c.mov", "lost": ("failed", "lost not found"), "clip.01": "clip.01.mp4", "clip.02": "clip.02.mp4",
    }  # fmt: skip
    with pytest.raises(InputError) as error:
        corpus_of(media, "t.csv", "file\ntwo\ntext\n")
    first, second = str(error.value).splitlines()[1:]
    assert first.endswith("row 1, column path: 'two' names two.mp4 and two.wav: write the suffix")
    assert "row 2, column path: 'text' does not have the suffix of a video or audio file" in second


def test_rows_without_times_of_one_file_are_noted(media: Path) -> None:
    """A column of times under a header that is not recognised would otherwise go unnoticed."""
    corpus = corpus_of(media, "t.csv", "file,from_ms\na.mp4,0\na.mp4,1500\nb.wav,0\n")
    assert corpus.notes[-1].startswith("2 rows without times share files with other rows, such as a.mp4: each is the")
    for table in ("file,start\na.mp4,0\na.mp4,1.5\n", "file,channel\na.mp4,1\na.mp4,2\n"):
        assert not corpus_of(media, "t.csv", table).notes


def test_the_reason_of_a_missing_file_is_true(media: Path) -> None:
    (media / "folder.mp4").mkdir()
    (media / "link.mp4").symlink_to(media / ".git/annex/gone")
    long = f"{'x' * 300}.mp4"
    rows = by_id(corpus_of(media, "t.csv", f"id,file\n1,gone.mp4\n2,folder.mp4\n3,link.mp4\n4,{long}\n5,a.mp4/b.mp4\n"))
    reasons = [exclusion.reason for id_ in sorted(rows) if (exclusion := rows[id_].exclusion)]
    assert reasons == [
        "gone.mp4 not found",
        "folder.mp4 is not a regular file",
        "link.mp4 is a link without a target (git-annex, DVC: fetch the content)",
        f"{long} cannot be read (File name too long)",
        "a.mp4/b.mp4 not found",
    ]


def test_a_lost_file_system_fails_no_row(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    files = MediaFiles(media)
    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(OSError, match="Stale"):
        files.exists("a.mp4")


def test_a_missing_sound_file_beside_a_video_is_noted(media: Path) -> None:
    corpus = corpus_of(media, "t.csv", "video,audio\na.mp4,gone.wav\nsub/c.mov,b.wav\nlost.mp4,lost.wav\n")
    assert [source.path for source in by_id(corpus)["a"].audio] == ["a.mp4"]
    assert corpus.notes == (
        "1 rows name a sound file that is missing, such as gone.wav: the sound of their videos is read",
    )


MMSA = """video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode
v1,0001, It is so.,0.6,,,,Positive,train
v1,2,No.,-1.4,,,,Negative,valid
"""
AUDFORMAT = "file,start,end,emotion\na.mp4,0 days 00:00:01.500000000,0 days 00:00:03,happy\nb.wav,0 days,NaT,sad\n"
EMOBOX = """{"key": "x-1", "dataset": "d", "wav": "b.wav", "num_frame": 16000, "length": 1, "emo": "hap", "channel": 1}
{"key": "x-2", "dataset": "d", "wav": "a.mp4", "num_frame": 16000, "length": 1, "emo": "sad", "channel": 2}
"""
SPEECHBRAIN = {
    "u1": {"wav": "$data_folder/b.wav", "length": 1.0, "emo": "n"},
    "u2": {"wav": "a.mp4", "length": 2.0, "emo": "a"},
}
DIARIZATION = {
    "u1": {
        "wav": "{root}/b.wav", "duration": 3.0,
        "emotion": [{"emo": "n", "start": 0.0, "end": 1.2}, {"emo": "a", "start": 1.2, "end": 3.0}],
    },
}  # fmt: skip
MER = "name,discrete,valence\na,happy,2.5\nb,sad,-1\n"
HUGGING_FACE = '{"file_name": "b.wav", "emotion": "sad"}\n{"file_name": "sub/c.mov", "emotion": "sad"}\n'


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("label.csv", MMSA, {"v1_0001": ("Raw/v1/0001.mp4", "train"), "v1_2": ("Raw/v1/2.mp4", "valid")}),
        ("db.emotion.csv", AUDFORMAT, {"a": ("a.mp4", None), "b": ("b.wav", None)}),
        ("d.jsonl", EMOBOX, {"x-1": ("b.wav", None), "x-2": ("a.mp4", None)}),
        ("s.json", json.dumps(SPEECHBRAIN), {"u1": ("b.wav", None), "u2": ("a.mp4", None)}),
        ("sed.json", json.dumps(DIARIZATION), {"u1_1": ("b.wav", None), "u1_2": ("b.wav", None)}),
        ("train-label.csv", MER, {"a": ("a.mp4", None), "b": ("b.wav", None)}),
        ("metadata.jsonl", HUGGING_FACE, {"b": ("b.wav", None), "sub/c": ("sub/c.mov", None)}),
        ("n.tsv", "file\temotion\tsplit\nb.wav\thappy\tDevelopment\n", {"b": ("b.wav", "valid")}),
        ("e.csv", "sep=;\r\nfile;emotion\r\nb.wav;happy\r\n", {"b": ("b.wav", None)}),
        ("p.csv", "file|text|emotion\na.mp4|Well, no; never.|sad\n", {"a": ("a.mp4", None)}),
        ("u.csv", "file,emotion\nb.wav,happy\n".encode("utf-16"), {"b": ("b.wav", None)}),
    ],
)
def test_common_headers_are_recognised(
    media: Path, name: str, content: str | bytes, expected: dict[str, tuple[str, str | None]]
) -> None:
    rows = by_id(corpus_of(media, name, content))
    assert {id_: (row.audio[0].path, row.split) for id_, row in rows.items()} == expected
    assert all(row.exclusion is None for row in rows.values())


def test_all_columns_of_the_known_tables_are_read(media: Path) -> None:
    mmsa = corpus_of(media, "label.csv", MMSA)
    assert by_id(mmsa)["v1_0001"].labels == {
        "label": 0.6, "annotation": "Positive", "raters": [],
    }  # fmt: skip
    assert (by_id(mmsa)["v1_0001"].text, by_id(mmsa)["v1_0001"].dialog) == ("It is so.", "v1")
    audformat = by_id(corpus_of(media, "db.emotion.csv", AUDFORMAT))
    assert (audformat["a"].start, audformat["a"].end, audformat["b"].end) == (1.5, 3.0, math.inf)
    emobox = corpus_of(media, "d.jsonl", EMOBOX)
    assert [by_id(emobox)[id_].audio[0].channel for id_ in ("x-1", "x-2")] == [0, 1]
    assert set(emobox.schema.labels) == {"emo"}
    segments = corpus_of(media, "sed.json", json.dumps(DIARIZATION)).utterances()
    assert [(u.start, u.end, u.labels["emo"]) for u in segments] == [(0.0, 1.2, "n"), (1.2, 3.0, "a")]


def test_lhotse_supervisions_find_their_recordings(media: Path) -> None:
    common = {"recording_id": "r", "speaker": "s", "custom": {"emotion": "sad"}}
    lines = [
        {"id": "a1", "start": 0.5, "duration": 2.0, "channel": 1, **common},
        {"id": "a2", "start": 3.0, "duration": 1.0, "channel": [0], **common},
    ]
    content = "\n".join(map(json.dumps, lines))
    with pytest.raises(InputError, match=r"add their manifest, recordings.jsonl, to the folder"):
        corpus_of(media, "supervisions.jsonl", content)
    (media / "recordings.jsonl").write_text(json.dumps({"id": "r", "sources": [{"source": "b.wav"}]}))
    rows = by_id(corpus_of(media, "supervisions.jsonl", content))
    assert [(u.start, u.end, u.audio[0].channel) for u in rows.values()] == [(0.5, 2.5, 1), (3.0, 4.0, 0)]
    assert rows["a1"].labels["emotion"] == "sad"


def test_sample_numbers_are_not_taken_for_seconds(media: Path) -> None:
    with pytest.raises(InputError, match="start and stop of a SpeechBrain manifest are sample indices"):
        corpus_of(media, "t.csv", "ID,duration,wav,start,stop,spk_id\nx,1.0,b.wav,0,16000,s\n")


def test_a_line_of_json_ends_at_a_line_feed_alone(media: Path) -> None:
    """U+2028 and U+0085 are characters of a text, although str.splitlines splits there."""
    rows = [{"file": "a.mp4", "text": "one\u2028two"}, {"file": "b.wav", "text": "three\u0085four"}]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    assert [u.text for u in corpus_of(media, "t.jsonl", content).utterances()] == ["one\u2028two", "three\u0085four"]


# What is wrong with a table


def test_every_bad_row_is_reported_at_once_with_its_number_and_column(media: Path) -> None:
    (media / "corpus.toml").write_text(
        'name = "mine"\ntable = "t.csv"\n[labels.emotion]\ntype = "category"\nvalues = ["happy", "sad"]\n'
        '[labels.valence]\ntype = "number"\nminimum = 1\nmaximum = 5\n'
    )
    (media / "t.csv").write_text(
        "id,file,start,end,emotion,valence\n"
        "one,a.mp4,1,2,happy,3\n"
        "two,../secret.wav,,,happy,3\n"
        "three,a.mp4,5,4,joyful,9\n"
        "one,b.wav,,,sad,\n"
        "five,notes.txt,,,sad,1\n"
        "six,a.mp4,soon,,sad,1\n"
        "seven,,,,sad,1\n"
    )
    with pytest.raises(InputError) as error:
        open_corpus(str(media / "corpus.toml"), None)
    lines = str(error.value).splitlines()
    assert "8 problems, nothing was built" in lines[0]
    assert [line.split(": ", 1)[0].strip() for line in lines[1:]] == [
        "row 2, column path", "row 3, column emotion", "row 3, column valence", "row 3, column end", "row 4, column id",
        "row 5, column path", "row 6, column start", "row 7, column path",
    ]  # fmt: skip


def test_empty_columns_of_a_spreadsheet_are_left_out(media: Path) -> None:
    corpus = corpus_of(media, "t.csv", "file,,emotion,,\na.mp4,,sad,,see below\nb.wav,,sad,,\n")
    assert [one.labels for one in corpus.utterances()] == [{"emotion": "sad", "raters": []}] * 2
    assert len(corpus.notes) == 2  # the label, and the column of the remark, which is not used


def test_empty_rows_of_a_spreadsheet_are_left_out_and_counted(media: Path) -> None:
    """The numbers in messages, and in the ids of rows without one, are those of the spreadsheet."""
    table = "\r\n\nid,file,emotion\n,a.mp4,sad\n,,\n\n, , \n,b.wav,sad\n,,\n"
    assert sorted(by_id(corpus_of(media, "t.csv", table))) == ["1", "5"]
    with pytest.raises(InputError, match=r"1 problems.*\n  row 5, column path: 'notes.txt' does not have the suffix"):
        corpus_of(media, "t.csv", table.replace("b.wav", "notes.txt"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "x,y\n1,2\n", r"no column with a media file: name it path, video or audio"),
        ("t.csv", "file\n", "has no rows"),
        ("t.csv", "file,file\na.mp4,b.wav\n", "has two columns 'file'"),
        ("t.csv", "file,emotion\n,\n ,\n", "has no rows"),
        ("t.csv", "file,emotion\na.mp4,sad\na.mp4,sad\0\0", r"t.csv:3 contains NUL characters: it was damaged"),
        ("t.csv", "file\na.mp4\n".encode("utf-16-le"), r"t.csv:1 contains NUL characters: .*or is UTF-16 without"),
        ("t.csv", b"file\nb\xe9.wav\n", r"t.csv:2 is not UTF-8 text: save .*: iconv -f WINDOWS-1252 -t"),
        ("t.xlsx", b"PK", r"t.xlsx is no table: .* save a spreadsheet as CSV"),
        ("t.parquet", "no parquet", "not a readable Parquet file"),
        ("t.jsonl", '{"file": "a.mp4"}\n{', r"t.jsonl:2 is not valid JSON"),
        ("t.jsonl", "[1]\n", "row 1 is not an object"),
        ("corpus.toml", 'name = "x"\nlabelz = 1\n', "labelz: Extra inputs are not permitted"),
        ("corpus.toml", "name = ", "not valid TOML"),
        ("corpus.toml", 'name = "x"\ntable = "none.csv"\n', "none.csv cannot be read"),
        ("corpus.toml", 'name = "x"\ntable = 1\n', "table: expected a path as text"),
        ("corpus.toml", 'name = "x"\n', "names no table .* its folder contains: none"),
        ("corpus.toml", 'name = "x"\n[views.v]\nlabel = "emotion"\n', "views.v: there is no label 'emotion'"),
    ],
)
def test_invalid_tables_and_schemas_are_reported(media: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        corpus_of(media, name, content)


# Labels


def test_labels_are_inferred_and_the_schema_can_be_edited(media: Path) -> None:
    table = "file,emotion,valence,note,code\n" + "".join(
        f"{name},{'happy' if n % 2 else 'sad'},{n}.5,free text {n},{n % 3}\n"
        for n, name in enumerate(["a.mp4", "b.wav", "sub/c.mov", "Raw/v1/2.mp4"])
    )
    corpus = corpus_of(media, "t.csv", table)
    assert {name: scheme.type for name, scheme in corpus.schema.labels.items()} == {
        "emotion": "category", "valence": "number", "code": "number",
    }  # fmt: skip
    assert "columns that are not used: note" in corpus.notes
    assert corpus.schema.view("emotion").classes == ("happy", "sad")
    assert corpus.schema.view("valence").task == "number"
    (media / "corpus.toml").write_text(
        'name = "mine"\ntable = "t.csv"\n[labels.emotion]\ntype = "category"\nvalues = ["happy", "sad", "angry"]\n'
        '[views.mood]\nlabel = "emotion"\ntask = "single"\n'
        '[views.mood.classes]\nup = ["happy"]\ndown = ["sad", "angry"]\n'
    )
    edited = open_corpus(str(media / "corpus.toml"), None)
    view = edited.schema.view("mood")
    assert (edited.name, view.classes, view.task, view.exclusive) == ("mine", ("up", "down"), "single", True)
    target = view.target(by_id(edited)["a"].labels)
    assert target is not None
    assert target.tolist() == [0.0, 1.0]


def test_a_mode_or_a_fold_is_a_split_only_if_it_names_parts(media: Path) -> None:
    rows = corpus_of(media, "t.csv", "file,mode,fold\na.mp4,song,1\nb.wav,song,2\n").utterances()
    assert [(one.labels, one.split) for one in rows] == [
        ({"mode": "song", "fold": number, "raters": []}, None) for number in (1.0, 2.0)
    ]
    rows = corpus_of(media, "t.csv", "file,fold\na.mp4,train\nb.wav,unused\n").utterances()
    assert [(one.labels, one.split) for one in rows] == [({"raters": []}, "train"), ({"raters": []}, "unused")]


def test_several_categories_are_read_from_a_column_each_or_from_one(media: Path) -> None:
    for columns, header, cells in (
        ('columns = ["joy", "fear"]', "file,joy,fear", ("a.mp4,1,0", "b.wav,1,1", "sub/c.mov,,")),
        ('columns = ["joy", "fear"]', "file,joy,fear", ("a.mp4,TRUE,FALSE", "b.wav,yes,True", "sub/c.mov,NA,")),
        ('column = "both"\nseparator = "|"', "file,both", ("a.mp4,joy", "b.wav,joy|fear", "sub/c.mov,")),
    ):
        (media / "corpus.toml").write_text(
            f'name = "m"\ntable = "t.csv"\n[labels.present]\ntype = "multilabel"\nvalues = ["joy", "fear"]\n{columns}\n'
            '[views.all]\nlabel = "present"\n'
        )
        (media / "t.csv").write_text("\n".join([header, *cells]))
        corpus = open_corpus(str(media / "corpus.toml"), None)
        rows, view = by_id(corpus), corpus.schema.view("all")
        assert [rows[id_].labels["present"] for id_ in ("a", "b", "sub/c")] == [["joy"], ["joy", "fear"], None]
        targets = [view.target(rows[id_].labels) for id_ in ("a", "b", "sub/c")]
        assert [target if target is None else target.tolist() for target in targets] == [[1, 0], [1, 1], None]


def test_votes_and_percentages_are_no_shares(media: Path) -> None:
    """Trained on them, the cross-entropy has no minimum."""
    (media / "corpus.toml").write_text(
        'name = "m"\ntable = "t.csv"\n[labels.up]\ntype = "number"\n[labels.down]\ntype = "number"\n'
        '[views.mood]\ntarget = "share"\n[views.mood.classes]\nup = ["up"]\ndown = ["down"]\n'
    )
    for cells in ("a.mp4,3,2", "a.mp4,60,40", "a.mp4,-0.2,1"):
        (media / "t.csv").write_text(f"file,up,down\n{cells}\nb.wav,0.25,0.75\nsub/c.mov,,1\n")
        with pytest.raises(InputError, match=r"1 problems.*\n  row 1, column up, down: .*a share is between 0 and 1"):
            open_corpus(str(media / "corpus.toml"), None)
    (media / "t.csv").write_text("file,up,down\na.mp4,0.33,0.67\nb.wav,0,1\n")
    assert len(by_id(open_corpus(str(media / "corpus.toml"), None))) == 2


def test_a_category_that_is_called_none_is_noted(media: Path) -> None:
    corpus = corpus_of(media, "t.csv", "file,emotion,valence\na.mp4,happy,1\nb.wav,none,nan\nsub/c.mov,None,2\n")
    assert corpus.notes == (
        "label emotion: one of 1 categories (happy); 2 cells with None, none have no value, unless a corpus.toml has "
        "None, none among the values",
        "label valence: a number",
    )


def test_a_mark_that_is_neither_yes_nor_no_is_a_problem(media: Path) -> None:
    """Also the words of a spreadsheet in another language: taken for marks, every category would be present."""
    (media / "corpus.toml").write_text(
        'name = "m"\ntable = "t.csv"\n[labels.present]\ntype = "multilabel"\nvalues = ["joy", "fear"]\n'
        'columns = ["joy", "fear"]\n'
    )
    (media / "t.csv").write_text("file,joy,fear\na.mp4,WAHR,FALSCH\nb.wav,1,0\n")
    with pytest.raises(InputError, match=r"row 1, column present: joy: 'WAHR' is neither 0 \(false, no\) nor 1"):
        open_corpus(str(media / "corpus.toml"), None)


def test_decimal_commas_are_read_where_semicolons_separate_the_columns(media: Path) -> None:
    """The CSV that Excel writes in most of Europe."""
    table = (
        "file;start;end;valence;text\r\na.mp4;0,5;00:00:02,5;4,5;1,5\r\nb.wav;1;2;-1;Well, no.\r\nsub/c.mov;;;NA;\r\n"
    )
    corpus = corpus_of(media, "t.csv", table.encode("utf-8-sig"))
    rows = by_id(corpus)
    assert [rows[id_].labels["valence"] for id_ in ("a", "b", "sub/c")] == [4.5, -1.0, None]
    assert (rows["a"].start, rows["a"].end, rows["a"].text, rows["b"].text) == (0.5, 2.5, "1,5", "Well, no.")
    assert corpus.schema.view("valence").task == "number"


def test_raters_are_read_from_a_separate_table(media: Path) -> None:
    (media / "corpus.toml").write_text(
        'name = "m"\ntable = "t.csv"\n[ratings]\ntable = "r.csv"\nlabels = ["emotion", "valence"]\n'
        '[labels.emotion]\ntype = "category"\nvalues = ["happy", "sad"]\n[labels.valence]\ntype = "number"\n'
        '[views.soft]\nlabel = "emotion"\ntarget = "rater_share"\n'
    )
    (media / "t.csv").write_text("file,emotion,valence\na.mp4,happy,3\nb.wav,sad,1\n")
    rows = (
        "id,rater,label,value,self\na,r1,emotion,happy,no\na,r1,valence,4,no\n"
        "a,r2,emotion,sad,no\na,me,emotion,sad,yes\n0b,r1,emotion,sad,no\n"
    )
    (media / "r.csv").write_text(rows)
    corpus = open_corpus(str(media / "corpus.toml"), None)
    labels = by_id(corpus)["a"].labels
    assert labels["raters"] == [
        {"rater": "r1", "self": False, "comment": None, "emotion": ["happy"], "valence": 4.0},
        {"rater": "r2", "self": False, "comment": None, "emotion": ["sad"], "valence": None},
        {"rater": "me", "self": True, "comment": None, "emotion": ["sad"], "valence": None},
    ]
    target = corpus.schema.view("soft").target(labels)
    assert target is not None
    assert target.tolist() == [0.5, 0.5]
    assert by_id(corpus)["b"].labels["raters"] == []
    assert corpus.notes == ("ratings of 1 ids that the table lacks, such as '0b', are not used",)
    (media / "r.csv").write_text(rows.replace("r2,emotion,sad", "r2,emotion,angry"))
    with pytest.raises(InputError, match=r"r.csv: row 3: emotion 'angry' is none of happy, sad"):
        open_corpus(str(media / "corpus.toml"), None)


# Parsers


@given(st.decimals(0, 10**6, places=3))
def test_seconds_are_read_in_every_spelling(seconds: Any) -> None:
    value = float(seconds)
    hours, rest = divmod(seconds, 3600)
    minutes, second = divmod(rest, 60)
    assert parse_seconds(str(value)) == value
    if hours < 1000:
        for mark in (".", ","):
            clock = f"{int(hours)}:{int(minutes):02}:{second:06.3f}".replace(".", mark)
            assert parse_seconds(clock) == pytest.approx(value, abs=1e-6)


@given(st.text(max_size=40) | st.from_regex(r"\A-?[0-9.e:,]{1,12}\Z"))
def test_any_other_text_is_refused_with_a_sentence(text: str) -> None:
    message = ""
    try:
        value = parse_seconds(text)
    except InputError as error:
        value, message = None, str(error)
    assert value is None or value >= 0
    assert not message or "is not a time" in message


@given(st.text(min_size=1, max_size=300))
def test_every_id_has_a_key_that_can_name_a_sample(id_: str) -> None:
    key = sample_key(id_)
    check_key(key)
    assert key == sample_key(id_)
    assert (key == id_) == (re.fullmatch(r"[A-Za-z0-9_-]{1,88}", id_) is not None)


@given(st.lists(st.text(min_size=1, max_size=100), unique=True, max_size=20))
def test_different_ids_have_different_keys(ids: list[str]) -> None:
    assert len({sample_key(id_) for id_ in ids}) == len(ids)


@pytest.mark.slow
def test_a_table_of_100_000_rows_is_read_in_less_than_a_gigabyte(media: Path) -> None:
    n = 100_000
    table = {"file": ["a.mp4"] * n, "start": range(n), "end": range(1, n + 1), "emotion": ["x", "y"] * (n // 2)}
    pd.DataFrame(table).to_csv(media / "t.csv", index=False)
    program = (
        "import re, sys; from mesm_data.corpora.open_corpus import open_corpus\n"
        "print(len(open_corpus(sys.argv[1], None).utterances()))\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"  # kB
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(media / "t.csv")], capture_output=True, text=True, check=True
    )
    rows, kilobytes = map(int, done.stdout.split())
    assert (rows, kilobytes < 1_000_000) == (n, True)


def test_a_file_without_a_suffix_is_not_a_table_though_it_has_the_name_of_a_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "iemocap").write_text("notes\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MESM_IEMOCAP", raising=False)
    with pytest.raises(InputError, match=r"no source: give --source, or set MESM_IEMOCAP"):
        open_corpus("iemocap", None)


# And back


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet", ".jsonl"])
def test_a_scanned_corpus_can_be_converted_to_a_table(media: Path, suffix: str) -> None:
    (media / "a.mp4").rename(media / "a\r\t\n.mp4")
    corpus = corpus_of(
        media,
        "t.jsonl",
        '{"id": "x 1", "video": "a\\r\\t\\n.mp4", "start": 0, "end": 1.5, "speaker": "s", "emotion": "sad"}\n'
        '{"id": "y", "video": "gone.mp4", "start": 1, "end": 2, "speaker": "s", "emotion": "sad"}\n',
    )
    write_table(corpus, media / f"out{suffix}")
    frame = read_table(media / f"out{suffix}")
    assert frame["video"].tolist()[0] == "a\r\t\n.mp4"
    assert frame["id"].tolist() == ["x 1", "y"]
    assert frame["emotion"].tolist() == ["sad", "sad"]
    assert frame["failed"].tolist()[1] == "gone.mp4 not found"
    assert set(open_corpus(str(media / f"out{suffix}"), media).schema.labels) == {"emotion"}
    again = corpus_from_table(frame, corpus.schema, media, where="again")
    assert [(u.id, u.start, u.end, u.exclusion) for u in again.utterances()] == [
        (u.id, u.start, u.end, u.exclusion) for u in corpus.utterances()
    ]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_table_of_a_corpus_is_a_table_of_ones_own(tmp_path: Path, suffix: str) -> None:
    """A wav that no text names has no times, pandas writes channels as 2.0, and no label may be named `raters`."""
    root = tmp_path / "iemocap"
    add_dialog(root, "Ses01F_impro01", {"F000": (5.0, 7.0), "M000": (1 / 3, 4.0)})
    path = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    path.write_text(path.read_text().replace("[0.3333 ", "[0.333333333333 "))
    (root / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M007.wav").touch()
    corpus = scan_iemocap(root)
    assert [one.id[-4:] for one in corpus.utterances() if one.exclusion] == ["M007"]
    write_table(corpus, tmp_path / f"out{suffix}")
    again = by_id(open_corpus(str(tmp_path / f"out{suffix}"), root))
    for one in corpus.utterances():
        other = again[one.id]
        assert (other.start, other.end, other.text, other.flags) == (one.start, one.end, one.text, one.flags)
        assert (other.exclusion, other.labels["emotion"]) == (one.exclusion, one.labels["emotion"])
        assert one.exclusion or other.audio[0].channel == one.audio[1].channel in (0, 1)
        assert (other.region.left, other.region.right) == (one.region.left, one.region.right)
    assert {one.region.left for one in again.values()} == {0.0, 0.5}  # each actor has a half of the picture


def test_a_table_named_like_a_built_in_corpus_is_not_that_corpus(media: Path) -> None:
    assert corpus_of(media, "iemocap.csv", "file\na.mp4\n").schema.name == "iemocap_table"


def test_a_region_is_a_part_of_the_frame(media: Path) -> None:
    table = "file,region_left,region_right\na.mp4,,0.5\nb.wav,,\n"
    regions = [(one.region.left, one.region.right) for one in corpus_of(media, "t.csv", table).utterances()]
    assert regions == [(0.0, 0.5), (0.0, 1.0)]
    for left in ("0.5", "left", "-0.1", "nan"):
        with pytest.raises(InputError, match=r"row 1, column region_left: .* is not a part of the frame's width"):
            corpus_of(media, "t.csv", table.replace(",,0.5", f",{left},0.5"))


def test_a_schema_is_the_same_through_json_and_toml(tmp_path: Path) -> None:
    """The order of labels, values, classes, views and splits survives a program that sorts the keys of objects."""
    import tomllib

    from mesm_data.corpora.table.toml_writer import to_toml
    from mesm_data.schema.built_in import built_in_names, built_in_schema

    for name in built_in_names():
        schema = built_in_schema(name)
        sorted_json = json.loads(json.dumps(schema.as_dict(), sort_keys=True))
        toml = tomllib.loads(to_toml(schema.as_mapping()))
        for again in (CorpusSchema.parse(sorted_json, "json"), CorpusSchema.parse(toml, "toml")):
            assert again == schema
            assert list(again.labels) == list(schema.labels)
            assert list(again.splits) == list(schema.splits)
            for view in schema.views:
                assert again.view(view).classes == schema.view(view).classes
