"""CMU-MOSEI: the raw archive, with the SDK's label and word files if they are there, as rows of utterances.

An utterance is a clip of a video, `<vid>_<clip>`. Its times and text are in the transcripts, its ratings in the six
files of Labels/, their means also in the SDK's CMU_MOSEI_Labels.csd. The three do not hold the same clips: 39 000 or so
were cut, 23 259 are in the label file, and some that were rated were taken out of it later (its owner says). Each clip
that any of the three knows becomes a row. mesm_data/corpora/mosei/layout.py says where things lie.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesm_data.corpora import csd
from mesm_data.corpora.mosei.annotations import (
    Lines,
    Official,
    Rated,
    Ratings,
    Timed,
    read_official,
    read_ratings,
    read_transcripts,
    read_words,
)
from mesm_data.corpora.mosei.layout import locate
from mesm_data.corpora.mosei.ratings import ITEMS, Values, is_incomplete, is_labelled, labels, means, possible_means
from mesm_data.corpora.mosei.release_check import NO_TIMES, UNLABELLED, beside, summary
from mesm_data.corpora.mosei.transcripts import Clip, key_of
from mesm_data.corpora.mosei.unmatched_rows import SAME_MEAN, clipless
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import AudioSource, Corpus, Excerpt, Picture, Recording, Utterance, Word

# The label file repeats the transcript's times as floats of other widths.
_SAME_TIME = 0.001 + 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Everything that was read, and the files by name."""

    lines: Lines
    ratings: Ratings
    official: Official | None
    timed: Timed | None
    videos: dict[str, str]
    clips: dict[str, str]
    sound: dict[str, str]
    anomalies: dict[str, frozenset[str]]


def scan(root: Path) -> Corpus:
    """Every clip under `root`: the archive's folder Raw or the one above it, under any name, also flattened.

    Clips without ratings are excluded by the rule "unlabelled", rows of the label file that match no clip by "no_clip"
    (as `<vid>_csd<row>`); a rated clip whose times are not known has failed. Flags: `no_transcript` (text ""),
    `no_alignment` (words None), `negative_start` (start is 0), `labels_from_csd` (no raters), `empty_answers` (a rater
    left an answer empty), `not_in_csd` (rated, not in the label file), `csd_differs` (the label file has other means:
    they count), and of the known anomalies `mistimed`, `faceless` and `corrupt_segmented`. What could not be
    used is in the notes.

    Raises InputError if this is no copy of CMU-MOSEI, or one without labels, times or media.
    """
    from mesm_data.corpora.dai2021 import scan as processed
    from mesm_data.corpora.mosei import mmsa

    if release := processed.find("mosei", Path(root)):
        return processed.scan("mosei", release)
    if copy := mmsa.find(Path(root)):
        return mmsa.scan(copy)
    facts = built_in_facts("mosei")
    layout = locate(Path(root))
    notes = layout.tree.notes
    lines, ratings, official = (
        read_transcripts(layout, notes),
        read_ratings(layout, notes),
        read_official(layout, notes),
    )
    names = {*lines, *ratings, *(official.rows if official else ())}
    clips = {key_of(video, clip) for table in (lines, ratings) for video in table for clip in table[video]}
    found = _Found(
        lines=lines,
        ratings=ratings,
        official=official,
        timed=read_words(layout, notes),
        videos=layout.files_of("videos", names),
        clips=layout.files_of("clips", clips),
        sound=layout.files_of("sound", names),
        anomalies={flag: frozenset(ids) for flag, ids in facts["anomalies"].items()},
    )
    recordings = tuple(_recording(found, video) for video in sorted(names))
    corpus = Corpus(schema=built_in_schema("mosei"), root=layout.tree.root, recordings=recordings, notes=())
    if not any(utterance.unbuilt is None for utterance in corpus.utterances()):
        said = "".join(f"\n  {note}" for note in notes.sentences()[:5])
        raise InputError(f"{layout.tree.root}: no clip has both times and labels. {layout.describe()}{said}")
    first = [layout.describe(), *beside(layout), *summary(corpus, found.videos, found.sound, facts["counts"])]
    return Corpus(
        schema=corpus.schema,
        root=layout.tree.root,
        recordings=recordings,
        notes=(*first, *notes.sentences()),
    )


def _recording(found: _Found, video: str) -> Recording:
    """All clips of one video."""
    lines, ratings = found.lines.get(video, {}), found.ratings.get(video, {})
    rows = found.official.rows.get(video, []) if found.official else []
    matched = match([clip for _, clip in lines.values()], rows, ratings)
    taken = {row.index for row in matched.values()}
    utterances = [_utterance(found, video, number, matched.get(number)) for number in {*lines, *ratings, *matched}]
    if found.official:
        utterances += [clipless(found.official.path, video, row) for row in rows if row.index not in taken]
    return Recording(
        id=video,
        video=found.videos.get(video),
        utterances=tuple(sorted(utterances, key=lambda utterance: (utterance.start, utterance.end, utterance.id))),
    )


