"""Nested frozen dataclasses from YAML and `a.b=c` overrides: every key known, every value of the declared type.

Types: int, float, bool, str, Literal of str, tuple[X, ...], tuple[X, Y], X | None, and dataclasses of those.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mesm_data.errors import InputError
from mesm_train.config.core_yaml import dump_yaml, load_yaml

T = TypeVar("T")

QUOTED = 200  # characters of a value in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where a value came from, for messages; and the root type, to find what a key may have meant."""

    kind: Any
    name: str
    sets: Mapping[str, str]  # dotted key -> the override that set it

    def wrong(self, key: str, sentence: str) -> InputError:
        """An error about one key."""
        override = self.sets.get(next((above for above in _ancestry(key) if above in self.sets), ""))
        return InputError(f"--set {override}: {sentence}" if override else f"{self.name}: {key or 'it'}: {sentence}")

    def refused(self, section: str, error: InputError) -> InputError:
        """An error about a whole section, which names its keys itself."""
        below = [item for key, item in self.sets.items() if section in (*_ancestry(key), "")]
        return InputError(f"{self.name}{''.join(f' --set {item}' for item in below)}: {error}")


def parse(kind: type[T], text: bytes | str, name: str, sets: Sequence[str] = ()) -> T:
    """Read `kind` from YAML text, changed by `sets` (of several of one key, the last).

    `name` is the file's, for messages. Raises InputError that names the file or the override, the key, and what was
    expected; one that a dataclass' __post_init__ raises is passed on with the same names before it.
    """
    values = load_yaml(text, name)
    overrides: dict[str, str] = {}
    for item in sets:
        key, equals, yaml_text = item.partition("=")
        if not equals or not all(key.split(".")):
            raise InputError(f"--set {item}: expected a key and a value, such as optim.lr=1e-3")
        inner = load_yaml(yaml_text, f"--set {item}")
        for part in reversed(key.split(".")):
            inner = {part: inner}
        values = _merged(values, inner)
        overrides[key] = item
    config = _section(kind, values, "", _Source(kind=kind, name=name, sets=overrides))
    assert isinstance(config, kind)
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """All settings, complete, as dicts, lists and scalars: `parse` makes the same of them."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, tuple) else value

    settings = plain(dataclasses.asdict(config))
    assert isinstance(settings, dict)
    return settings


def dump(config: Any) -> str:
    """All settings as YAML, in the order of the fields."""
    return dump_yaml(to_dict(config))


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return above


def _build(kind: Any, value: Any, key: str, source: _Source, expected_kind: Any = None) -> Any:
    """Convert `value` to `kind`. Raises InputError, which names `expected_kind` if that is wider, if it cannot be."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _section(kind, value, key, source)
    if origin in (Union, UnionType):
        [inner] = [argument for argument in arguments if argument is not NoneType]
        return None if value is None else _build(inner, value, key, source, expected_kind=kind)
    if origin is tuple and isinstance(value, list):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_build(inner, item, key, source) for inner, item in zip(kinds, value, strict=True))
    elif origin is Literal:
        if isinstance(value, str) and value in arguments:
            return value
    elif kind is float and type(value) in (int, float):
        if math.isfinite(value) and abs(value) < 1e300:  # a larger int does not fit into a float
            return float(value)
    elif type(value) is kind:  # not isinstance: true is no number
        return value
    actual = "a section" if isinstance(value, dict) else "nothing" if value is None else _quoted(value)
    raise source.wrong(key, f"expected {expected(expected_kind or kind)}, found {actual}")


def _section(kind: Any, value: Any, key: str, source: _Source) -> Any:
    if value is None:
        value = {}  # an empty file, or a section of comments
    if not isinstance(value, dict):
        raise source.wrong(key, f"expected {expected(kind)}, found {_quoted(value)}")
    types = get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    for name in value:
        if name not in names:
            raise source.wrong(
                _dotted(key, str(name)[:80]),
                f"there is no such setting; {_hint(source.kind, key, str(name)[:80], names)}",
            )
    fields = {name: _build(types[name], inner, _dotted(key, name), source) for name, inner in value.items()}
    for field in dataclasses.fields(kind):
        if field.name not in fields and field.default is field.default_factory is dataclasses.MISSING:
            raise source.wrong(_dotted(key, field.name), f"is missing; expected {expected(types[field.name])}")
    try:
        return kind(**fields)
    except InputError as error:
        raise source.refused(key, error) from None


def _ancestry(key: str) -> list[str]:
    """a.b.c -> a.b.c, a.b, a."""
    parts = key.split(".")
    return [".".join(parts[:end]) for end in range(len(parts), 0, -1)]


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _hint(root: Any, key: str, name: str, names: Sequence[str]) -> str:
    """The setting that an unknown one may have meant: misspelt, or right but in another section."""
    elsewhere = [dotted for dotted in _keys(root) if dotted.rpartition(".")[2] == name]
    near = [_dotted(key, match) for match in get_close_matches(name, names, n=1)]
    meant = elsewhere or near
    return (
        f"did you mean {' or '.join(meant)}?"
        if meant
        else f"there are {', '.join(_dotted(key, each) for each in names)}"
    )


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """All dotted keys below a dataclass, sections included."""
    for name, inner in get_type_hints(kind).items():
        yield _dotted(prefix, name)
        for part in (inner, *get_args(inner)):
            if dataclasses.is_dataclass(part):
                yield from _keys(part, _dotted(prefix, name))


def expected(kind: Any) -> str:
    """What a type wants, in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return f"a section with {', '.join(field.name for field in dataclasses.fields(kind))}"
    if origin in (Union, UnionType):
        return " or ".join(expected(argument) for argument in arguments)
    if origin is Literal:
        return "one of " + ", ".join(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"a list, each {expected(arguments[0])}"
        return f"a list of {len(arguments)}: {', '.join(expected(argument) for argument in arguments)}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text", NoneType: "null"}[kind]


def _quoted(value: Any) -> str:
    """A value as it is quoted in a message."""
    text = repr(value)
    return text if len(text) <= QUOTED else f"{text[:QUOTED]} …"


def need(good: bool, option: str, value: Any, expected: str) -> None:
    """Raises InputError that names an option if its value is not `good`."""
    if not good:
        raise InputError(f"{option} is {_quoted(value)}; it must be {expected}")
