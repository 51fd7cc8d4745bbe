"""Rows of the label file that match no clip."""

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.ratings import mosei_labels
from mesm_data.corpora.mosei.release_check import NO_CLIP
from mesm_data.corpora.mosei.transcripts import utterance_id
from mesm_data.schema.recordings import Utterance, VideoRegion

# Means are multiples of 1/3 to 1/6; a file may have rounded them to two decimals.
MEAN_TOLERANCE = 0.01


def unmatched_row_utterance(path: str, video: str, row: csd.LabelRow) -> Utterance:
    """Make an excluded utterance for a row of the label file `path` whose clip is unknown."""
    return Utterance(
        id=utterance_id(video, f"csd{row.index}"),
        dialog=video,
        speaker=video,
        start=max(row.start, 0.0),
        end=row.end,
        text="",
        words=None,
        labels=mosei_labels(row.values, []),
        audio=(),
        region=VideoRegion(),
        annotation_files=(path,),
        flags=("no_transcript",),
        exclusion=NO_CLIP,
    )
