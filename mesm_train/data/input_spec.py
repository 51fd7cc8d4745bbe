"""RUN/input_spec.json: how training samples were made and what the outputs mean, so that a run needs no dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.schema.corpus import CorpusSchema
from mesm_data.storage.json_files import write_json
from mesm_data.storage.json_shapes import NUMBER, MapOf, mismatch, read_checked_json
from mesm_train.data.labels import Head

FILE = "input_spec.json"
KINDS = ("binary", "multiclass", "number")
# The options of a build that decide what a sample holds; the others choose utterances or lay out files.
MEDIA = (
    "frame_interval", "face_size", "face_margin", "min_face_size", "face_detector", "face_model", "face_library",
    "sample_rate",
)  # fmt: skip
# Side of the square that a corpus' reader cuts where no face is found, relative to the frame's height, where it is not
# the whole height. A constant of the reader; dataset.json does not repeat it.
FALLBACK_SQUARES = {"iemocap": 224 / 480}
_SHAPE = {
    "corpus": str,
    "recipe": {},
    "fallback_square": NUMBER,
    "undetected": str,
    "heads": [{"view": str, "kind": str, "outputs": [str]}],
    "meanings": MapOf(str),
    "train": {"utterances": int, "missing": MapOf(int)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """Some outputs of a model.

    Attributes:
        view: the label view that they answer.
        kind: binary (a yes/no question per class), multiclass (one of the classes) or number (a value per output).
        outputs: their names, behind those of the heads before.
    """

    view: str
    kind: str
    outputs: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What turns a clip into a model's input, and its outputs into words.

    Attributes:
        corpus: the corpus of the training data.
        recipe: its media options (`MEDIA`), as in dataset.json.
        fallback_square: side of the centre square that is cut where no face is found, as a share of the frame's height.
        undetected: keep (that square is a crop like any other) or skip (it is left out).
        heads: what the outputs of the model are; the first is the primary one.
        meanings: output -> its name in full, where it is an abbreviation.
        train: how many `utterances` the train part has, and how many of them are `missing` each modality.
    """

    corpus: str
    recipe: Mapping[str, Any]
    fallback_square: float
    undetected: str
    heads: Sequence[HeadSpec]
    meanings: Mapping[str, str]
    train: Mapping[str, Any]

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of all outputs, in the model's order."""
        return tuple(name for head in self.heads for name in head.outputs)

    def media_recipe(self) -> Recipe:
        """The recipe by which clips are decoded; it writes no clips."""
        return Recipe(corpus=self.corpus, clips=False, **{name: self.recipe[name] for name in MEDIA})

    def knows_without(self, modality: str) -> bool:
        """Whether the train part holds utterances that lack a modality."""
        return bool(self.train["missing"].get(modality))


def input_spec(dataset: Dataset, heads: Sequence[Head], train: Sequence[str], undetected: str) -> InputSpec:
    """The specification of a model.

    Args:
        dataset: its training data.
        heads: what it predicts.
        train: the utterances of its train part.
        undetected: the setting `loader.undetected`.
    """
    recipe = dataset.info["recipe"]
    rows = [dataset.rows.row_number(key) for key in train]
    amounts = {"t": "txt_size", "v": "n_faces", "a": "n_samples"}
    missing = {m: int((dataset.rows.int_column(column)[rows] == 0).sum()) for m, column in amounts.items()}
    return InputSpec(
        corpus=dataset.info["corpus"],
        recipe={name: recipe.get(name) for name in MEDIA},
        fallback_square=FALLBACK_SQUARES.get(dataset.info["corpus"], 1.0),
        undetected=undetected,
        heads=[HeadSpec(view=head.view.name, kind=head.kind, outputs=head.outputs) for head in heads],
        meanings={name: meaning for head in heads for name, meaning in meanings(dataset.schema, head).items()},
        train={"utterances": len(train), "missing": missing},
    )


def meanings(schema: CorpusSchema, head: Head) -> dict[str, str]:
    """Output -> the name of its class in full, by the label scheme that the view is about."""
    known = schema.labels[head.view.label].values if head.view.label else {}
    named = {
        name: " or ".join(known.get(value) or value for value in values)
        for name, values in zip(head.outputs, head.view.sources, strict=True)
    }
    return {name: meaning for name, meaning in named.items() if meaning.lower() != name.lower()}


def write_input_spec(folder: Path, spec: InputSpec) -> None:
    """Write FOLDER/input_spec.json."""
    write_json(folder / FILE, asdict(spec))


def read_input_spec(folder: Path) -> InputSpec:
    """The specification in a folder. Raises InputError if there is none, or it is damaged."""
    path = folder / FILE
    if not path.exists():
        raise InputError(
            f"{folder} has no {FILE}: an earlier version of mesm trained it. Its command, `mesm-train run ... --out "
            f"{folder} --resume`, adds the file; it needs the dataset, and does not train a finished run again"
        )
    return parse_input_spec(read_checked_json(path, {}), str(path))


def parse_input_spec(content: Mapping[str, Any], where: str) -> InputSpec:
    """A specification as a mapping. Raises InputError that names `where` and what is wrong."""
    problem = mismatch(dict(content), _SHAPE)
    if not problem and (missing := [name for name in MEDIA if name not in content["recipe"]]):
        problem = f"recipe.{missing[0]} is missing"
    if problem:
        raise InputError(f"{where} is damaged, or not of mesm: {problem}")
    heads = [HeadSpec(**{name: head[name] for name in ("view", "kind", "outputs")}) for head in content["heads"]]
    if unknown := [head.kind for head in heads if head.kind not in KINDS]:
        raise InputError(f"{where}: heads of the kind {unknown[0]!r} are not known: a later version of mesm wrote it")
    return InputSpec(**{name: content[name] for name in _SHAPE if name != "heads"}, heads=heads)
