"""Valid values of the attributes of edgefc nodes, for version 1 of the domain.

Code that reads a file checks the attributes first. A name has the same meaning in every operator, so each name has one
rule:

    sizes      1 to 2**31 - 1, the range that the native kernels can index
    flags      0 or 1
    seeds      any 64-bit integer
    lists      one entry per axis, each within bounds

An attribute that is not listed here belongs to a later release and is not checked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from edgefc.errors import shortened

LARGEST = 2**31 - 1
_MOST_LEVELS = 256
_FORMS = 3  # variants of the convolution in BilinearConv2d

CODE_BITS = (1, 2, 4, 8)

ACTIVATIONS = ("identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus", "sin")
"""Element-wise functions. A file stores a function as its index in this list: append, never reorder."""

MAX_ORDER = 32
"""The highest order of EUGen: the exported body doubles the running product five times. The paper uses up to 5."""

Rule = Callable[[Any], "str | None"]
"""Maps a value to a description of the valid values, or to None if the value is valid."""


def _whole(least: int, most: int) -> Rule:
    def check(value: Any) -> str | None:
        right = isinstance(value, int) and least <= value <= most
        return None if right else f"a whole number from {least} to {most}"

    return check


def _wholes(count: int, least: int) -> Rule:
    def check(value: Any) -> str | None:
        right = _is_list(value, int) and len(value) == count and all(least <= each <= LARGEST for each in value)
        return None if right else f"{count} whole numbers from {least} to {LARGEST}"

    return check


def _bits(value: Any) -> str | None:
    return None if isinstance(value, int) and value in CODE_BITS else "1, 2, 4 or 8"


def _levels(value: Any) -> str | None:
    right = _is_list(value, float) and 2 <= len(value) <= _MOST_LEVELS and all(map(math.isfinite, value))
    return None if right else f"2 to {_MOST_LEVELS} finite numbers"


def _epsilon(value: Any) -> str | None:
    right = isinstance(value, float) and math.isfinite(value) and value >= 0
    return None if right else "a number from 0"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "a string"


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(each, kind) for each in value)


_SIZES = (
    "in_features", "out_features", "features", "block", "tile", "period", "input_size", "hidden_size", "in_channels",
    "out_channels", "d_model", "d_hidden", "num_embeddings", "embedding_dim", "channels", "width", "terms", "high",
    "low", "blocks_in", "blocks_out", "pairs", "early",
)  # fmt: skip
_FLAGS = ("shared", "norm", "one", "left_first", "same_upper", "hard_sigmoid", "spectral", "transB")
_SEED = _whole(-(2**63), 2**63 - 1)

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_SIZES, _whole(1, LARGEST)),
    **dict.fromkeys(_FLAGS, _whole(0, 1)),
    **dict.fromkeys(("seed", "sign_seed"), _SEED),
    **dict.fromkeys(("epsilon_in", "epsilon_out"), _epsilon),
    **dict.fromkeys(("kernel_shape", "strides", "dilations", "in_factors", "out_factors"), _wholes(2, 1)),
    "pads": _wholes(4, 0),
    "padding_idx": _whole(-1, LARGEST),
    "order": _whole(1, MAX_ORDER),
    "activation": _whole(0, len(ACTIVATIONS) - 1),
    "form": _whole(0, _FORMS - 1),
    "bits": _bits,
    "codebook": _levels,
    "distribution": _text,
}

# The axes of inputs, by input index. None marks an axis whose size is not given by a single attribute.
_FEATURES = (..., "in_features")  # an input of any rank
_LINEAR: Mapping[int, Sequence[Any]] = {0: _FEATURES, 1: ("in_features",), 2: ("out_features",), 3: ("out_features",)}
_AXES: Mapping[str, Mapping[int, Sequence[Any]]] = {
    "PRPLinear": _LINEAR,
    "PRPHadamardLinear": _LINEAR,
    "PRPStoredLinear": {0: _FEATURES, 1: ("out_features", "in_features")},
    "PRPEmbedding": {1: ("num_embeddings",), 2: ("embedding_dim",)},
    "CirculantLinear": {0: _FEATURES, 1: (None, None, "block"), 2: ("out_features",)},
    "CirculantConv2d": {1: (None, None, "block", None, None), 2: ("out_channels",)},
    "CirculantLSTM": {1: (None, None, None, "block")},
    "EUGenLinear": {0: _FEATURES, 1: ("out_features", None), 2: ("out_features",)},
    "EUGenStoredLinear": {0: _FEATURES, 1: ("features", None), 2: ("out_features", None)},
    "BilinearLinear": {0: _FEATURES, 1: ("terms", None, None), 3: ("out_features",)},
    "TiedProjection": {0: _FEATURES},
    "TiedFFN": {0: (..., "d_model"), 1: ("d_hidden", "d_model"), 2: ("d_hidden",), 3: ("d_model",)},
}


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
        wanted = RULES[name](value) if name in RULES else None
        if wanted is not None:
            return f"has {name} {shown(value)}, which must be {wanted}"
    return _codes_fault(attributes) or _axes_fault(op, attributes, shapes)


def repeated(names: Iterable[str]) -> str | None:
    """Describe an attribute that occurs several times in a node, which ONNX does not allow; None if there is no such
    attribute. The description is the end of a sentence."""
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
    for place, axes in _AXES.get(op, {}).items():
        shape = shapes.get(place)
        if shape is None:
            continue
        sizes, names = (list(shape)[-1:], axes[1:]) if axes[0] is ... else (list(shape), axes)
        for name, size in zip(names, sizes):
            if name in attributes and (len(sizes) != len(names) or size not in (None, attributes[name])):
                return f"has {name} {attributes[name]}, which does not fit its input {place} of shape {list(shape)}"
    return None
