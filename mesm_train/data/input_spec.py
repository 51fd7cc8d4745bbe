"""RUN/input_spec.json: how training samples were made and what the outputs mean, so that a run needs no dataset."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mesm_data.corpora.iemocap.layout import FALLBACK_SQUARE
from mesm_data.dataset.reader import Dataset
from mesm_data.dataset.recipe import Recipe
from mesm_data.errors import InputError
from mesm_data.features.feature_set import FeatureSet
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
# the whole height. dataset.json does not repeat this constant of the reader.
FALLBACK_SQUARES = {"iemocap": FALLBACK_SQUARE}
_SHAPE = {
    "corpus": str,
    "recipe": {},
    "fallback_square": NUMBER,
    "undetected": str,
    "heads": [{"view": str, "kind": str, "outputs": [str]}],
    "meanings": MapOf(str),
    "train": {"utterances": int, "missing": MapOf(int)},
    "features?": MapOf({"name": str, "kind": str, "config": {}, "libraries": MapOf(str)}),
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
        features: modality -> name, kind, config and libraries of the feature set that a two-phase system reads; empty
            for the models that read raw data.
    """

    corpus: str
    recipe: Mapping[str, Any]
    fallback_square: float
    undetected: str
    heads: Sequence[HeadSpec]
    meanings: Mapping[str, str]
    train: Mapping[str, Any]
    features: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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

    def unseen(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """Those that no utterance of the train part has."""
        return tuple(m for m in modalities if self.train["missing"].get(m, 0) >= self.train["utterances"])


def input_spec(
    dataset: Dataset,
    heads: Sequence[Head],
    train: Sequence[str],
    undetected: str,
    sets: Mapping[str, FeatureSet] | None = None,
) -> InputSpec:
    """The specification of a model.

    Args:
        dataset: its training data.
        heads: what it predicts.
        train: the utterances of its train part.
        undetected: the setting `loader.undetected`.
        sets: modality -> the feature set that it reads, of a two-phase system.
    """
    recipe = dataset.info["recipe"]
    rows = [dataset.rows.row_number(key) for key in train]
    amounts = {"t": "txt_size", "v": "n_detected" if undetected == "skip" else "n_faces", "a": "n_samples"}
    missing = {m: int((dataset.rows.int_column(column)[rows] == 0).sum()) for m, column in amounts.items()}
    return InputSpec(
        corpus=dataset.info["corpus"],
        recipe={name: recipe.get(name) for name in MEDIA},
        fallback_square=FALLBACK_SQUARES.get(dataset.info["corpus"], 1.0),
        undetected=undetected,
        heads=[HeadSpec(view=head.view.name, kind=head.kind, outputs=head.outputs) for head in heads],
        meanings=distinct_meanings(dataset.schema, heads),
        train={"utterances": len(train), "missing": missing},
        features={
            modality: {name: features.info[name] for name in ("name", "kind", "config", "libraries")}
            for modality, features in (sets or {}).items()
        },
    )


def distinct_meanings(schema: CorpusSchema, heads: Sequence[Head]) -> dict[str, str]:
    """The `meanings` of all heads; one that an earlier output goes by has the name of its view behind it."""
    known, taken = dict[str, str](), set[str]()
    for head in heads:
        own = meanings(schema, head)
        known |= {name: f"{text} ({head.view.name})" if text in taken else text for name, text in own.items()}
        taken |= {known.get(name, name) for name in head.outputs}
    return known


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


def read_input_spec(folder: Path, *, needs_features: bool = False) -> InputSpec:
    """The specification in a folder.

    Args:
        folder: that of a run.
        needs_features: the model is a two-phase system.

    Raises:
        InputError: there is none, it is damaged, or an earlier version wrote it without the feature sets.
    """
    path = folder / FILE
    spec = parse_input_spec(read_checked_json(path, {}), str(path)) if path.exists() else None
    if spec is None or (needs_features and not spec.features):
        lacks = f"has no {FILE}" if spec is None else f"does not say in {FILE} which features it reads"
        raise InputError(
            f"{folder} {lacks}: an earlier version of mesm trained it. Its command, `mesm-train run ... --out "
            f"{folder} --resume`, adds the file; it needs the dataset, and does not train a finished run again"
        )
    return spec


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
    names = [each.name for each in fields(InputSpec) if each.name in content and each.name != "heads"]
    return InputSpec(**{name: content[name] for name in names}, heads=heads)
