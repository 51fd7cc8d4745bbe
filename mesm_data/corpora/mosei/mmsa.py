"""CMU-MOSEI as distributed with MMSA and M-SENA: one file per clip, and one table.

MOSEI/label.csv                        see mmsa_table.py
MOSEI/Raw/<video_id>/<clip_id>.mp4
MOSEI/CMU_MOSEI_Labels.csd             the SDK's, if the user added it here or one folder above

The table contains the sentiment, but no emotions, times or raters. The SDK's label file has emotions and times; its
rows are sorted by the clips' numbers as strings. If a video has as many rows as clips and all sentiments agree, row k
is clip k.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.annotations import LabelFile, WordFile, read_label_file, read_words
from mesm_data.corpora.mosei.layout import PLACES, Layout, find_folder, match_case
from mesm_data.corpora.mosei.mmsa_table import Row, parse_table
from mesm_data.corpora.mosei.ratings import EMOTIONS, mosei_labels
from mesm_data.corpora.mosei.release_check import UNLABELLED
from mesm_data.corpora.mosei.transcripts import parse_clip_number, parse_video_id, utterance_id
from mesm_data.corpora.mosei.unmatched_rows import MEAN_TOLERANCE, unmatched_row_utterance
from mesm_data.corpora.release_check import missing_text_notes
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import AudioSource, ClipSource, Corpus, Recording, Utterance, VideoRegion
from mesm_data.storage.machine_errors import raise_resource_error

TABLE, MEDIA = "label.csv", "Raw"
_THREADS = 8  # reading file headers is I/O-bound


@dataclass(slots=True, kw_only=True)
class _Video:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """Everything that was read. `lengths`: seconds of the files for which the label file has no times."""

    table: str
    videos: dict[str, _Video]
    label_file: LabelFile | None
    word_file: WordFile | None
    lengths: Mapping[str, float]
    anomalies: Mapping[str, frozenset[str]]


def find_copy(folder: Path) -> Layout | None:
    """Locate the copy in this layout that `folder` is or contains, under a name with "mosei"; None if there is none.

    MMSA stores MOSI and CH-SIMS next to it in the same layout. Raises InputError if there are several copies, or
    `folder` is a part of one.
    """
    tree = SourceTree(folder)
    bases = [base for base in tree.folders(".") if "mosei" in base.casefold() and _is_copy(tree, base)]
    if _is_copy(tree, "."):
        bases = ["."]
    if len(bases) > 1:
        raise InputError(f"{folder}: holds several copies ({', '.join(bases)}); name one of them")
    if not bases:
        for parent in folder.resolve().parents[:2]:
            if _is_copy(SourceTree(parent), "."):
                raise InputError(f"{folder}: is a part of a copy of CMU-MOSEI in MMSA's layout; give {parent} instead")
        return None
    prefix = "" if bases == ["."] else bases[0]
    folders = {"table": bases[0], "clips": f"{prefix}/{MEDIA}".lstrip("/")}
    if csd_folder := find_folder(tree, prefix, "csd") or find_folder(tree, "", "csd"):
        folders["csd"] = csd_folder
    return Layout(tree=tree, folders=folders)


def _is_copy(tree: SourceTree, base: str) -> bool:
    """Whether there are the table and the folder of the clips; the archive's own Raw contains other folders."""
    media = MEDIA if base == "." else f"{base}/{MEDIA}"
    return tree.file(base, TABLE) is not None and tree.has_folder(media) and not tree.has_folder(f"{media}/Transcript")


def scan_copy(layout: Layout) -> Corpus:
    """Scan every clip in the table or among the media files.

    Flags: `labels_from_csd` (no raters); `no_emotions` and `no_times` (the label file is missing, or the clip's row in
    it is unknown: emotions are null, and the clip spans its whole file); others as for the archive. Clips without a
    sentiment are excluded by the rule "unlabelled", rows of the label file that match no clip by "no_clip". The notes
    list what could not be used.

    Raises InputError if the table cannot be read or no clip of it can be built.
    """
    tree = layout.tree
    table = tree.file(layout.folders["table"], TABLE) or TABLE
    videos = _read_table(tree, table)
    _add_files(layout, videos)
    label_file = read_label_file(layout, tree.notes)
    if label_file:
        _match_rows(tree, videos, label_file)
    untimed = [
        path for v in videos.values() for clip, path in v.files.items() if clip in v.rows and clip not in v.rated
    ]
    sources = _Sources(
        table=table,
        videos=videos,
        label_file=label_file,
        word_file=read_words(layout, tree.notes),
        lengths=_lengths(tree.root, untimed),
        anomalies={flag: frozenset(ids) for flag, ids in built_in_facts("mosei")["anomalies"].items()},
    )
    recordings = tuple(_recording(sources, video) for video in sorted(videos))
    corpus = Corpus(schema=built_in_schema("mosei"), root=tree.root, recordings=recordings, notes=())
    built = [utterance for utterance in corpus.utterances() if utterance.exclusion is None]
    if not built:
        details = "".join(f"\n  {note}" for note in tree.notes.sentences()[:5])
        raise InputError(f"{tree.root / table}: contains no clip with a sentiment{details}")
    notes = (*_describe(sources, built), *missing_text_notes(built), *tree.notes.sentences())
    return Corpus(schema=built_in_schema("mosei"), root=tree.root, recordings=recordings, notes=notes)


