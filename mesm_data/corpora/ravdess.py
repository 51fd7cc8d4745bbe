"""RAVDESS: 24 actors speak and sing two sentences. There is no table: a file's name holds all its labels.

Actor_01/01-01-05-02-01-02-01.mp4    picture and sound
Actor_01/02-01-05-02-01-02-01.mp4    the same picture without sound
Actor_01/03-01-05-02-01-02-01.wav    the same sound, lossless
         modality-channel-emotion-intensity-statement-repetition-actor

The archives may lie in one folder or each in its own. The three files are one utterance, named by the last six fields.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mesm_data.corpora.release import corpus_from_rows
from mesm_data.corpora.source_tree import Tree
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_schema
from mesm_data.schema.recordings import Corpus

_NAME = re.compile(r"(0[1-3])-((?:0[12])-(?:0[1-8])-(?:0[12])-(?:0[12])-(?:0[12])-(?:0[1-9]|1\d|2[0-4]))(\.mp4|\.wav)")
_PICTURE_AND_SOUND, _PICTURE, _SOUND = "01.mp4", "02.mp4", "03.wav"


def scan(root: Path) -> Corpus:
    """Every take under `root`, whichever archives are there, speech and song.

    The picture is that of modality 01, or else of 02; the sound that of 03, or else of 01. Of two files of one name
    (Kaggle's copies hold each twice) the first is taken.

    Raises InputError if there is no file of RAVDESS, or files are Git LFS pointers.
    """
    tree = Tree(Path(root))
    takes: dict[str, dict[str, str]] = {}
    for match, path in tree.match(_NAME):
        kind = match[1] + match[3]
        if kind not in (_PICTURE_AND_SOUND, _PICTURE, _SOUND):
            tree.notes.count("files are not of the release's kinds and not read", path)
        elif takes.setdefault(match[2], {}).setdefault(kind, path) != path:
            tree.notes.count("files have the name of another one, of which one is read", path)
    if not takes:
        raise InputError(f"{root}: there is no file of RAVDESS (such as Actor_01/03-01-05-02-01-02-01.wav) below it")
    rows = [_row(take, takes[take]) for take in sorted(takes)]
    return corpus_from_rows("ravdess", tree.root, rows, tree.notes)


def _row(take: str, files: Mapping[str, str]) -> dict[str, str]:
    """The row of 01-05-02-01-02-01: fields are numbers from 1 into the values of their label."""
    *codes, actor = take.split("-")
    names = ("vocal_channel", "emotion", "intensity", "statement", "repetition")
    schemes = built_in_schema("ravdess").labels
    labels = {name: list(schemes[name].values)[int(code) - 1] for name, code in zip(names, codes, strict=True)}
    lacks_sound = not files.keys() & {_PICTURE_AND_SOUND, _SOUND}
    return {
        **labels,
        "id": take,
        "dialog": take,
        "video": files.get(_PICTURE_AND_SOUND) or files.get(_PICTURE, ""),
        "audio": files.get(_SOUND, ""),
        "speaker": f"Actor_{actor}",
        "gender": "male" if int(actor) % 2 else "female",
        "text": schemes["statement"].values[labels["statement"]],
        "failed": "no sound: of the take only the version without (02) is there" if lacks_sound else "",
    }