def match(clips: list[Clip], rows: list[csd.Rated], rated: dict[int, Rated]) -> dict[int, csd.Rated]:
    """Clip number -> its row of the label file: the nearest of those that begin and end within 1 ms of it.

    Rated clips of which the transcripts know nothing have no times of their own. They get the rows that are left over
    only if there are as many of both and all seven means agree, in the file's order: that of the numbers as texts.
    Whether clips count for which nobody answered anything is seen from the numbers.
    """
    found: dict[int, csd.Rated] = {}
    left = []
    for row in rows:
        near = [
            (max(abs(clip.start - row.start), abs(clip.end - row.end)), clip.number not in rated, clip.number)
            for clip in clips
            if clip.number not in found
        ]
        distance, _, number = min(near, default=(1.0, False, -1))
        if distance <= _SAME_TIME:
            found[number] = row
        else:
            left.append(row)
    untimed = sorted(set(rated) - {clip.number for clip in clips}, key=str)
    for numbers in (untimed, [number for number in untimed if rated[number].answered]):
        pairs = list(zip(numbers, left, strict=False))
        if len(numbers) == len(left) and all(published(rated[number], row) for number, row in pairs):
            return {**found, **dict(pairs)}
    return found


def published(rated: Rated, row: csd.Rated) -> dict[str, float | None] | None:
    """The means of a clip's raters, by the reading of missing answers that gives those of the label file's row."""
    return next((means for means in possible_means(rated.raters) if agree(means, row.values)), None)


def agree(ours: Values, theirs: Values) -> bool:
    """Whether two sets of means are the same but for their decimals.

    What nobody answered is 0 to the label file; what it has no number for agrees with everything.
    """
    pairs = [(ours[item] or 0.0, their) for item in ITEMS if (their := theirs[item]) is not None]
    return all(abs(our - their) <= SAME_MEAN for our, their in pairs)


def _utterance(found: _Found, video: str, number: int, row: csd.Rated | None) -> Utterance:
    """One row from what the transcripts, the raters and the label file say of a clip, of which one knows it."""
    id_ = key_of(video, number)
    line = found.lines.get(video, {}).get(number)
    timed = line[1] if line else row
    start, end = (max(timed.start, 0.0), timed.end) if timed else (0.0, 0.0)
    said, files, doubts = _labels(found, video, number, row)
    labelled = is_labelled(said)
    words = _words(found, video, start, end) if timed and labelled else None
    flags = {
        "no_transcript": line is None or not line[1].text,
        "no_times": timed is None,
        "no_alignment": words is None,
        "negative_start": timed is not None and timed.start < 0,
        **doubts,
        **{flag: id_ in ids or video in ids for flag, ids in found.anomalies.items()},
    }
    texts = [line[0]] if line else []
    texts += [*files, *([found.official.path] if row and found.official else [])]
    texts += [found.timed.path] if words is not None and found.timed else []
    buildable = timed is not None and labelled
    clip = found.clips.get(id_) if buildable else None
    return Utterance(
        id=id_,
        dialog=video,
        speaker=video,
        start=start,
        end=end,
        text=line[1].text if line else "",
        words=words,
        labels=said,
        audio=_audio(found, video, clip, (start, end)) if buildable else (),
        picture=Picture(),
        texts=tuple(texts),
        excerpt=Excerpt(path=clip) if clip else None,
        flags=tuple(flag for flag, is_so in flags.items() if is_so),
        unbuilt=UNLABELLED if not labelled else NO_TIMES if timed is None else None,
    )


def _labels(
    found: _Found, video: str, number: int, row: csd.Rated | None
) -> tuple[dict[str, Any], list[str], dict[str, bool]]:
    """The record `labels`, the files that the ratings are from, and what is doubtful about them.

    The raters' means count; where the label file has others by every reading of missing answers, its own: they are what
    others train and test on.
    """
    rated = found.ratings.get(video, {}).get(number)
    if rated is None or not (rated.answered or row):
        return labels(row.values if row else None, []), [], {"labels_from_csd": row is not None}
    ours = published(rated, row) if row else means(rated.raters)
    doubts = {
        "empty_answers": any(map(is_incomplete, rated.raters)),
        "not_in_csd": found.official is not None and row is None,
        "csd_differs": ours is None,
    }
    return labels(ours or (row.values if row else None), rated.raters), rated.files, doubts


def _words(found: _Found, video: str, start: float, end: float) -> tuple[Word, ...] | None:
    if found.timed is None or video not in found.timed.words:
        return None
    return csd.words_within(found.timed.words[video], start, end)


def _audio(found: _Found, video: str, clip: str | None, span: tuple[float, float]) -> tuple[AudioSource, ...]:
    """The whole wav's first channel (as the paper's code takes it), the whole video's sound, the clip's own."""
    sources = []
    if video in found.sound:
        sources.append(AudioSource(path=found.sound[video], channel=0, span=span))
    if video in found.videos:
        sources.append(AudioSource(path=found.videos[video], span=span))
    if clip:
        sources.append(AudioSource(path=clip))
    return tuple(sources)
