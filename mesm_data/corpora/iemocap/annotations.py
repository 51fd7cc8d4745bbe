"""Parsers of IEMOCAP's three text formats: records, and a Problem for each line that cannot be parsed.

The parsers are pure functions and raise for no input. Examples have the real format and invented values.
"""

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mesm_data.corpora.parsing import Parsed as Parsed
from mesm_data.schema.recordings import Word

_NUMBER = r"-?\d{1,9}(?:\.\d{1,12})?"  # bounded, so that the number is finite
_ONE_NUMBER = re.compile(_NUMBER, re.ASCII)
_TURN = re.compile(rf"\[\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\]\s+(\S+)\s+(\w+)(?:\s+\[([^\]]*)\])?\s*", re.ASCII)
_RATING = re.compile(r"([CA]-[A-Z]\d+):([^(]*)(?:\((.*?)\)?)?\s*", re.ASCII)
_DIMENSION = re.compile(r"(val|act|dom)\b\s*(.*)", re.ASCII)
_LINE = re.compile(rf"(\S+)\s*\[\s*({_NUMBER})\s*-\s*({_NUMBER})\s*\]\s*:?(.*)", re.ASCII)
_NO_ID = re.compile(r"[FM]\s*:", re.ASCII)
_XX = re.compile(r"\S+_[FM]XX\d+\b", re.ASCII)
_SEGMENT = re.compile(r"\s*(\d{1,9})\s+(\d{1,9})\s+-?\d+\s+(\S+)\s*", re.ASCII)
_SEGMENT_FRAME = re.compile(r"\s*(SFrm\s+EFrm\b|Total score:)", re.ASCII)
_VARIANT = re.compile(r"(?<=.)\(\d+\)$", re.ASCII)
_SILENCE = frozenset({"<s>", "</s>", "<sil>"})


