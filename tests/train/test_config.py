"""Settings are complete, typed and explained; a wrong one is named with the place it came from and what was meant."""

import dataclasses
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mesm_data.errors import InputError
from mesm_train.config.model_settings import field_help
from mesm_train.config.recipe_files import load_recipe, recipes
from mesm_train.config.settings import EvalConfig, LoaderConfig, OptimConfig, RunConfig
from mesm_train.config.typed_yaml import dump, parse, to_dict


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: float = 1.0
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.number < 0:
            raise InputError("inner.number must not be negative")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    title: str
    count: int = 3
    maybe: float | None = None
    flag: bool = True
    choice: Literal["one", "two"] = "one"
    inner: Inner = dataclasses.field(default_factory=Inner)


numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e290, max_value=1e290)
inners = st.builds(
    Inner,
    number=numbers.map(abs),
    pair=st.tuples(st.integers(), numbers),
    many=st.lists(st.text(), max_size=3).map(tuple),
)
# Texts that YAML 1.1 or 1.2 takes for something else if they are not quoted.
tricky = st.sampled_from(
    ["no", "1e5", "010", "null", "~", "", "2001-01-01", "1:30", "<<", "0x1f", ".inf", "- a", "a: b"]
)
outers = st.builds(
    Outer,
    title=tricky | st.text(),
    count=st.integers(),
    maybe=st.none() | numbers,
    flag=st.booleans(),
    choice=st.sampled_from(["one", "two"]),
    inner=inners,
)


@given(outers)
def test_settings_survive_a_file(config: Outer) -> None:
    """dump and to_dict leave nothing out, and parse gives back equal settings of the same types."""
    again = parse(Outer, dump(config), "f.yaml")
    assert again == config
    assert repr(again) == repr(config)
    assert to_dict(again)["inner"] == {
        "number": config.inner.number,
        "pair": [*config.inner.pair],
        "many": [*config.inner.many],
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5e-5", 5e-5),  # a text to PyYAML alone
        ("1E3", 1000.0),
        ("7", 7.0),
        (".5", 0.5),
        ("-2.", -2.0),
    ],
)
def test_numbers_are_read_in_every_common_spelling(text: str, expected: float) -> None:
    assert parse(Outer, f"title: a\nmaybe: {text}", "f.yaml").maybe == expected
    again = parse(Outer, "title: a", "f.yaml", [f"maybe={text}"]).maybe
    assert again == expected
    assert type(again) is float


@pytest.mark.parametrize("text", ["no", "off", "010", "1_000", "1:30", "0x10", "2001-01-01"])
def test_values_of_yaml_1_1_only_are_texts(text: str) -> None:
    assert parse(Outer, f"title: {text}", "f.yaml").title == text


def test_the_last_override_wins_and_leaves_its_neighbours() -> None:
    text = "title: a\ninner: {number: 2, many: [x]}"
    config = parse(
        Outer, text, "f.yaml", ["inner.number=3", "inner.number=4.5", "inner.pair=[7, 8]", "maybe=", "title=a=b"]
    )
    assert config == Outer(title="a=b", inner=Inner(number=4.5, pair=(7, 8.0), many=("x",)))


UNKNOWN = "there is no such setting;"


