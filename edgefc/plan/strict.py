"""Strict dataclasses: a wrong argument raises a UsageError with the value as given and the nearest known name."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform  # of Python 3.11; pydantic needs this package too

from edgefc.errors import UsageError, shortened

T = TypeVar("T")

_CONFIG = ConfigDict(extra="forbid", strict=True)
_SHOWN = 60
"""The number of characters shown of a value."""


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def strict(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that checks its arguments."""
    made: Any = dataclass(frozen=True, config=_CONFIG)(cls)
    plain: Callable[..., None] = made.__init__

    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        try:
            plain(self, *args, **keywords)
        except ValidationError as error:
            raise UsageError(_sentence(made, error)) from None

    made.__init__ = __init__
    checked: type[T] = made
    return checked


def build(cls: type[T], fields: dict[str, Any], where: str) -> T:
    """Make an instance from the fields of a file. `where` begins the message, such as "rule 2: ".

    Raises:
        UsageError: an unknown field, a missing field, or a value outside its bounds.
    """
    try:
        for name in fields:  # the constructor has parameters of its own, such as self
            if name not in _names(cls):
                raise _unknown_setting(cls, name)
        return cls(**fields)
    except UsageError as error:
        raise UsageError(f"{where}{error}") from None


def unknown(what: str, given: object, known: Iterable[str], where: str = "") -> UsageError:
    """The error for a name that is not known, with the nearest one, whatever the case of its letters."""
    names = list(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(given).lower(), lower, 1, cutoff=0.5)
    advice = f"Did you mean {lower[near[0]]!r}?" if near else f"Choose one of: {', '.join(names)}."
    return UsageError(f"{where}there is no {what} {shown(given)}. {advice}")


def shown(value: object) -> str:
    """The value as given, shortened."""
    try:
        return shortened(repr(value), _SHOWN)
    except Exception:  # repr() of an integer of more than 4,300 digits, or of a user's class
        return f"a {type(value).__name__}"


def _sentence(cls: type, error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    told = first.get("ctx", {}).get("error")
    if isinstance(told, UsageError):  # a validator of ours, which says it all
        return str(told)
    fields = _names(cls)
    place = first["loc"][0] if first["loc"] else ""
    field = fields[place] if isinstance(place, int) and place < len(fields) else str(place)
    if first["type"] in ("unexpected_keyword_argument", "unexpected_positional_argument"):
        if first["type"] == "unexpected_positional_argument":
            return f"{cls.__name__} got an argument too many: {shown(first['input'])}. {_takes(cls)}"
        return str(_unknown_setting(cls, field))
    if first["type"] == "missing_argument" or first["type"] == "missing":
        return f"{cls.__name__} needs {field!r}. Give {field}=..."
    message = first["msg"].removeprefix("Value error, ").removesuffix(".")
    if not field:
        return f"{cls.__name__}: {message}."
    return f"{cls.__name__} does not support {field}={shown(first['input'])}: {_lower(message)}."


def _unknown_setting(cls: type, name: str) -> UsageError:
    names = _names(cls)
    if not names:
        return UsageError(f"there is no setting of {cls.__name__} {shown(name)}. {_takes(cls)}")
    return UsageError(f"{unknown(f'setting of {cls.__name__}', name, names)} {_takes(cls)}")


def _takes(cls: type) -> str:
    return f"{cls.__name__} takes {', '.join(_names(cls)) or 'no settings'}."


def _names(cls: type) -> list[str]:
    return list(getattr(cls, "__dataclass_fields__", {}))


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
