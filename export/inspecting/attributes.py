"""Reads the attributes of edgefc nodes and checks them by the rules of edgefc/attributes.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from edgefc.attributes import fault, repeated
from edgefc.errors import ModelError

_DOMAIN = "edgefc"
_TYPES = onnx.AttributeProto
_FIELDS = {_TYPES.FLOAT: "f", _TYPES.INT: "i", _TYPES.STRING: "s", _TYPES.FLOATS: "floats", _TYPES.INTS: "ints"}


def values(node: onnx.NodeProto) -> dict[str, Any]:
    """Returns the attributes by name: int, float, str or a list of numbers. Other types become None."""
    return {_text(each.name): _value(each) for each in node.attribute if not each.ref_attr_name}


def check(node: onnx.NodeProto, shapes: Mapping[int, Sequence[int | None]] | None = None) -> None:
    """Checks the attributes of one node.

    Args:
        shapes: the shapes of inputs, by index, as far as the file contains them. None is a dynamic axis.

    Raises:
        ModelError: an attribute is invalid. The message names the node, the attribute and its value.
    """
    problem = repeated(_text(each.name) for each in node.attribute) or fault(node.op_type, values(node), shapes or {})
    if problem is not None:
        raise ModelError(f"node {node.name!r}, an {_DOMAIN}::{node.op_type}, {problem}. Export the model again.")


def _value(attribute: onnx.AttributeProto) -> Any:
    field = _FIELDS.get(attribute.type)
    value = None if field is None else getattr(attribute, field)
    if isinstance(value, bytes):
        return _text(value)
    return value if value is None or isinstance(value, (int, float)) else list(value)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