@pytest.mark.parametrize(
    ("text", "sets", "message"),
    [
        ("titel: a", [], f"f.yaml: titel: {UNKNOWN} did you mean title?"),
        ("title: a\nnumber: 1", [], f"f.yaml: number: {UNKNOWN} did you mean inner.number?"),
        ("title: a\ninner: {nummer: 1}", [], f"f.yaml: inner.nummer: {UNKNOWN} did you mean inner.number?"),
        (
            "title: a\ninner: {qqq: 1}",
            [],
            f"f.yaml: inner.qqq: {UNKNOWN} there are inner.number, inner.pair, inner.many",
        ),
        ("title: a", ["inner.numbr=1"], f"--set inner.numbr=1: {UNKNOWN} did you mean inner.number?"),
        ("title: a\n3: 4", [], f"f.yaml: 3: {UNKNOWN} there are title, count, maybe, flag, choice, inner"),
        ("title: 3", [], "f.yaml: title: expected a text, found 3"),
        ("title:", [], "f.yaml: title: expected a text, found nothing"),
        ("count: 3", [], "f.yaml: title: is missing; expected a text"),
        ("title: a\ncount: 3.0", [], "f.yaml: count: expected a whole number, found 3.0"),
        ("title: a\ncount: true", [], "f.yaml: count: expected a whole number, found True"),
        ("title: a\nflag: 1", [], "f.yaml: flag: expected true or false, found 1"),
        ("title: a\nmaybe: x", [], "f.yaml: maybe: expected a number or null, found 'x'"),
        ("title: a\nmaybe: .nan", [], "f.yaml: maybe: expected a number or null, found nan"),
        ("title: a\nmaybe: true", [], "f.yaml: maybe: expected a number or null, found True"),
        ("title: a", ["choice=three"], "--set choice=three: expected one of one, two, found 'three'"),
        ("title: a", ["inner=3"], "--set inner=3: expected a section with number, pair, many, found 3"),
        (
            "title: a",
            ["inner.pair=[1]"],
            "--set inner.pair=[1]: expected a list of 2: a whole number, a number, found [1]",
        ),
        ("title: a", ["inner.many=x"], "--set inner.many=x: expected a list, each a text, found 'x'"),
        ("title: a", ["inner.many=[x, 1]"], "--set inner.many=[x, 1]: expected a text, found 1"),
        (
            "title: a",
            ["inner.pair={a: 1}"],
            "--set inner.pair={a: 1}: expected a list of 2: a whole number, a number, found a section",
        ),
        ("title: a", ["inner.number=-1"], "f.yaml --set inner.number=-1: inner.number must not be negative"),
        ("title: a\ninner: {number: -1}", [], "f.yaml: inner.number must not be negative"),
        ("- a", [], "f.yaml: it: expected a section with title, count, maybe, flag, choice, inner, found ['a']"),
        ("title: a\ntitle: b", [], "the key title stands twice"),
        ("title: [", [], "f.yaml: is not valid YAML"),
        ("title: !!python/name:os.system", [], "f.yaml: is not valid YAML"),
        ("title: a", ["count"], "--set count: expected a key and a value, such as optim.lr=1e-3"),
        ("title: a", ["=3"], "--set =3: expected a key and a value"),
        ("title: a", ["inner..number=3"], "--set inner..number=3: expected a key and a value"),
        ("title: a", ["count=[1"], "--set count=[1: is not valid YAML"),
    ],
)
def test_a_wrong_setting_is_named_and_explained(text: str, sets: list[str], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(Outer, text, "f.yaml", sets)
    assert message in str(caught.value)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
names = st.sampled_from(["title", "count", "maybe", "flag", "choice", "inner", "number", "pair", "many", "x"])
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | leaves, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(names, values, max_size=5), st.lists(st.text(max_size=12), max_size=2))
def test_any_file_is_read_or_refused_with_a_message(content: dict[str, Any], sets: list[str]) -> None:
    try:
        config = parse(Outer, yaml.safe_dump(content), "f.yaml", sets)
    except InputError as error:
        message = str(error)
    else:
        message = "f.yaml"
        assert parse(Outer, dump(config), "f.yaml") == config
    assert message.startswith(("f.yaml", "--set "))


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_can_be_read_and_written(name: str, tmp_path: Path) -> None:
    config = load_recipe(name)
    assert config.name == name
    (tmp_path / "config.yaml").write_text(dump(config), encoding="utf-8")
    assert load_recipe(str(tmp_path / "config.yaml")) == config


