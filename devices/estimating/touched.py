"""The bytes that an operator reads and writes. A look-up reads only the rows that it gathers, not its whole table.

An array is (type, shape). Type names are those of onnxruntime's profiler and TensorProto.
"""

import math
from collections.abc import Sequence

Array = tuple[str, list[int]]

VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Size", "Constant"}
"""Operators that move no data: in onnxruntime their output shares the memory of their input, or they read a shape."""

_LOOKUPS = {
    "Gather": (0,), "GatherElements": (0,), "GatherND": (0,), "Slice": (0,), "Compress": (0,),
    "EmbedLayerNormalization": (2, 3, 4), "QEmbedLayerNormalization": (2, 3, 4), "RotaryEmbedding": (1, 2, 3),
}  # fmt: skip
"""Inputs of which an operator reads at most as many elements as it writes, by input index."""

_BLOCKS = {"GatherBlockQuantized": (0, 2, 3)}
"""Inputs of which an operator reads only the rows that it writes, by input index: packed integers and their scales."""

_BITS = {
    "double": 64, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128, "float16": 16, "bfloat16": 16,
    "int16": 16, "uint16": 16, "bool": 8, "int8": 8, "uint8": 8, "int4": 4, "uint4": 4, "int4x2": 4, "uint4x2": 4,
    "int2": 2, "uint2": 2, "int2x4": 2, "uint2x4": 2, "float4e2m1": 4, "float4e2m1x2": 4, "undefined": 0,
}  # fmt: skip


def size(array: Array) -> int:
    """The size of an array in bytes. Types below 8 bits are packed."""
    return _bytes(math.prod(array[1]), array[0])


def read(op: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> list[int]:
    """The bytes that the operator reads of each input."""
    if op in VIEWS:
        return [0] * len(inputs)
    whole = [size(array) for array in inputs]
    if not outputs:
        return whole
    written = math.prod(outputs[0][1])
    for index in _LOOKUPS.get(op, ()):
        if index < len(whole):
            whole[index] = min(whole[index], _bytes(written, inputs[index][0]))
    for index in _BLOCKS.get(op, ()):
        if index < len(whole) and whole[index]:
            rows = math.prod(inputs[index][1][:-1])
            whole[index] = min(whole[index], -(-whole[index] * math.prod(outputs[0][1][:-1]) // max(rows, 1)))
    return whole


def written(op: str, outputs: Sequence[Array]) -> int:
    """The bytes that the operator writes."""
    return 0 if op in VIEWS else sum(map(size, outputs))


def _bytes(count: int, dtype: str) -> int:
    bits = 8 if dtype.lower().startswith("float8") else _BITS.get(dtype.lower(), 32)
    return -(-count * bits // 8)
