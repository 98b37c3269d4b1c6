"""Values of options on the command line, as argparse takes types: each function raises the sentence that is shown."""

import argparse
import math

from edgefc.errors import shortened

_SHOWN = 60  # characters of a value that is refused
LARGEST = 2**63 - 1
LONGEST_S = 3600


def whole(text: str) -> int:
    """A whole number of 64 bits."""
    return _checked(text, -LARGEST - 1, "a whole number")


def count(text: str) -> int:
    """A whole number from 1."""
    return _checked(text, 1, "a whole number from 1")


def counts(text: str) -> tuple[int, ...]:
    """'1,64' as numbers."""
    try:
        return tuple(count(part) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no list of counts. Give whole numbers from 1, such as 1,64."
        ) from None


def seeds(text: str) -> int:
    """A number of seeds from 1."""
    found = number(text)
    if found is None or found < 1 or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{shown(text)} is no number of seeds. Give a whole number from 1, such as 5.")
    return found


def seconds(text: str) -> float:
    """A number of seconds above 0, up to an hour."""
    found = real(text)
    if found is None or not 0 < found <= LONGEST_S:
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is no time. Give a number of seconds above 0, up to {LONGEST_S}, such as 0.5."
        )
    return found


def shown(text: str) -> str:
    """A value as a sentence quotes it."""
    return repr(shortened(text, _SHOWN))


def number(text: str) -> int | None:
    """A whole number in plain digits, of 64 bits; None for anything else."""
    digits = text.strip().removeprefix("-").removeprefix("+")
    if not digits.isascii() or not digits.isdigit() or len(digits) > len(str(LARGEST)):
        return None
    found = int(text)
    return found if -LARGEST - 1 <= found <= LARGEST else None


def real(text: str) -> float | None:
    """A finite number in plain digits; None for anything else."""
    if not text.isascii() or "_" in text:
        return None
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _checked(text: str, least: int, wanted: str) -> int:
    found = number(text)
    if found is None or found < least:
        raise argparse.ArgumentTypeError(f"{shown(text)} is not {wanted} of at most 64 bits. Give one, such as 8.")
    return found
