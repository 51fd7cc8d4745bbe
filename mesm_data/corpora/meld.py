"""MELD: dialogues of the TV series Friends, cut into one clip per utterance.

MELD.Raw/
    train_splits/dia0_utt0.mp4               numbering restarts in each split
    dev_splits_complete/dia0_utt0.mp4
    output_repeated_splits_test/dia0_utt0.mp4, final_videos_testdia93_utt3.mp4     the second is a new cut of the first
    train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv
        Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime
        1,You must’ve had your hands full.,The Interviewer,neutral,neutral,0,1,8,21,"00:16:21,940","00:16:23,442"

Folders are recognised at any depth by the word train, dev or test in their names. Times are seconds of the episode.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from mesm_data.corpora.release import corpus_from_rows, find_tables, keep_first
from mesm_data.corpora.source_tree import SourceTree
from mesm_data.corpora.table.cells import parse_seconds, whole_number
from mesm_data.corpora.table.table_file import read_rows
from mesm_data.errors import InputError
from mesm_data.schema.built_in import built_in_facts
from mesm_data.schema.recordings import Corpus

FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
# In order of preference; all but mp4 were re-encoded or extracted by users.
_SUFFIXES = ("mp4", "mkv", "webm", "avi", "wav", "flac", "m4a")
_CLIP = re.compile(rf"(final_videos_test)?(dia\d+_utt\d+)\.({'|'.join(_SUFFIXES)})", re.ASCII | re.IGNORECASE)
_PART = re.compile(r"(?<![a-z])(train|dev|val|valid|test)(?![a-z])")
_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode",
            "StartTime", "EndTime")  # fmt: skip

Clips = dict[str, dict[str, str]]  # test_dia0_utt0 -> "plain.mp4", "final.mp4" -> path


def scan(root: Path, *, prefer_final: bool = True) -> Corpus:
    """Scan every row of the three tables, and every clip without a row (excluded by `no_row`).

    Args:
        root: the folder of the corpus.
        prefer_final: use the final_videos_test* version of a test clip if there is one (flag `final_video`).

    A split without any clip, or without its table, is skipped, with a note.

    Raises:
        InputError: there is no table or no clip, a table cannot be read, or files are Git LFS pointers.
    """
    tree = SourceTree(Path(root))
    tables = find_tables(tree, [f"{part}_sent_emo.csv" for part in FOLDERS])
    clips = _clips(tree)
    rows: list[dict[str, str]] = []
    for part in FOLDERS:
        names = {id_ for id_ in clips if id_.startswith(part)}
        table = tables.get(f"{part}_sent_emo.csv")
        if table and names:
            labelled = [
                _row(part, cells) | {"place": f"{table}: row {number}"}
                for number, cells in read_rows(tree.root / table, _COLUMNS).items()
            ]
            rows += labelled
            rows += [_row_of_clip(id_) for id_ in sorted(names - {row["id"] for row in labelled})]
        elif table or names:
            missing = "clip" if table else f"{part}_sent_emo.csv"
            tree.notes.add("skipped splits", f"the split {part} is skipped: there is no {missing}")
    if not rows:
        raise InputError(
            f"{root}: expected MELD.Raw with train_sent_emo.csv and train_splits/, or another split's; unpack its "
            "train.tar.gz, dev.tar.gz and test.tar.gz first"
        )
    bad_cuts = frozenset(built_in_facts("meld")["plain_clips"]["length_mismatch"])
    rows = [row | _media(row["id"], clips.get(row["id"], {}), prefer_final, bad_cuts) for row in rows]
    return corpus_from_rows("meld", tree.root, rows, tree.notes)


def _clips(tree: SourceTree) -> Clips:
    clips: Clips = {}
    for match, path in tree.match(_CLIP):
        folders = path.split("/")[:-1] or [tree.root.name]
        part = next((part for folder in reversed(folders) if (part := _part(folder))), None)
        kind = f"{'final' if match[1] else 'plain'}.{match[3]}"
        if part is None:
            tree.notes.count("clips are not in a folder of a split and are skipped", path)
        else:
            keep_first(tree.notes, clips.setdefault(f"{part}_{match[2].lower()}", {}), kind, path, what="clips")
    return clips


def _part(folder: str) -> str | None:
    match = _PART.search(folder.lower())
    return None if match is None else {"val": "dev", "valid": "dev"}.get(match[1], match[1])


def _media(id_: str, files: Mapping[str, str], prefer_final: bool, bad_cuts: frozenset[str]) -> dict[str, str]:
    order = ("final", "plain") if prefer_final else ("plain", "final")
    kind = next((f"{cut}.{suffix}" for suffix in _SUFFIXES for cut in order if f"{cut}.{suffix}" in files), None)
    part, _, name = id_.partition("_")
    path = files[kind] if kind else f"{FOLDERS[part]}/{name}.mp4"
    flag = "final_video" if kind and kind.startswith("final") else "length_mismatch" if id_ in bad_cuts else ""
    return {"path": path, "flags": flag}


def _row_of_clip(id_: str) -> dict[str, str]:
    part, dialog, _ = id_.split("_")
    return {"id": id_, "dialog": f"{part}_{dialog}", "split": part, "excluded": "no_row"}


def _row(part: str, cells: Mapping[str, str]) -> dict[str, str]:
    dialog = f"{part}_dia{whole_number(cells['Dialogue_ID'])}"
    season, episode = whole_number(cells["Season"]), whole_number(cells["Episode"])
    return {
        "id": f"{dialog}_utt{whole_number(cells['Utterance_ID'])}",
        "dialog": dialog,
        "session": f"s{season.zfill(2)}e{episode.zfill(2)}",
        "split": part,
        "speaker": repair_text(cells["Speaker"]),
        "text": repair_text(cells["Utterance"]),
        "emotion": cells["Emotion"],
        "sentiment": cells["Sentiment"],
        "season": season,
        "episode": episode,
        "episode_start": _seconds(cells["StartTime"]),
        "episode_end": _seconds(cells["EndTime"]),
    }


def _seconds(cell: str) -> str:
    try:
        seconds = parse_seconds(cell)
    except InputError:
        return cell  # is reported with all other cells that are no numbers
    return "" if seconds is None else str(seconds)


def repair_text(text: str) -> str:
    """Restore the quotes and dashes of Windows-1252 where the archive's tables contain C1 control characters.

    Until November 2020 the tables were Windows-1252 decoded as Latin-1: You must\x92ve. Other texts are unchanged.
    """
    if re.search("[\x80-\x9f\xa0]", text):
        text = re.sub("[\x80-\x9f]", lambda char: char[0].encode("latin-1").decode("cp1252", "ignore") or char[0], text)
        text = text.replace("\xa0", " ")
    return text.strip()
