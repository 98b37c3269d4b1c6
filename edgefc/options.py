"""Parsers for command-line option values, used as argparse types. Each raises ArgumentTypeError with its message."""

import argparse
import math

from edgefc.errors import shortened

_SHOWN = 60  # characters of a value in an error message
LARGEST = 2**63 - 1
LONGEST_S = 3600


def whole(text: str) -> int:
    """A 64-bit integer."""
    return _checked(text, -LARGEST - 1, "an integer")


def count(text: str) -> int:
    """A positive integer."""
    return _checked(text, 1, "a positive integer")


def counts(text: str) -> tuple[int, ...]:
    """A comma-separated list of positive integers, such as '1,64'."""
    try:
        return tuple(count(part) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not a list of counts. Give positive integers, such as 1,64."
        ) from None


def seeds(text: str) -> int:
    """A number of seeds, at least 1."""
    value = number(text)
    if value is None or value < 1 or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{shown(text)} is not a number of seeds. Give a positive integer, such as 5.")
    return value


def seconds(text: str) -> float:
    """A number of seconds above 0, up to an hour."""
    value = real(text)
    if value is None or not 0 < value <= LONGEST_S:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not a valid time. Give a number of seconds above 0, up to {LONGEST_S}, such as 0.5."
        )
    return value


def shown(text: str) -> str:
    """Quote a value for a message, shortened."""
    return repr(shortened(text, _SHOWN))


def number(text: str) -> int | None:
    """A 64-bit integer in decimal digits; None for any other text."""
    digits = text.strip().removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > len(str(LARGEST)):
        return None
    value = int(text)
    return value if -LARGEST - 1 <= value <= LARGEST else None


def real(text: str) -> float | None:
    """A finite number in ASCII digits; None for any other text."""
    if not text.isascii() or "_" in text:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _checked(text: str, least: int, wanted: str) -> int:
    value = number(text)
    if value is None or value < least:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {wanted} of at most 64 bits. Give one, such as 8.")
    return value
