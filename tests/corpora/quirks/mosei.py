"""The oddities of the real CMU-MOSEI's texts, ids and labels, planted in a synthetic one. See bed.py."""

from pathlib import Path
from typing import Any

from mesm_data.synthetic.mosei_text import AUDIO, LABELS, TRANSCRIPTS
from quirks.bed import copy_file, hide_junk
from quirks.mosei_bed import EMOTIONS, FILES, MoseiBed, clone, mp4, read, transcript  # fmt: skip
from quirks.mosei_media import MEDIA

MISTIMED, FACELESS = "6TKaGMkO69E", "_HanACduNJk"  # two of the videos that are known for it
# Where other copies of the corpus keep things: found in public code.
VARIANTS = (
    (AUDIO, "Raw/Audio/WAV_16000"),
    (TRANSCRIPTS, "Raw/Transcript/Combined"),
    (FILES[5], f"{LABELS}/pom_extra_sqa_mono_results_mod.csv"),
)


def plant(root: Path) -> dict[str, Any]:
    """Plant all quirks in the corpus at `root`; returns the oracle, which is also written there.

    Raises ValueError if no video of the corpus has sound and two labelled clips.
    """
    bed = read(root)
    for quirk in (*MEDIA, known_videos, *TEXTS, *ANSWERS, *TABLES):
        quirk(bed)
    bed.write_answers()
    for last in (copied_table, no_alignment, folder_variants, hide_junk):
        last(bed)
    return bed.save()


def known_videos(bed: MoseiBed) -> None:
    """A video whose times are known to be wrong, and one that is known to show no face."""
    for name, video, flag in (
        ("mistimed", MISTIMED, "mistimed"), ("faceless", FACELESS, "faceless"),
    ):  # fmt: skip
        for id_ in clone(bed, video):
            bed.flag(id_, flag)
        bed.planted(name, mp4(video))


def _says(bed: MoseiBed, name: str, raw: str | bytes, text: str) -> str:
    """Replace a clip's text by `raw`, which reads as `text`; returns the file. `raw` bytes get a file of their own."""
    id_ = clone(bed)[0] if isinstance(raw, bytes) else bed.some()
    video, number = id_.rsplit("_", 1)
    path = transcript(video)
    lines = (bed.root / path).read_bytes().splitlines(keepends=True)
    place = next(index for index, line in enumerate(lines) if line.startswith(f"{video}___{number}___".encode()))
    head = b"___".join(lines[place].split(b"___")[:4])
    lines[place] = head + b"___" + (raw if isinstance(raw, bytes) else raw.encode()) + b"\n"
    (bed.root / path).write_bytes(b"".join(lines))
    bed.expect(id_, text=text)
    if not text:
        bed.flag(id_, "no_transcript")
    bed.planted(name, path)
    return path


def inner_separator(bed: MoseiBed) -> None:
    """A text that holds what separates the fields."""
    _says(bed, "inner_separator", "I ___ really_____mean it___", "I ___ really_____mean it___")


def continuation(bed: MoseiBed) -> None:
    """A text with a line end in it, and an empty line."""
    path = _says(bed, "continuation", "It goes on\n\nin another line.", "It goes on in another line.")
    bed.notes.append([path.rpartition("/")[2]])


def latin1_text(bed: MoseiBed) -> None:
    """A file that is not UTF-8."""
    _says(bed, "latin1_text", "We met in the café.".encode("latin-1"), "We met in the café.")


def utf8_text(bed: MoseiBed) -> None:
    """A file that is, with letters that show it."""
    _says(bed, "utf8_text", "“Naïve”, she said – twice.".encode(), "“Naïve”, she said – twice.")


def quotes_and_blanks(bed: MoseiBed) -> None:
    """A text in quotes with commas, blanks around it and a CR before the line's end."""
    _says(bed, "quotes_and_blanks", ' "Well, yes", he said,  \r', '"Well, yes", he said,')


def empty_text(bed: MoseiBed) -> None:
    """A clip without a word."""
    _says(bed, "empty_text", "", "")


def exponents(bed: MoseiBed) -> None:
    """Times as a program prints small numbers."""
    id_ = bed.some()
    video, number = id_.rsplit("_", 1)
    path = bed.root / transcript(video)
    lines = path.read_bytes().splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.startswith(f"{video}___{number}___".encode()):
            fields = line.split(b"___", 4)
            fields[2:4] = (f"{float(field):.12e}".encode() for field in fields[2:4])
            lines[index] = b"___".join(fields)
    path.write_bytes(b"".join(lines))
    bed.planted("exponents", transcript(video))


def byte_order_mark(bed: MoseiBed) -> None:
    """The mark before the first line, and CR LF at the ends of all."""
    video = clone(bed)[0].rsplit("_", 1)[0]
    path = bed.root / transcript(video)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    bed.planted("byte_order_mark", transcript(video))


def another_videos_line(bed: MoseiBed) -> None:
    """A line that belongs to another video, unlabelled there; and one that is torn."""
    here, there = (clone(bed)[0].rsplit("_", 1)[0] for _ in range(2))
    with (bed.root / transcript(here)).open("a", encoding="ascii", newline="") as file:
        file.write(f"{there}___71___1.5___3.5___I am in the wrong file.\n{here}___72___4.\n")
    bed.utterances[f"{there}_71"] = {"start": 1.5, "end": 3.5, "status": "excluded", "reason": "unlabelled"}
    bed.notes += [[f"{here}.txt", there], [f"{here}.txt", "72___4."]]
    bed.planted("another_videos_line", transcript(here))


