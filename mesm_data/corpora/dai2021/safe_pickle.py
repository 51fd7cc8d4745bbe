"""Reads a pickle as data: containers, strings and numbers. Nothing in the file is imported or called.

The standard library's pickletools parses the opcodes without executing them; `_Machine` executes those of plain data.
A restricted pickle.Unpickler would not suffice: the one in C allocates a memo table of any size that the file requests,
and every Unpickler hashes the keys of dictionaries, which recurses without limit for nested tuples.
"""

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from mesm_data.errors import InputError
from mesm_data.storage.safe_text import valid_unicode

MAX_BYTES = 512 * 2**20  # the released files have a few MB

_MARK = object()
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_ARGUMENTS = frozenset(("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"))
_ARGUMENTS |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_ARGUMENTS |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_PUTS, _GETS = frozenset(("PUT", "BINPUT", "LONG_BINPUT")), frozenset(("GET", "BINGET", "LONG_BINGET"))
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True, slots=True)
class _Name:
    """The name of a class or function in the file; it is never imported."""

    name: str


@dataclass(slots=True)
class _Dtype:
    """A numpy.dtype as a format of struct, such as "<d"."""

    code: str
    order: str = "<"


# numpy scalars are numpy.core.multiarray.scalar(numpy.dtype("f8"), b"..."); protocol 2 writes bytes as latin-1 text.
_SCALAR = frozenset(("numpy.core.multiarray scalar", "numpy._core.multiarray scalar"))
_DTYPE, _ENCODE, _NO_BYTES = "numpy dtype", "_codecs encode", "__builtin__ bytes"
_CODES = {"f8": "d", "f4": "f", "f2": "e", "i8": "q", "i4": "i", "i2": "h", "i1": "b"}
_CODES |= {"u8": "Q", "u4": "I", "u2": "H", "u1": "B", "b1": "?"}
_KNOWN = _SCALAR | {_DTYPE, _ENCODE, _NO_BYTES}


def load_pickle(path: Path) -> Any:
    """Read a pickle file of dict, list, tuple, str, bytes, int, float, bool and None; numpy scalars become numbers.

    Raises InputError that names the file and the problem, such as a class that is none of these.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has more than {MAX_BYTES} bytes: it is not what it should be")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        return loads(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error) as error:
        raise InputError(f"{path}: is not a pickle that can be read ({error})") from None


def loads(data: bytes) -> Any:
    """Like `load`, from bytes. Raises InputError for other than plain data, ValueError or similar if malformed."""
    machine = _Machine()
    for opcode, argument, _ in pickletools.genops(BytesIO(data)):
        if opcode.name == "STOP":
            result = machine.stack.pop()
            return machine.check_plain(result)
        machine.step(opcode.name, argument)
    raise ValueError("the end is missing")


class _Machine:
    """The stack machine of the pickle format, without recursion. Its memory is bounded by the size of the file."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _ARGUMENTS:
            stack.append(valid_unicode(argument) if isinstance(argument, str) else argument)  # datasets are UTF-8
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in _PUTS:
            self._memo[argument] = stack[-1]
        elif name in _GETS:
            stack.append(self._memo[argument])
        elif name in _TUPLES:
            count = _TUPLES[name]
            items = stack[-count:]
            del stack[-count:]
            stack.append(tuple(items))
        elif name in ("TUPLE", "LIST"):
            stack.append((tuple if name == "TUPLE" else list)(self._pop_to_mark()))
        elif name == "DICT":
            items = self._pop_to_mark()
            stack.append({})
            self._set_items(stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else self._pop_to_mark()
            self._top(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else self._pop_to_mark()
            self._set_items(self._top(dict), items)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                argument = f"{_text(stack.pop(-2))} {_text(stack.pop())}"
            self._push_name(argument)
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "BUILD":
            _build(stack[-2], stack.pop())
        else:
            raise InputError(f"contains more than plain data (pickle opcode {name})")

    def check_plain(self, value: Any) -> Any:
        """Return the result. Raises InputError if it is not plain data."""
        if isinstance(value, (_Name, _Dtype)) or value is _MARK:
            raise InputError("contains no plain data")
        return value

    def _push_name(self, name: str) -> None:
        if name not in _KNOWN:
            raise InputError(
                f"names the class or function {name.replace(' ', '.')[:100]!r}, and only plain data (containers, text, "
                "numbers) is read. Do not load this file by other means unless you trust its source"
            )
        self.stack.append(_Name(name))

    def _pop_to_mark(self) -> list[Any]:
        mark = len(self.stack) - 1
        while self.stack[mark] is not _MARK:
            mark -= 1
            if mark < 0:
                raise ValueError("a mark is missing")
        items = self.stack[mark + 1 :]
        del self.stack[mark:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"expected a {kind.__name__}")
        return self.stack[-1]

    def _set_items(self, target: dict[Any, Any], items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, bytes, int, float, bool, type(None))):
                raise InputError(f"contains a dictionary whose key is a {type(key).__name__}")
            target[key] = value


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise InputError("calls what is no function")
    if function.name == _DTYPE:
        return _Dtype(_CODES[_text(arguments[0])])
    if function.name == _ENCODE:
        text, encoding = arguments
        if _text(encoding) not in ("latin1", "latin-1"):
            raise InputError(f"contains bytes as {encoding[:20]!r}")
        return _text(text).encode("latin-1")
    if function.name == _NO_BYTES and not arguments:
        return b""
    kind, data = arguments
    if not isinstance(kind, _Dtype):
        raise InputError("contains a number of an unknown type")
    return struct.unpack(kind.order + kind.code, data)[0]


def _text(value: Any) -> str:
    """Return a value that must be a string. Other values are never formatted: a nested list can be huge as text."""
    if not isinstance(value, str):
        raise ValueError(f"expected text, not a {type(value).__name__}")
    return value


def _build(target: Any, state: Any) -> None:
    """Set the state of a numpy.dtype: (version, byte order, ...)."""
    if not isinstance(target, _Dtype) or not isinstance(state, tuple) or _text(state[1]) not in ("<", ">", "=", "|"):
        raise InputError("sets the state of an object")
    target.order = ">" if state[1] == ">" else "<"
