"""The folders of IEMOCAP_full_release, and the release in or above a folder that a user names."""

import stat
from pathlib import Path

from mesm_data.corpora.iemocap.media_files import AUDIO, DIALOG_AUDIO, VIDEO
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError

SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
EVALUATION = "dialog/EmoEvaluation"
TRANSCRIPTION = "dialog/transcriptions"
ALIGNMENT = "sentences/ForcedAlignment"
# Side of the square that is cut from the centre of a half where no face is found, relative to the frame's height: the
# paper's authors crop 224 px of 360x480 (MESM, src/datasets.py).
FALLBACK_SQUARE = 224 / 480


def find_root(folder: Path) -> Path:
    """Return the release that `folder` is or contains. Raises InputError that names the right folder if it is near."""
    expected = "the folder IEMOCAP_full_release, with Session1 .. Session5 that contain dialog/ and sentences/"
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}; expected {expected}") from None
    if not is_folder:
        raise InputError(f"{folder}: is a file; expected {expected} (unpack the archive first)")
    if _is_release(folder):
        return folder
    tree = SourceTree(folder)
    releases = tree.nearest(lambda name: _is_release(folder / name))
    if len(releases) == 1:
        return folder / releases[0]
    if releases:
        raise InputError(f"{folder}: contains several releases ({', '.join(releases)}); name one of them")
    for parent in folder.resolve().parents:
        if _is_release(parent):
            raise InputError(f"{folder}: is a part of a release; give {parent} instead")
    content = ", ".join([f"{name}/" for name in tree.folders(".")] + [*tree.files(".")]) or "nothing"
    reason = "".join(f" ({note})" for note in tree.notes.sentences()[:1])
    raise InputError(f"{folder}: is not IEMOCAP; expected {expected}, found {shorten(content)}{reason}")


def _is_release(folder: Path) -> bool:
    tree = SourceTree(folder)
    return any(tree.has_folder(f"{session}/dialog") for session in SESSIONS if tree.has_folder(session))


def shorten(text: str, length: int = 200) -> str:
    """Truncate a text for a message."""
    return text if len(text) <= length else text[:length] + " ..."


def note_missing_folders(tree: SourceTree, sessions: list[str]) -> None:
    """Note the missing sessions, and the missing ones of a session's six folders."""
    missing = [session for session in SESSIONS if session not in sessions]
    if missing:
        tree.notes.add("missing sessions", f"{len(sessions)} of 5 sessions are there; without {', '.join(missing)}")
    for session in sessions:
        for folder in (EVALUATION, TRANSCRIPTION, VIDEO, DIALOG_AUDIO, AUDIO, ALIGNMENT):
            if not tree.has_folder(f"{session}/{folder}"):
                tree.notes.add("missing folders", f"{session}/{folder}/: is not there")
