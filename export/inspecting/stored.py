"""Collects every tensor that an .onnx file stores, with its number of values, its bytes and the nodes that use it.

Weights are dense and sparse initializers, tensors in attributes of nodes, and the lists of floats of ai.onnx.ml. They
are collected at any depth, since the bodies of If, Loop and local functions also contain weights.
"""

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from edgefc.errors import shortened
from edgefc.modelfile.places import BITS, Folder

# Operators that pass a weight on in another form, without computing with it.
_PASSING = {"DequantizeLinear", "QuantizeLinear", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast",
            "CastLike", "Identity", "Slice", "Split", "Concat"}  # fmt: skip
_LONGEST_SHAPE = 255  # axes; numpy supports 64
_MOST_USES = 2_000_000  # uses of weights by nodes; a small malicious file can have any number through _PASSING nodes

EDGEFC = "edgefc"
"""The domain of the structured layers. edgefc.export.building.body needs onnx-ir, this module does not."""


@dataclass(frozen=True)
class Use:
    """One input of a node that receives a weight. `function` is the name of the local function with the node."""

    node: NodeProto
    index: int
    function: str
    as_data: bool  # False if it is the scale or the shape of another weight


@dataclass
class Weight:
    """One tensor. `numbers` counts its values. `bytes` is its size in the .onnx file or the external data file."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    numbers: int
    bytes: int
    uses: list[Use] = field(default_factory=list)


Scope = ChainMap[str, list[tuple[Weight, bool]]]  # the weights behind a name, and whether they are data


class Reader:
    """Collects the weights of one model.

    Raises:
        ValueError: onnxruntime would not read a weight from its location, or its size does not match its shape.
    """

    def __init__(self, model: onnx.ModelProto, file: Path) -> None:
        self.weights: list[Weight] = []
        self.edgefc_nodes: list[NodeProto] = []
        self._folder, self._function, self._uses = Folder(file), "", 0
        self._graph(model.graph, ChainMap())
        for function in model.functions:
            self._function = f"{text(function.domain)}::{text(function.name)}"
            self._nodes(function.node, ChainMap())
            for attribute in function.attribute_proto:
                self._attribute(attribute, None)

    def _graph(self, graph: GraphProto, outer: Scope) -> None:
        scope = outer.new_child()
        for tensor in graph.initializer:
            scope[tensor.name] = [(self._dense(tensor), True)]
        for sparse in graph.sparse_initializer:
            scope[sparse.values.name] = [(self._sparse(sparse), True)]
        self._nodes(graph.node, scope)

    def _nodes(self, nodes: Iterable[NodeProto], scope: Scope) -> None:
        for node in nodes:
            node.name, node.op_type, node.domain = map(text, (node.name, node.op_type, node.domain))
            if node.domain == EDGEFC and not self._function:
                self.edgefc_nodes.append(node)
            constant = node.op_type == "Constant" and not node.domain
            made = [weight for attribute in node.attribute for weight in self._attribute(attribute, node, constant)]
            if constant:
                scope[node.output[0] if node.output else ""] = [(weight, True) for weight in made]
            else:
                self._use(node, scope)
            for graph in _graphs(node):
                self._graph(graph, scope)

    def _use(self, node: NodeProto, scope: Scope) -> None:
        passing = passes_on(node) and all(name in scope for name in node.input if name)
        reached: dict[tuple[int, bool], tuple[Weight, bool]] = {}
        for index, name in enumerate(node.input):
            for weight, as_data in scope.get(name, []):
                if passing:
                    passed = as_data and (index == 0 or node.op_type == "Concat")
                    reached[id(weight), passed] = (weight, passed)
                weight.uses.append(Use(node, index, self._function, as_data))
                self._uses += 1
                if self._uses > _MOST_USES:
                    raise ValueError(f"its nodes use its weights more than {_MOST_USES:,} times")
        if passing:
            passed_on = list(reached.values())
            scope.update((name, passed_on) for name in node.output)

    def _attribute(self, attribute: AttributeProto, node: NodeProto | None, constant: bool = False) -> list[Weight]:
        """Returns the weights in an attribute."""
        made = [self._dense(tensor) for tensor in _tensors(attribute)]
        made += [self._sparse(sparse) for sparse in _sparse(attribute)]
        if constant or (node is not None and node.domain == "ai.onnx.ml"):
            made += [self._add(weight) for weight in _listed(attribute, constant)]
        if node is not None and not constant:
            for weight in made:
                weight.uses.append(Use(node, -1, self._function, True))
        return made

    def _dense(self, tensor: TensorProto) -> Weight:
        shape, numbers = _shape(tensor.dims, tensor.name)
        if tensor.data_location == TensorProto.EXTERNAL:
            stored = _beside(self._folder, tensor, numbers)
        else:
            stored = _stored(tensor, numbers)
        return self._add(Weight(text(tensor.name), tensor.data_type, shape, numbers, stored))

    def _sparse(self, sparse: SparseTensorProto) -> Weight:
        """Adds a sparse weight. `numbers` counts the stored values, and `bytes` includes values and indices."""
        name = sparse.values.name
        shape, _ = _shape(sparse.dims, name)
        (_, values), (_, indices) = _shape(sparse.values.dims, name), _shape(sparse.indices.dims, name)
        stored = _stored(sparse.values, values) + _stored(sparse.indices, indices)
        return self._add(Weight(text(name), sparse.values.data_type, shape, values, stored))

    def _add(self, weight: Weight) -> Weight:
        self.weights.append(weight)
        return weight


def text(value: str | bytes) -> str:
    """Decodes a string of the file. protobuf returns strings that are not UTF-8 as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def metadata(node: NodeProto) -> Mapping[str, str]:
    return {text(entry.key): text(entry.value) for entry in node.metadata_props}


