r"""The three files of sentences/ForcedAlignment/<dialog>/ in the format of SPHINX-3 (main_align.c).

\t SFrm  EFrm    SegAScr Word
\t    0    34    -250144 <s>
\t   35    61     -91830 MORNING
 Total score:     -341974

Frames of 10 ms from the start of the utterance, EFrm inclusive. The scores are invented: nothing was aligned, and the
times are those of the synthesiser.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random
from zlib import crc32

from mesm_data.synthetic.phonemes import VOWELS, arpabet
from mesm_data.synthetic.speech import Span, Speech
from mesm_data.synthetic.text import spoken

FRAMES = 100  # per second
PAUSE = 3  # minimum frames of silence between words for a <sil>
SYLLABIC = frozenset(name for name, _ in VOWELS.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A label for the frames start <= frame < end; `phones` are those of a word, empty for silence."""

    name: str
    start: int
    end: int
    phones: tuple["Segment", ...] = ()


def align(text: str, speech: Speech, lead: float, duration: float) -> list[Segment]:
    """Return the words of `text` and the silences, for all frames in order; the speech starts after `lead` seconds."""
    segments: list[Segment] = []
    cursor = 0
    for span in _name_words(text, speech.words):
        start, end = round((lead + span.start) * FRAMES), round((lead + span.end) * FRAMES)
        if not segments:
            segments.append(Segment(name="<s>", start=0, end=max(1, start)))
        elif start - cursor >= PAUSE:
            segments.append(Segment(name="<sil>", start=cursor, end=start))
        cursor = segments[-1].end
        end = max(cursor + 1, end)
        sounds = [
            Span(arpabet(p.name), p.start + lead, p.end + lead)
            for p in speech.phonemes
            if span.start <= (p.start + p.end) / 2 < span.end
        ]
        phones = _phones(sounds, cursor, end) if not span.name.startswith("++") else ()
        segments.append(Segment(name=span.name, start=cursor, end=end, phones=phones))
        cursor = end
    segments.append(Segment(name="</s>", start=cursor, end=max(cursor + 1, int(duration * FRAMES))))
    return segments


def _name_words(text: str, words: Sequence[Span]) -> list[Span]:
    """Return one span per token of the transcript, in capitals; a sound that is spoken as words spans all of them."""
    spans, rest = [], list(words)
    for token, words_spoken in spoken(text):
        count = len(words_spoken.split())
        own, rest = rest[:count], rest[count:]
        name = f"++{token[1:-1]}++" if token.startswith("[") else token.upper().strip('.,!?"')
        spans.append(Span(name, own[0].start, own[-1].end))
    return spans


def _phones(sounds: Sequence[Span], start: int, end: int) -> tuple[Segment, ...]:
    """Return the phones of one word, which fill its frames with at least one each; excess phones are dropped.

    A word that espeak-ng merges with its neighbour ("of a") has no phones: it gets the weak vowel.
    """
    sounds = sounds[: end - start] or [Span("AH", start / FRAMES, end / FRAMES)]
    edges = [start]
    for index, sound in enumerate(sounds[1:], start=1):
        edges.append(min(max(edges[-1] + 1, round(sound.start * FRAMES)), end - (len(sounds) - index)))
    edges.append(end)
    return tuple(Segment(name=s.name, start=a, end=b) for s, (a, b) in zip(sounds, pairwise(edges), strict=True))


def wdseg(segments: Sequence[Segment], id_: str) -> str:
    """Format the file of words."""
    return _scored("Word", segments, id_, width=10)


def phseg(segments: Sequence[Segment], id_: str) -> str:
    """Format the file of triphones: phone, left and right neighbour, position in the word (b, i, e, s)."""
    phones = [phone for segment in segments for phone in segment.phones or [_silence(segment)]]
    names = ["SIL", *(phone.name for phone in phones), "SIL"]
    rows = []
    position = {phone: place for segment in segments for phone, place in _positions(segment)}
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
    """Format the file of syllables, without scores: a vowel, one consonant before it and those after it."""
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
