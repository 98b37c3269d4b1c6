"""Valid values of the attributes of edgefc nodes, for version 1 of the domain.

This module defines the rules, such as SIZE (1 to 2**31 - 1, the range of the native kernels), FLAG (0 or 1) and SEED
(any 64 bits). The operators in export/ops/ declare the rule of each attribute, and the attributes that give the sizes
of the axes of each input. This module reads the declarations from declarations.json. An attribute has the same rule in
every operator.

Attributes that no operator declares are not checked: they belong to a later release or to another package.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgefc import declared
from edgefc.errors import shortened

LARGEST = 2**31 - 1
_MOST_LEVELS = 256

CODE_BITS = (1, 2, 4, 8)

ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus", "sin")
"""Element-wise functions. A file stores a function as its index in this list: append, never reorder."""

MAX_ORDER = 32
"""The highest order of EUGen: the exported body doubles the running product five times. The paper uses up to 5."""


@dataclass(frozen=True)
class Rule:
    """The valid values of one attribute: a kind of value, and its bounds.

    whole (least, most)    an integer            wholes (count, least)  `count` integers from `least` to LARGEST
    bits                   1, 2, 4 or 8          levels                 2 to 256 finite numbers
    epsilon                a number >= 0         text                   a string
    """

    kind: str
    bounds: tuple[int, ...] = ()

    @property
    def wanted(self) -> str:
        """The valid values, for a message that ends in "which must be ..."."""
        if self.kind == "whole":
            return f"an integer from {self.bounds[0]} to {self.bounds[1]}"
        if self.kind == "wholes":
            return f"{self.bounds[0]} integers from {self.bounds[1]} to {LARGEST}"
        return _WANTED[self.kind]

    def holds(self, value: Any) -> bool:
        return _CHECKS[self.kind](value, *self.bounds)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and least <= value <= most


def _are_wholes(value: Any, count: int, least: int) -> bool:
    return _is_list(value, int) and len(value) == count and all(least <= each <= LARGEST for each in value)


def _is_bits(value: Any) -> bool:
    return isinstance(value, int) and value in CODE_BITS


def _are_levels(value: Any) -> bool:
    return _is_list(value, float) and 2 <= len(value) <= _MOST_LEVELS and all(map(math.isfinite, value))


def _is_epsilon(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, kind) for each in value)


_CHECKS: Mapping[str, Callable[..., bool]] = {
    "whole": _is_whole,
    "wholes": _are_wholes,
    "bits": _is_bits,
    "levels": _are_levels,
    "epsilon": _is_epsilon,
    "text": _is_text,
}
_WANTED = {
    "bits": "1, 2, 4 or 8",
    "levels": f"2 to {_MOST_LEVELS} finite numbers",
    "epsilon": "a finite number of at least 0",
    "text": "a string",
}


def whole(least: int, most: int) -> Rule:
    """An integer from least to most."""
    return Rule("whole", (least, most))


# The rules that operators declare their attributes with.
SIZE = whole(1, LARGEST)
FLAG = whole(0, 1)
SEED = whole(-(2**63), 2**63 - 1)  # any 64 bits
ORDER = whole(1, MAX_ORDER)
ACTIVATION = whole(0, len(ACTIVATIONS) - 1)
TOKEN_OR_NONE = whole(-1, LARGEST)
ELEMENT = whole(1, 26)  # a TensorProto.DataType
PAIR = Rule("wholes", (2, 1))
PADDING = Rule("wholes", (4, 0))
BITS, LEVELS, EPSILON, TEXT = Rule("bits"), Rule("levels"), Rule("epsilon"), Rule("text")


@functools.cache
def rules() -> Mapping[str, Rule]:
    """The rule of every attribute of edgefc's operators, by name."""
    found = {}
    for operator in declared.operators().values():
        for name, (kind, *bounds) in operator["attributes"].items():
            found[name] = Rule(kind, tuple(bounds))
    return found


def fault(
    op: str, attributes: Mapping[str, Any], shapes: Mapping[int, Sequence[int | None]], needed: Sequence[str] = ()
) -> str | None:
    """Describe the first error in the attributes of a node, or return None.

    The description is the end of a sentence, such as "has in_features -1, which must be ...".

    Args:
        attributes: values by name: int, float, str or a list of one of these. None for a value of any other type.
        shapes: shapes of the inputs that the file declares, by input index. None for an axis of unknown size.
        needed: names of the required attributes.
    """
    for name in needed:
        if name not in attributes:
            return f"has no attribute {name}"
    for name, value in attributes.items():
        rule = rules().get(name)
        if rule is not None and not rule.holds(value):
            return f"has {name} {shown(value)}, which must be {rule.wanted}"
    return _codes_fault(attributes) or _axes_fault(op, attributes, shapes)


def repeated(names: Iterable[str]) -> str | None:
    """Describe an attribute that occurs several times in a node, which ONNX does not allow, or return None.

    The description is the end of a sentence.
    """
    duplicate = next((name for name, count in Counter(names).items() if count > 1), None)
    return None if duplicate is None else f"has the attribute {shortened(duplicate, 80)!r} more than once"


def shown(value: Any) -> str:
    """Format a value for a message. A long value is replaced by its length."""
    if value is None:
        return "of another type"
    if isinstance(value, (str, list, tuple)) and len(value) > 8:
        return f"of {len(value)} {'characters' if isinstance(value, str) else 'entries'}"
    return repr(value)


def _codes_fault(attributes: Mapping[str, Any]) -> str | None:
    if not {"bits", "codebook"} <= attributes.keys():
        return None
    bits, levels = attributes["bits"], len(attributes["codebook"])
    return None if levels == 2**bits else f"has bits {bits} and a codebook of {levels} levels, which must be {2**bits}"


def _axes_fault(op: str, attributes: Mapping[str, Any], shapes: Mapping[int, Sequence[int | None]]) -> str | None:
    inputs = declared.operators().get(op, {"inputs": {}})["inputs"]
    for place, axes in enumerate(inputs.values()):
        shape = shapes.get(place)
        if shape is None or not axes:
            continue
        sizes, wanted = (list(shape)[-1:], axes[1:]) if axes[0] == "..." else (list(shape), axes)
        for names, size in zip(wanted, sizes):
            if names is None or not attributes.keys() >= set(names):
                continue
            if len(sizes) != len(wanted) or size not in (None, math.prod(attributes[name] for name in names)):
                values = " and ".join(f"{name} {attributes[name]}" for name in names)
                fits = "does not fit" if len(names) == 1 else "do not fit"
                return f"has {values}, which {fits} its input {place} of shape {list(shape)}"
    return None
