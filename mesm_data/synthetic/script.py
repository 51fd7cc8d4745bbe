"""The plan of a synthetic IEMOCAP: the turns of each dialog with text, times, voice, face and ratings.

The plan is a pure function of its arguments. Each dialog has its own random generator, so a larger corpus starts with
the dialogs of a smaller one.
"""

from dataclasses import dataclass, replace
from itertools import zip_longest
from random import Random

from mesm_data.errors import InputError
from mesm_data.synthetic.expression import (
    FACE_CLEAR,
    PROSODY,
    VOICE_CLEAR,
    draw_shown,
    emotional_voice,
    estimate_seconds,
)
from mesm_data.synthetic.ratings import MAIN, OTHERS, VAD, Ratings, rate
from mesm_data.synthetic.speech import Voice
from mesm_data.synthetic.text import ASIDES, sentence

OTHER_SHARE = 0.11  # of the turns have none of the six main labels
OVERLAP_SHARE = 0.82  # of the changes of speaker; with SAME_SPEAKER_SHARE about 70 % of neighbouring turns
SAME_SPEAKER_SHARE = 0.12
ASIDE_SHARE = 0.3  # of the dialogs have a short turn without ratings
SHORTEST, LONGEST = 1.2, 6.0  # seconds of a turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """One actor of a session: `id` such as Ses01F, the neutral `voice`, the `seed` of the face."""

    id: str
    female: bool
    seed: int
    voice: Voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of an actor. Times are seconds of the dialog; the words start `lead` seconds after `start`.

    `face` is the shown emotion, `label` the raters' majority. Unrated turns have no label and no ratings; their ids are
    such as Ses01F_impro01_FXX0.
    """

    id: str
    start: float
    end: float
    lead: float
    text: str
    voice: Voice
    face: str
    label: str | None
    ratings: Ratings | None

    @property
    def speaker(self) -> str:
        """F or M."""
        return self.id[-4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog:
    """One recording: `markers` is the actor (F or M) who wears them, `turns` are sorted by start."""

    id: str
    markers: str
    actors: dict[str, Speaker]
    turns: tuple[Turn, ...]
    duration: float

    @property
    def session(self) -> int:
        """1 to 5."""
        return int(self.id[4])


def plan(dialogs: int, seed: int, *, turns: int = 30) -> tuple[Dialog, ...]:
    """Plan dialogs of about `turns` turns, distributed over the five sessions, with names of the real corpus.

    Raises InputError if `dialogs` is not from 1 to 151, the number of dialogs in the corpus.
    """
    names = _names(seed)
    if not 1 <= dialogs <= len(names):
        raise InputError(f"--dialogs {dialogs}: expected a number from 1 to {len(names)}, as many as IEMOCAP has")
    return tuple(_dialog(name, seed, turns) for name in names[:dialogs])


def scenes(session: int, markers: str) -> tuple[list[str], list[str]]:
    """Return IEMOCAP's improvised and scripted scenes in which this actor wears the markers."""
    impro = [f"impro{number:02}" for number in range(1, 8 if session == 1 else 9)]
    script = ["script01_1", "script01_2", "script01_3", "script02_1", "script02_2", "script03_1", "script03_2"]
    if (session, markers) == (3, "M"):
        impro = [part for scene in impro for part in ([scene + "a", scene + "b"] if scene[-1] in "58" else [scene])]
    if (session, markers) == (5, "M"):
        script.insert(1, "script01_1b")
    return impro, script


def _names(seed: int) -> list[str]:
    """Return all dialog ids; sessions alternate, and within a session improvised and scripted scenes."""
    sessions = []
    for session in range(1, 6):
        rng = Random(f"{seed} names {session}")
        (impro_f, script_f), (impro_m, script_m) = scenes(session, "F"), scenes(session, "M")
        sides = [("F", impro_f), ("M", script_m), ("M", impro_m), ("F", script_f)]
        if session % 2 == 0:
            sides = [("M", impro_m), ("F", script_f), ("F", impro_f), ("M", script_m)]
        shuffled = [
            [f"Ses0{session}{side}_{scene}" for scene in rng.sample(names, len(names))] for side, names in sides
        ]
        sessions.append(_interleave(shuffled))
    return _interleave(sessions)


def _interleave(lists: list[list[str]]) -> list[str]:
    return [item for row in zip_longest(*lists) for item in row if item is not None]


