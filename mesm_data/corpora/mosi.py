"""CMU-MOSI: 93 videos of film reviews; one sentiment for each of 2199 segments.

Raw/
    Video/Full/<vid>.mp4, Audio/WAV_16000/Full/<vid>.wav             whole videos, from which segments are cut
    Video/Segmented/<vid>_<k>.mp4, .../Segmented/<vid>_<k>.wav       segments cut by others, not at the labels' times
    Transcript/Segmented/<vid>.annotprocessed                        3_DELIM_I THOUGHT IT WAS FUN
    Labels/OpinionLevelSentiment.csv                                 51.9,55.95,03bSnISJMiM,1,2.4   no header
CMU_MOSI_Opinion_Labels.csd                                          the SDK's file, read if that table is missing
"""

import csv
import re
from pathlib import Path
from typing import NamedTuple

from mesm_data.corpora.csd import read_segments
from mesm_data.corpora.release import corpus_from_rows, find_tables, keep_first
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.corpora.table.cells import whole_number
from mesm_data.errors import InputError, MesmError
from mesm_data.schema.recordings import Corpus

_LABELS = "OpinionLevelSentiment.csv"
_SDK_LABELS = "CMU_MOSI_Opinion_Labels.csd"
_MEDIA = re.compile(r"([\w-]{11}(?:_\d+)?)\.(mp4|mkv|webm|avi|wav)", re.ASCII)
_TRANSCRIPT = re.compile(r"([\w-]{11})\.annotprocessed", re.ASCII)
_LINE = re.compile(r"(\d+)_DELIM_(.*)", re.ASCII)


class _Cells(NamedTuple):
    """The cells of a labelled segment, and the place of its line for messages."""

    start: str
    end: str
    sentiment: str
    place: str


_Segments = dict[str, _Cells]  # by id, <vid>_<k>


def scan(root: Path) -> Corpus:
    """Scan every segment that the labels or the transcripts name; one without a label is excluded by `unlabelled`.

    A segment is cut from the whole video at the label's times. If that video is missing, the file of the segment is
    used (flag `segmented`). Raises InputError if there are no labels, or files are Git LFS pointers.
    """
    tree = SourceTree(Path(root))
    segments, texts = _segments(tree), _texts(tree)
    media: dict[str, dict[str, str]] = {}
    for match, path in tree.match(_MEDIA):
        kind = "audio" if match[2] == "wav" else "video"
        keep_first(tree.notes, media.setdefault(match[1], {}), kind, path)
    rows = []
    for id_ in sorted(segments.keys() | texts.keys()):
        video = id_.rpartition("_")[0]
        start, end, sentiment, place = segments.get(id_, _Cells("", "", "", id_))
        row = {"id": id_, "dialog": video, "text": texts.get(id_, ""), "sentiment": sentiment, "place": place}
        row["flags"] = "" if row["text"] else "no_transcript"
        row["excluded"] = "" if id_ in segments else "unlabelled"
        whole, own = media.get(video, {}), media.get(id_, {})
        if "video" not in whole and ("video" in own or (own and not whole)):
            tree.notes.count("segments are read from separate files because their whole videos are missing", id_)
            row |= own
            row["flags"] += ";segmented"
        else:
            row["flags"] += ";negative_start" if start.startswith("-") else ""
            row |= {"start": start, "end": end} | (whole or {"video": f"Video/Full/{video}.mp4"})
        rows.append(row)
    return corpus_from_rows("mosi", tree.root, rows, tree.notes)


def _segments(tree: SourceTree) -> _Segments:
    """Read the labelled segments from the table, or else from the SDK's file."""
    files = find_tables(tree, [_LABELS, _SDK_LABELS])
    if path := files.get(_LABELS):
        return _read_table(tree, path)
    if path := files.get(_SDK_LABELS):
        # Row 0 of a video is its segment 1.
        try:
            segments, problems = read_segments(tree.root / path)
        except InputError:
            raise
        except MesmError as error:
            raise InputError(f"{tree.root / path} {error}") from None
        for note in (f"{_LABELS} is missing: labels and times are from {path}", *problems):
            tree.notes.add("notes on the labels", note)
        return {
            f"{video}_{number}": _Cells(str(row.start), str(row.end), str(row.value), f"{path}: {video}[{number - 1}]")
            for video, rows in segments.items()
            for number, row in enumerate(rows, 1)
        }
    raise InputError(
        f"{tree.root}: contains neither {_LABELS} nor {_SDK_LABELS}, which have the start and end of each segment. "
        "Most copies lack both: add one of them to the folder"
    )


def _read_table(tree: SourceTree, path: str) -> _Segments:
    """Read the table of labels, with or without a line of headers. If a segment occurs twice, the first line counts.

    51.9,55.95,03bSnISJMiM,1,2.4
    """
    segments: _Segments = {}
    reader = csv.reader((tree.text(path) or "").split("\n"))
    for line in reader:
        cells = [cell.strip() for cell in line]
        where = f"{path}:{reader.line_num}"
        if not any(cells):
            continue
        if len(cells) != 5:
            raise InputError(f"{tree.root / where}: {','.join(cells)!r:.80} is not start,end,video,segment,sentiment")
        start, end, video, number, value = cells
        if not segments and not re.search(r"\d", start + end + value):
            continue  # start,end,video_id,segment_no,label
        id_ = f"{video}_{whole_number(number)}"
        first = segments.setdefault(id_, _Cells(start, end, value, where))
        if first.place != where:
            tree.notes.add(
                "segments that occur twice", f"{where}: {id_} occurs a second time; the first counts ({first.place})"
            )
    if not segments:
        raise InputError(f"{tree.root / path} is empty or cannot be read")
    return segments


def _texts(tree: SourceTree) -> dict[str, str]:
    """Read the text of each segment, in capitals as in the corpus."""
    texts: dict[str, str] = {}
    for match, path in tree.match(_TRANSCRIPT):
        # Not splitlines: a text that was decoded wrongly has U+0085 for an ellipsis.
        for number, line in enumerate((tree.text(path) or "").split("\n"), 1):
            if fields := _LINE.fullmatch(line.strip()):
                texts.setdefault(f"{match[1]}_{whole_number(fields[1])}", fields[2].strip())
            elif line.strip():
                what = f"{path}:{number} is not <number>_DELIM_<text>: {line.strip()[:60]!r}"
                tree.notes.add("lines that are not segments", what)
    return texts
