"""Clips that last to the end of their file."""

import math
from collections.abc import Sequence
from dataclasses import replace

from mesm_data.media.duration import describe_truncation, measure_duration
from mesm_train.inference.clips import Clip


def to_file_end(clips: Sequence[Clip]) -> list[Clip]:
    """Give the clips of one file that have no end that of the file, and a note if it is known to be truncated.

    Raises MesmError if the length of the file cannot be measured.
    """
    if all(math.isfinite(clip.end) for clip in clips):
        return list(clips)
    path = clips[0].path
    length = measure_duration(path)
    problem = describe_truncation(path, length)
    notes = (f"{path.name} is truncated: it {problem}",) if problem else ()
    return [
        clip if math.isfinite(clip.end) else replace(clip, end=length, notes=(*clip.notes, *notes)) for clip in clips
    ]
