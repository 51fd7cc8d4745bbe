"""CMU-MOSEI as MMSA and M-SENA hand it on: each clip a file of its own, and one table.

MOSEI/label.csv                        see mmsa_table.py
MOSEI/Raw/<video_id>/<clip_id>.mp4
MOSEI/CMU_MOSEI_Labels.csd             the SDK's, if the user put it there or into the folder above

The table has the sentiment, but neither emotions nor times nor raters. Emotions and times are in the SDK's label file.
Its rows stand in the order of the clips' numbers as texts: where a video has as many rows as clips and all sentiments
agree, row k is clip k.
"""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.annotations import Official, Timed, read_official, read_words
from mesm_data.corpora.mosei.layout import PLACES, Layout, find_folder, match_case
from mesm_data.corpora.mosei.mmsa_table import Row, parse_table
from mesm_data.corpora.mosei.ratings import EMOTIONS, labels
from mesm_data.corpora.mosei.release_check import UNLABELLED
from mesm_data.corpora.mosei.transcripts import clip_of, key_of, video_of
from mesm_data.corpora.mosei.unmatched_rows import SAME_MEAN, clipless
from mesm_data.corpora.release_check import lacking_text
from mesm_data.corpora.source_tree import Tree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import AudioSource, Corpus, Excerpt, Picture, Recording, Utterance
from mesm_data.storage.machine_errors import raise_resource_error

TABLE, MEDIA = "label.csv", "Raw"
_THREADS = 8  # that wait for headers of files


@dataclass(slots=True, kw_only=True)
class _Video:
    """A video's rows and files by clip, and the rows of the label file: by clip, or all of them if that is unknown."""

    rows: dict[int, Row] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    rated: dict[int, csd.Rated] = field(default_factory=dict)
    unjoined: list[csd.Rated] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Everything that was read. `lengths` are the seconds of those files whose times the label file does not give."""

    table: str
    videos: dict[str, _Video]
    official: Official | None
    timed: Timed | None
    lengths: Mapping[str, float]
    anomalies: Mapping[str, frozenset[str]]


def find(given: Path) -> Layout | None:
    """The copy in this layout that `given` is, or holds under a name with "mosei" in it; None if there is none.

    MMSA keeps MOSI and CH-SIMS beside it in the same layout. Raises InputError if there are several copies, or `given`
    is a folder of one.
    """
    tree = Tree(given)
    bases = [base for base in tree.folders(".") if "mosei" in base.casefold() and _is_copy(tree, base)]
    if _is_copy(tree, "."):
        bases = ["."]
    if len(bases) > 1:
        raise InputError(f"{given}: holds several copies ({', '.join(bases)}); name one of them")
    if not bases:
        for parent in given.resolve().parents[:2]:
            if _is_copy(Tree(parent), "."):
                raise InputError(f"{given}: is a part of a copy of CMU-MOSEI in MMSA's layout; give {parent} instead")
        return None
    inside = "" if bases == ["."] else bases[0]
    folders = {"table": bases[0], "clips": f"{inside}/{MEDIA}".lstrip("/")}
    if folder := find_folder(tree, inside, "csd") or find_folder(tree, "", "csd"):
        folders["csd"] = folder
    return Layout(tree=tree, folders=folders)


def _is_copy(tree: Tree, base: str) -> bool:
    """Whether there are the table and the folder of the clips; the archive's own Raw has other things in it."""
    media = MEDIA if base == "." else f"{base}/{MEDIA}"
    return tree.file(base, TABLE) is not None and tree.has_folder(media) and not tree.has_folder(f"{media}/Transcript")


def scan(layout: Layout) -> Corpus:
    """Every clip that the table or the media know.

    Flags: `labels_from_csd` (no raters); `no_emotions` and `no_times` (the label file is not there, or which of its
    rows is the clip's is not known: emotions are null, the clip lasts as long as its file); the others as in mosei.py.
    Clips without a sentiment are excluded by the rule "unlabelled", rows of the label file that belong to no clip by
    "no_clip". What could not be used is in the notes.

    Raises InputError if the table cannot be read or no clip of it can be built.
    """
    tree = layout.tree
    table = tree.file(layout.folders["table"], TABLE) or TABLE
    videos = _read_table(tree, table)
    _add_files(layout, videos)
    official = read_official(layout, tree.notes)
    if official:
        _join(tree, videos, official)
    untimed = [
        path for v in videos.values() for clip, path in v.files.items() if clip in v.rows and clip not in v.rated
    ]
    found = _Found(
        table=table,
        videos=videos,
        official=official,
        timed=read_words(layout, tree.notes),
        lengths=_lengths(tree.root, untimed),
        anomalies={flag: frozenset(ids) for flag, ids in built_in_facts("mosei")["anomalies"].items()},
    )
    recordings = tuple(_recording(found, video) for video in sorted(videos))
    corpus = Corpus(schema=built_in_schema("mosei"), root=tree.root, recordings=recordings, notes=())
    built = [utterance for utterance in corpus.utterances() if utterance.unbuilt is None]
    if not built:
        said = "".join(f"\n  {note}" for note in tree.notes.sentences()[:5])
        raise InputError(f"{tree.root / table}: holds no clip with a sentiment{said}")
    notes = (*_summary(found, built), *lacking_text(built), *tree.notes.sentences())
    return Corpus(schema=built_in_schema("mosei"), root=tree.root, recordings=recordings, notes=notes)


def _read_table(tree: Tree, path: str) -> dict[str, _Video]:
    """The rows by video and clip. Of a clip that occurs twice the first counts."""
    parsed = parse_table(tree.text(path) or "")
    for line, message in parsed.problems:
        tree.notes.add("odd rows of the table", f"{path}:{line}: {message}")
    videos: dict[str, _Video] = {}
    for row in parsed.records:
        rows = videos.setdefault(row.video, _Video()).rows
        if rows.setdefault(row.clip, row) is not row:
            sentence = f"{path}:{row.line}: {key_of(row.video, row.clip)} occurs a second time; the first counts"
            tree.notes.add("clips that occur twice", sentence)
    return videos


