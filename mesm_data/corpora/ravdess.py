"""RAVDESS: 24 actors speak and sing two sentences. There is no table: the file name contains all labels.

Actor_01/01-01-05-02-01-02-01.mp4    video and audio
Actor_01/02-01-05-02-01-02-01.mp4    the same video without audio
Actor_01/03-01-05-02-01-02-01.wav    the same audio, lossless
         modality-channel-emotion-intensity-statement-repetition-actor

The archives may be unpacked into one or more folders. The three files are one utterance, named by the last six fields.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mesm_data.corpora.release import corpus_from_rows, keep_first
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.recordings import Corpus

_NAME = re.compile(r"(\d\d)-(\d\d(?:-\d\d){5})(\.mp4|\.wav)", re.ASCII)
_TAKE = re.compile(r"0[12]-0[1-8]-0[12]-0[12]-0[12]-(?:0[1-9]|1\d|2[0-4])")
_VIDEO_AND_AUDIO, _VIDEO, _AUDIO = "01.mp4", "02.mp4", "03.wav"


def scan(root: Path) -> Corpus:
    """Scan every take under `root`, speech and song, from whichever archives are there.

    Video is read from modality 01, else 02; audio from 03, else 01. Of two files with the same name (Kaggle's copies
    contain each file twice) the first is used.

    Raises InputError if there is no file of RAVDESS, or files are Git LFS pointers.
    """
    tree = SourceTree(Path(root))
    takes: dict[str, dict[str, str]] = {}
    for match, path in tree.match(_NAME):
        kind = match[1] + match[3]
        if kind not in (_VIDEO_AND_AUDIO, _VIDEO, _AUDIO) or not _TAKE.fullmatch(match[2]):
            tree.notes.count("files are not of a kind of the release and are not read", path)
        else:
            keep_first(tree.notes, takes.setdefault(match[2], {}), kind, path)
    if not takes:
        raise InputError(f"{root}: contains no file of RAVDESS (such as Actor_01/03-01-05-02-01-02-01.wav)")
    rows = [_row(take, takes[take]) for take in sorted(takes)]
    return corpus_from_rows("ravdess", tree.root, rows, tree.notes)


def _row(take: str, files: Mapping[str, str]) -> dict[str, str]:
    """Make the row of a take such as 01-05-02-01-02-01: each field is the number, from 1, of a value of its label."""
    *codes, actor = take.split("-")
    names = ("vocal_channel", "emotion", "intensity", "statement", "repetition")
    schemes = built_in_schema("ravdess").labels
    labels = {name: list(schemes[name].values)[int(code) - 1] for name, code in zip(names, codes, strict=True)}
    lacks_sound = not files.keys() & {_VIDEO_AND_AUDIO, _AUDIO}
    return {
        **labels,
        "id": take,
        "dialog": take,
        "video": files.get(_VIDEO_AND_AUDIO) or files.get(_VIDEO, ""),
        "audio": files.get(_AUDIO, ""),
        "speaker": f"Actor_{actor}",
        "gender": "male" if int(actor) % 2 else "female",
        "text": schemes["statement"].values[labels["statement"]],
        "failed": "no sound: only the version without audio (02) of this take is there" if lacks_sound else "",
    }
