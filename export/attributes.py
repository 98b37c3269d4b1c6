"""The attributes of edgefc nodes in a file that is read: checked by the rules of edgefc/attributes.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgefc.attributes import fault
from edgefc.errors import ModelError
from edgefc.layers.facts import DOMAIN_VERSION

_DOMAIN = "edgefc"
_TYPES = onnx.AttributeProto
_FIELDS = {_TYPES.FLOAT: "f", _TYPES.INT: "i", _TYPES.STRING: "s", _TYPES.FLOATS: "floats", _TYPES.INTS: "ints"}


def values(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes by name: int, float, str or a list of numbers; None for a value of any other type."""
    return {_text(each.name): _value(each) for each in node.attribute if not each.ref_attr_name}


def check(node: onnx.NodeProto, shapes: Mapping[int, Sequence[int | None]] | None = None) -> None:
    """Check one node.

    Args:
        shapes: of the inputs whose shapes the file gives, by their place; None for an axis that it leaves open.

    Raises:
        ModelError: an attribute is not what a layer has. The sentence names the node, the attribute and its value.
    """
    said = fault(node.op_type, values(node), shapes or {})
    if said is not None:
        raise ModelError(f"node {node.name!r}, an {_DOMAIN}::{node.op_type}, {said}. Export the model again.")


def check_file(file: Path) -> None:
    """Check every node of the main graph, before onnxruntime computes with what they hold.

    Raises:
        ModelError: as check().
    """
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception:  # of many classes; onnxruntime says what is wrong with the file
        return
    if any(each.domain == _DOMAIN and each.version != DOMAIN_VERSION for each in model.opset_import):
        return
    known = _shapes(model.graph)
    for node in model.graph.node:
        if node.domain == _DOMAIN:
            shapes = {place: known[name] for place, name in enumerate(node.input) if name in known}
            try:
                check(node, shapes)
            except ModelError as error:
                raise ModelError(f"cannot load {file.name}: {error}") from None


def _shapes(graph: onnx.GraphProto) -> dict[str, Sequence[int | None]]:
    """Of stored weights, and of the inputs of the graph."""
    found: dict[str, Sequence[int | None]] = {
        port.name: [axis.dim_value if axis.HasField("dim_value") else None for axis in port.type.tensor_type.shape.dim]
        for port in graph.input
        if port.type.tensor_type.HasField("shape")
    }
    return found | {tensor.name: list(tensor.dims) for tensor in graph.initializer}


def _value(attribute: onnx.AttributeProto) -> Any:
    field = _FIELDS.get(attribute.type)
    value = None if field is None else getattr(attribute, field)
    if isinstance(value, bytes):
        return _text(value)
    return value if value is None or isinstance(value, (int, float)) else list(value)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