def unlabelled(bed: MoseiBed) -> None:
    """A clip that nobody rated."""
    id_, *_ = clone(bed)
    rated = bed.rows(id_)
    for rows in bed.answers.values():
        rows[:] = [row for row in rows if not any(row is own for own in rated)]
    old = bed.utterances[id_]
    bed.utterances[id_] = {"start": old["start"], "end": old["end"], "status": "excluded", "reason": "unlabelled"}
    bed.planted("unlabelled", FILES[0])


def labels_without_times(bed: MoseiBed) -> None:
    """Answers about a clip that the transcript lacks, and about a video of which there is nothing else."""
    id_ = bed.some()
    for video in (id_.rsplit("_", 1)[0], "nothingElse"):
        bed.answers[FILES[3]] += [{**row, "Input.VIDEO_ID": video, "Input.CLIP": "90"} for row in bed.rows(id_)]
        bed.utterances[f"{video}_90"] = {"status": "failed"}
    bed.planted("labels_without_times", FILES[3])


def more_workers(bed: MoseiBed) -> None:
    """Six workers for a clip, half of them in another file."""
    id_ = bed.some()
    rows = bed.rows(id_)[:3]
    other = FILES[1] if bed.file_of(id_) != FILES[1] else FILES[2]
    bed.answers[other] += [
        {**row, "WorkerId": f"{row['WorkerId']}b", "AssignmentId": f"{row['AssignmentId']}b", "Answer.fear": "3"}
        for row in rows
    ]
    bed.rated(id_)
    bed.planted("more_workers", other)


def empty_answers(bed: MoseiBed) -> None:
    """Copies of assignments without their answers, as empty cells and as NaN: they are no raters."""
    for empty in ("", "nan", "NaN"):
        id_ = bed.some()
        row = bed.rows(id_)[0]
        nothing = dict.fromkeys((f"Answer.{name}" for name in (*EMOTIONS, "sentiment")), empty)
        bed.answers[bed.file_of(id_)].append({**row, "WorkerId": "SYNTHETICx", **nothing})
    bed.planted("empty_answers", FILES[0])


def empty_answer(bed: MoseiBed) -> None:
    """One empty cell, where the other workers saw nothing of that emotion: 0 whether it counts or not."""
    id_ = bed.some()
    rows = bed.rows(id_)
    name = next(name for name in EMOTIONS if not any(float(row[f"Answer.{name}"]) for row in rows))
    rows[1][f"Answer.{name}"] = ""
    bed.flag(id_, "empty_answers")
    bed.planted("empty_answer", bed.file_of(id_))


def float_answers(bed: MoseiBed) -> None:
    """Whole numbers with a decimal point."""
    id_ = bed.some()
    for row in bed.rows(id_):
        row.update({f"Answer.{name}": f"{row[f'Answer.{name}']}.0" for name in (*EMOTIONS, "sentiment")})
    bed.planted("float_answers", bed.file_of(id_))


def float_clips(bed: MoseiBed) -> None:
    """What pandas makes of a column in which a number is missing: 3.0, in a whole file."""
    for row in bed.answers[FILES[0]]:
        row["Input.CLIP"] += ".0"
    bed.planted("float_clips", FILES[0])


def folder_before_the_video(bed: MoseiBed) -> None:
    """The video as a path, in a whole file."""
    for row in bed.answers[FILES[1]]:
        row["Input.VIDEO_ID"] = f"videos/{row['Input.VIDEO_ID']}"
    bed.planted("folder_before_the_video", FILES[1])


def rows_without_a_video(bed: MoseiBed) -> None:
    """Rows that say nothing about what was rated."""
    row = bed.answers[FILES[0]][0]
    for video, number in (("", ""), ("", "3.0"), ("nan", "nan")):
        bed.answers[FILES[0]].append({**row, "Input.VIDEO_ID": video, "Input.CLIP": number})
    bed.planted("rows_without_a_video", FILES[0])


def quoted_newlines(bed: MoseiBed) -> None:
    """A cell with commas, quotes and line ends."""
    bed.answers[FILES[0]][0]["RequesterFeedback"] = '{"a": "b, c",\n"d": ""}\r\n'
    bed.planted("quoted_newlines", FILES[0])


def copied_table(bed: MoseiBed) -> None:
    """A file of answers and a user's copy of it: nobody answered twice."""
    copy_file(bed.root / FILES[0], bed.root / LABELS / "saved_5000_batch_raw.csv")
    bed.planted("copied_table", f"{LABELS}/saved_5000_batch_raw.csv")


def no_alignment(bed: MoseiBed) -> None:
    """The raw data alone, without the SDK's files: no times of words."""
    for path in sorted(bed.root.glob("*.csd")):
        path.unlink()
        bed.planted("no_alignment", path.name)


def folder_variants(bed: MoseiBed) -> None:
    """Folders and files under the names that other copies use."""
    for old, new in VARIANTS:
        (bed.root / new).parent.mkdir(parents=True, exist_ok=True)
        (bed.root / old).rename(bed.root / new)
    for expected in bed.utterances.values():
        if (path := expected.get("sound") or "").startswith(AUDIO):
            expected["sound"] = path.replace(*VARIANTS[0], 1)
    for quirk in bed.quirks:
        for old, new in VARIANTS:
            quirk["files"] = [path.replace(old, new, 1) for path in quirk["files"]]
    bed.planted("folder_variants", *(new for _, new in VARIANTS))


TEXTS = (
    inner_separator, continuation, latin1_text, utf8_text, quotes_and_blanks, empty_text, exponents, byte_order_mark,
    another_videos_line,
)  # fmt: skip
ANSWERS = (unlabelled, labels_without_times, more_workers, empty_answers, empty_answer, float_answers)
TABLES = (float_clips, folder_before_the_video, rows_without_a_video, quoted_newlines)
