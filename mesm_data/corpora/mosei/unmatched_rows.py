"""Rows of the label file that belong to no clip."""

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.ratings import labels
from mesm_data.corpora.mosei.release_check import NO_CLIP
from mesm_data.corpora.mosei.transcripts import key_of
from mesm_data.schema.recordings import Picture, Utterance

# Means are thirds, quarters, fifths or sixths, in a file perhaps with two decimals.
SAME_MEAN = 0.01


def clipless(path: str, video: str, row: csd.Rated) -> Utterance:
    """A row of the label file `path` that belongs to no clip: which one is not known, so it is not built."""
    return Utterance(
        id=key_of(video, f"csd{row.index}"),
        dialog=video,
        speaker=video,
        start=max(row.start, 0.0),
        end=row.end,
        text="",
        words=None,
        labels=labels(row.values, []),
        audio=(),
        picture=Picture(),
        texts=(path,),
        flags=("no_transcript",),
        unbuilt=NO_CLIP,
    )
