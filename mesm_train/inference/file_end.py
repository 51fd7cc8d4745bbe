"""A clip that lasts to the end of its file."""

from dataclasses import replace

from mesm_data.media.duration import describe_truncation, measure_duration
from mesm_train.inference.clips import Clip


def to_file_end(clip: Clip) -> Clip:
    """A clip without an end, with that of its file and a note if the file is known to be truncated.

    Raises MesmError if the length of the file cannot be measured.
    """
    length = measure_duration(clip.path)
    problem = describe_truncation(clip.path, length)
    notes = (f"{clip.path.name} is truncated: it {problem}",) if problem else ()
    return replace(clip, end=length, notes=(*clip.notes, *notes))
