"""The plan of a synthetic CMU-MOSEI: the clips of each video with text, times, voice, face and ratings.

The plan is a pure function of its arguments. Each video has its own random generator, so a larger corpus starts with
the videos of a smaller one.
"""

import string
from dataclasses import dataclass
from fractions import Fraction
from random import Random

from mesm_data.errors import InputError
from mesm_data.synthetic.expression import FACE_CLEAR, VOICE_CLEAR, draw_shown, emotional_voice, estimate_seconds
from mesm_data.synthetic.mosei_ratings import EMOTIONS, TOGETHER, Votes, rate
from mesm_data.synthetic.script import Speaker
from mesm_data.synthetic.speech import Voice
from mesm_data.synthetic.text import POOLS, sentence

MAX_VIDEOS = 1000
NOTHING_SHARE, SECOND_SHARE = 0.14, 0.35  # of the clips show no emotion; of the others, two
UNLABELLED_SHARE = 0.08
GAP_SHARE = 0.15  # of the clip numbers are followed by a gap
BUFFER = (0.3, 0.6)  # seconds before and after the words; neighbours overlap by about 1 s
DECIMALS = (0, 1, 3, 3, 11)
SENTENCES = (1, 1, 2, 2)  # per clip
HESITATIONS = ("(umm)", "(uhh)")
HESITATION_SHARE = 0.12

