"""Scan of CMU-MOSEI: from the raw archive, and the SDK's label and word files if they are there, to utterances.

An utterance is a clip of a video, `<vid>_<clip>`. The transcripts contain its times and text, the six files of Labels/
its ratings, and the SDK's CMU_MOSEI_Labels.csd the means of these. The three contain different clips: about 39 000 were
cut, 23 259 are in the label file, and some rated clips were removed from it later (according to its owner). Each clip
that any of the three contains becomes an utterance. mesm_data/corpora/mosei/layout.py describes the folders.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from mesm_data.corpora import csd
from mesm_data.corpora.dai2021.release_files import find_release
from mesm_data.corpora.dai2021.scan import scan_release
from mesm_data.corpora.mosei.annotations import (
    ClipRatings,
    LabelFile,
    Lines,
    Ratings,
    WordFile,
    read_label_file,
    read_ratings,
    read_transcripts,
    read_words,
)
from mesm_data.corpora.mosei.layout import locate_copy
from mesm_data.corpora.mosei.mmsa import find_copy, scan_copy
from mesm_data.corpora.mosei.ratings import (
    ITEMS,
    Values,
    candidate_means,
    is_incomplete,
    is_labelled,
    mean_ratings,
    mosei_labels,
)
from mesm_data.corpora.mosei.release_check import NO_TIMES, UNLABELLED, describe_copy, label_file_hint
from mesm_data.corpora.mosei.transcripts import Clip, utterance_id
from mesm_data.corpora.mosei.unmatched_rows import MEAN_TOLERANCE, unmatched_row_utterance
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import AudioSource, ClipSource, Corpus, Recording, Utterance, VideoRegion, Word

# The label file repeats the transcript's times as floats of another width.
_TIME_TOLERANCE = 0.001 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sources:
    """All annotations, and the paths of the media: videos, clips and audio files by id."""

    lines: Lines
    ratings: Ratings
    label_file: LabelFile | None
    word_file: WordFile | None
    videos: dict[str, str]
    clips: dict[str, str]
    sound: dict[str, str]
    anomalies: dict[str, frozenset[str]]


class _Labels(NamedTuple):
    """The `labels` record of a clip, the files of its ratings, and flags of doubtful labels."""

    record: dict[str, Any]
    files: Iterable[str]
    flags: dict[str, bool]


def scan(root: Path) -> Corpus:
    """Scan every clip under `root`: the archive's folder Raw (also renamed or flattened) or the folder above it.

    Clips without ratings are excluded by the rule "unlabelled", rows of the label file that match no clip by "no_clip"
    (as `<vid>_csd<row>`); a rated clip with unknown times has failed. Flags: `no_transcript` (text ""),
    `no_alignment` (words None), `negative_start` (start is set to 0), `labels_from_csd` (no raters), `empty_answers`
    (a rater left an answer empty), `not_in_csd` (rated, but not in the label file), `csd_differs` (the label file has
    other means, which are used), and the known anomalies `mistimed`, `faceless` and `corrupt_segmented`. The notes list
    what could not be used.

    Raises InputError if this is not a copy of CMU-MOSEI, or one without labels, times or media.
    """
    if release := find_release("mosei", Path(root)):
        return scan_release("mosei", release)
    if copy := find_copy(Path(root)):
        return scan_copy(copy)
    facts = built_in_facts("mosei")
    layout = locate_copy(Path(root))
    notes = layout.tree.notes
    lines, ratings = read_transcripts(layout, notes), read_ratings(layout, notes)
    label_file = read_label_file(layout, notes)
    names = {*lines, *ratings, *(label_file.rows if label_file else ())}
    clips = {utterance_id(video, clip) for table in (lines, ratings) for video in table for clip in table[video]}
    sources = _Sources(
        lines=lines,
        ratings=ratings,
        label_file=label_file,
        word_file=read_words(layout, notes),
        videos=layout.files_of("videos", names),
        clips=layout.files_of("clips", clips),
        sound=layout.files_of("sound", names),
        anomalies={flag: frozenset(ids) for flag, ids in facts["anomalies"].items()},
    )
    recordings = tuple(_recording(sources, video) for video in sorted(names))
    corpus = Corpus(schema=built_in_schema("mosei"), root=layout.tree.root, recordings=recordings, notes=())
    if not any(utterance.exclusion is None for utterance in corpus.utterances()):
        details = "".join(f"\n  {note}" for note in notes.sentences()[:5])
        raise InputError(f"{layout.tree.root}: no clip has both times and labels. {layout.describe()}{details}")
    first = [layout.describe(), *label_file_hint(layout)]
    first += describe_copy(corpus, sources.videos, sources.sound, facts["counts"])
    return replace(corpus, notes=(*first, *notes.sentences()))


def _recording(sources: _Sources, video: str) -> Recording:
    """Make the recording of one video with all its clips."""
    lines, ratings = sources.lines.get(video, {}), sources.ratings.get(video, {})
    rows = sources.label_file.rows.get(video, []) if sources.label_file else []
    matched = match_rows([line.clip for line in lines.values()], rows, ratings)
    used = {row.index for row in matched.values()}
    utterances = [_utterance(sources, video, number, matched.get(number)) for number in {*lines, *ratings, *matched}]
    if sources.label_file:
        path = sources.label_file.path
        utterances += [unmatched_row_utterance(path, video, row) for row in rows if row.index not in used]
    return Recording(
        id=video,
        video=sources.videos.get(video),
        utterances=tuple(sorted(utterances, key=lambda utterance: (utterance.start, utterance.end, utterance.id))),
    )


def match_rows(clips: list[Clip], rows: list[csd.LabelRow], ratings: dict[int, ClipRatings]) -> dict[int, csd.LabelRow]:
    """Match clips to rows of the label file: clip number -> the nearest row that starts and ends within 1 ms of it.

    Rated clips that are not in the transcripts have no times. They are matched to the remaining rows, both in the order
    of the numbers as strings, only if there are equally many of both and all seven means agree. Whether clips without
    any answer belong to them follows from these numbers.
    """
    matched: dict[int, csd.LabelRow] = {}
    remaining = []
    for row in rows:
        candidates = [
            (max(abs(clip.start - row.start), abs(clip.end - row.end)), clip.number not in ratings, clip.number)
            for clip in clips
            if clip.number not in matched
        ]
        distance, _, number = min(candidates, default=(1.0, False, -1))
        if distance <= _TIME_TOLERANCE:
            matched[number] = row
        else:
            remaining.append(row)
    untimed = sorted(set(ratings) - {clip.number for clip in clips}, key=str)
    for numbers in (untimed, [number for number in untimed if ratings[number].answered]):
        pairs = list(zip(numbers, remaining, strict=False))
        if len(numbers) == len(remaining) and all(published_means(ratings[number], row) for number, row in pairs):
            return {**matched, **dict(pairs)}
    return matched


def published_means(ratings: ClipRatings, row: csd.LabelRow) -> dict[str, float | None] | None:
    """Return the raters' means under the interpretation of missing answers that agrees with the label file's row."""
    return next((means for means in candidate_means(ratings.raters) if _agree(means, row.values)), None)


def _agree(ours: Values, theirs: Values) -> bool:
    """Whether two sets of means are equal up to rounding.

    The label file has 0 for an item without answers; an item for which it has no number agrees with everything.
    """
    pairs = [(ours[item] or 0.0, their) for item in ITEMS if (their := theirs[item]) is not None]
    return all(abs(our - their) <= MEAN_TOLERANCE for our, their in pairs)


def _utterance(sources: _Sources, video: str, number: int, row: csd.LabelRow | None) -> Utterance:
    """Make an utterance from the transcript, ratings and label file, at least one of which contains the clip."""
    id_ = utterance_id(video, number)
    line = sources.lines.get(video, {}).get(number)
    timed = line.clip if line else row
    start, end = (max(timed.start, 0.0), timed.end) if timed else (0.0, 0.0)
    labels = _labels(sources, video, number, row)
    labelled = is_labelled(labels.record)
    words = _words(sources, video, start, end) if timed and labelled else None
    flags = {
        "no_transcript": line is None or not line.clip.text,
        "no_times": timed is None,
        "no_alignment": words is None,
        "negative_start": timed is not None and timed.start < 0,
        **labels.flags,
        **{flag: id_ in ids or video in ids for flag, ids in sources.anomalies.items()},
    }
    files = [line.path] if line else []
    files += [*labels.files, *([sources.label_file.path] if row and sources.label_file else [])]
    files += [sources.word_file.path] if words is not None and sources.word_file else []
    buildable = timed is not None and labelled
    clip = sources.clips.get(id_) if buildable else None
    return Utterance(
        id=id_,
        dialog=video,
        speaker=video,
        start=start,
        end=end,
        text=line.clip.text if line else "",
        words=words,
        labels=labels.record,
        audio=_audio(sources, video, clip, (start, end)) if buildable else (),
        region=VideoRegion(),
        annotation_files=tuple(files),
        clip_source=ClipSource(path=clip) if clip else None,
        flags=tuple(flag for flag, applies in flags.items() if applies),
        exclusion=UNLABELLED if not labelled else NO_TIMES if timed is None else None,
    )


def _labels(sources: _Sources, video: str, number: int, row: csd.LabelRow | None) -> _Labels:
    """Make the labels of a clip from its ratings and its row of the label file.

    The raters' means are used. If the label file has other ones under every interpretation of missing answers, its own
    are used: they are what others train and test on.
    """
    ratings = sources.ratings.get(video, {}).get(number)
    if ratings is None or not (ratings.answered or row):
        return _Labels(mosei_labels(row.values if row else None, []), [], {"labels_from_csd": row is not None})
    means = published_means(ratings, row) if row else mean_ratings(ratings.raters)
    flags = {
        "empty_answers": any(map(is_incomplete, ratings.raters)),
        "not_in_csd": sources.label_file is not None and row is None,
        "csd_differs": means is None,
    }
    return _Labels(mosei_labels(means or (row.values if row else None), ratings.raters), ratings.files, flags)


def _words(sources: _Sources, video: str, start: float, end: float) -> tuple[Word, ...] | None:
    if sources.word_file is None or video not in sources.word_file.words:
        return None
    return csd.words_within(sources.word_file.words[video], start, end)


def _audio(sources: _Sources, video: str, clip: str | None, span: tuple[float, float]) -> tuple[AudioSource, ...]:
    """Return the first channel of the video's wav (as in the paper's code), the video's own audio, and the clip's."""
    audio = []
    if video in sources.sound:
        audio.append(AudioSource(path=sources.sound[video], channel=0, span=span))
    if video in sources.videos:
        audio.append(AudioSource(path=sources.videos[video], span=span))
    if clip:
        audio.append(AudioSource(path=clip))
    return tuple(audio)