def _read_table(tree: SourceTree, path: str) -> dict[str, _Video]:
    """Read the rows by video and clip. If a clip occurs twice, the first row is used."""
    parsed = parse_table(tree.text(path) or "")
    for line, message in parsed.problems:
        tree.notes.add("odd rows of the table", f"{path}:{line}: {message}")
    videos: dict[str, _Video] = {}
    for row in parsed.records:
        rows = videos.setdefault(row.video, _Video()).rows
        if rows.setdefault(row.clip, row) is not row:
            sentence = f"{path}:{row.line}: {utterance_id(row.video, row.clip)} occurs a second time; the first counts"
            tree.notes.add("clips that occur twice", sentence)
    return videos


def _add_files(layout: Layout, videos: dict[str, _Video]) -> None:
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
                videos.setdefault(video, _Video()).files.setdefault(clip, path)


def _match_rows(tree: SourceTree, videos: dict[str, _Video], label_file: LabelFile) -> None:
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


def _lengths(root: Path, paths: list[str]) -> Mapping[str, float]:
    """Return the length of media files in seconds, by path."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: _length(root / path), paths), strict=True))


def _length(path: Path) -> float:
    """Return the length in seconds of the shortest track, from the header; 0 if the file cannot be read."""
    import av

    try:
        with av.open(f"file:{path}") as container:
            tracks = [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
            return int(min(tracks, default=(container.duration or 0) / av.time_base) * 1000) / 1000
    except (av.FFmpegError, OSError, ValueError) as error:
        raise_resource_error(error)
        return 0.0


def _recording(sources: _Sources, name: str) -> Recording:
    """Make the recording of one video with all its clips; this layout lacks the video itself."""
    video = sources.videos[name]
    utterances = [_utterance(sources, name, clip) for clip in {*video.rows, *video.files}]
    if sources.label_file:
        utterances += [unmatched_row_utterance(sources.label_file.path, name, row) for row in video.unmatched]
    utterances.sort(key=lambda utterance: (utterance.start, utterance.end, utterance.id))
    return Recording(id=name, video=None, utterances=tuple(utterances))


def _utterance(sources: _Sources, name: str, clip: int) -> Utterance:
    """Make an utterance from the clip's row in the table, its file and its row in the label file, if they exist."""
    video, id_ = sources.videos[name], utterance_id(name, clip)
    row, rated, path = video.rows.get(clip), video.rated.get(clip), video.files.get(clip)
    start, end = (max(rated.start, 0.0), rated.end) if rated else (0.0, sources.lengths.get(path or "", 0.0))
    words = (
        csd.words_within(sources.word_file.words[name], start, end)
        if rated and sources.word_file and name in sources.word_file.words
        else None
    )
    labels = mosei_labels(rated.values if rated else None, [])
    labelled = rated is not None or (row is not None and row.sentiment is not None)
    if labelled and row and not rated:
        labels |= {**dict.fromkeys(EMOTIONS), "sentiment": row.sentiment}
    flags = {
        "no_transcript": not (row and row.text),
        "no_times": rated is None,
        "no_emotions": rated is None,
        "no_alignment": words is None,
        "negative_start": rated is not None and rated.start < 0,
        "labels_from_csd": rated is not None,
        **{flag: id_ in ids or name in ids for flag, ids in sources.anomalies.items()},
    }
    files = [sources.table] if row else []
    files += [sources.label_file.path] if rated and sources.label_file else []
    files += [sources.word_file.path] if words is not None and sources.word_file else []
    return Utterance(
        id=id_,
        dialog=name,
        speaker=name,
        start=start,
        end=end,
        text=row.text if row else "",
        words=words,
        labels=labels,
        audio=(AudioSource(path=path),) if path and labelled else (),
        region=VideoRegion(),
        annotation_files=tuple(files),
        clip_source=ClipSource(path=path) if path and labelled else None,
        flags=tuple(flag for flag, applies in flags.items() if applies),
        exclusion=None if labelled else UNLABELLED,
    )


def _describe(sources: _Sources, built: list[Utterance]) -> list[str]:
    """Describe the copy and what it lacks."""
    modes = Counter(row.part or "none" for video in sources.videos.values() for row in video.rows.values())
    parts = ", ".join(f"{mode} {number}" for mode, number in sorted(modes.items()))
    without_emotions = sum("no_emotions" in utterance.flags for utterance in built)
    without_file = [utterance.id for utterance in built if not utterance.audio]
    videos = len({utterance.dialog for utterance in built})
    notes = [f"read: MMSA's layout, {len(built)} clips of {videos} videos in {sources.table} (mode: {parts})"]
    if without_emotions:
        remedy = (
            "" if sources.label_file else f"; put the SDK's CMU_MOSEI_Labels.csd beside {TABLE} for emotions and times"
        )
        notes.append(
            f"{without_emotions} of {len(built)} clips have a sentiment but no emotions (flag no_emotions){remedy}"
        )
    if without_file:
        notes.append(
            f"{len(without_file)} clips of {sources.table} have no file in {MEDIA}/, the first is {without_file[0]}"
        )
    return notes
