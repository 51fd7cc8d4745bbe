"""CREMA-D: 91 actors speak twelve sentences in six acted emotions; crowd workers rated voice, face, and both.

AudioWAV/1001_IEO_ANG_HI.wav         actor, sentence, acted emotion, intensity; VideoFlash/ has the .flv files
SentenceFilenames.csv                "Stimulus_Number","Filename"
VideoDemographics.csv                "ActorID","Age","Sex","Race","Ethnicity"
processedResults/tabulatedVotes.csv  "","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote",...
                                     "100001",0,0,0,1,10,0,"1001_IEO_NEU_XX",11,0.909090909090909,"N",...

The first cell of a row of tabulatedVotes is its kind (1 voice, 2 face, 3 both) and five digits of the clip's number; a
tie is "N:S". summaryTable.csv repeats these winners and is not read.
"""

import re
from pathlib import Path

from mesm_data.corpora.parsing import WarningLog
from mesm_data.corpora.release import corpus_from_rows, find_tables, keep_first
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.corpora.table.cells import whole_number
from mesm_data.corpora.table.table_file import read_rows
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts, built_in_schema
from mesm_data.schema.recordings import Corpus

_CLIP = r"1\d{3}_[A-Z]{3}_(?:ANG|DIS|FEA|HAP|NEU|SAD)_(?:LO|MD|HI|XX?)"
_SOUNDS, _VIDEOS = ("wav", "mp3"), ("flv", "mp4", "mkv", "avi", "webm")  # in order of preference
_MEDIA = re.compile(rf"({_CLIP})\.({'|'.join((*_SOUNDS, *_VIDEOS))})", re.ASCII | re.IGNORECASE)
_CLIPS, _ACTORS, _VOTES = _TABLES = ("SentenceFilenames.csv", "VideoDemographics.csv", "tabulatedVotes.csv")
_VOTES_ROW = re.compile(r"([123])\d{5}(?:\.0)?", re.ASCII)
_EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
_KINDS = {"1": "voice", "2": "face", "3": "av"}


def scan(root: Path) -> Corpus:
    """Scan every clip that a file or SentenceFilenames.csv names. Audio is read from wav, mp3 or video, in this order.

    The labels of a missing table are null, with a note. Raises InputError if there is no clip, a table cannot be read,
    or files are Git LFS pointers.
    """
    tree = SourceTree(Path(root))
    clips: dict[str, dict[str, str]] = {}
    for match, path in tree.match(_MEDIA):
        keep_first(tree.notes, clips.setdefault(_id(match[1].upper()), {}), match[2], path)
    if not clips:
        raise InputError(f"{root}: contains no clip of CREMA-D (such as AudioWAV/1001_IEO_ANG_HI.wav)")
    tables = {name: tree.root / path for name, path in find_tables(tree, _TABLES).items()}
    for name in _TABLES:
        if name not in tables:
            tree.notes.add("missing tables", f"{name} is missing: its labels are null")
    if _CLIPS in tables:
        for row in read_rows(tables[_CLIPS], ["Filename"]).values():
            if re.fullmatch(_CLIP, name := row["Filename"].strip()):
                clips.setdefault(_id(name), {})
    actors = _actors(tables[_ACTORS]) if _ACTORS in tables else {}
    votes = _votes(tables[_VOTES], tree.notes) if _VOTES in tables else {}
    # The videos of these clips show another clip, or nothing.
    for id_ in clips.keys() & set(built_in_facts("crema-d")["anomalies"]["wrong_picture"]):
        clips[id_] = {suffix: path for suffix, path in clips[id_].items() if suffix not in _VIDEOS}
    rows = [_row(id_, clips[id_]) | actors.get(id_[:4], {}) | votes.get(id_, {}) for id_ in sorted(clips)]
    return corpus_from_rows("crema-d", tree.root, rows, tree.notes)


def _id(name: str) -> str:
    """Return the clip's id. Copies from before October 2022 contain 1040_ITH_SAD_X."""
    return f"{name}X" if name.endswith("_X") else name


def _row(id_: str, files: dict[str, str]) -> dict[str, str]:
    actor, sentence, emotion, intensity = id_.split("_")
    sound = next((files[suffix] for suffix in _SOUNDS if suffix in files), "")
    video = next((files[suffix] for suffix in _VIDEOS if suffix in files), "")
    return {
        "id": id_,
        "dialog": id_,
        "speaker": actor,
        "video": video,
        "audio": sound or ("" if video else f"AudioWAV/{id_}.wav"),
        "text": built_in_schema("crema-d").labels["statement"].values.get(sentence, ""),
        "emotion": _EMOTIONS[emotion[0]],
        "intensity": _INTENSITIES[intensity],
        "statement": sentence,
    }


def _actors(path: Path) -> dict[str, dict[str, str]]:
    """Read the sex and age of each actor."""
    rows = read_rows(path, ["ActorID", "Sex", "Age"]).values()
    return {whole_number(row["ActorID"]): {"sex": row["Sex"].lower(), "age": row["Age"]} for row in rows}


def _votes(path: Path, notes: WarningLog) -> dict[str, dict[str, str]]:
    """Read the winners, the number of votes and the share of each emotion, by clip and kind of rating.

    The row's id is found by its form: a table that pandas saved again has a column of running numbers before it.
    """
    clips: dict[str, dict[str, str]] = {}
    for number, row in read_rows(path, [*_EMOTIONS, "fileName", "emoVote"]).items():
        id_ = next(filter(None, (_VOTES_ROW.fullmatch(cell.strip()) for cell in row.values())), None)
        votes = {name: whole_number(row[letter]) for letter, name in _EMOTIONS.items()}
        counts = {name: int(cell) for name, cell in votes.items() if cell.isdecimal()}  # -1 is no vote
        total = sum(counts.values())
        if id_ is None or total == 0:
            notes.count(
                f"rows of {_VOTES} have no row id such as 100001, or no vote, and are not read", f"row {number}"
            )
            continue
        kind = _KINDS[id_[1]]
        cells = clips.setdefault(_id(row["fileName"].strip()), {})
        cells[kind] = ";".join(_EMOTIONS[letter] for letter in row["emoVote"].split(":") if letter in _EMOTIONS)
        cells[f"{kind}_votes"] = str(total)
        cells |= {f"{kind}_{name}": str(round(count / total, 6)) for name, count in counts.items()}
    return clips
