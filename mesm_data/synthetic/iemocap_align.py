r"""The three files of sentences/ForcedAlignment/<dialog>/, as SPHINX-3 (main_align.c) writes them.

\t SFrm  EFrm    SegAScr Word
\t    0    34    -250144 <s>
\t   35    61     -91830 MORNING
 Total score:     -341974

Frames of 10 ms from the start of the utterance, EFrm inclusive. The scores are made up: nothing was aligned, the times
are the synthesiser's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from zlib import crc32

from mesm_data.synthetic.phonemes import VOWELS, arpabet
from mesm_data.synthetic.speech import Span, Speech
from mesm_data.synthetic.text import spoken

FRAMES = 100  # a second
PAUSE = 3  # frames of silence between words that make a <sil>
SYLLABIC = frozenset(name for name, _ in VOWELS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """`name` in the frames from `start` until before `end`; `phones` are those of a word, empty for silence."""

    name: str
    start: int
    end: int
    phones: tuple["Segment", ...] = ()


def align(text: str, speech: Speech, lead: float, duration: float) -> list[Segment]:
    """The words of `text`, whose speech begins after `lead` seconds, and the silences: all frames, in order."""
    segments: list[Segment] = []
    cursor = 0
    for name, t0, t1 in _named(text, speech.words):
        start, end = round((lead + t0) * FRAMES), round((lead + t1) * FRAMES)
        if not segments:
            segments.append(Segment(name="<s>", start=0, end=max(1, start)))
        elif start - cursor >= PAUSE:
            segments.append(Segment(name="<sil>", start=cursor, end=start))
        cursor = segments[-1].end
        end = max(cursor + 1, end)
        sounds = [
            Span(arpabet(p.name), p.t0 + lead, p.t1 + lead) for p in speech.phonemes if t0 <= (p.t0 + p.t1) / 2 < t1
        ]
        phones = _phones(sounds, cursor, end) if not name.startswith("++") else ()
        segments.append(Segment(name=name, start=cursor, end=end, phones=phones))
        cursor = end
    segments.append(Segment(name="</s>", start=cursor, end=max(cursor + 1, int(duration * FRAMES))))
    return segments


def _named(text: str, words: Sequence[Span]) -> list[Span]:
    """One span for each token of the transcript, in capitals; a sound spoken as words spans all of them."""
    spans, rest = [], list(words)
    for token, said in spoken(text):
        count = len(said.split())
        heard, rest = rest[:count], rest[count:]
        name = f"++{token[1:-1]}++" if token.startswith("[") else token.upper().strip('.,!?"')
        spans.append(Span(name, heard[0].t0, heard[-1].t1))
    return spans


def _phones(sounds: Sequence[Span], start: int, end: int) -> tuple[Segment, ...]:
    """The phones of one word, which fill its frames, at least one each; those that find no frame are left out.

    A word may have none, where espeak-ng runs it into its neighbour ("of a"): it gets the weak vowel.
    """
    sounds = sounds[: end - start] or [Span("AH", start / FRAMES, end / FRAMES)]
    edges = [start]
    for index, sound in enumerate(sounds[1:], start=1):
        edges.append(min(max(edges[-1] + 1, round(sound.t0 * FRAMES)), end - (len(sounds) - index)))
    edges.append(end)
    return tuple(Segment(name=s.name, start=a, end=b) for s, (a, b) in zip(sounds, pairwise(edges), strict=True))


def wdseg(segments: Sequence[Segment], id_: str) -> str:
    """The file of words."""
    return _scored("Word", segments, id_, width=10)


def phseg(segments: Sequence[Segment], id_: str) -> str:
    """The file of phones, a triphone each: phone, left and right neighbour, position in the word (b, i, e, s)."""
    phones = [phone for segment in segments for phone in segment.phones or [_silence(segment)]]
    names = ["SIL", *(phone.name for phone in phones), "SIL"]
    rows = []
    position = {phone: where for segment in segments for phone, where in _positions(segment)}
    for phone, left, right in zip(phones, names[:-2], names[2:], strict=True):
        name = f"{phone.name} {left} {right} {position[phone]}" if phone in position else phone.name
        rows.append(Segment(name=name, start=phone.start, end=phone.end))
    return _scored("Phone", rows, id_, width=9)


def _silence(segment: Segment) -> Segment:
    name = segment.name if segment.name.startswith("++") else "SIL"
    return Segment(name=name, start=segment.start, end=segment.end)


def _positions(segment: Segment) -> list[tuple[Segment, str]]:
    count = len(segment.phones)
    return [(p, "s" if count == 1 else "bie"[(i > 0) + (i == count - 1)]) for i, p in enumerate(segment.phones)]


def syseg(segments: Sequence[Segment]) -> str:
    """The file of syllables, without scores: a vowel, one consonant before it and those after it."""
    lines = [f"\t{'SFrm':>5} {'EFrm':>5} Syllable"]
    for segment in segments:
        for syllable in _syllables(segment.phones) or [[_silence(segment)]]:
            name = "_".join(phone.name for phone in syllable)
            lines.append(f"\t{syllable[0].start:5d} {syllable[-1].end - 1:5d} {name}")
    return "\n".join(lines) + "\n"


def _syllables(phones: Sequence[Segment]) -> list[list[Segment]]:
    nuclei = [index for index, phone in enumerate(phones) if phone.name in SYLLABIC]
    cuts = [0, *(max(last + 1, index - 1) for last, index in pairwise(nuclei)), len(phones)]
    return [list(phones[a:b]) for a, b in pairwise(cuts) if b > a]


def _scored(column: str, segments: Sequence[Segment], id_: str, width: int) -> str:
    rng = Random(crc32(f"{id_} {column}".encode()))
    lines, total = [f"\t{'SFrm':>5} {'EFrm':>5} {'SegAScr':>{width}} {column}"], 0
    for segment in segments:
        score = -rng.randint(1_500, 7_500) * (segment.end - segment.start)
        total += score
        lines.append(f"\t{segment.start:5d} {segment.end - 1:5d} {score:{width}d} {segment.name}")
    return "\n".join(lines) + f"\n Total score: {total:11d}\n"
