"""Trees in the layouts of the open corpora: real names and table headers, the known oddities, empty media files.

A full-size tree has the counts of the release, which stand in the corpus' file of facts; texts, times and who says what
are made up.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

from mesm_data.schema.built_in import built_in_facts
from mesm_data.schema.recordings import Corpus, Utterance

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 102400\n"


def put(path: Path, content: str | bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], eol: str, *, quoting: int = csv.QUOTE_MINIMAL
) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=eol, quoting=quoting).writerows([header, *rows])  # type: ignore[arg-type]
    return text.getvalue()


def by_id(corpus: Corpus) -> dict[str, Utterance]:
    return {utterance.id: utterance for utterance in corpus.utterances()}


def flagged(corpus: Corpus, flag: str) -> list[str]:
    return sorted(utterance.id for utterance in corpus.utterances() if flag in utterance.flags)


# ---- RAVDESS ---------------------------------------------------------------------------------------------------------


def ravdess_takes() -> Iterator[str]:
    """channel-emotion-intensity-statement-repetition-actor: 60 spoken and 44 sung takes per actor; 18 does not sing."""
    for actor, channel in product(range(1, 25), ("01", "02")):
        if (actor, channel) == (18, "02"):
            continue
        for emotion in range(1, 9 if channel == "01" else 7):
            intensities = ("01",) if emotion == 1 else ("01", "02")
            for rest in product(intensities, ("01", "02"), ("01", "02")):
                yield "-".join((channel, f"0{emotion}", *rest, f"{actor:02}"))


def write_ravdess(root: Path) -> None:
    """All archives unpacked into one folder: 7356 files."""
    for take in ravdess_takes():
        folder = root / f"Actor_{take[-2:]}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in (f"01-{take}.mp4", f"02-{take}.mp4", f"03-{take}.wav"):
            (folder / name).touch()


# ---- CREMA-D ---------------------------------------------------------------------------------------------------------

VOTES = (
    "",
    *"ADFHNS",
    *("fileName", "numResponses", "agreement", "emoVote", "meanEmoResp", "meanAngerResp", "meanDisgustResp"),
    *("meanFearResp", "meanHappyResp", "meanNeutralResp", "meanSadResp", "medianEmoResp", "meanEmoRespNorm"),
    *("meanAngerRespNorm", "meanDisgustRespNorm", "meanFearRespNorm", "meanHappyRespNorm", "meanNeutralRespNorm"),
    *("meanSadRespNorm", "medianEmoRespNorm"),
)
LETTERS = {"anger": "A", "disgust": "D", "fear": "F", "happy": "H", "neutral": "N", "sad": "S"}
MISSING = {"1002_TIE_NEU_XX", "1076_ITS_NEU_XX"} | {
    f"{take}_{emotion}_XX"
    for take in ("1008_WSI", "1009_MTI", "1019_ITH")
    for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
}


def crema_d_clips() -> Iterator[str]:
    """82 clips per actor, except for those that were never recorded: 7442."""
    for actor, sentence in product(range(1001, 1092), built_in_facts("crema-d")["labels"]["statement"]["values"]):
        for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"):
            levels = ("LO", "MD", "HI") if sentence == "IEO" and emotion != "NEU" else ("XX",)
            for level in levels:
                if (clip := f"{actor}_{sentence}_{emotion}_{level}") not in MISSING:
                    yield clip


def winners(counts: dict[str, int], rows: int) -> list[tuple[str, ...]]:
    """As many rows as needed for each emotion to win `counts` times; rows with ties come first."""
    left = Counter(counts)
    ties = []
    for _ in range(sum(counts.values()) - rows):
        pair = sorted(name for name, _ in left.most_common(2))
        left.subtract(pair)
        ties.append(tuple(pair))
    return [*ties, *((name,) for name in left.elements())]


def crema_d_votes(clips: Sequence[str]) -> str:
    """tabulatedVotes.csv: six votes per row, divided among the winners; the columns of levels are -1."""
    labels = built_in_facts("crema-d")["counts"]["labels"]
    rows: list[list[object]] = []
    for kind, name in enumerate(("voice", "face", "av"), 1):
        for number, (clip, best) in enumerate(zip(clips, winners(labels[name], len(clips)), strict=True), 1):
            votes = [6 // len(best) if emotion in best else 0 for emotion in LETTERS]
            letters = ":".join(LETTERS[emotion] for emotion in best)
            rows.append([str(kind * 100_000 + number), *votes, clip, 6, 1 / len(best), letters, *[-1] * 16])
    return table(VOTES, rows, "\n", quoting=csv.QUOTE_NONNUMERIC)


def write_crema_d(root: Path) -> None:
    """The repository with its media fetched, without AudioMP3."""
    clips = list(crema_d_clips())
    for clip in clips:
        for folder, suffix in (("AudioWAV", ".wav"), ("VideoFlash", ".flv")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{clip}{suffix}").touch()
    quoted = csv.QUOTE_NONNUMERIC
    names = table(("Stimulus_Number", "Filename"), enumerate(clips, 1), "\n", quoting=quoted)
    put(root / "SentenceFilenames.csv", names.rstrip("\n"))
    people = [(actor, 20 + actor % 55, "Male" if actor <= 1048 else "Female", "", "") for actor in range(1001, 1092)]
    header = ("ActorID", "Age", "Sex", "Race", "Ethnicity")
    put(root / "VideoDemographics.csv", table(header, people, "\n", quoting=quoted))
    put(root / "processedResults/tabulatedVotes.csv", crema_d_votes(clips))


# ---- MELD ------------------------------------------------------------------------------------------------------------

MELD = (
    *("Sr No.", "Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID", "Season", "Episode"),
    *("StartTime", "EndTime"),
)
MELD_FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
# Clips that have no row: gaps in the numbers of the tables.
NO_ROW = {
    "dev": [(49, 4), (49, 5), (66, 9), (66, 10)],
    "test": [(93, 5), (93, 6), (93, 7), (108, 1), (108, 2)],
}
SENTIMENTS = {"neutral": "neutral", "joy": "positive"}  # surprise may be either, the others are negative
TIMES = ('"00:16:16,059"', '"0:36:59,425"', '"00:06:47,28"')  # the three shapes


def meld_ids(part: str) -> list[tuple[int, int]]:
    """(dialog, utterance) of every row: those in the anomalies, and others up to the known numbers."""
    facts = built_in_facts("meld")
    known = facts["counts"]["splits"]["valid" if part == "dev" else part]
    dialogs = [number for number in range(known["dialogs"] + 1) if (part, number) != ("train", 60)]
    sizes = dict.fromkeys(dialogs[: known["dialogs"]], 1)
    gaps = set(NO_ROW.get(part, ()))
    named = [id_ for ids in (*facts["anomalies"].values(), *facts["plain_clips"].values()) for id_ in ids]
    named += [f"{part}_dia{dialog}_utt{utterance + 1}" for dialog, utterance in gaps] + ["dev_dia110_utt7"]
    for id_ in named:
        if id_.startswith(part):
            dialog, utterance = (word[3:] for word in id_.split("_")[1:])
            sizes[int(dialog)] = max(sizes[int(dialog)], int(utterance.replace("*", "9")) + 1)
    missing = known["utterances"] + len(gaps) - sum(sizes.values())
    for dialog in islice(cycle(sizes), missing):
        sizes[dialog] += 1
    return [(dialog, number) for dialog in sizes for number in range(sizes[dialog]) if (dialog, number) not in gaps]


def meld_rows(part: str) -> list[tuple[object, ...]]:
    known = built_in_facts("meld")["counts"]["splits"]["valid" if part == "dev" else part]
    emotions = [emotion for emotion, number in known["labels"]["emotion"].items() for _ in range(number)]
    surprises = iter(["positive"] * (780 if part == "train" else 0) + ["negative"] * len(emotions))
    leads = ["Monica", "Rachel", "Phoebe", "Ross", "Joey", "Chandler"]
    others = [f"{part} {number}" for number in range(known["speakers"] - len(leads))]
    speakers = islice(cycle([*leads * 30, *others]), len(emotions))
    rows: list[tuple[object, ...]] = []
    for (dialog, number), emotion, speaker in zip(meld_ids(part), emotions, speakers, strict=True):
        sentiment = SENTIMENTS.get(emotion, "negative") if emotion != "surprise" else next(surprises)
        text = f'You must’ve said "{number}", {speaker}.'
        time = TIMES[len(rows) % 3].strip('"')
        season, episode = divmod(dialog % 190, 24)
        where = (dialog, number, season + 1, episode + 1, time, time)
        rows.append((len(rows) + 1, text, speaker, emotion, sentiment, *where))
    return rows


def write_meld(root: Path) -> None:
    """The archives unpacked: 13 707 clips of rows, nine without, and final_videos_test twins of two."""
    for part, folder in MELD_FOLDERS.items():
        rows = meld_rows(part)
        put(root / f"{part}_sent_emo.csv", table(MELD, rows, "\r\n"))
        (root / folder).mkdir(parents=True)
        for dialog, number in [*((row[5], row[6]) for row in rows), *NO_ROW.get(part, ())]:
            if (part, dialog, number) != ("dev", 110, 7):
                (root / folder / f"dia{dialog}_utt{number}.mp4").touch()
    for name in ("dia1_utt0", "dia101_utt0"):
        (root / MELD_FOLDERS["test"] / f"final_videos_test{name}.mp4").touch()


# ---- CMU-MOSI --------------------------------------------------------------------------------------------------------


def mosi_segments() -> dict[str, int]:
    """Number of segments by video: 2199 in 93 videos, with the reported ids, ids with "_", and invented ones."""
    named = [id_.rpartition("_") for id_ in built_in_facts("mosi")["anomalies"]["reported_cut"]]
    sizes = dict.fromkeys(["_dI--eQ6qVU", "I5y0__X72p0", "03bSnISJMiM"], 1)
    for video, _, number in named:
        sizes[video] = max(sizes.get(video, 1), int(number))
    for number in range(93 - len(sizes)):
        sizes[f"made-up_{number:03}"] = 1
    for video in islice(cycle(sizes), 2199 - sum(sizes.values())):
        sizes[video] += 1
    return sizes


def write_mosi(root: Path) -> None:
    """Raw with whole videos and sound, transcripts and the table of labels."""
    labels = []
    for video, size in mosi_segments().items():
        put(root / "Raw/Video/Full" / f"{video}.mp4")
        put(root / "Raw/Audio/WAV_16000/Full" / f"{video}.wav")
        lines = [f"{number}_DELIM_I THOUGHT IT WAS {number} TIMES AS GOOD" for number in range(1, size + 1)]
        put(root / "Raw/Transcript/Segmented" / f"{video}.annotprocessed", "\n".join(lines) + "\n")
        for number in range(1, size + 1):
            labels.append(f"{number * 4 - 0.1},{number * 4 + 3.95},{video},{number},{(number % 31 - 15) / 5}")
    put(root / "Raw/Labels/OpinionLevelSentiment.csv", "\n".join(labels) + "\n")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "ravdess": write_ravdess,
    "crema-d": write_crema_d,
    "meld": write_meld,
    "mosi": write_mosi,
}
