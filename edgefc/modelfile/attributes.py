"""Check the attributes of edgefc nodes before onnxruntime uses them. Some invalid values make it allocate all memory.

Field numbers of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto):

    ModelProto           graph 7, opset_import 8, functions 25
    OperatorSetIdProto   domain 1, version 2
    FunctionProto        name 1, attribute 6, domain 10
    GraphProto           node 1, initializer 5, input 11
    NodeProto            input 1, name 3, op_type 4, attribute 5, domain 7
    AttributeProto       name 1, f 2, i 3, s 4, floats 7, ints 8, type 20, ref_attr_name 21
    TensorProto          dims 1, name 8
    ValueInfoProto       name 1, type 2 > tensor_type 1 > shape 2 > dim 1 > dim_value 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgefc.attributes import fault, repeated
from edgefc.errors import ModelError
from edgefc.modelfile.protobuf import Malformed, Message, Source, fields, floats, inside, opened, strings, varints

_LONGEST = 1 << 16  # bytes of one attribute: a codebook has at most 256 numbers
_FLOAT, _INT, _STRING, _FLOATS, _INTS = 1, 2, 3, 6, 7  # AttributeProto.AttributeType
_REFERENCE = object()  # the value of an attribute that refers to an attribute of the enclosing function


def check_attributes(path: Path, domain: str, version: int) -> None:
    """Check the nodes of the main graph. A file with another version of the domain is not checked.

    Raises:
        ModelError: an attribute of a node is missing, repeated or invalid. The message names the node, the attribute
            and its value.
    """
    with opened(path) as source:
        try:
            error = next(_errors(source, domain, version), None)
        except Malformed:  # not a protobuf message, such as an .ort file; onnxruntime reports the error
            return
    if error is not None:
        raise ModelError(f"cannot load {path}: {error}. Export it again.")


def _errors(source: Source, domain: str, version: int) -> Iterator[str]:
    for imported in inside(source, source.whole, 8):
        if _text(source, imported, 1) == domain and [0, *varints(source, imported, 2)][-1] != version:
            return
    needed = dict(_needed(source, domain))
    for graph in inside(source, source.whole, 7):
        marked = (node for node in inside(source, graph, 1) if source.has(domain.encode(), *node[0]))
        nodes = [node for node in marked if _text(source, node, 7) == domain]
        shapes = _shapes(source, graph) if nodes else {}
        for node in nodes:
            op, inputs = _text(source, node, 4), _texts(source, node, 1)
            known_shapes = {index: shapes[name] for index, name in enumerate(inputs) if name in shapes}
            pairs = [_attribute(source, each) for each in inside(source, node, 5)]
            attributes = dict(pairs)
            known = {name: value for name, value in attributes.items() if value is not _REFERENCE}
            missing = [name for name in needed.get(op, []) if name not in attributes]
            error = repeated(name for name, _ in pairs) or fault(op, known, known_shapes, missing)
            if error is not None:
                yield f"its node {_text(source, node, 3)!r}, an {domain}::{op}, {error}"


def _needed(source: Source, domain: str) -> Iterator[tuple[str, list[str]]]:
    """Each function of the domain, and the required attributes of its nodes."""
    for function in inside(source, source.whole, 25):
        texts: dict[int, list[str]] = {1: [""], 6: [], 10: [""]}
        for number, start, end, value in fields(source, function):  # one pass: a function may have hundreds of nodes
            if number in texts and value < 0:
                texts[number].append(source.text(start, end))
        if texts[10][-1] == domain:
            yield texts[1][-1], texts[6]


def _shapes(source: Source, graph: Message) -> Mapping[str, Sequence[int | None]]:
    """The shapes of initializers and of graph inputs, by name."""
    shapes: dict[str, Sequence[int | None]] = {}
    for tensor in inside(source, graph, 11):
        for shape in inside(source, tensor, 2, 1, 2):
            sizes = [next(varints(source, axis, 1), None) for axis in inside(source, shape, 1)]
            shapes[_text(source, tensor, 1)] = sizes
    return shapes | {_text(source, each, 8): list(varints(source, each, 1)) for each in inside(source, graph, 5)}


def _attribute(source: Source, message: Message) -> tuple[str, Any]:
    """The name and the value. The value is None if no attribute of an edgefc node has its type."""
    if sum(end - start for start, end in message) > _LONGEST:
        return _text(source, message, 1), None
    texts = strings(source, message, 1, 4, 21)
    name = texts.get(1, b"").decode(errors="replace")
    if texts.get(21):
        return name, _REFERENCE
    kind = [0, *varints(source, message, 20)][-1]
    if kind == _STRING:
        return name, texts.get(4, b"").decode(errors="replace")
    if kind == _INT:
        return name, _signed([0, *varints(source, message, 3)][-1])
    if kind == _INTS:
        return name, list(map(_signed, varints(source, message, 8)))
    if kind in (_FLOAT, _FLOATS):
        values = list(floats(source, message, 2 if kind == _FLOAT else 7))
        return name, [0.0, *values][-1] if kind == _FLOAT else values
    return name, None


def _texts(source: Source, message: Message, number: int) -> list[str]:
    return [_decoded(source, each) for each in inside(source, message, number)]


def _text(source: Source, message: Message, number: int) -> str:
    """The last value of a field."""
    return strings(source, message, number).get(number, b"").decode(errors="replace")


def _decoded(source: Source, span: Message) -> str:
    return b"".join(source.read(start, end) for start, end in span).decode(errors="replace")


def _signed(value: int) -> int:
    return value - (value >> 63 << 64)
