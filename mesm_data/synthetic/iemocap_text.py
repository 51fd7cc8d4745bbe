r"""Writers of IEMOCAP's label and transcript files. Examples have the real format and invented values."""

from collections.abc import Iterable, Iterator, Sequence
from random import Random
from xml.sax.saxutils import quoteattr

from mesm_data.synthetic.ratings import CATEGORIES, Attributes, Categorical
from mesm_data.synthetic.script import Dialog, Turn

UNSORTED_SHARE = 0.45  # of the transcripts are not sorted by time; in the corpus 67 of 151
NEUTRAL_STATE = {CATEGORIES["neu"]: "Neutral state"}  # its name in the files of single raters


def evaluation(dialog: Dialog) -> str:
    r"""Format dialog/EmoEvaluation/<dialog>.txt: all turns of F by time, then all of M, each with its raters.

    [7.1204 - 9.4810]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
    C-E2:\tNeutral; Anger;\t()
    A-E3:\tval 3; act 2; dom  2;\t(a comment)
    """
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for turn in rated_turns(dialog):
        assert turn.ratings
        vad = ", ".join(f"{value:.4f}" for value in turn.ratings.vad)
        lines.append(f"[{turn.start:.4f} - {turn.end:.4f}]\t{turn.id}\t{turn.label}\t[{vad}]")
        for vote in turn.ratings.categorical:
            lines.append(f"C-{vote.rater}:\t{'; '.join(vote.categories)};\t({vote.comment})")
        for score in turn.ratings.attributes:
            lines.append(
                f"A-{score.rater}:\tval {score.val}; act {score.act}; dom  {_known(score.dom)};\t({score.comment})"
            )
        lines.append("")
    return "\n".join(lines) + "\n"


def rated_turns(dialog: Dialog) -> list[Turn]:
    """Return the turns with ratings, in the order of the evaluation: F before M, each by time."""
    return sorted((turn for turn in dialog.turns if turn.ratings), key=lambda turn: (turn.speaker, turn.start))


def transcription(dialog: Dialog) -> str:
    """Format dialog/transcriptions/<dialog>.txt, CRLF, sorted by time; in some dialogs a few neighbours are swapped.

    Ses01F_impro01_F000 [007.1204-009.4810]: Good morning.
    """
    turns = list(dialog.turns)
    rng = Random(f"transcription {dialog.id} {turns[0].text}")
    if rng.random() < UNSORTED_SHARE:
        for index in rng.choices(range(1, len(turns)), k=2) if len(turns) > 1 else ():
            turns[index - 1 : index + 1] = turns[index], turns[index - 1]
    return "".join(f"{turn.id} [{turn.start:08.4f}-{turn.end:08.4f}]: {turn.text}\r\n" for turn in turns)


def lab(dialog: Dialog, letter: str) -> str:
    """Format dialog/lab/Ses0k_<letter>/<dialog>.lab: one actor's turns, also those without an evaluation.

    7.1204 9.4810 Ses01F_impro01_F000
    """
    own = (turn for turn in dialog.turns if turn.speaker == letter)
    return "#\n" + "".join(f"{turn.start:.4f} {turn.end:.4f} {turn.id}\n" for turn in own)


def rater_files(dialog: Dialog) -> Iterator[tuple[str, str]]:
    """Yield (path below EmoEvaluation/, text) for the files of single raters: a text and its ANVIL annotation."""
    turns = rated_turns(dialog)
    names = sorted({vote.rater for turn in turns if turn.ratings for vote in turn.ratings.categorical})
    for rater in names:
        folder = "Categorical" if rater.startswith("E") else "Self-evaluation"
        rows = [
            (turn, vote) for turn in turns if turn.ratings for vote in turn.ratings.categorical if vote.rater == rater
        ]
        yield f"{folder}/{dialog.id}_{rater.lower()}_cat.txt", "".join(_category_line(*row) for row in rows)
        yield f"{folder}/{dialog.id}_{rater.lower()}.anvil", _anvil((turn, _categories(vote)) for turn, vote in rows)
    names = sorted({score.rater for turn in turns if turn.ratings for score in turn.ratings.attributes})
    for rater in names:
        folder = "Attribute" if rater.startswith("E") else "Self-evaluation"
        score_rows = [
            (turn, score) for turn in turns if turn.ratings for score in turn.ratings.attributes if score.rater == rater
        ]
        yield f"{folder}/{dialog.id}_{rater.lower()}_atr.txt", "".join(_attribute_line(*row) for row in score_rows)
        if folder == "Attribute":
            yield (
                f"{folder}/{dialog.id}_{rater.lower()}.anvil",
                _anvil((turn, _values(score)) for turn, score in score_rows),
            )


def _category_line(turn: Turn, rating: Categorical) -> str:
    # Ses01F_impro01_F000 :Neutral state; ()
    return f"{turn.id} :{'; :'.join(_categories(rating))}; ({rating.comment})\n"


def _attribute_line(turn: Turn, rating: Attributes) -> str:
    # Ses01F_impro01_F000 :act 4; :val 3; :dom 2;
    return f"{turn.id} :{'; :'.join(_values(rating))};\n"


def _categories(rating: Categorical) -> Sequence[str]:
    return [NEUTRAL_STATE.get(word, word) for word in rating.categories]


def _values(rating: Attributes) -> Sequence[str]:
    return f"act {rating.act}", f"val {rating.val}", f"dom {_known(rating.dom)}"


def _known(value: int | None) -> str:
    return "" if value is None else str(value)


def _anvil(rows: Iterable[tuple[Turn, Sequence[str]]]) -> str:
    """Format an annotation in the XML of the tool ANVIL: one element per turn with the rater's choice."""
    elements = [
        f'      <el index="{index}" start="{turn.start:.4f}" end="{turn.end:.4f}">\n'
        + "".join(f'        <attribute name="choice">{word}</attribute>\n' for word in words)
        + f'        <attribute name="turn">{turn.id}</attribute>\n      </el>\n'
        for index, (turn, words) in enumerate(rows)
    ]
    name = quoteattr("Turns.Synthetic")
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<annotation>\n  <body>\n'
        f'    <track name={name} type="primary">\n{"".join(elements)}    </track>\n  </body>\n</annotation>\n'
    )
