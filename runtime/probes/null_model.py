"""The null model: one Identity on four floats. Its time and memory are those of onnxruntime and the harness.

This file encodes it without the onnx package, which a board does not have. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); a field is a key (number * 8 + wire type), then a varint
(wire type 0) or a length and that many bytes (wire type 2). Every number here is below 128, so one byte holds it.
"""

from __future__ import annotations

_IR_VERSION, _OPSET = 8, 18  # onnxruntime supports both since 1.14
_FLOAT = 1


def null_model() -> bytes:
    """A serialised ModelProto: y = Identity(x), x and y float32 of shape (batch, 4)."""
    node = _text(1, "x") + _text(2, "y") + _text(4, "Identity")
    graph = _bytes(1, node) + _text(2, "null") + _bytes(11, _value("x")) + _bytes(12, _value("y"))
    return _int(1, _IR_VERSION) + _bytes(7, graph) + _bytes(8, _int(2, _OPSET))


def _value(name: str) -> bytes:
    """ValueInfoProto > TypeProto > Tensor > TensorShapeProto > Dimension."""
    shape = _bytes(1, _text(2, "batch")) + _bytes(1, _int(1, 4))
    return _text(1, name) + _bytes(2, _bytes(1, _int(1, _FLOAT) + _bytes(2, shape)))


def _int(field: int, value: int) -> bytes:
    return bytes([field << 3, value])


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2, len(value)]) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())