# Sentences for emotions that have fewer than ten in text.POOLS.
EXTRA = {
    "sur": (
        "Nobody told me that this would be the last part!",
        "I did not expect that at all!",
        "And suddenly he was her father, what a twist!",
        "I never thought they would do that with {what}!",
    ),
    "fea": (
        "I was too scared to open the door {when}.",
        "This is dangerous and it frightens me.",
        "I'm terrified of what will happen to {who}.",
        "We were afraid that nobody would come.",
    ),
    "dis": (
        "There was mold all over it, I felt sick.",
        "The food was revolting and it stank.",
        "It is gross how they treat {who}.",
        "What a filthy, nasty place.",
        "I had to spit it out, it was so vile.",
        "It makes my stomach turn to think of {what}.",
    ),
}
OWN_POOLS = {**POOLS, **{emotion: (*POOLS[emotion], *more) for emotion, more in EXTRA.items()}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The format of a video.

    Attributes:
        name: kind of id.
        varying: whether the frame rate varies.
        torn: whether the file is truncated.
    """

    width: int
    height: int
    fps: Fraction
    name: str = "plain"
    varying: bool = False
    sound: bool = True
    torn: bool = False


NTSC = Fraction(30_000, 1001)
# Used in rotation: formats that occur in the corpus, small ones more often.
FORMS = (
    Form(width=640, height=360, fps=NTSC),
    Form(width=480, height=360, fps=Fraction(15), name="numeric 6"),
    Form(width=360, height=640, fps=Fraction(30), name="-"),
    Form(width=1280, height=720, fps=Fraction(24)),
    Form(width=480, height=360, fps=Fraction(30), name="_", varying=True),
    Form(width=640, height=360, fps=Fraction(25), sound=False),
    Form(width=480, height=360, fps=NTSC, torn=True),
    Form(width=480, height=360, fps=Fraction(60), name="__"),
    Form(width=320, height=240, fps=Fraction(10), name="numeric 5"),
    Form(width=640, height=480, fps=Fraction(24_000, 1001)),
    Form(width=640, height=360, fps=Fraction(12), name="-"),
    Form(width=480, height=360, fps=Fraction(25), name="numeric 6"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip. Times are seconds of the video.

    Attributes:
        start, end: as decimal numbers in the transcript.
        at: the start of the words.
        votes: empty for a clip that was never rated.
    """

    number: int
    start: str
    end: str
    at: float
    room: float  # seconds for the words
    text: str
    voice: Voice
    face: str
    votes: tuple[Votes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Monologue:
    """One video of a person who talks to the camera; `clips` are sorted by time, `duration` is in seconds."""

    id: str
    form: Form
    speaker: Speaker
    clips: tuple[Clip, ...]
    duration: float


def plan(videos: int, seed: int, *, clips: int = 6) -> tuple[Monologue, ...]:
    """Plan videos of about `clips` clips. Raises InputError if `videos` is not from 1 to 1000."""
    if not 1 <= videos <= MAX_VIDEOS:
        raise InputError(f"--dialogs {videos}: expected a number of videos from 1 to {MAX_VIDEOS}")
    return tuple(_monologue(index, seed, clips) for index in range(videos))


def _monologue(index: int, seed: int, count: int) -> Monologue:
    rng = Random(f"{seed} video {index}")
    form = FORMS[index % len(FORMS)]
    id_ = _id(form.name, rng)
    speaker = _speaker(id_, rng)
    clips: list[Clip] = []
    number, clock = rng.choice((0, 0, 1, 2)), rng.uniform(0.6, 1.2)
    for _ in range(rng.randint(count - count // 6, count + count // 6)):
        clip = _clip(number, clock, speaker, index % 5 + 1, rng)
        clips.append(clip)
        clock = clip.at + clip.room + rng.uniform(0.15, 0.4)
        number += 2 if rng.random() < GAP_SHARE else 1
    duration = max(clock, *(float(clip.end) for clip in clips)) + rng.uniform(0.6, 1.2)
    return Monologue(id=id_, form=form, speaker=speaker, clips=tuple(clips), duration=round(duration, 3))


def _id(kind: str, rng: Random) -> str:
    """Draw an id: 11 characters like YouTube's, with unusual beginnings, or a short number."""
    if kind.startswith("numeric"):
        return str(rng.randrange(10 ** (int(kind[-1]) - 1), 10 ** int(kind[-1])))
    characters = "".join(rng.choices(string.ascii_letters + string.digits, k=11))
    if kind == "__":
        return f"{characters[:6]}__{characters[8:]}"
    return characters if kind == "plain" else kind + characters[1:]


def _speaker(id_: str, rng: Random) -> Speaker:
    female = rng.random() < 0.5
    variant = f"f{rng.randint(1, 4)}" if female else f"m{rng.randint(1, 7)}"
    voice = Voice(
        name=f"en-us+{variant}",
        rate=rng.randint(154, 172),
        pitch=rng.randint(42, 50),
        range=rng.randint(36, 44),
        volume=rng.randint(50, 56),
    )
    return Speaker(id=id_, female=female, seed=rng.randrange(2**31), voice=voice)


def _clip(number: int, at: float, speaker: Speaker, dialect: int, rng: Random) -> Clip:
    meant = _meant(rng)
    first = meant[0] if meant else "neu"
    text = " ".join(_sentence(rng.choice(meant or ("",)), dialect, rng) for _ in range(rng.choice(SENTENCES)))
    if rng.random() < HESITATION_SHARE:
        text = f"{rng.choice(HESITATIONS)} {text}"
    voice = emotional_voice(speaker.voice, draw_shown(first, VOICE_CLEAR, rng, EMOTIONS), rng)
    room = 1.06 * estimate_seconds(text, voice) + 0.1
    start, end = at - rng.uniform(*BUFFER), at + room + rng.uniform(*BUFFER)
    decimals = rng.choice(DECIMALS)
    return Clip(
        number=number,
        start=_decimal(max(0.0, start), decimals, up=False),
        end=_decimal(end, decimals, up=True),
        at=round(at, 3),
        room=round(room, 3),
        text=text,
        voice=voice,
        face=draw_shown(first, FACE_CLEAR, rng, EMOTIONS),
        votes=() if rng.random() < UNLABELLED_SHARE else rate(meant, rng),
    )


def _meant(rng: Random) -> tuple[str, ...]:
    """Draw no emotion, one, or two that may occur together."""
    if rng.random() < NOTHING_SHARE:
        return ()
    first = rng.choice(EMOTIONS)
    return (first, rng.choice(TOGETHER[first])) if rng.random() < SECOND_SHARE else (first,)


def _sentence(emotion: str, dialect: int, rng: Random) -> str:
    return sentence(emotion, dialect, rng, pools=OWN_POOLS, emotions=EMOTIONS, sounds=())


def _decimal(seconds: float, decimals: int, *, up: bool) -> str:
    """Round 8.025 to "8.025", "8.1" or "9", away from the words, with the given number of decimals."""
    scaled = int(seconds * 10**decimals) + up
    return repr(scaled / 10**decimals) if decimals else str(scaled)
