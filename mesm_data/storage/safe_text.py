"""Text for a terminal. Names, texts and reasons of corpora and datasets are data: a terminal must not execute them."""

import re

LONGEST_MESSAGE = 4000  # characters

# Control characters but for newline and tab (ESC, CSI, carriage return, ...), what turns the direction of writing
# around, line separators, and lone surrogates, which no terminal can be sent.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""The text with \uXXXX in place of what a terminal may execute or cannot show. JSON stays the same JSON."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def printable_message(text: str) -> str:
    """The same, and at most LONGEST_MESSAGE characters long: whatever a message quotes may have millions."""
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[:LONGEST_MESSAGE]} … ({len(text) - LONGEST_MESSAGE} characters more)"
    return printable(text)


def valid_unicode(text: str) -> str:
    r"""Valid Unicode: a byte of a file's name that is none is written as \xe9, a lone surrogate as \ud800.

    The name of a UTF-8 file is right under any locale.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
