"""Escapes text for a terminal. Names and texts of corpora are data: a terminal must not execute them."""

import re

MAX_MESSAGE = 4000  # characters

# Control characters except newline and tab (ESC, CSI, carriage return, ...), marks that change the writing direction,
# line separators, and lone surrogates, which cannot be encoded.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Replace characters that a terminal may execute or cannot show by \uXXXX. JSON stays equivalent JSON."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def printable_message(text: str) -> str:
    """`printable`, cut to MAX_MESSAGE characters: what a message quotes may have millions."""
    if len(text) > MAX_MESSAGE:
        text = f"{text[:MAX_MESSAGE]} … ({len(text) - MAX_MESSAGE} characters more)"
    return printable(text)


def valid_unicode(text: str) -> str:
    r"""Replace invalid bytes of a file's name by \xe9 and lone surrogates by \ud800.

    Names in UTF-8 come out right under any locale.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
