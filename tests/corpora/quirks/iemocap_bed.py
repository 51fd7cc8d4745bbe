"""A synthetic IEMOCAP to plant quirks in: its utterances, the paths of their files, and small dialogs to edit.

The texts are parsed here strictly and independently: the oracle must not depend on the parser under test.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import soundfile

from mesm_data.synthetic.script import scenes
from quirks.bed import Bed, copy_file, shorten

# Names that only some sessions have: the first that quirks take for dialogs of their own.
IRREGULAR = ("Ses05M_script01_1b", "Ses03M_impro05a", "Ses03M_impro05b", "Ses03M_impro08a", "Ses03M_impro08b")
TURNS = 3  # of a dialog that is made for a quirk

_HEAD = re.compile(r"\[(\S+) - (\S+)\]\t(\S+)\t(\w+)\t.*")
_LINE = re.compile(r"(\S+) \[(\S+)-(\S+)\]: (.*)")


def session(id_: str) -> str:
    """The folder of an utterance's or a dialog's session."""
    return f"Session{id_[4]}"


def evaluation(dialog: str) -> str:
    """The file of its labels."""
    return f"{session(dialog)}/dialog/EmoEvaluation/{dialog}.txt"


def transcription(dialog: str) -> str:
    """The file of its texts."""
    return f"{session(dialog)}/dialog/transcriptions/{dialog}.txt"


def avi(dialog: str) -> str:
    """The file of its picture."""
    return f"{session(dialog)}/dialog/avi/DivX/{dialog}.avi"


def dialog_wav(dialog: str) -> str:
    """The file of its sound, an actor on each channel."""
    return f"{session(dialog)}/dialog/wav/{dialog}.wav"


def sentence_wav(id_: str) -> str:
    """The file of an utterance's sound."""
    return f"{session(id_)}/sentences/wav/{id_[:-5]}/{id_}.wav"


def alignment(id_: str) -> str:
    """The file of an utterance's words."""
    return f"{session(id_)}/sentences/ForcedAlignment/{id_[:-5]}/{id_}.wdseg"


def read(root: Path) -> Bed:
    """The bed of a corpus without quirks. Everything is expected to be usable."""
    bed = Bed(root=root, corpus="iemocap", utterances={})
    for path in sorted(root.glob("Session*/dialog/EmoEvaluation/*.txt")):
        enter(bed, path.stem)
        bed.free += [id_ for id_ in bed.utterances if id_[:-5] == path.stem]
    return bed


def enter(bed: Bed, dialog: str) -> None:
    """Expect the utterances of a dialog."""
    lines = (bed.root / transcription(dialog)).read_text(encoding="ascii").splitlines()
    texts = {match[1]: match[4] for match in map(_LINE.fullmatch, lines) if match}
    for line in (bed.root / evaluation(dialog)).read_text(encoding="ascii").splitlines():
        if match := _HEAD.fullmatch(line):
            start, end, id_, label = match.groups()
            bed.utterances[id_] = {
                "status": "ok",
                "audio": "ok",
                "video": "ok",
                "flags": [],
                "start": float(start),
                "end": float(end),
                "text": texts[id_],
                "labels": {"emotion": label},
                "sound": sentence_wav(id_),
                "picture": avi(dialog),
            }


def dialogs(bed: Bed) -> list[str]:
    """The ids of the dialogs in it."""
    return sorted({id_[:-5] for id_ in bed.utterances})


def clone(bed: Bed, name: str | None = None, first: Mapping[str, int] | None = None) -> list[str]:
    """Make a small dialog of the first turns of another one; returns the ids of its utterances, by time.

    Those must be untouched. `first` is the number of each speaker's first utterance. Without `name` it gets the next
    that the corpus lacks.
    """
    name = name or _free_name(bed)
    source, renamed = _turns(bed, name, first or {})
    seconds = max(bed.utterances[id_]["end"] for id_ in renamed) + 0.5
    blocks = (bed.root / evaluation(source)).read_text(encoding="ascii").split("\n\n")
    kept = [block for block in blocks if any(f"\t{id_}\t" in block for id_ in renamed)]
    _write(bed, evaluation(name), "\n\n".join([blocks[0], *kept]) + "\n\n", renamed)
    lines = (bed.root / transcription(source)).read_bytes().decode("ascii").splitlines(keepends=True)
    _write(bed, transcription(name), "".join(line for line in lines if line.split()[0] in renamed), renamed)
    for old, new in renamed.items():
        copy_file(bed.root / sentence_wav(old), bed.root / sentence_wav(new))
        copy_file(bed.root / alignment(old), bed.root / alignment(new))
    shorten(bed.root / avi(source), bed.root / avi(name), seconds)
    with soundfile.SoundFile(bed.root / dialog_wav(source)) as whole:
        sound, comment = whole.read(round(seconds * whole.samplerate), dtype="int16"), whole.comment
        with soundfile.SoundFile(bed.root / dialog_wav(name), "w", whole.samplerate, 2, "PCM_16") as out:
            out.comment = comment
            out.write(sound)
    enter(bed, name)
    return list(renamed.values())


def _free_name(bed: Bed) -> str:
    taken = set(dialogs(bed))
    others = (f"Ses0{k}{side}_{s}" for k in range(1, 6) for side in "FM" for kind in scenes(k, side) for s in kind)
    name = next((name for name in (*IRREGULAR, *others) if name not in taken), None)
    if name is None:
        raise ValueError("this corpus has all of IEMOCAP's dialogs: no name is left for another one")
    return name


def _turns(bed: Bed, name: str, first: Mapping[str, int]) -> tuple[str, dict[str, str]]:
    """A dialog with the same marker actor, if there is one, and its first utterances: id -> id in the dialog `name`."""
    source = min({id_[:-5] for id_ in bed.free}, key=lambda dialog: (dialog[5] != name[5], dialog))
    ids = sorted((i for i in bed.utterances if i[:-5] == source), key=lambda id_: bed.utterances[id_]["start"])
    count = max(TURNS, 1 + max(next((k for k, i in enumerate(ids) if i[-4] == letter), 0) for letter in "FM"))
    same = source[5] == name[5]
    running = {"F": 0, "M": 0, **first}
    renamed = {}
    for id_ in ids[:count]:
        letter = id_[-4] if same else {"F": "M", "M": "F"}[id_[-4]]
        renamed[id_] = f"{name}_{letter}{running[letter]:03}"
        running[letter] += 1
    return source, renamed


def _write(bed: Bed, path: str, text: str, renamed: Mapping[str, str]) -> None:
    for old, new in renamed.items():
        text = text.replace(old, new)
    (bed.root / path).write_bytes(text.encode("ascii"))
