"""The parts of IEMOCAP's ids.

Ses05M_script01_1b_F012: session 5; M, the actor who wears the motion-capture markers in this recording (not the
speaker); the scene; F, the speaker; a running number for that speaker.
"""

import re

DIALOG = re.compile(r"Ses0[1-5][FM]_(impro\d{2}[ab]?|script\d{2}_\d[ab]?)", re.ASCII)
UTTERANCE = re.compile(rf"{DIALOG.pattern}_[FM]\d{{3}}", re.ASCII)


def dialog_of(utterance: str) -> str:
    """Return the dialog: Ses01F_script01_2_M003 -> Ses01F_script01_2."""
    # The scene may contain an underscore, so the suffix is removed instead of splitting the id.
    return utterance[: -len("_M003")]


def speaker_of(utterance: str) -> str:
    """Return the speaker: Ses01F_script01_2_M003 -> Ses01M (the letter before the running number)."""
    return utterance[: len("Ses01")] + utterance[-4]


def is_left_speaker(utterance: str) -> bool:
    """Whether the speaker wears the markers, and so is on the left of the frame and in the left audio channel."""
    return utterance[-4] == utterance[5]


def session_of(dialog: str) -> str:
    """Return the session's folder: Ses01F_script01_2 -> Session1."""
    return f"Session{dialog[4]}"


def parse_dialog_id(name: str) -> str | None:
    """Return the dialog that a file or folder is named after, in any case: SES01F_IMPRO01 -> Ses01F_impro01."""
    id_ = name[:3].capitalize() + name[3:6].upper() + name[6:].lower()
    return id_ if DIALOG.fullmatch(id_) else None


def parse_utterance_id(name: str) -> str | None:
    """Return the utterance that a file is named after, in any case: ses01f_impro01_f000 -> Ses01F_impro01_F000."""
    dialog = parse_dialog_id(name[:-5])
    id_ = f"{dialog}{name[-5:].upper()}"
    return id_ if dialog and UTTERANCE.fullmatch(id_) else None