def test_the_recipes_have_the_published_settings() -> None:
    """README of Dai et al. 2021: lr 5e-5, text lr / 10, 40 epochs, batch 8 or 2, early stop 6, limits .05 .. .95."""
    assert {"demo-fe2e", "demo-mesm", "iemocap-fe2e", "iemocap-mesm", "mosei-fe2e", "mosei-mesm"} <= set(recipes())
    for name, kind, batch, p in (
        ("iemocap-fe2e", "fe2e", 8, None),
        ("iemocap-mesm", "mesm", 2, 0.7),
        ("mosei-fe2e", "fe2e", 8, None),
        ("mosei-mesm", "mesm", 2, 0.5),
    ):
        config = load_recipe(name)
        optim = config.optim
        assert (optim.lr, optim.text_lr_factor, optim.epochs, optim.patience) == (5e-5, 0.1, 40, 6)
        assert (optim.pos_weight, optim.clip_norm, optim.precision, optim.batch) == (True, None, "fp32", batch)
        assert (config.model.kind, config.labels, config.split) == (kind, "six", "paper")
        assert (config.model.channels, config.model.hidden, config.model.dim) == ((64, 128, 256, 512), 1024, 64)
        assert (config.model.layers, config.model.heads, config.model.feedforward) == (4, 4, 2048)
        sparse = config.model.sparse
        assert p is None or (sparse.p, sparse.selection, sparse.init) == (p, "published", "published")
        assert p is None or (sparse.tile, sparse.anneal_epochs, sparse.bn_eps, sparse.bn_momentum) == (1, 0, 1e-4, 0.01)
        assert [round(100 * limit) for limit in config.eval.thresholds] == list(range(5, 100, 5))


@pytest.mark.parametrize("corpus", ["iemocap", "mosei"])
def test_mesm_in_tiles_is_trained_as_fe2e_is(corpus: str) -> None:
    tiles, dense = load_recipe(f"{corpus}-mesm-tiles"), load_recipe(f"{corpus}-fe2e")
    sparse = tiles.model.sparse
    assert (sparse.p, sparse.tile, sparse.selection, sparse.init) == (0.65, 4, "straight", "torch")
    assert sparse.anneal_epochs == 4
    model = dataclasses.replace(tiles.model, kind="fe2e", sparse=dense.model.sparse)
    assert dataclasses.replace(tiles, name=dense.name, model=model) == dense


def test_overrides_reach_every_section() -> None:
    sets = ["optim.lr=1e-4", "model.sparse.p=.9", "model.modalities=[t, a]", "text.encoder=tiny", "split=session-2"]
    config = load_recipe("iemocap-mesm", sets)
    assert (config.optim.lr, config.model.sparse.p, config.model.modalities) == (1e-4, 0.9, ("t", "a"))
    assert (config.text.encoder, config.split, config.optim.batch) == ("tiny", "session-2", 2)


@pytest.mark.parametrize(
    "wrong",
    ["optim.lr=0", "optim.betas=[1, 0.9]", "optim.clip_norm=0", "optim.epochs=0", "optim.patience=-1", "seed=-1",
     "eval.thresholds=[]", "eval.thresholds=[0.5, 1]", "loader.threads=0", "name=''", "model.sparse.p=0"],
)  # fmt: skip
def test_invalid_numbers_are_refused_by_their_key(wrong: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("demo-mesm", [wrong])
    assert str(caught.value).startswith(f"recipe demo-mesm --set {wrong}: {wrong.partition('=')[0]} is ")


def test_the_message_about_an_unknown_recipe_names_the_nearest_and_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"did you mean demo-fe2e\? There are demo-fe2e, demo-mesm, .*mosei-mesm"):
        load_recipe("demo-fe2")
    with pytest.raises(InputError, match=r"none\.yaml cannot be read \(No such file"):
        load_recipe(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("settings", [RunConfig, OptimConfig, EvalConfig, LoaderConfig])
def test_every_field_is_explained(settings: type) -> None:
    assert list(field_help(settings)) == [field.name for field in dataclasses.fields(settings)]


def test_recipes_are_package_data() -> None:
    """They are found as resources, a few lines each."""
    for name in recipes():
        lines = (files("mesm_train.config") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("#")
        assert len(lines) <= 20