def _add_files(layout: Layout, videos: dict[str, _Video]) -> None:
    """Fill in the clips' files; one that the table does not know is of a clip that is not rated."""
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
            video, clip = known.get(folder) or video_of(folder), clip_of(stem)
            if video is None or clip is None:
                tree.notes.add("media files that are not named after a clip", f"{path}: is not named after a clip")
            else:
                videos.setdefault(video, _Video()).files.setdefault(clip, path)


def _join(tree: Tree, videos: dict[str, _Video], official: Official) -> None:
    """Fill in the rows of the SDK's label file."""
    for name in sorted(official.rows.keys() & videos.keys()):
        video, rated = videos[name], official.rows[name]
        clips = sorted(video.rows, key=str)
        if len(clips) == len(rated) and all(map(_agree, (video.rows[clip] for clip in clips), rated)):
            video.rated = dict(zip(clips, rated, strict=True))
        else:
            video.unjoined = rated
            kind = f"videos have other clips or sentiments in {official.path}: no emotions and no times"
            tree.notes.count(kind, f"{name} ({len(rated)} clips there, {len(clips)} in the table)")
    if absent := sorted(official.rows.keys() - videos.keys()):
        tree.notes.add("videos", f"{len(absent)} videos of {official.path} are not in this copy, such as {absent[0]}")


def _agree(row: Row, rated: csd.Rated) -> bool:
    there = rated.values["sentiment"]
    return row.sentiment is None or there is None or abs(row.sentiment - there) <= SAME_MEAN


def _lengths(root: Path, paths: list[str]) -> Mapping[str, float]:
    """Seconds of media files."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: _length(root / path), paths), strict=True))


def _length(path: Path) -> float:
    """Seconds of a media file in which all its tracks last, by its header; 0 if it cannot be read."""
    import av

    try:
        with av.open(f"file:{path}") as container:
            tracks = [float(s.duration * s.time_base) for s in container.streams if s.duration and s.time_base]
            return int(min(tracks, default=(container.duration or 0) / av.time_base) * 1000) / 1000
    except (av.FFmpegError, OSError, ValueError) as error:
        raise_resource_error(error)
        return 0.0


def _recording(found: _Found, name: str) -> Recording:
    """All clips of one video; the video itself is not in this layout."""
    video = found.videos[name]
    utterances = [_utterance(found, name, clip) for clip in {*video.rows, *video.files}]
    if found.official:
        utterances += [clipless(found.official.path, name, row) for row in video.unjoined]
    utterances.sort(key=lambda utterance: (utterance.start, utterance.end, utterance.id))
    return Recording(id=name, video=None, utterances=tuple(utterances))


def _utterance(found: _Found, name: str, clip: int) -> Utterance:
    """One clip, from its row, its file and its row of the label file, as far as they are there."""
    video, id_ = found.videos[name], key_of(name, clip)
    row, rated, path = video.rows.get(clip), video.rated.get(clip), video.files.get(clip)
    start, end = (max(rated.start, 0.0), rated.end) if rated else (0.0, found.lengths.get(path or "", 0.0))
    words = (
        csd.words_within(found.timed.words[name], start, end)
        if rated and found.timed and name in found.timed.words
        else None
    )
    said = labels(rated.values if rated else None, [])
    labelled = rated is not None or (row is not None and row.sentiment is not None)
    if labelled and row and not rated:
        said |= {**dict.fromkeys(EMOTIONS), "sentiment": row.sentiment}
    flags = {
        "no_transcript": not (row and row.text),
        "no_times": rated is None,
        "no_emotions": rated is None,
        "no_alignment": words is None,
        "negative_start": rated is not None and rated.start < 0,
        "labels_from_csd": rated is not None,
        **{flag: id_ in ids or name in ids for flag, ids in found.anomalies.items()},
    }
    texts = [found.table] if row else []
    texts += [found.official.path] if rated and found.official else []
    texts += [found.timed.path] if words is not None and found.timed else []
    return Utterance(
        id=id_,
        dialog=name,
        speaker=name,
        start=start,
        end=end,
        text=row.text if row else "",
        words=words,
        labels=said,
        audio=(AudioSource(path=path),) if path and labelled else (),
        picture=Picture(),
        texts=tuple(texts),
        excerpt=Excerpt(path=path) if path and labelled else None,
        flags=tuple(flag for flag, is_so in flags.items() if is_so),
        unbuilt=None if labelled else UNLABELLED,
    )


def _summary(found: _Found, built: list[Utterance]) -> list[str]:
    """What this copy is, and what it lacks."""
    modes = Counter(row.mode or "none" for video in found.videos.values() for row in video.rows.values())
    parts = ", ".join(f"{mode} {number}" for mode, number in sorted(modes.items()))
    bare = sum("no_emotions" in utterance.flags for utterance in built)
    without = [utterance.id for utterance in built if not utterance.audio]
    videos = len({utterance.dialog for utterance in built})
    notes = [f"read: MMSA's layout, {len(built)} clips of {videos} videos in {found.table} (mode: {parts})"]
    if bare:
        remedy = "" if found.official else f"; put the SDK's CMU_MOSEI_Labels.csd beside {TABLE} for emotions and times"
        notes.append(f"{bare} of {len(built)} clips have a sentiment but no emotions (flag no_emotions){remedy}")
    if without:
        notes.append(f"{len(without)} clips of {found.table} have no file in {MEDIA}/, the first is {without[0]}")
    return notes
