"""What an .onnx file stores: every tensor of every graph and function, its numbers and bytes, and the nodes with it.

Weights are initializers, dense or sparse, tensors in the attributes of nodes, and the lists of floats in which
ai.onnx.ml keeps them; at any depth, for the bodies of an If, a Loop or a local function hold weights as well.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, SparseTensorProto, TensorProto

from edgefc.external import is_inside

# What passes a weight on to the node that computes with it: the same numbers in another form.
_PASSING = {"DequantizeLinear", "QuantizeLinear", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast",
            "CastLike", "Identity", "Slice", "Split", "Concat"}  # fmt: skip
_BITS = {
    "UNDEFINED": 0, "STRING": 0, "DOUBLE": 64, "INT64": 64, "UINT64": 64, "COMPLEX64": 64, "COMPLEX128": 128,
    "FLOAT": 32, "INT32": 32, "UINT32": 32, "FLOAT16": 16, "BFLOAT16": 16, "INT16": 16, "UINT16": 16,
    "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2,
}  # fmt: skip
"""Of one number by TensorProto.DataType, 8 where it is left out. Those below 8 are packed."""


@dataclass(frozen=True)
class Use:
    """One input of a node that a weight reaches. `function` names the local function that the node is in."""

    node: NodeProto
    index: int
    function: str
    as_data: bool  # not as the scale or the shape of another weight


@dataclass
class Weight:
    """One tensor. `bytes` are those that it takes in the file or beside it; `location` is the file beside it."""

    name: str
    dtype: int
    shape: tuple[int, ...]
    numbers: int
    bytes: int
    location: str
    uses: list[Use] = field(default_factory=list)


Scope = dict[str, list[tuple[Weight, bool]]]  # what a name stands for; whether as data


class Reader:
    """Collects the weights of one model.

    Raises:
        ValueError: weights that are not there, lie outside the model's folder, or have another size than their shape.
    """

    def __init__(self, model: onnx.ModelProto, file: Path) -> None:
        self.weights: list[Weight] = []
        self.edgefc_nodes: list[NodeProto] = []
        self._file, self._function = file, ""
        self._graph(model.graph, {})
        for function in model.functions:
            self._function = f"{text(function.domain)}::{text(function.name)}"
            self._nodes(function.node, {})
            for attribute in function.attribute_proto:
                self._attribute(attribute, None)

    def _graph(self, graph: GraphProto, outer: Scope) -> None:
        scope = dict(outer)
        for tensor in graph.initializer:
            scope[tensor.name] = [(self._dense(tensor), True)]
        for sparse in graph.sparse_initializer:
            scope[sparse.values.name] = [(self._sparse(sparse), True)]
        self._nodes(graph.node, scope)

    def _nodes(self, nodes: Iterable[NodeProto], scope: Scope) -> None:
        for node in nodes:
            node.name, node.op_type, node.domain = map(text, (node.name, node.op_type, node.domain))
            if node.domain == "edgefc" and not self._function:
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
        reached: list[tuple[Weight, bool]] = []
        for index, name in enumerate(node.input):
            for weight, as_data in scope.get(name, []):
                if passing:
                    reached.append((weight, as_data and (index == 0 or node.op_type == "Concat")))
                weight.uses.append(Use(node, index, self._function, as_data))
        if passing:
            scope.update(dict.fromkeys(node.output, reached))

    def _attribute(self, attribute: AttributeProto, node: NodeProto | None, constant: bool = False) -> list[Weight]:
        """The weights that an attribute holds."""
        made = [self._dense(tensor) for tensor in _tensors(attribute)]
        made += [self._sparse(sparse) for sparse in _sparse(attribute)]
        if constant or (node is not None and node.domain == "ai.onnx.ml"):
            made += [self._add(weight) for weight in _listed(attribute, constant)]
        if node is not None and not constant:
            for weight in made:
                weight.uses.append(Use(node, -1, self._function, True))
        return made

    def _dense(self, tensor: TensorProto) -> Weight:
        shape = tuple(tensor.dims)
        numbers = math.prod(shape)
        if numbers < 0:
            raise ValueError(f"tensor {tensor.name!r} has the shape {list(shape)}")
        if tensor.data_location == TensorProto.EXTERNAL:
            location, stored = _beside(self._file, tensor, numbers)
        else:
            location, stored = "", _stored(tensor, numbers)
        return self._add(Weight(text(tensor.name), tensor.data_type, shape, numbers, stored, location))

    def _sparse(self, sparse: SparseTensorProto) -> Weight:
        """Its numbers are the values that are stored; its bytes those of values and indices."""
        values, indices = math.prod(sparse.values.dims), math.prod(sparse.indices.dims)
        stored = _stored(sparse.values, values) + _stored(sparse.indices, indices)
        shape = tuple(sparse.dims)
        return self._add(Weight(text(sparse.values.name), sparse.values.data_type, shape, values, stored, ""))

    def _add(self, weight: Weight) -> Weight:
        self.weights.append(weight)
        return weight


def text(value: str | bytes) -> str:
    """A string of a file. protobuf gives those that are not UTF-8 as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def metadata(node: NodeProto) -> Mapping[str, str]:
    return {text(entry.key): text(entry.value) for entry in node.metadata_props}


