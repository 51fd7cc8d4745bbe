"""Subtitles, words and their times."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_whisper import write_tiny_whisper

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Word
from mesm_train.inference import Clip
from mesm_train.inference.alignment import align
from mesm_train.inference.speech_recognition import Whisper
from mesm_train.inference.subtitles import Cue, read_subtitles
from mesm_train.inference.transcripts import TextSource, read_words, with_text

VTT = (
    "\ufeffWEBVTT - a title\r\n\r\nNOTE\r\na note\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\n"
    "intro\r\n00:00:02.500 --> 00:00:04.750 align:start position:10%\r\n"
    "<v Anna Maria>I <i>am</i> <00:00:03.000>so&amp;so</v>\r\nand more\r\n\r\n"
    "00:05.001 --> 00:06.000\r\n<v.loud Bob>No\r\n\r\n01:00:05.000 --> 01:00:06.000\r\n&lt;nothing&gt;\r\n"
)
SRT = (
    "1\n00:00:02,500 --> 00:00:04,750\n<i>Hello</i> {\\an8}there\nline two\n\n"
    '2\n00:00:05,000 --> 00:00:06,001\n<font color="red">Fine</font>\n\n3\n00:00:07,000 --> 00:00:08,000\n\n'
)


@pytest.mark.parametrize("newline", ["\r\n", "\n", "\r"])
def test_webvtt_keeps_milliseconds_and_voices_and_drops_markup(tmp_path: Path, newline: str) -> None:
    (tmp_path / "a.vtt").write_bytes(VTT.replace("\r\n", newline).encode())
    assert read_subtitles(tmp_path / "a.vtt") == [
        Cue(start=2.5, end=4.75, text="I am so&so and more", speaker="Anna Maria"),
        Cue(start=5.001, end=6.0, text="No", speaker="Bob"),
        Cue(start=3605.0, end=3606.0, text="<nothing>"),
    ]


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_subrip_is_read_as_pysubs2_reads_it(tmp_path: Path, newline: str) -> None:
    import pysubs2

    (tmp_path / "a.srt").write_bytes(SRT.replace("\n", newline).encode())
    expected = [
        (event.start / 1000, event.end / 1000, " ".join(event.plaintext.split()))
        for event in pysubs2.SSAFile.from_string(SRT, format_="srt")
    ]
    cues = [(cue.start, cue.end, cue.text) for cue in read_subtitles(tmp_path / "a.srt")]
    assert cues == [cue for cue in expected if cue[2]]
    assert cues[0] == (2.5, 4.75, "Hello there line two")


@pytest.mark.parametrize("between", ["\n", "\n \n", "\n\t\n", "\n\n"])
def test_a_subtitle_ends_where_the_next_one_begins(tmp_path: Path, between: str) -> None:
    """Also without the empty line, which many files lack or fill with a space."""
    (tmp_path / "a.srt").write_text(
        f"1\n00:00:01,000 --> 00:00:02,000\nIt is\n42{between}2\n00:00:02,000 --> 00:00:03,000{between}"
        "3\n00:00:03,000 --> 00:00:04,000\nNo\n"
    )
    expected = [Cue(start=1, end=2, text="It is 42"), Cue(start=3, end=4, text="No")]
    (tmp_path / "b.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\n12:30 -> 13:00\n")
    assert read_subtitles(tmp_path / "b.srt") == [Cue(start=1, end=2, text="12:30 -> 13:00")]
    assert read_subtitles(tmp_path / "a.srt") == expected
    (tmp_path / "a.vtt").write_text(
        "WEBVTT\n\n00:01.000 --> 00:02.000\n \nIt is<00:01.500><c> 42</c>\n\n00:03.000 --> 00:04.000\nNo\n"
    )
    assert read_subtitles(tmp_path / "a.vtt") == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"hello", "holds no subtitle"),
        (b"1\n00:00:01 --> 00:00:02\nx\n\n2\n00:00:03,000 --> 00:00:04,000\ny\n", "line 2: '00:00:01 --> 00:00:02' is"),
        (b"1\n00:00:01,000 -> 00:00:02,000\nx\n", "line 2: .* is not like 00:00:02,500 --> 00:00:04,750"),
        (b"1\n00:00:02,000 --> 00:00:01,000\nx\n", "line 2: the subtitle ends at 1.0 s"),
        ("1\n00:00:01,000 --> 00:00:02,000\nö\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_bad_subtitles_are_refused_with_the_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.srt").write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_subtitles(tmp_path / "a.srt")


def test_words_are_read_from_json_csv_and_tabs(tmp_path: Path) -> None:
    expected = [Word(word="so", start=0.5, end=0.75), Word(word="angry", start=1.0, end=1.5)]
    entries = [{"word": "angry", "start": 1.0, "end": 1.5}, {"word": "so", "start": 0.5, "end": 0.75}]
    short = [{"w": word.word, "t0": word.start, "t1": word.end} for word in expected]
    contents = {
        "a.json": json.dumps(entries),
        "b.json": json.dumps({"words": short}),
        "c.csv": "\ufeffstart,end,word\n0.5,0.75,so\n1,1.5,angry\n",
        "d.tsv": "word\tbegin\tstop\nso\t0.5\t0.75\nangry\t1\t1.5\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_words(tmp_path / name) == expected, name


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", "{}", "expected a list of words"),
        ("a.json", '[{"word": "so", "start": 1}]', "word 1: it has no end"),
        ("a.json", "[3]", "word 1: 3 is no word"),
        ("a.csv", "word,start,end\nso,2,1\n", "word 1: its times are 2.0 and 1.0 s"),
        ("a.csv", "word,start,end\nso,x,1\n", "word 1: could not convert"),
    ],
)
def test_bad_words_are_refused_with_their_number(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=reason):
        read_words(tmp_path / name)


def test_texts_beside_clips_are_found_and_cut_to_the_clip(tmp_path: Path) -> None:
    recipe, path = Recipe(corpus="iemocap"), tmp_path / "a.mp4"
    assert with_text(Clip(path=path), TextSource(), recipe) == [Clip(path=path)]
    (tmp_path / "a.txt").write_text(" so\nangry ")
    [clip] = with_text(Clip(path=path), TextSource(), recipe)
    assert clip.text == "so angry"
    (tmp_path / "a.vtt").write_text(VTT)
    clips = with_text(Clip(path=path, start=1, end=5.5), TextSource(), recipe)
    assert [(one.start, one.end, one.speaker) for one in clips] == [(2.5, 4.75, "Anna Maria"), (5.001, 5.5, "Bob")]
    [whole] = with_text(Clip(path=path, start=1, end=5.5), TextSource(), recipe, whole=True)
    assert whole.words == (Word(word="I am so&so and more", start=1.5, end=3.75), Word(word="No", start=4.001, end=5.0))
    [clip] = with_text(Clip(path=path), TextSource(text="other"), recipe)
    assert clip.text == "other"


@pytest.mark.filterwarnings("ignore")
def test_a_whisper_model_on_disk_gives_words_with_their_times(tmp_path: Path) -> None:
    """A random one, offline: its words are noise, their times lie in the sound, of 2 s and of more than 30 s."""
    write_tiny_whisper(tmp_path / "whisper")
    whisper = Whisper(tmp_path / "whisper")
    for seconds in (2, 33):
        noise = np.random.default_rng(0).normal(0, 3000, seconds * 16_000).astype(np.int16)
        words = whisper.words(noise)
        assert words
        assert all(0 <= word.start <= word.end <= 33 for word in words)
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"expected a folder with config\.json"):
        Whisper(tmp_path / "other")
    (tmp_path / "other/config.json").write_text('{"model_type": "albert"}')
    with pytest.raises(InputError, match="model of the type albert"):
        Whisper(tmp_path / "other")


def test_forced_alignment_finds_the_words_of_synthetic_speech(dataset: Path) -> None:
    """Against the times that the synthesiser put them at; an unknown word lies between its neighbours."""
    pytest.importorskip("pocketsphinx")
    opened = Dataset(dataset)
    sample = next(opened[key] for key in opened.keys if len(opened[key].record["words"] or ()) > 8)
    expected = sample.record["words"]
    text = sample.text.split()
    assert len(text) == len(expected)
    aligned = align(sample.samples, sample.text)
    assert [word.word for word in aligned] == text
    late = sorted(abs(word.start - truth["t0"]) for word, truth in zip(aligned, expected, strict=True))
    assert late[len(late) // 2] < 0.05
    changed = [*text[:3], "Xqzrtl", *text[3:]]
    unknown = align(sample.samples, " ".join(changed))
    assert [word.word for word in unknown] == changed
    assert unknown[2].end <= unknown[3].start <= unknown[3].end <= unknown[4].start
    with pytest.raises(MesmError, match="none of the words"):
        align(sample.samples, "Xqzrtl 42")
