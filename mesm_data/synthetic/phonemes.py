"""espeak-ng's American English phonemes: their ARPAbet names and mouth shapes."""

from typing import NamedTuple


class Mouth(NamedTuple):
    """Opening of the jaw and rounding of the lips, both 0 to 1."""

    jaw: float
    round: float


CLOSED = Mouth(0.0, 0.0)
TEETH = Mouth(0.12, 0.0)
LIPS = Mouth(0.2, 0.9)

# espeak-ng's mnemonic -> ARPAbet, the alphabet of the CMU dictionary. A digit or # marks a variant.
VOWELS = {
    "a": ("AE", Mouth(0.8, 0.0)),
    "aa": ("AE", Mouth(0.8, 0.0)),
    "a#": ("AH", Mouth(0.5, 0.0)),
    "A:": ("AA", Mouth(1.0, 0.0)),
    "A@": ("AA", Mouth(1.0, 0.0)),
    "A": ("AA", Mouth(1.0, 0.0)),
    "0": ("AA", Mouth(0.9, 0.2)),
    "0#": ("AA", Mouth(0.9, 0.2)),
    "O": ("AO", Mouth(0.75, 0.6)),
    "O:": ("AO", Mouth(0.75, 0.6)),
    "O@": ("AO", Mouth(0.7, 0.7)),
    "O2": ("AO", Mouth(0.75, 0.6)),
    "OI": ("OY", Mouth(0.6, 0.7)),
    "o@": ("AO", Mouth(0.6, 0.8)),
    "oU": ("OW", Mouth(0.5, 0.9)),
    "aI": ("AY", Mouth(0.85, 0.0)),
    "aI@": ("AY", Mouth(0.85, 0.0)),
    "aI3": ("AY", Mouth(0.85, 0.0)),
    "aU": ("AW", Mouth(0.8, 0.5)),
    "aU@": ("AW", Mouth(0.8, 0.5)),
    "V": ("AH", Mouth(0.65, 0.0)),
    "@": ("AH", Mouth(0.4, 0.0)),
    "@2": ("AH", Mouth(0.4, 0.0)),
    "@5": ("AH", Mouth(0.4, 0.0)),
    "@L": ("AH", Mouth(0.4, 0.0)),
    "@/": ("AH", Mouth(0.4, 0.0)),
    "3": ("ER", Mouth(0.4, 0.3)),
    "3:": ("ER", Mouth(0.4, 0.3)),
    "E": ("EH", Mouth(0.6, 0.0)),
    "E#": ("EH", Mouth(0.5, 0.0)),
    "E2": ("EH", Mouth(0.5, 0.0)),
    "e@": ("EH", Mouth(0.6, 0.0)),
    "eI": ("EY", Mouth(0.5, 0.0)),
    "I": ("IH", Mouth(0.35, 0.0)),
    "I#": ("IH", Mouth(0.35, 0.0)),
    "I2": ("IH", Mouth(0.35, 0.0)),
    "i": ("IY", Mouth(0.25, 0.0)),
    "i:": ("IY", Mouth(0.25, 0.0)),
    "i@": ("IY", Mouth(0.35, 0.0)),
    "i@3": ("IY", Mouth(0.35, 0.0)),
    "U": ("UH", Mouth(0.35, 0.7)),
    "U@": ("UH", Mouth(0.4, 0.7)),
    "u:": ("UW", Mouth(0.3, 1.0)),
    "u": ("UW", Mouth(0.3, 1.0)),
}
CONSONANTS = {
    "p": ("P", CLOSED),
    "b": ("B", CLOSED),
    "m": ("M", CLOSED),
    "f": ("F", CLOSED),
    "v": ("V", CLOSED),
    "w": ("W", LIPS),
    "S": ("SH", Mouth(0.15, 0.6)),
    "Z": ("ZH", Mouth(0.15, 0.6)),
    "tS": ("CH", Mouth(0.15, 0.6)),
    "dZ": ("JH", Mouth(0.15, 0.6)),
    "r": ("R", Mouth(0.25, 0.4)),
    "r-": ("R", Mouth(0.25, 0.4)),
    "t": ("T", TEETH),
    "t#": ("T", TEETH),
    "t2": ("T", TEETH),
    "d": ("D", TEETH),
    "d#": ("D", TEETH),
    "s": ("S", TEETH),
    "z": ("Z", TEETH),
    "z#": ("Z", TEETH),
    "T": ("TH", TEETH),
    "D": ("DH", TEETH),
    "n": ("N", TEETH),
    "n-": ("N", TEETH),
    "l": ("L", Mouth(0.25, 0.0)),
    "k": ("K", Mouth(0.2, 0.0)),
    "g": ("G", Mouth(0.2, 0.0)),
    "N": ("NG", Mouth(0.2, 0.0)),
    "h": ("HH", Mouth(0.3, 0.0)),
    "j": ("Y", Mouth(0.2, 0.0)),
    ";": ("Y", Mouth(0.2, 0.0)),
    "x": ("K", Mouth(0.2, 0.0)),
    "?": ("HH", TEETH),
}
PHONEMES = {**VOWELS, **CONSONANTS}
UNKNOWN = ("AH", Mouth(0.4, 0.0))


def bare(name: str) -> str:
    """Remove the stress marks: "'aI" -> "aI". A pause ("_:", "_") becomes empty."""
    return "" if name.startswith("_") else name.lstrip("',%=|")


def arpabet(name: str) -> str:
    """Return the ARPAbet name of a phoneme; AH if it is unknown."""
    return PHONEMES.get(bare(name), UNKNOWN)[0]


def mouth(name: str) -> Mouth:
    """Return the mouth shape of a phoneme; closed in a pause."""
    return PHONEMES.get(bare(name), UNKNOWN)[1] if bare(name) else CLOSED