def passes_on(node: NodeProto) -> bool:
    """Whether a node computes nothing with a weight but hands it on."""
    return node.op_type in _PASSING and not node.domain


def _beside(file: Path, tensor: TensorProto, numbers: int) -> tuple[str, int]:
    """Where a tensor's bytes lie beside the model, and how many they are."""
    told = {text(entry.key): text(entry.value) for entry in tensor.external_data}
    location, name = told.get("location", ""), tensor.name
    if not is_inside(file, location):
        raise ValueError(f"its weights {location!r} lie outside its folder")
    place = file.parent / location
    if not place.is_file():
        raise ValueError(f"its weights file {location!r} is not there")
    expected = _nominal(tensor, numbers)
    start, stored = _whole(told.get("offset", "0"), name), _whole(told.get("length", str(expected)), name)
    if stored != expected:
        raise ValueError(f"tensor {name!r} of shape {list(tensor.dims)} has {stored} bytes and needs {expected}")
    if start + stored > place.stat().st_size:
        raise ValueError(f"tensor {name!r} ends behind the end of its weights file {location!r}")
    return location, stored


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"tensor {name!r} lies at {text[:40]!r} of its weights file")
    return int(text)


def _stored(tensor: TensorProto, numbers: int) -> int:
    """The bytes of a tensor inside the file; whole numbers that are not raw take as many as they need."""
    if tensor.HasField("raw_data"):
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
    """Of a tensor that is not raw: a complex number takes two, and numbers of few bits share one."""
    name = TensorProto.DataType.Name(tensor.data_type)
    each = max(8 // (_BITS.get(name, 8) or 8), 1)
    return 2 * numbers if name.startswith("COMPLEX") else -(-numbers // each)


def _nominal(tensor: TensorProto, numbers: int) -> int:
    return -(-numbers * _BITS.get(TensorProto.DataType.Name(tensor.data_type), 8) // 8)


def _varint_bytes(value: int) -> int:
    return 10 if value < 0 else max(1, -(-value.bit_length() // 7))


def _listed(attribute: AttributeProto, constant: bool) -> Iterator[Weight]:
    """Numbers outside of tensors: those of a Constant, and the coefficients and trees of ai.onnx.ml."""
    floats, integers = list(attribute.floats), list(attribute.ints) if constant else []
    if attribute.type == AttributeProto.FLOAT and constant:
        floats.append(attribute.f)
    if attribute.type == AttributeProto.INT and constant:
        integers.append(attribute.i)
    if floats:
        yield Weight(attribute.name, TensorProto.FLOAT, (len(floats),), len(floats), 4 * len(floats), "")
    if integers:
        stored = sum(map(_varint_bytes, integers))
        yield Weight(attribute.name, TensorProto.INT64, (len(integers),), len(integers), stored, "")


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