class Dimensions(NamedTuple):
    """The mean dimensional ratings of a turn; a missing one is None."""

    valence: float | None = None
    activation: float | None = None
    dominance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One rater's line. `categories` is None for an A- (dimensional) line; a missing value is None."""

    rater: str
    categories: tuple[str, ...] | None = None
    val: float | None = None
    act: float | None = None
    dom: float | None = None
    comment: str | None = None

    @property
    def is_self(self) -> bool:
        """Whether an actor rates their own performance: true for all raters except the evaluators E1, E2 ..."""
        return self.rater[2] != "E"

    def as_label(self) -> dict[str, Any]:
        """Return the entry of `labels["raters"]`, always with all keys."""
        return {
            "rater": self.rater,
            "self": self.is_self,
            "comment": self.comment,
            "emotion": None if self.categories is None else list(self.categories),
            "valence": self.val,
            "activation": self.act,
            "dominance": self.dom,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One block of an EmoEvaluation file. Times are seconds of the dialog."""

    line: int
    id: str
    start: float
    end: float
    label: str
    dimensions: Dimensions | None
    ratings: list[Rating] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptLine:
    """One line of a transcription. Times are seconds of the dialog."""

    line: int
    id: str
    start: float
    end: float
    text: str


def iemocap_labels(label: str | None, dimensions: Dimensions | None, raters: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the `labels` record of an utterance."""
    return {"emotion": label, **(dimensions or Dimensions())._asdict(), "raters": raters}


def parse_evaluation(text: str) -> Parsed[Turn]:
    r"""Parse dialog/EmoEvaluation/<dialog>.txt: the turns in file order, each with its raters.

    % [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]
    [7.1204 - 9.4810]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
    C-E2:\tNeutral;\t()
    """
    parsed: Parsed[Turn] = Parsed()
    turn: Turn | None = None
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line or line.startswith("%"):
            continue
        if line.startswith("["):
            # The raters of a malformed turn are skipped too: they must not be added to the turn before.
            turn = _turn(number, line, parsed)
            if turn:
                parsed.records.append(turn)
            continue
        rating = _rating(number, line, parsed)
        if rating and turn:
            turn.ratings.append(rating)
        elif rating:
            parsed.add_problem(number, "a rating without a turn above it", line)
    return parsed


def _turn(number: int, line: str, parsed: Parsed[Turn]) -> Turn | None:
    match = _TURN.fullmatch(line)
    if not match:
        parsed.add_problem(number, "expected `[start - end] id label [v, a, d]`", line)
        return None
    start, end, id_, label, dimensions = match.groups()
    values = [_number(part) for part in (dimensions or "").split(",")]
    if len(values) != 3 or None in values:
        parsed.add_problem(number, "expected three numbers [v, a, d]", line)
    known = Dimensions(*values) if len(values) == 3 and values != [None] * 3 else None
    return Turn(line=number, id=id_, start=float(start), end=float(end), label=label, dimensions=known)


def _rating(number: int, line: str, parsed: Parsed[Turn]) -> Rating | None:
    r"""Parse a rater's line. The comment may contain any separator and lack the closing bracket; values may be empty.

    C-F1:\tNeutral; Anger;\t(a comment)
    A-E3:\tval 3; act 2; dom  2;\t()
    """
    match = _RATING.fullmatch(line)
    if not match or "\t" in match[2].strip():
        parsed.add_problem(number, "neither a turn nor a rating", line)
        return None
    rater, body, comment = match[1], match[2], (match[3] or "").strip() or None
    parts = [part.strip() for part in body.split(";") if part.strip()]
    if rater.startswith("C"):
        return Rating(rater=rater, categories=tuple(parts), comment=comment)
    values: dict[str, float | None] = {}
    for part in parts:
        dimension = _DIMENSION.fullmatch(part)
        name, value = dimension.groups() if dimension else ("", part)
        if not name or name in values or (value and _number(value) is None):
            parsed.add_problem(number, f"expected val, act and dom with a number or nothing, not {part!r}", line)
        else:
            values[name] = _number(value)
    return Rating(rater=rater, val=values.get("val"), act=values.get("act"), dom=values.get("dom"), comment=comment)


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _ONE_NUMBER.fullmatch(text) else None


def parse_transcription(text: str) -> Parsed[TranscriptLine]:
    """Parse dialog/transcriptions/<dialog>.txt; in file order, which is not that of time in 67 of the 151 dialogs.

    Ses01F_impro01_F000 [007.1204-009.4810]: Good morning.

    Turns that were not segmented (ids `_FXX0`) and lines without an id (`M: ...`) have no evaluation and no wav, and
    are skipped.
    """
    parsed: Parsed[TranscriptLine] = Parsed()
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.strip()
        if not line:
            continue
        if _NO_ID.match(line):
            parsed.skipped["without an id"] += 1
        elif _XX.match(line):
            parsed.skipped["with an XX id"] += 1
        elif match := _LINE.fullmatch(line):
            id_, start, end, words = match.groups()
            parsed.records.append(
                TranscriptLine(line=number, id=id_, start=float(start), end=float(end), text=words.strip())
            )
        else:
            parsed.add_problem(number, "expected `id [start-end]: text`", line)
    return parsed


def parse_wdseg(text: str) -> Parsed[Word]:
    r"""Parse sentences/ForcedAlignment/<dialog>/<utt>.wdseg: the words, without silences and without a variant's `(2)`.

    \t SFrm  EFrm    SegAScr Word
    \t   35    61     -91830 MORNING(2)
     Total score:   -1234567

    Frames of 10 ms from the start of the utterance, EFrm inclusive (SPHINX-3, main_align.c). Fillers
    (`++LAUGHTER++`) are kept.
    """
    parsed: Parsed[Word] = Parsed()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or _SEGMENT_FRAME.match(line):
            continue
        match = _SEGMENT.fullmatch(line)
        if not match or int(match[2]) < int(match[1]):
            parsed.add_problem(number, "expected `SFrm EFrm score word`", line)
        elif match[3] in _SILENCE:
            parsed.skipped["of silence"] += 1
        else:
            # An integer / 100 is the double that is nearest to the two decimals.
            start, end = int(match[1]) / 100, (int(match[2]) + 1) / 100
            parsed.records.append(Word(word=_VARIANT.sub("", match[3]), start=start, end=end))
    return parsed
