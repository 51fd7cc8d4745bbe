"""IEMOCAP's ids, and what they say.

Ses05M_script01_1b_F012: session 5; M, the actor who wears the motion-capture markers in this recording (not the
speaker); the scene; F, who speaks; a running number of that speaker.
"""

import re

DIALOG = re.compile(r"Ses0[1-5][FM]_(impro\d{2}[ab]?|script\d{2}_\d[ab]?)", re.ASCII)
UTTERANCE = re.compile(rf"{DIALOG.pattern}_[FM]\d{{3}}", re.ASCII)


def dialog_of(utterance: str) -> str:
    """Ses01F_script01_2_M003 -> Ses01F_script01_2."""
    # The scene may hold an underscore, so the end is cut off, not the parts counted.
    return utterance[: -len("_M003")]


def speaker_of(utterance: str) -> str:
    """Ses01F_script01_2_M003 -> Ses01M: the letter before the running number, not the one after the session."""
    return utterance[: len("Ses01")] + utterance[-4]


def is_left(utterance: str) -> bool:
    """Whether the speaker wears the markers: he then sits on the left and is heard in the left channel."""
    return utterance[-4] == utterance[5]


def session_of(dialog: str) -> str:
    """Ses01F_script01_2 -> Session1."""
    return f"Session{dialog[4]}"


def dialog_named(name: str) -> str | None:
    """The dialog that a file or folder is named after, in any case: SES01F_IMPRO01 -> Ses01F_impro01."""
    spelt = name[:3].capitalize() + name[3:6].upper() + name[6:].lower()
    return spelt if DIALOG.fullmatch(spelt) else None


def utterance_named(name: str) -> str | None:
    """The utterance that a file is named after, in any case: ses01f_impro01_f000 -> Ses01F_impro01_F000."""
    dialog = dialog_named(name[:-5])
    spelt = f"{dialog}{name[-5:].upper()}"
    return spelt if dialog and UTTERANCE.fullmatch(spelt) else None
