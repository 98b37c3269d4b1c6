"""Frozen dataclasses as JSON, and JSON as frozen dataclasses. Standard library only, Python 3.9.

    encode(value)       one line of JSON
    read(kind, value)   parsed JSON as that dataclass, in the types, ranges and lengths that its annotations say

Annotations may be bool, int, float, str, another dataclass, Optional and Union of these, tuple[X, ...], Sequence[X],
tuple[X, Y], dict[str, X], Mapping[str, X], and Annotated with a Range or FULL. They are evaluated: what a board runs
has Optional[int] and not `int | None`, which Python 3.9 cannot evaluate.
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
Reader = Callable[[Any, str], Any]  # of a value and its place


class Range(NamedTuple):
    """Bounds of a number, both included."""

    least: float
    most: float = math.inf


FULL = "at least one element"


class Unfit(ValueError):
    """A value is not of the form that was asked for: its place, and what is wrong."""


@dataclasses.dataclass(frozen=True)
class Failure:
    """An EdgefcError as a child process or an agent sends it."""

    code: str
    text: str
    subject: Union[str, None]  # noqa: UP007

    @classmethod
    def of(cls, error: EdgefcError) -> Failure:
        return cls(error.code, str(error), error.subject)

    def error(self) -> EdgefcError:
        """
        Raises:
            Unfit: no class has that code.
        """
        kind = of_code(self.code)
        if kind is None:
            raise Unfit("an error of an unknown kind")
        return kind(self.text, subject=self.subject)


def encode(value: Any) -> str:
    return json.dumps(value, default=_fields)


def read(kind: type[T], value: Any) -> T:
    """
    Raises:
        Unfit: a field is missing or unknown, or is of another type, range or length.
    """
    form: Any = kind
    found: T = _reader(form)(value, "")
    return found


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
    bool: ((bool,), "true or false"), int: ((int,), "a whole number"), float: ((int, float), "a finite number"),
    str: ((str,), "a text"), type(None): ((type(None),), "null"),
}  # fmt: skip


def _scalar(kind: type) -> Reader:
    accepted, called = _ACCEPTED[kind]

    def scalar(value: Any, place: str) -> Any:
        if type(value) not in accepted or (type(value) is float and not math.isfinite(value)):
            raise _unfit(place, f"{_shown(value)} is not {called}")
        return value

    return scalar


def _within(inner: Reader, bounds: Any) -> Reader:
    def full(value: Any, place: str) -> Any:
        found = inner(value, place)
        if not found:
            raise _unfit(place, "it is empty")
        return found

    def within(value: Any, place: str) -> Any:
        found = inner(value, place)
        if found < bounds.least:
            raise _unfit(place, f"{_shown(found)} is below {bounds.least:g}")
        if found > bounds.most:
            raise _unfit(place, f"{_shown(found)} is above {bounds.most:g}")
        return found

    return full if bounds == FULL else within


def _one_of(kinds: Sequence[Any]) -> Reader:
    readers = [_reader(kind) for kind in kinds]
    optional = len(kinds) == 2 and kinds[1] is type(None)

    def one_of(value: Any, place: str) -> Any:
        if optional:
            return None if value is None else readers[0](value, place)
        for reader in readers[:-1]:
            try:
                return reader(value, place)
            except Unfit:
                continue
        return readers[-1](value, place)

    return one_of


def _list(inner: Reader) -> Reader:
    def several(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _unfit(place, f"{_shown(value)} is not a list")
        return tuple([inner(each, f"{place}.{index}") for index, each in enumerate(value)])

    return several


def _row(inner: Sequence[Reader]) -> Reader:
    def row(value: Any, place: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(inner):
            raise _unfit(place, f"it is not a list of {len(inner)}")
        return tuple([reader(each, f"{place}.{index}") for index, (reader, each) in enumerate(zip(inner, value))])

    return row


def _by_name(inner: Reader) -> Reader:
    def by_name(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _unfit(place, f"{_shown(value)} is not an object")
        return {name: inner(each, f"{place}.{_shown(name)}") for name, each in value.items()}

    return by_name


def _object(kind: Any) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(kind)}

    def instance(value: Any, place: str) -> Any:
        if not isinstance(value, dict):
            raise _unfit(place, f"{_shown(value)} is not an object")
        for name in value:
            if name not in readers:
                raise _unfit(f"{place}.{_shown(name)}", "there is no such field")
        for name in readers:
            if name not in value:
                raise _unfit(f"{place}.{name}", "the field is missing")
        return kind(**{name: reader(value[name], f"{place}.{name}") for name, reader in readers.items()})

    return instance


def _unfit(place: str, what: str) -> Unfit:
    return Unfit(f"{shortened(place[1:], 120)}: {what}" if place else what)


def _shown(value: Any) -> str:
    """In a few ASCII characters."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return shortened(json.dumps(value), 40)
