"""YAML by its 1.2 core schema: 5e-5 is a number, `no` is a text, 010 is not eight. PyYAML alone follows YAML 1.1."""

import re
from typing import IO, Any

import yaml

from mesm_data.errors import InputError

MAX_YAML = 2**20  # bytes; the largest settings file has a few KiB
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's scalars; a key that stands twice is an error, where PyYAML takes the last."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # nested ones unfold to any size
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not used here", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:80]} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what _Loader would not read as text."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


for _kind, (_pattern, _first) in _SCALARS.items():
    for _character in _first:
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append(
            (f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"))
        )


def load_yaml(source: IO[bytes] | bytes | str, name: str) -> Any:
    """Dicts, lists and scalars. Raises InputError that names the file if it is too large, or no YAML of this kind."""
    text = source if isinstance(source, bytes | str) else source.read(MAX_YAML + 1)
    if len(text) > MAX_YAML:
        raise InputError(f"{name}: has more than {MAX_YAML >> 10} KiB: settings are much smaller")
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{name}: is not valid YAML ({' '.join(str(error).split())[:500]})") from None


def dump_yaml(value: Any) -> str:
    """Write YAML that `load_yaml` reads back, in the order of the keys."""
    # No allow_unicode: with it PyYAML writes U+0085 as it is, and reads it as a space.
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None)