def speaker(session: int, letter: str, seed: int) -> Speaker:
    """Draw the actor F or M of a session."""
    id_ = f"Ses0{session}{letter}"
    rng = Random(f"{seed} speaker {id_}")
    variant = f"f{(session - 1) % 4 + 1}" if letter == "F" else f"m{session}"
    voice = Voice(
        name=f"en-us+{variant}",
        rate=rng.randint(154, 166),
        pitch=rng.randint(42, 50),
        range=rng.randint(36, 44),
        volume=rng.randint(50, 56),
    )
    return Speaker(id=id_, female=letter == "F", seed=rng.randrange(2**31), voice=voice)


def _dialog(name: str, seed: int, count: int) -> Dialog:
    rng = Random(f"{seed} dialog {name}")
    session = int(name[4])
    actors = {letter: speaker(session, letter, seed) for letter in "FM"}
    count = rng.randint(count - count // 10, count + count // 10)
    labels = _labels(count, rng)
    aside = rng.randrange(1, count) if count > 2 and rng.random() < ASIDE_SHARE else None
    running = {"F": 0, "M": 0}
    turns: list[Turn] = []
    letter = rng.choice("FM")
    for index in range(count):
        same = rng.random() < SAME_SPEAKER_SHARE
        letter = letter if same else "M" if letter == "F" else "F"
        if index == aside:
            turn = _aside(f"{name}_{letter}XX0", actors[letter], rng)
        else:
            turn = _turn(f"{name}_{letter}{running[letter]:03}", labels[index], actors[letter], rng)
            running[letter] += 1
        turns.append(_place(turn, turns, rng))
    duration = max(turn.end for turn in turns) + rng.uniform(0.8, 1.6)
    return Dialog(id=name, markers=name[5], actors=actors, turns=tuple(turns), duration=round(duration, 3))


def _labels(count: int, rng: Random) -> list[str]:
    """Draw labels, balanced over the six main ones, with a few others."""
    others = sum(rng.random() < OTHER_SHARE for _ in range(count))
    codes, weights = [code for code, _ in OTHERS], [weight for _, weight in OTHERS]
    start = rng.randrange(len(MAIN))
    labels = [MAIN[(start + index) % len(MAIN)] for index in range(count - others)]
    return rng.sample(labels + rng.choices(codes, weights, k=others), count)


def _turn(id_: str, label: str, who: Speaker, rng: Random) -> Turn:
    """Draw a rated turn that starts at 0."""
    meant = label if label in PROSODY else rng.choice(MAIN)
    voice = emotional_voice(who.voice, draw_shown(meant, VOICE_CLEAR, rng), rng)
    text = sentence(meant, int(id_[4]), rng)
    while estimate_seconds(text, voice) > LONGEST - 0.7:
        text = sentence(meant, int(id_[4]), rng)
    ratings = rate(label, meant if label in VAD else "oth", session=int(id_[4]), speaker=id_[-4], rng=rng)
    face = draw_shown(meant, FACE_CLEAR, rng)
    return _set_length(
        Turn(id=id_, start=0, end=0, lead=0, text=text, voice=voice, face=face, label=label, ratings=ratings), rng
    )


def _aside(id_: str, who: Speaker, rng: Random) -> Turn:
    turn = Turn(
        id=id_, start=0, end=0, lead=0, text=rng.choice(ASIDES), voice=who.voice, face="neu", label=None, ratings=None
    )
    return _set_length(turn, rng)


def _set_length(turn: Turn, rng: Random) -> Turn:
    """Set the length of a turn: time for the words and some silence on both sides."""
    lead = rng.uniform(0.12, 0.3)
    length = lead + 1.06 * estimate_seconds(turn.text, turn.voice) + rng.uniform(0.1, 0.35)
    return replace(turn, lead=round(lead, 3), end=min(LONGEST, max(SHORTEST, length)))


def _place(turn: Turn, earlier: list[Turn], rng: Random) -> Turn:
    """Place a turn after the earlier ones, often overlapping with the other actor; 4 decimals as in the corpus."""
    own = max((other.end for other in earlier if other.speaker == turn.speaker), default=0.0)
    start = rng.uniform(0.8, 2.0)
    if earlier:
        last = earlier[-1]
        overlaps = last.speaker != turn.speaker and rng.random() < OVERLAP_SHARE
        start = max(last.end + (rng.uniform(-0.5, -0.1) if overlaps else rng.uniform(0.1, 0.7)), own + 0.05)
    return replace(turn, start=round(start, 4), end=round(start + turn.end, 4))
