"""A model of one layer: what a layer of some shape, or its replacement, takes in a file and in time."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgefc.plan.configurations import Configuration
from edgefc.rewriting.constants import attribute
from edgefc.rewriting.deciding import decided
from edgefc.rewriting.editing import Editor
from edgefc.rewriting.finding import TABLE, Place, find
from edgefc.rewriting.fits import New, fitted, put
from edgefc.rewriting.functions import Functions
from edgefc.rewriting.moments import Statistics
from edgefc.rewriting.products import product_of
from edgefc.rewriting.reading import OPSETS
from edgefc.rewriting.site import Stores

_IR_VERSION = 10


@dataclass(frozen=True)
class Layer:
    """A product with a weight, or a table.

    Attributes:
        op        MatMul, Gemm or Gather
        shape     of the weight as the node reads it
        turned    whether a Gemm reads the weight as (outputs, inputs)
        bias      whether a constant vector is added
        dtype     of the weight, an ir.DataType
    """

    op: str
    shape: tuple[int, int]
    turned: bool = False
    bias: bool = True
    dtype: ir.DataType = ir.DataType.FLOAT

    @classmethod
    def of(cls, place: Place) -> "Layer":
        """The layer at a place that can be replaced by a fitted one."""
        rows, columns = place.shape
        if place.kind == TABLE:
            return cls("Gather", (rows, columns), bias=False, dtype=place.dtype)
        turned = place.node.op_type == "Gemm" and bool(attribute(place.node, "transB", 0))
        bias = product_of(place).bias is not None
        return cls(place.node.op_type, (rows, columns), turned, bias, place.dtype)

    def model(self, rows: int, to: Configuration | None = None) -> ir.Model:
        """A model of this layer for `rows` vectors, or look-ups of a table. Its weights are random.

        Args:
            to: what the layer becomes; None: it stays.

        Raises:
            UsageError: the configuration does not serve the layer.
        """
        model = self._plain(rows)
        if to is not None:
            _replace(model, to)
        return model

    def added_bytes(self, to: Configuration, new: New) -> int:
        """The bytes that a file has more if this layer becomes a fitted one, without functions."""
        plain = self._plain(1, random=False)
        before = _size(plain)
        _replace(plain, to, new, defined=False)
        return _size(plain) - before

    def _plain(self, rows: int, *, random: bool = True) -> ir.Model:
        dtype, scale = self.dtype, np.float32(np.sqrt(self.shape[0]))
        weight = np.zeros(self.shape, np.float32)
        if random:
            weight = np.random.default_rng(0).standard_normal(self.shape, np.float32) / scale
        inputs, outputs = reversed(self.shape) if self.turned else self.shape
        values = [_value("w", ir.Tensor(weight.astype(dtype.numpy()), dtype=dtype, name="w"))]
        attributes = dict[str, int]()
        x, given = ir.Value(name="x", shape=ir.Shape([rows, inputs]), type=ir.TensorType(dtype)), list[ir.Value]()
        if self.op == "Gather":
            x.shape, x.type, given = ir.Shape([rows]), ir.TensorType(ir.DataType.INT64), [values[0], x]
        else:
            given = [x, values[0]]
        if self.bias:
            values.append(_value("bias", ir.Tensor(np.zeros(outputs, dtype.numpy()), dtype=dtype, name="bias")))
        if self.op == "Gemm":
            attributes, given = {"transB": int(self.turned)}, [*given, *values[1:]]
        nodes = [ir.node(self.op, given, attributes, name="layer")]
        if self.bias and self.op == "MatMul":
            nodes.append(ir.node("Add", [nodes[0].outputs[0], values[1]], name="add"))
        y = nodes[-1].outputs[0]
        y.name, y.type, y.shape = "y", ir.TensorType(dtype), ir.Shape([rows, outputs])
        opset = {"": OPSETS[0]}
        graph = ir.Graph([x], [y], nodes=nodes, initializers=values, opset_imports=opset, name="layer")
        return ir.Model(graph, ir_version=_IR_VERSION)


def _replace(model: ir.Model, to: Configuration, new: New | None = None, *, defined: bool = True) -> None:
    """Replaces the layer of a model of one layer. Without a fit, its own weights are fitted."""
    decision = decided(find(model), to)
    made = fitted(decision, [0], Statistics(), 0) if new is None else new
    edit = Editor(model)
    put(decision, made, edit, Stores(edit, Functions(model, defined=defined)))
    RemoveUnusedNodesPass()(model)


def _value(name: str, tensor: ir.Tensor[Any]) -> ir.Value:
    return ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)


def _size(model: ir.Model) -> int:
    """The bytes of the file, without its functions."""
    return int(ir.to_proto(model.graph).ByteSize())
