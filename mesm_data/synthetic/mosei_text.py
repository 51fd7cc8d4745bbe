"""Writers of CMU-MOSEI's transcripts and workers' answers. Examples have the real format and invented values."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from mesm_data.synthetic.mosei_ratings import Votes
from mesm_data.synthetic.mosei_script import Clip, Monologue

# Folders below the root.
AUDIO, VIDEO = "Raw/Audio/Full/WAV_16000", "Raw/Videos/Full/Combined"
SEGMENTS, TRANSCRIPTS = "Raw/Videos/Segmented/Combined", "Raw/Transcript/Segmented/Combined"
PLAIN, LABELS = "Raw/Transcript/Full/Combined", "Raw/Labels"

TRAILING_SHARE = 0.2  # of the lines end with a blank

# The columns of a batch exported by Amazon Mechanical Turk. Code for the corpus uses column 15 as WorkerId, 27 and 28
# as inputs, 29 to 39 as answers. The meaning of columns 32, 34, 35 and 37 is unknown: these names are invented.
HEAD = (
    "HITId", "HITTypeId", "Title", "Description", "Keywords", "Reward", "CreationTime", "MaxAssignments",
    "RequesterAnnotation", "AssignmentDurationInSeconds", "AutoApprovalDelayInSeconds", "Expiration",
    "NumberOfSimilarHITs", "LifetimeInSeconds", "AssignmentId", "WorkerId", "AssignmentStatus", "AcceptTime",
    "SubmitTime", "AutoApprovalTime", "ApprovalTime", "RejectionTime", "RequesterFeedback", "WorkTimeInSeconds",
)  # fmt: skip
RATES = ("LifetimeApprovalRate", "Last30DaysApprovalRate", "Last7DaysApprovalRate")
INPUTS = ("Input.VIDEO_ID", "Input.CLIP")
ANSWERS = (
    "Answer.anger", "Answer.disgust", "Answer.fear", "Answer.gender", "Answer.happiness", "Answer.language",
    "Answer.quality", "Answer.sadness", "Answer.seen", "Answer.sentiment", "Answer.surprise",
)  # fmt: skip
MADE_UP = {"Answer.gender": "1", "Answer.language": "en", "Answer.quality": "3", "Answer.seen": "yes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The format of one of the six files. Its rows are grouped by clip or sorted by worker."""

    columns: tuple[str, ...]
    together: bool = True
    line_end: str = "\n"
    quoting: int = csv.QUOTE_MINIMAL


LAYOUTS = {
    "5000_batch_raw": Layout(columns=(*HEAD, *RATES, *INPUTS, *ANSWERS)),
    "Batch_2980374_batch_results": Layout(
        columns=(*HEAD, *RATES, *INPUTS, *ANSWERS, "Approve", "Reject"), together=False, quoting=csv.QUOTE_ALL
    ),
    "extreme_sentiment_results": Layout(columns=(*HEAD, *RATES, *INPUTS, *ANSWERS), quoting=csv.QUOTE_ALL),
    "mosi_pom_output": Layout(columns=(*HEAD, *INPUTS, *ANSWERS), line_end="\r\n"),
    "mturk_extra_v2": Layout(columns=(*HEAD, *RATES, *INPUTS, *ANSWERS, "Approve", "Reject"), together=False),
    "pom_extra_sqa_mono_results": Layout(columns=(*HEAD, *RATES, *INPUTS, *reversed(ANSWERS)), line_end="\r\n"),
}


def transcript(monologue: Monologue) -> str:
    """Format Transcript/Segmented/Combined/<vid>.txt: one line per clip, unsorted.

    _0efYOjQYRc___0___0.0___8.025___Good morning everybody.
    """
    rng = Random(f"transcript {monologue.id}")
    lines = [
        f"{monologue.id}___{clip.number}___{clip.start}___{clip.end}___{clip.text}"
        + " " * (rng.random() < TRAILING_SHARE)
        for clip in monologue.clips
    ]
    return "\n".join(rng.sample(lines, len(lines))) + "\n"


def plain(monologue: Monologue) -> str:
    """Format Transcript/Full/Combined/<vid>.plaintext: the whole text."""
    return " ".join(clip.text for clip in monologue.clips) + "\n"


def labels(monologues: Sequence[Monologue]) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of the six files in Labels/; the answers for a video are in one of them."""
    for index, (name, layout) in enumerate(LAYOUTS.items()):
        rows = [row for monologue in monologues[index :: len(LAYOUTS)] for row in _rows(monologue)]
        if not layout.together:
            rows.sort(key=lambda row: row["WorkerId"])  # stable: preserves the order of a worker's clips
        yield f"{name}.csv", table(layout.columns, rows, layout.line_end, layout.quoting)


def table(columns: Sequence[str], rows: Sequence[dict[str, str]], line_end: str, quoting: int) -> str:
    """Format rows as CSV. Missing cells are empty, cells of unknown columns are dropped."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text,
        columns,
        restval="",
        extrasaction="ignore",
        lineterminator=line_end,
        quoting=quoting,  # type: ignore[arg-type]
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _rows(monologue: Monologue) -> Iterator[dict[str, str]]:
    """Yield one row per clip and worker."""
    for clip in monologue.clips:
        for votes in clip.votes:
            yield _row(monologue, clip, votes)


def _row(monologue: Monologue, clip: Clip, votes: Votes) -> dict[str, str]:
    hit = f"SYNTHETIC_{monologue.id}_{clip.number}"
    return {
        "HITId": hit,
        "HITTypeId": "SYNTHETIC",
        "Title": "SYNTHETIC: what does the speaker feel?",
        "Description": 'Rate "emotion", and sentiment,\nof one clip',
        "Keywords": "synthetic, emotion",
        "Reward": "$0.00",
        "MaxAssignments": str(len(clip.votes)),
        "AssignmentId": f"{hit}_{votes.worker}",
        "WorkerId": votes.worker,
        "AssignmentStatus": "Submitted",
        "WorkTimeInSeconds": "30",
        **dict.fromkeys(RATES, "0% (0/0)"),
        "Input.VIDEO_ID": monologue.id,
        "Input.CLIP": str(clip.number),
        **MADE_UP,
        **{f"Answer.{name}": str(value) for name, value in votes.emotions.items()},
        "Answer.sentiment": str(votes.sentiment),
    }
