"""Convert frozen dataclasses to JSON and back. Standard library only, Python 3.9.

    encode(value)       one line of JSON
    read(kind, value)   convert parsed JSON to the dataclass `kind`; its annotations give types, ranges and lengths

Annotations may be bool, int, float, str, another dataclass, Optional and Union of these, tuple[X, ...], Sequence[X],
tuple[X, Y], dict[str, X], Mapping[str, X], and Annotated with a Range or FULL. The annotations are
evaluated, so code of the agent uses Optional[int]: Python 3.9 cannot evaluate `int | None`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import math
import types
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from edgefc.errors import EdgefcError, of_code, shortened

T = TypeVar("T")
Reader = Callable[[Any, str], Any]  # called with a value and its path in the JSON


class Range(NamedTuple):
    """Bounds of a number, both included."""

    least: float
    most: float = math.inf


FULL = "at least one element"


class Unfit(ValueError):
    """A value does not match its annotation. The message has its path and the reason."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """An EdgefcError in the form that a child process or an agent sends."""

    code: str
    text: str
    subject: Union[str, None]  # noqa: UP007

    @classmethod
    def of(cls, error: EdgefcError) -> Failure:
        return cls(error.code, str(error), error.subject)

    def error(self) -> EdgefcError:
        """The error as an exception.

        Raises:
            Unfit: no class of errors has this code.
        """
        kind = of_code(self.code)
        if kind is None:
            raise Unfit("an error with an unknown code")
        return kind(self.text, subject=self.subject)


def encode(value: Any) -> str:
    """One line of JSON. value is a dataclass, or plain data that may contain dataclasses."""
    return json.dumps(value, default=_fields)


def read(kind: type[T], value: Any) -> T:
    """Convert parsed JSON to the dataclass `kind`.

    Raises:
        Unfit: a field is missing or unknown, or has a wrong type, range or length.
    """
    form: Any = kind
    instance: T = _reader(form)(value, "")
    return instance


def _fields(value: Any) -> dict[str, Any]:
    if not dataclasses.is_dataclass(value):
        raise TypeError(f"a {type(value).__name__} is not plain data")
    return vars(value)


@cache
def _reader(kind: Any) -> Reader:
    if dataclasses.is_dataclass(kind):
        return _object(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _within(_reader(inner[0]), inner[1])
    if origin in (Union, getattr(types, "UnionType", Union)):
        return _one_of(inner)
    if origin in (dict, collections.abc.Mapping):
        return _by_name(_reader(inner[1]))
    if origin is tuple and inner[-1] is not Ellipsis:
        return _row([_reader(each) for each in inner])
    if origin in (tuple, collections.abc.Sequence):
        return _list(_reader(inner[0]))
    return _scalar(kind)


_ACCEPTED: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"), int: ((int,), "an integer"), float: ((int, float), "a finite number"),
    str: ((str,), "a string"), type(None): ((type(None),), "null"),
}  # fmt: skip


def _scalar(kind: type) -> Reader:
    accepted, description = _ACCEPTED[kind]

    def scalar(value: Any, path: str) -> Any:
        if type(value) not in accepted or (type(value) is float and not math.isfinite(value)):
            raise _unfit(path, f"{_shown(value)} is not {description}")
        return value

    return scalar


def _within(inner: Reader, bounds: Any) -> Reader:
    def full(value: Any, path: str) -> Any:
        items = inner(value, path)
        if not items:
            raise _unfit(path, "it is empty")
        return items

    def within(value: Any, path: str) -> Any:
        number = inner(value, path)
        if number < bounds.least:
            raise _unfit(path, f"{_shown(number)} is below {bounds.least:g}")
        if number > bounds.most:
            raise _unfit(path, f"{_shown(number)} is above {bounds.most:g}")
        return number

    return full if bounds == FULL else within


def _one_of(kinds: Sequence[Any]) -> Reader:
    readers = [_reader(kind) for kind in kinds]
    optional = len(kinds) == 2 and kinds[1] is type(None)

    def one_of(value: Any, path: str) -> Any:
        if optional:
            return None if value is None else readers[0](value, path)
        for reader in readers[:-1]:
            try:
                return reader(value, path)
            except Unfit:
                continue
        return readers[-1](value, path)

    return one_of


def _list(inner: Reader) -> Reader:
    def several(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _unfit(path, f"{_shown(value)} is not a list")
        return tuple([inner(each, f"{path}.{index}") for index, each in enumerate(value)])

    return several


def _row(inner: Sequence[Reader]) -> Reader:
    def row(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(inner):
            raise _unfit(path, f"it is not a list of {len(inner)}")
        return tuple([reader(each, f"{path}.{index}") for index, (reader, each) in enumerate(zip(inner, value))])

    return row


def _by_name(inner: Reader) -> Reader:
    def by_name(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unfit(path, f"{_shown(value)} is not an object")
        return {name: inner(each, f"{path}.{_shown(name)}") for name, each in value.items()}

    return by_name


def _object(kind: Any) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def instance(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise _unfit(path, f"{_shown(value)} is not an object")
        for name in value:
            if name not in readers:
                raise _unfit(f"{path}.{_shown(name)}", "the field is unknown")
        for name in readers:
            if name not in value:
                raise _unfit(f"{path}.{name}", "the field is missing")
        return kind(**{name: reader(value[name], f"{path}.{name}") for name, reader in readers.items()})

    return instance


def _unfit(path: str, what: str) -> Unfit:
    return Unfit(f"{shortened(path[1:], 120)}: {what}" if path else what)


def _shown(value: Any) -> str:
    """Describe a value in a few ASCII characters."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return shortened(json.dumps(value), 40)
