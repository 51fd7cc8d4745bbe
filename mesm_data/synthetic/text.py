"""The text: sentences from templates with slots, which show the emotion often but not always.

All sentences were written for this file. `{}` names are slots, filled from SLOTS.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

OWN, SHARED = (
    0.72,
    0.18,
)  # probability that the main clause is the emotion's own, or neutral; else it is another emotion's
PRIVATE = 0.3  # probability that an own clause occurs in one session only, so that it cannot be memorised
GENERAL_TEMPLATES = 10  # of a pool, for all sessions; each of the others belongs to one session

SLOTS: dict[str, Sequence[str]] = {
    "who": ("my sister", "my brother", "your mother", "my boss", "the neighbor", "Daniel", "Karen", "the landlord"),
    "what": ("the car", "the ticket", "the letter", "the house", "this form", "the suitcase", "the phone", "the trip"),
    "where": ("at home", "in the office", "at the airport", "down at the beach", "in the kitchen", "at the station"),
    "when": ("this morning", "last night", "on Friday", "two weeks ago", "yesterday", "after lunch", "in June"),
    "count": ("three", "four", "five", "ten", "twenty"),
}
OPENERS = ("Well,", "You know,", "I mean,", "Look,", "So,", "Okay,", "Listen,")
TAGS = ("you know", "I guess", "right now", "really", "honestly")
FIRST_PERSON = r"I\W"  # stays capitalised
OPENER_SHARE, TAG_SHARE = 0.3, 0.15

POOLS: dict[str, Sequence[str]] = {
    "ang": (
        "How dare you talk to {who} like that!",
        "Get out of my way before I lose my temper!",
        "You lied to me {when} and you know it!",
        "Don't you ever touch {what} again!",
        "I am so angry I could scream!",
        "Shut up and leave me alone!",
        "You had no right to do that!",
        "This is outrageous and you are to blame!",
        "I hate the way you treat {who}!",
        "Stop shouting at me, damn it!",
        "I could smash {what} against the wall!",
        "Who the hell do you think you are!",
        "You make me sick, all of you!",
        "I'm furious about what you did {when}!",
        "Take your hands off me right now!",
        "That was a rotten, lousy lie!",
        "Damn it, you broke {what} on purpose!",
        "I won't be insulted by {who}!",
        "You are a liar and a coward!",
        "Get the hell out, I mean it!",
    ),
    "exc": (
        "Oh my god, we won {what}!",
        "I got the job, can you believe it!",
        "Guess what happened {when}, it's amazing!",
        "I can't wait, this is going to be incredible!",
        "We are going to see the whole world!",
        "She said yes, we are getting married!",
        "This is the best thing that ever happened to me!",
        "Wow, look at that, it's huge!",
        "I'm so excited I can't sit still!",
        "They picked me out of {count} thousand people!",
        "Come on, come on, it's starting!",
        "You won't believe it, {who} is coming to the wedding!",
        "I got in, I actually got in!",
        "Wow, this is a dream come true!",
        "Hurry up, I can't wait to show you {what}!",
        "It's amazing, we did it!",
        "I screamed so loud when I heard I won!",
        "Oh my god, it's really happening!",
        "We are having a baby, can you believe it!",
        "This is incredible, tell everybody!",
    ),
    "fru": (
        "I have filled in {what} {count} times already.",
        "Why does nobody ever answer the phone here?",
        "I keep explaining this and you don't listen.",
        "It never works, no matter what I try.",
        "I have been waiting in this line for {count} hours.",
        "They sent me back and forth again {when}.",
        "This makes no sense, I just need one stamp.",
        "What am I supposed to do with this now?",
        "Every single time it is the same problem.",
        "I'm sick of doing everything twice.",
        "You keep telling me to wait, wait for what?",
        "It's not my fault that {what} is lost.",
        "Is there somebody else I can talk to?",
        "I already gave you my name {count} times.",
        "Nothing ever gets fixed around here.",
        "I try and try, and it's never enough.",
        "Again the wrong line, again the wrong form.",
        "Why is this so complicated every time?",
        "I've been on hold since {when}.",
        "You don't listen, that's the problem.",
    ),
    "hap": (
        "It is so nice to see you smile.",
        "We had a lovely evening with {who}.",
        "I'm really happy for you, I am.",
        "The kids laughed so much {when}.",
        "What a beautiful day it is.",
        "I love being here with you.",
        "Thank you, that's very sweet of you.",
        "That's wonderful, I'm glad you told me.",
        "We danced in the kitchen and it was fun.",
        "Everything turned out fine in the end.",
        "You look happy, and that makes me happy.",
        "It was a lovely party, thank you.",
        "I always have fun with {who}.",
        "That's a sweet thing to say.",
        "I'm glad we came down here together.",
        "It's good to laugh with you again.",
        "We had such a wonderful time {when}.",
        "The garden looks beautiful, I love it.",
        "That's the nicest present I ever got.",
        "I feel good, life is nice.",
    ),
    "neu": (
        "Do you have your identification with you?",
        "The bus leaves {where} every {count} minutes.",
        "I put {what} on the table.",
        "It's the second door on the left.",
        "He works {where} on weekdays.",
        "The meeting was moved to another room.",
        "I think it was {when}.",
        "You can sign here at the bottom.",
        "We usually eat around seven.",
        "They have {count} rooms and a garage.",
        "Please write your address on this line.",
        "The office opens at nine.",
        "She is staying {where} until Friday.",
        "There are {count} chairs in the other room.",
        "I take the bus to work on weekdays.",
        "Which department did you call?",
        "The second form is for the address.",
        "He brought {what} {when}.",
        "It is about {count} miles from here.",
        "You can leave the keys at the desk.",
    ),
    "sad": (
        "I miss him every single day.",
        "She died {when} and I wasn't there.",
        "I don't know how to go on without her.",
        "It hurts, and it doesn't get better.",
        "I cried the whole night.",
        "We lost everything, there's nothing left.",
        "He's gone and he is never coming back.",
        "I feel so alone in this house.",
        "I'm sorry, I can't stop crying.",
        "I never got to say goodbye to {who}.",
        "The house is so empty now.",
        "My heart is broken, that's all.",
        "I wish I had been there when she died.",
        "Nothing matters to me anymore.",
        "I lost him, and I'm so sorry.",
        "We said goodbye {when}, it was the last time.",
        "I'm alone, there's nobody left.",
        "I still miss her voice.",
        "It's over, she left me.",
        "The funeral was {when}, I cried.",
    ),
    "sur": (
        "What, are you serious?",
        "I had no idea you were {where}!",
        "Wait, {who} did what?",
        "Really, since when?",
        "That can't be, I saw it {when}!",
        "Where did that come from?",
    ),
    "fea": (
        "I'm scared, please don't leave me here.",
        "Did you hear that noise outside?",
        "What if they find us {where}?",
        "My hands are shaking, I can't do it.",
        "Please be careful, I'm afraid.",
        "Something terrible is going to happen.",
    ),
    "dis": (
        "That smells awful, take it away.",
        "It's disgusting, I can't even look at it.",
        "Who would eat something like that?",
        "Ugh, the floor is all sticky.",
    ),
    "": (
        "I talked to {who} about it {when}.",
        "That's what I heard about {what}.",
        "I don't know what to say.",
        "You were there, you saw it.",
        "It has been {count} years now.",
        "Let me think about it for a minute.",
        "We should talk about {what}.",
        "What do you want to do?",
        "I was {where} when it happened.",
        "You told me that {when}.",
        "So what did {who} say?",
        "It is about {what}, isn't it?",
        "I remember that day {where}.",
        "Are you going to call {who}?",
        "That's how it is with {who}.",
        "I saw you {where} {when}.",
        "Maybe we can go there together.",
        "Tell me what you think.",
        "I didn't know about {what}.",
        "It was {count} days before the trip.",
    ),
}
MAIN = ("ang", "exc", "fru", "hap", "neu", "sad")
ASIDES = ("Yeah.", "Mm hmm.", "Okay.", "Right.", "Uh huh.", "No.")
# Non-verbal sounds: (token of the transcript, words to synthesise, share by emotion).
SOUNDS = (
    ("[LAUGHTER]", "ha ha ha,", {"hap": 0.08, "exc": 0.08, "neu": 0.02, "fru": 0.02}),
    ("[BREATHING]", "hah,", {"sad": 0.06, "fru": 0.04, "ang": 0.02, "neu": 0.02}),
)
SPOKEN = {token: spoken for token, spoken, _ in SOUNDS}


def sentence(
    emotion: str,
    session: int,
    rng: Random,
    *,
    pools: Mapping[str, Sequence[str]] = POOLS,
    emotions: Sequence[str] = MAIN,
    sounds: Sequence[tuple[str, str, Mapping[str, float]]] = SOUNDS,
) -> str:
    """Draw the text of a turn in `session` (1 to 5); its main clause may be from the pool of another emotion."""
    draw = rng.random()
    pool = emotion if draw < OWN else "" if draw < OWN + SHARED else rng.choice(emotions)
    text = _template(pools[pool if pool in pools else ""], session, rng)
    text = text.format(**{slot: rng.choice(values) for slot, values in SLOTS.items()})
    if rng.random() < OPENER_SHARE:
        text = f"{rng.choice(OPENERS)} {text if re.match(FIRST_PERSON, text) else text[0].lower() + text[1:]}"
    if rng.random() < TAG_SHARE:
        text = f"{text[:-1]}, {rng.choice(TAGS)}{text[-1]}"
    for token, _, shares in sounds:
        if rng.random() < shares.get(emotion, 0.0):
            text = f"{token} {text}"
    return text


def _template(pool: Sequence[str], session: int, rng: Random) -> str:
    private = pool[GENERAL_TEMPLATES + session - 1 :: 5]
    if private and rng.random() < PRIVATE:
        return rng.choice(private)
    return rng.choice(pool[:GENERAL_TEMPLATES])


def spoken(text: str) -> list[tuple[str, str]]:
    """Return (token, words to synthesise) for each token of a transcript; the words are usually the token itself."""
    return [(token, SPOKEN.get(token, token)) for token in text.split()]
