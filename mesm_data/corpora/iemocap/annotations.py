"""Parsers of IEMOCAP's three text formats: text -> records, and a Problem for every line that was not understood.

They are pure functions that never raise, whatever the text. The lines shown have the real shape and made-up values.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from mesm_data.corpora.parsing import Parsed as Parsed
from mesm_data.schema.recordings import Word

_NUMBER = r"-?\d{1,9}(?:\.\d{1,12})?"  # bounded, so that no digits make an infinity
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """One rater's line. `categories` is None for an A- (dimensional) line; a value that was not given is None."""

    rater: str
    categories: tuple[str, ...] | None = None
    val: float | None = None
    act: float | None = None
    dom: float | None = None
    comment: str | None = None

    @property
    def is_self(self) -> bool:
        """Whether an actor rates their own performance: all raters but the evaluators E1, E2 ..."""
        return self.rater[2] != "E"

    def as_label(self) -> dict[str, Any]:
        """The entry of `labels["raters"]`, all keys always there."""
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
    """One block of an EmoEvaluation file. Times in seconds of the dialog; `vad` is (valence, activation, dominance)."""

    line: int
    id: str
    start: float
    end: float
    label: str
    vad: tuple[float | None, ...] | None
    ratings: list[Rating] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a transcription. Times in seconds of the dialog."""

    line: int
    id: str
    start: float
    end: float
    text: str


def labels_record(
    label: str | None, vad: tuple[float | None, ...] | None, raters: list[dict[str, Any]]
) -> dict[str, Any]:
    """The record `labels` of an utterance. `vad` is (valence, activation, dominance)."""
    numbers = dict(zip(("valence", "activation", "dominance"), vad or (None,) * 3, strict=True))
    return {"emotion": label, **numbers, "raters": raters}


def parse_evaluation(text: str) -> Parsed[Turn]:
    r"""The turns of dialog/EmoEvaluation/<dialog>.txt, in file order, each with its raters' lines.

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
            # A broken turn takes its raters with it: they must not count for the turn above.
            turn = _turn(number, line, parsed)
            if turn:
                parsed.records.append(turn)
            continue
        rating = _rating(number, line, parsed)
        if rating and turn:
            turn.ratings.append(rating)
        elif rating:
            parsed.problem(number, "a rating without a turn above it", line)
    return parsed


def _turn(number: int, line: str, parsed: Parsed[Turn]) -> Turn | None:
    match = _TURN.fullmatch(line)
    if not match:
        parsed.problem(number, "expected `[start - end] id label [v, a, d]`", line)
        return None
    start, end, id_, label, dimensions = match.groups()
    vad = tuple(_number(part) for part in (dimensions or "").split(","))
    if len(vad) != 3 or None in vad:
        parsed.problem(number, "expected three numbers [v, a, d]", line)
    known = len(vad) == 3 and vad != (None, None, None)
    return Turn(line=number, id=id_, start=float(start), end=float(end), label=label, vad=vad if known else None)


def _rating(number: int, line: str, parsed: Parsed[Turn]) -> Rating | None:
    r"""One rater's line; the comment may hold brackets and semicolons or lack the last bracket, values may be empty.

    C-F1:\tNeutral; Anger;\t(a comment)
    A-E3:\tval 3; act 2; dom  2;\t()
    """
    match = _RATING.fullmatch(line)
    if not match or "\t" in match[2].strip():
        parsed.problem(number, "neither a turn nor a rating", line)
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
            parsed.problem(number, f"expected val, act and dom with a number or nothing, found {part!r}", line)
        else:
            values[name] = _number(value)
    return Rating(rater=rater, val=values.get("val"), act=values.get("act"), dom=values.get("dom"), comment=comment)


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _ONE_NUMBER.fullmatch(text) else None


def parse_transcription(text: str) -> Parsed[Line]:
    """The lines of dialog/transcriptions/<dialog>.txt, in file order (not sorted by time in 67 of the 151 dialogs).

    Ses01F_impro01_F000 [007.1204-009.4810]: Good morning.

    Turns that were not cut (ids `_FXX0`) and lines without an id (`M: ...`) have neither evaluation nor wav: counted.
    """
    parsed: Parsed[Line] = Parsed()
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
            parsed.records.append(Line(line=number, id=id_, start=float(start), end=float(end), text=words.strip()))
        else:
            parsed.problem(number, "expected `id [start-end]: text`", line)
    return parsed


def parse_wdseg(text: str) -> Parsed[Word]:
    r"""The words of sentences/ForcedAlignment/<dialog>/<utt>.wdseg, silences left out, `(2)` of a variant cut off.

    \t SFrm  EFrm    SegAScr Word
    \t   35    61     -91830 MORNING(2)
     Total score:   -1234567

    Frames of 10 ms from the start of the utterance, EFrm inclusive (SPHINX-3, main_align.c). Fillers
    (`++LAUGHTER++`) stay.
    """
    parsed: Parsed[Word] = Parsed()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or _SEGMENT_FRAME.match(line):
            continue
        match = _SEGMENT.fullmatch(line)
        if not match or int(match[2]) < int(match[1]):
            parsed.problem(number, "expected `SFrm EFrm score word`", line)
        elif match[3] in _SILENCE:
            parsed.skipped["of silence"] += 1
        else:
            # A whole number / 100 is already the double nearest to the two decimals.
            t0, t1 = int(match[1]) / 100, (int(match[2]) + 1) / 100
            parsed.records.append(Word(w=_VARIANT.sub("", match[3]), t0=t0, t1=t1))
    return parsed
