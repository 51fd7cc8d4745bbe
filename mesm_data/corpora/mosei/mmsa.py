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
from dataclasses import dataclass
from pathlib import Path

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.annotations import LabelFile, WordFile, read_label_file, read_words
from mesm_data.corpora.mosei.layout import Layout, find_folder
from mesm_data.corpora.mosei.mmsa_videos import MmsaVideo, add_files, match_label_rows, media_lengths, read_videos
from mesm_data.corpora.mosei.ratings import EMOTIONS, mosei_labels
from mesm_data.corpora.mosei.release_check import UNLABELLED
from mesm_data.corpora.mosei.transcripts import utterance_id
from mesm_data.corpora.mosei.unmatched_rows import unmatched_row_utterance
from mesm_data.corpora.release_check import missing_text_notes
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import AudioSource, ClipSource, Corpus, Recording, Utterance, VideoRegion

TABLE, MEDIA = "label.csv", "Raw"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """Everything that was read. `lengths`: seconds of the files for which the label file has no times."""

    table: str
    videos: dict[str, MmsaVideo]
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
        raise InputError(f"{folder}: contains several copies ({', '.join(bases)}); name one of them")
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
    videos = read_videos(tree, table)
    add_files(layout, videos)
    label_file = read_label_file(layout, tree.notes)
    if label_file:
        match_label_rows(tree, videos, label_file)
    untimed = [
        path for v in videos.values() for clip, path in v.files.items() if clip in v.rows and clip not in v.rated
    ]
    sources = _Sources(
        table=table,
        videos=videos,
        label_file=label_file,
        word_file=read_words(layout, tree.notes),
        lengths=media_lengths(tree.root, untimed),
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
