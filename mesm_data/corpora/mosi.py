"""CMU-MOSI: 93 videos of people who tell what they think of a film; one sentiment for each of 2199 segments.

Raw/
    Video/Full/<vid>.mp4, Audio/WAV_16000/Full/<vid>.wav             whole videos, of which segments are cut
    Video/Segmented/<vid>_<k>.mp4, .../Segmented/<vid>_<k>.wav       cut by others, not at the labels' times
    Transcript/Segmented/<vid>.annotprocessed                        3_DELIM_I THOUGHT IT WAS FUN
    Labels/OpinionLevelSentiment.csv                                 51.9,55.95,03bSnISJMiM,1,2.4   without a header
CMU_MOSI_Opinion_Labels.csd                                          the SDK's, read where that table is not there
"""

import csv
import re
from pathlib import Path

from mesm_data.corpora.csd import read_segments
from mesm_data.corpora.release import corpus_from_rows
from mesm_data.corpora.source_tree import Tree
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Corpus

_LABELS = "OpinionLevelSentiment.csv"
_MEDIA = re.compile(r"([\w-]{11}(?:_\d+)?)\.(mp4|mkv|webm|avi|wav)", re.ASCII)
_TRANSCRIPT = re.compile(r"([\w-]{11})\.annotprocessed", re.ASCII)
_LINE = re.compile(r"(\d+)_DELIM_(.*)", re.ASCII)

Segments = dict[str, tuple[str, str, str]]  # <vid>_<k> -> start, end, sentiment


def scan(root: Path) -> Corpus:
    """Every segment that the labels or the transcripts name; one without a label is excluded by `unlabelled`.

    A segment is cut from the whole video by the label's times. Where that video is not there, the file of the segment
    stands in (flag `segmented`). Raises InputError if there are no labels, or files are Git LFS pointers.
    """
    tree = Tree(Path(root))
    segments, texts = _segments(tree), _texts(tree)
    media: dict[str, dict[str, str]] = {}
    for match, path in tree.match(_MEDIA):
        kind = "audio" if match[2] == "wav" else "video"
        media.setdefault(match[1], {}).setdefault(kind, path)
    rows = []
    for id_ in sorted(segments.keys() | texts.keys()):
        video = id_.rpartition("_")[0]
        start, end, sentiment = segments.get(id_, ("", "", ""))
        row = {"id": id_, "dialog": video, "text": texts.get(id_, ""), "sentiment": sentiment}
        row["flags"] = "" if row["text"] else "no_transcript"
        row["excluded"] = "" if id_ in segments else "unlabelled"
        if "video" not in media.get(video, {}) and "video" in media.get(id_, {}):
            tree.notes.count("segments are read from files of their own: their whole videos are not there", id_)
            row |= media[id_]
            row["flags"] += ";segmented"
        else:
            row |= {"start": start, "end": end} | media.get(video, {"video": f"Video/Full/{video}.mp4"})
        rows.append(row)
    return corpus_from_rows("mosi", tree.root, rows, tree.notes)


def _segments(tree: Tree) -> Segments:
    """The labelled segments, from the table or else from the SDK's file."""
    for _, path in tree.match(re.compile(re.escape(_LABELS))):
        lines = csv.reader((tree.text(path) or "").splitlines())
        cells = [[cell.strip() for cell in line] for line in lines if line]
        if bad := [",".join(line) for line in cells if len(line) != 5]:
            raise InputError(f"{tree.root / path}: {bad[0]!r:.80} is not start,end,video,segment,sentiment")
        if not cells:
            raise InputError(f"{tree.root / path} is empty or cannot be read")
        return {f"{video}_{number}": (start, end, value) for start, end, video, number, value in cells}
    for _, path in tree.match(re.compile(r"CMU_MOSI_Opinion_Labels\.csd", re.IGNORECASE)):
        # Row 0 of a video is its segment 1.
        try:
            found, problems = read_segments(tree.root / path)
        except InputError:
            raise
        except MesmError as error:
            raise InputError(f"{tree.root / path} {error}") from None
        for note in (f"{_LABELS} is not there: labels and times are those of {path}", *problems):
            tree.notes.add("things about the labels", note)
        return {
            f"{video}_{number}": (str(start), str(end), str(value))
            for video, rows in found.items()
            for number, (start, end, value) in enumerate(rows, 1)
        }
    raise InputError(
        f"{tree.root}: there is neither {_LABELS} nor CMU_MOSI_Opinion_Labels.csd below it, which say where segments "
        "begin and end. Most copies lack both: put one into the folder"
    )


def _texts(tree: Tree) -> dict[str, str]:
    """Segment -> text, in capitals as the corpus has it."""
    texts: dict[str, str] = {}
    for match, path in tree.match(_TRANSCRIPT):
        for number, line in enumerate((tree.text(path) or "").splitlines(), 1):
            if found := _LINE.fullmatch(line.strip()):
                texts.setdefault(f"{match[1]}_{found[1]}", found[2].strip())
            elif line.strip():
                what = f"{path}:{number} is not <number>_DELIM_<text>: {line.strip()[:60]!r}"
                tree.notes.add("lines that are no segment", what)
    return texts