def passes_on(node: NodeProto) -> bool:
    """Whether a node only passes a weight on."""
    return node.op_type in _PASSING and not node.domain


def _shape(dims: Iterable[int], name: str | bytes) -> tuple[tuple[int, ...], int]:
    """Returns a shape and its number of elements."""
    shape = tuple(dims)
    if len(shape) > _LONGEST_SHAPE or any(size < 0 for size in shape):
        raise ValueError(f"tensor {text(name)!r} has the invalid shape {shortened(list(shape), 80)}")
    return shape, math.prod(shape)


def _beside(folder: Folder, tensor: TensorProto, numbers: int) -> int:
    """Returns the number of bytes of a tensor in an external file."""
    entries = [(_bytes(entry.key), _bytes(entry.value)) for entry in tensor.external_data]
    return folder.place(text(tensor.name), entries, _nominal(tensor, numbers)).length or 0


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _stored(tensor: TensorProto, numbers: int) -> int:
    """Returns the bytes of a tensor inside the file. Integers outside of raw_data have a variable length."""
    if tensor.HasField("raw_data"):
        if tensor.data_type == TensorProto.STRING:
            raise ValueError(f"tensor {tensor.name!r} stores strings as raw bytes, which ONNX forbids")
        if len(tensor.raw_data) != (expected := _nominal(tensor, numbers)):
            raise ValueError(
                f"tensor {tensor.name!r} of shape {list(tensor.dims)} has {len(tensor.raw_data)} bytes "
                f"and needs {expected}"
            )
        return len(tensor.raw_data)
    integers = (*tensor.int32_data, *tensor.int64_data, *tensor.uint64_data)
    entries = len(tensor.float_data) + len(tensor.double_data) + len(tensor.string_data) + len(integers)
    if entries != (needed := _entries(tensor, numbers)):
        raise ValueError(
            f"tensor {tensor.name!r} of shape {list(tensor.dims)} has {entries} entries and needs {needed}"
        )
    return (
        4 * len(tensor.float_data) + 8 * len(tensor.double_data) + sum(map(len, tensor.string_data))
        + sum(map(_varint_bytes, integers))
    )  # fmt: skip


def _entries(tensor: TensorProto, numbers: int) -> int:
    """Returns the number of entries of a tensor outside of raw_data.

    A complex value takes two entries, and several values of less than 8 bits share one.
    """
    each = max(8 // (_bits(tensor) or 8), 1)
    is_complex = tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
    return 2 * numbers if is_complex else -(-numbers // each)


def _nominal(tensor: TensorProto, numbers: int) -> int:
    return -(-numbers * _bits(tensor) // 8)


def _bits(tensor: TensorProto) -> int:
    """Returns the bits of one value, 0 for strings. Values below 8 bits are packed."""
    if tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        return 0
    if tensor.data_type not in BITS:
        raise ValueError(f"tensor {text(tensor.name)!r} has the unknown data type {tensor.data_type}")
    return BITS[tensor.data_type]


def _varint_bytes(value: int) -> int:
    return 10 if value < 0 else max(1, -(-value.bit_length() // 7))


def _listed(attribute: AttributeProto, constant: bool) -> Iterator[Weight]:
    """Yields values outside of tensors: those of a Constant, and the coefficients and trees of ai.onnx.ml."""
    floats, integers = list(attribute.floats), list(attribute.ints) if constant else []
    if attribute.type == AttributeProto.FLOAT and constant:
        floats.append(attribute.f)
    if attribute.type == AttributeProto.INT and constant:
        integers.append(attribute.i)
    if floats:
        yield Weight(attribute.name, TensorProto.FLOAT, (len(floats),), len(floats), 4 * len(floats))
    if integers:
        stored = sum(map(_varint_bytes, integers))
        yield Weight(attribute.name, TensorProto.INT64, (len(integers),), len(integers), stored)


def _tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors


def _sparse(attribute: AttributeProto) -> Iterator[SparseTensorProto]:
    if attribute.HasField("sparse_tensor"):
        yield attribute.sparse_tensor
    yield from attribute.sparse_tensors


def _graphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
