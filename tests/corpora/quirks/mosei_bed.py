"""A synthetic CMU-MOSEI as a bed for quirks: its clips, the workers' answers, and small videos to spoil.

The texts are read here as strictly as they were written: the oracle must not hang on the reader that it judges.
"""

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from mesm_data.synthetic.mosei_ratings import NAMES
from mesm_data.synthetic.mosei_text import AUDIO, LABELS, LAYOUTS, SEGMENTS, TRANSCRIPTS, VIDEO, table
from quirks.bed import Bed, copy_file

CLIPS = 2  # of a video that is made for a quirk
# Ids of such videos: a number, those that begin with a dash or a line or hold two, and then plain ones.
ODD_IDS = ("188343", "-3synTHetiC", "_synTHetic4", "synTH__etiC", "-_synTHetic")
FILES = tuple(f"{LABELS}/{name}.csv" for name in LAYOUTS)
EMOTIONS = tuple(NAMES.values())

Row = dict[str, str]


@dataclass(slots=True)
class MoseiBed(Bed):
    """`answers`: file in Labels/ -> its rows, which are written at the end. `source`: the video that is cloned."""

    answers: dict[str, list[Row]] = field(default_factory=dict)
    source: str = ""
    lines: list[str] = field(default_factory=list)  # of its transcript that a clone gets

    def some(self) -> str:
        """A labelled clip that no quirk has touched."""
        if not self.free:
            self.free += clone(self)
        return self.free.pop(0)

    def rows(self, id_: str) -> list[Row]:
        """All answers about a clip."""
        video, number = id_.rsplit("_", 1)
        every = (row for rows in self.answers.values() for row in rows)
        return [row for row in every if (row["Input.VIDEO_ID"], row["Input.CLIP"]) == (video, number)]

    def file_of(self, id_: str) -> str:
        """The file in which the answers about a clip stand."""
        first = self.rows(id_)[0]
        return next(path for path, rows in self.answers.items() if any(row is first for row in rows))

    def rated(self, id_: str) -> None:
        """Expect the means of what the answers about a clip are now."""
        rows = self.rows(id_)
        emotions = {name: fmean(float(row[f"Answer.{name}"]) for row in rows) for name in EMOTIONS}
        sentiment = fmean(float(row["Answer.sentiment"]) for row in rows)
        self.expect(id_, labels={**emotions, "sentiment": sentiment}, raters=len(rows))

    def write_answers(self) -> None:
        """Write Labels/*.csv."""
        for path, (name, layout) in zip(FILES, LAYOUTS.items(), strict=True):
            assert Path(path).stem == name
            text = table(layout.columns, self.answers[path], layout.line_end, layout.quoting)
            (self.root / path).write_text(text, encoding="ascii", newline="")


def transcript(video: str) -> str:
    """The file of a video's texts and times."""
    return f"{TRANSCRIPTS}/{video}.txt"


def wav(video: str) -> str:
    """The file of its sound."""
    return f"{AUDIO}/{video}.wav"


def mp4(video: str) -> str:
    """The file of its picture."""
    return f"{VIDEO}/{video}.mp4"


def segment(id_: str) -> str:
    """The file of one clip's picture and sound."""
    return f"{SEGMENTS}/{id_}.mp4"


def read(root: Path) -> MoseiBed:
    """The bed of a corpus without quirks. What is unlabelled is expected to be excluded, all else to be usable."""
    bed = MoseiBed(root=root, corpus="mosei", utterances={})
    for name in FILES:
        text = (root / name).read_bytes().decode("ascii")
        bed.answers[name] = list(csv.DictReader(io.StringIO(text, newline="")))
    for path in sorted((root / TRANSCRIPTS).glob("*.txt")):
        enter(bed, path.stem)
    by_time = sorted(bed.utterances, key=lambda id_: (id_.rsplit("_", 1)[0], bed.utterances[id_]["start"]))
    bed.free = [id_ for id_ in by_time if bed.utterances[id_]["status"] == "ok"]
    _reserve(bed)
    return bed


def enter(bed: MoseiBed, video: str) -> None:
    """Expect the clips of a video."""
    whole = _sounds(bed.root / mp4(video)) is not None
    for line in (bed.root / transcript(video)).read_text(encoding="ascii").splitlines():
        _, number, start, end, text = line.split("___", 4)
        id_ = f"{video}_{number}"
        bed.utterances[id_] = {
            "start": float(start),
            "end": float(end),
            "text": text.strip(),
            "flags": ["no_alignment"],
        }
        if bed.rows(id_):
            bed.expect(id_, status="ok", audio="ok", video="ok", sound=wav(video))
            bed.expect(id_, picture=mp4(video) if whole else segment(id_))
            bed.rated(id_)
        else:
            bed.expect(id_, status="excluded", reason="unlabelled")


def _sounds(path: Path) -> bool | None:
    """Whether a video has a sound stream; None if it cannot be opened."""
    import av

    try:
        with av.open(str(path)) as opened:
            return bool(opened.streams.audio)
    except av.FFmpegError:
        return None


def clone(bed: MoseiBed, video: str | None = None) -> list[str]:
    """Make a video of a few labelled clips of another one; returns their ids, by time.

    Without `video` it gets the next id that reads badly.
    """
    others = (f"synthetic{number:02}" for number in range(100))
    taken = {id_.rsplit("_", 1)[0] for id_ in bed.utterances}
    video = video or next(id_ for id_ in (*ODD_IDS, *others) if id_ not in taken)
    source, chosen = bed.source, {line.split("___")[1]: line for line in bed.lines}
    text = "\n".join(line.replace(source, video, 1) for line in chosen.values()) + "\n"
    (bed.root / transcript(video)).write_text(text, encoding="ascii", newline="")
    copy_file(bed.root / wav(source), bed.root / wav(video))
    copy_file(bed.root / mp4(source), bed.root / mp4(video))
    for number in chosen:
        copy_file(bed.root / segment(f"{source}_{number}"), bed.root / segment(f"{video}_{number}"))
        bed.answers[FILES[0]] += [{**row, "Input.VIDEO_ID": video} for row in bed.rows(f"{source}_{number}")]
    enter(bed, video)
    return sorted((f"{video}_{number}" for number in chosen), key=lambda id_: float(bed.utterances[id_]["start"]))


def _reserve(bed: MoseiBed) -> None:
    """Choose what is cloned: the smallest video that can be opened, has sound and enough labelled clips."""
    for path in sorted((bed.root / VIDEO).glob("*.mp4"), key=lambda path: (path.stat().st_size, path.name)):
        ids = [id_ for id_ in bed.free if id_.rsplit("_", 1)[0] == path.stem]
        if len(ids) >= CLIPS and _sounds(path):
            lines = (bed.root / transcript(path.stem)).read_text(encoding="ascii").splitlines()
            prefixes = {f"{path.stem}___{id_.rsplit('_', 1)[1]}___" for id_ in ids[:CLIPS]}
            bed.source, bed.lines = path.stem, [line for line in lines if any(line.startswith(w) for w in prefixes)]
            bed.free = [id_ for id_ in bed.free if id_ not in ids]
            return
    raise ValueError(f"no video with sound has {CLIPS} labelled clips")
