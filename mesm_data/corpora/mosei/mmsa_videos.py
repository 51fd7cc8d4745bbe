"""The videos of MMSA's layout: the rows of its table, the files of the clips, and the rows of the SDK's label file."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.annotations import LabelFile
from mesm_data.corpora.mosei.layout import PLACES, Layout, match_case
from mesm_data.corpora.mosei.mmsa_table import Row, parse_table
from mesm_data.corpora.mosei.transcripts import parse_clip_number, parse_video_id, utterance_id
from mesm_data.corpora.mosei.unmatched_rows import MEAN_TOLERANCE
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.media.containers import exact_number
from mesm_data.storage.machine_errors import raise_resource_error

_THREADS = 8  # reading file headers is I/O-bound


@dataclass(slots=True, kw_only=True)
class MmsaVideo:
    """One video.

    Attributes:
        rows, files: rows of the table and paths of the clips, by clip.
        rated: rows of the label file, by clip.
        unmatched: rows of the label file whose clip is unknown.
    """

    rows: dict[int, Row] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    rated: dict[int, csd.LabelRow] = field(default_factory=dict)
    unmatched: list[csd.LabelRow] = field(default_factory=list)


def read_videos(tree: SourceTree, path: str) -> dict[str, MmsaVideo]:
    """Read the rows by video and clip. If a clip occurs twice, the first row is used."""
    parsed = parse_table(tree.text(path) or "")
    for line, message in parsed.problems:
        tree.notes.add("odd rows of the table", f"{path}:{line}: {message}")
    videos: dict[str, MmsaVideo] = {}
    for row in parsed.records:
        rows = videos.setdefault(row.video, MmsaVideo()).rows
        if rows.setdefault(row.clip, row) is not row:
            sentence = f"{path}:{row.line}: {utterance_id(row.video, row.clip)} occurs a second time; the first counts"
            tree.notes.add("clips that occur twice", sentence)
    return videos


def add_files(layout: Layout, videos: dict[str, MmsaVideo]) -> None:
    """Add the files of the clips; a file that is not in the table belongs to an unrated clip."""
    tree, suffixes = layout.tree, PLACES["clips"][0]
    folders = tree.folders(layout.folders["clips"])
    known = {folder: video for video, folder in match_case(folders, list(videos)).items()}
    for folder in folders:
        listed = tree.files(f"{layout.folders['clips']}/{folder}")
        files = [
            (name.removesuffix(suffix), path)
            for suffix in suffixes
            for name, path in listed.items()
            if name.endswith(suffix)
        ]
        for stem, path in files:
            video, clip = known.get(folder) or parse_video_id(folder), parse_clip_number(stem)
            if video is None or clip is None:
                tree.notes.add("media files that are not named after a clip", f"{path}: is not named after a clip")
            else:
                videos.setdefault(video, MmsaVideo()).files.setdefault(clip, path)


def match_label_rows(tree: SourceTree, videos: dict[str, MmsaVideo], label_file: LabelFile) -> None:
    """Add the rows of the SDK's label file."""
    for name in sorted(label_file.rows.keys() & videos.keys()):
        video, rated = videos[name], label_file.rows[name]
        clips = sorted(video.rows, key=str)
        if len(clips) == len(rated) and all(map(_same_sentiment, (video.rows[clip] for clip in clips), rated)):
            video.rated = dict(zip(clips, rated, strict=True))
        else:
            video.unmatched = rated
            kind = f"videos have other clips or sentiments in {label_file.path}: no emotions and no times"
            tree.notes.count(kind, f"{name} ({len(rated)} clips there, {len(clips)} in the table)")
    if missing := sorted(label_file.rows.keys() - videos.keys()):
        tree.notes.add(
            "videos", f"{len(missing)} videos of {label_file.path} are not in this copy, such as {missing[0]}"
        )


def _same_sentiment(row: Row, rated: csd.LabelRow) -> bool:
    sentiment = rated.values["sentiment"]
    return row.sentiment is None or sentiment is None or abs(row.sentiment - sentiment) <= MEAN_TOLERANCE


def media_lengths(root: Path, paths: list[str]) -> Mapping[str, float]:
    """Return the length of media files in seconds, by path."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: _length(root / path), paths), strict=True))


def _length(path: Path) -> float:
    """Return the length in seconds of the shortest track, from the header; 0 if the file cannot be read."""
    import av

    try:
        with av.open(f"file:{path}") as container:
            tracks = [
                float(s.duration * exact_number(s.time_base)) for s in container.streams if s.duration and s.time_base
            ]
            return int(min(tracks, default=(container.duration or 0) / av.time_base) * 1000) / 1000
    except (av.FFmpegError, OSError, ValueError) as error:
        raise_resource_error(error)
        return 0.0
