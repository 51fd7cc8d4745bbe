"""Small trees in CMU-MOSEI's layout, as users have them. Media are empty files, because a scan opens none."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesm_data.corpora.mosei.ratings import ITEMS
from mesm_data.schema.recordings import Corpus, Utterance

VIDEO = "-3g5yACwYnA"
TRANSCRIPTS = "Transcript/Segmented/Combined"
VIDEOS, CLIPS = "Videos/Full/Combined", "Videos/Segmented/Combined"
SOUND, LABELS = "Audio/Full/WAV_16000", "Labels"
# Not the order of ITEMS, and columns that are not read between them: places must not matter.
COLUMNS = (
    "HITId",
    "Title",
    "AssignmentId",
    "WorkerId",
    "Input.VIDEO_ID",
    "Input.CLIP",
    "Answer.anger",
    "Answer.disgust",
    "Answer.fear",
    "Answer.gender",
    "Answer.happiness",
    "Answer.sadness",
    "Answer.sentiment",
    "Answer.surprise",
)
# The SDK's order.
DIMENSIONS = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


def put(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def answer(video: str, clip: object, rater: int = 0, **values: object) -> dict[str, str]:
    """One rater's row; other items are 0."""
    answers = {f"Answer.{item}": str(values.get(item, 0)) for item in ITEMS}
    hit = f"H_{video}_{clip}"
    ids = {"HITId": hit, "AssignmentId": f"A_{hit}_{rater}", "WorkerId": f"WORKER{rater}"}
    return {**ids, "Title": 'Rate "it",\nplease', "Input.VIDEO_ID": video, "Input.CLIP": str(clip), **answers}


def table(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS, **options: Any) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", **options)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_csd(path: Path, videos: Mapping[str, tuple[Any, Any]], dimensions: Sequence[str] | None, root: str) -> Path:
    """Write a computational sequence like the SDK: video -> (features, intervals)."""
    import h5py
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for video, (features, intervals) in videos.items():
            file[f"{root}/data/{video}/features"] = features
            file[f"{root}/data/{video}/intervals"] = np.array(intervals, np.float64)
        if dimensions is not None:
            file[f"{root}/metadata/dimension names"] = [json.dumps(list(dimensions))]
    return path


def label_csd(path: Path, rows: Mapping[str, Sequence[tuple[float, float, Mapping[str, float]]]]) -> Path:
    """Write CMU_MOSEI_Labels.csd: video -> (start, end, item -> mean), in this order."""
    import numpy as np

    ours = {"happy": "happiness", "sad": "sadness"}
    videos = {
        video: (
            np.array(
                [[values.get(ours.get(name, name), 0.0) for name in DIMENSIONS] for *_, values in segments], np.float32
            ),
            [[start, end] for start, end, _ in segments],
        )
        for video, segments in rows.items()
    }
    return write_csd(path, videos, DIMENSIONS, "All Labels")


def add_video(raw: Path, video: str, clips: Mapping[int, tuple[float, float, str]], *, media: bool = True) -> None:
    """Write a transcript of `clips` (number -> start, end, text), in this order, and empty media."""
    lines = [f"{video}___{number}___{start}___{end}___{text}" for number, (start, end, text) in clips.items()]
    put(raw / TRANSCRIPTS / f"{video}.txt", "\n".join(lines) + "\n")
    if media:
        put(raw / VIDEOS / f"{video}.mp4")
        put(raw / SOUND / f"{video}.wav")
        for number in clips:
            put(raw / CLIPS / f"{video}_{number}.mp4")


def by_id(corpus: Corpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in corpus.utterances()}


def notes_about(corpus: Corpus, *parts: str) -> list[str]:
    return [note for note in corpus.notes if all(part in note for part in parts)]
