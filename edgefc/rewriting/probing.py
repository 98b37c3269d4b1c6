"""Adds inner values of a model to its outputs.

A value in a branch of If becomes an output of the If: the other branch gets an empty tensor. In the body of a Loop or
Scan the value has another shape in each step, which an output cannot have.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgefc.rewriting.constants import FLOATS
from edgefc.rewriting.editing import Editor


@dataclass(frozen=True)
class Owner:
    """The node that has a graph as the attribute `name`."""

    node: ir.Node
    name: str


class Prober:
    """Adds outputs to one model, which is changed in place."""

    def __init__(self, model: ir.Model) -> None:
        self._model, self._edit = model, Editor(model)
        self._owners = _owners(model)

    def output(self, value: ir.Value, graph: ir.Graph, dtype: ir.DataType) -> str | None:
        """Makes a value an output and returns the name of the output, or None in a Loop or Scan.

        Args:
            graph: the graph that uses the value. If it is a branch that does not run, the output is empty.
            dtype: the type of the value; 16-bit floats are returned as float32, and integers as int64.
        """
        wide = dtype if dtype == ir.DataType.DOUBLE else ir.DataType.FLOAT if dtype in FLOATS else ir.DataType.INT64
        owners = self._around(graph)
        if owners is None:
            return None
        for owner in owners:
            for name in ("then_branch", "else_branch"):
                branch = owner.node.attributes[name].value
                inner = self._cast(branch, value, wide) if name == owner.name else self._empty(branch, wide)
                branch.outputs.append(inner)
            owner.node.resize_outputs(len(owner.node.outputs) + 1)
            value = owner.node.outputs[-1]
            value.name, value.type = self._edit.free("edgefc.probe"), ir.TensorType(wide)
        result = self._cast(self._model.graph, value, wide)
        self._model.graph.outputs.append(result)
        return result.name

    def _around(self, graph: Any) -> list[Owner] | None:
        """The Ifs around a graph, innermost first; None if it is in another node."""
        owners = []
        while graph is not self._model.graph:
            owner = self._owners.get(id(graph))
            if owner is None or owner.node.op_type != "If":
                return None
            owners.append(owner)
            graph = owner.node.graph
        return owners

    def _cast(self, graph: ir.Graph, value: ir.Value, wide: ir.DataType) -> ir.Value:
        node = ir.node("Cast", [value], {"to": wide}, name=self._edit.free("edgefc.probe"))
        return self._finish(graph, node, wide)

    def _empty(self, graph: ir.Graph, wide: ir.DataType) -> ir.Value:
        none = ir.tensor(np.zeros(0, wide.numpy()))
        return self._finish(graph, ir.node("Constant", [], {"value": none}, name=self._edit.free("edgefc.probe")), wide)

    def _finish(self, graph: ir.Graph, node: ir.Node, wide: ir.DataType) -> ir.Value:
        graph.append(node)
        result = node.outputs[0]
        result.name, result.type = self._edit.free("edgefc.probe"), ir.TensorType(wide)
        return result


def _owners(model: ir.Model) -> dict[int, Owner]:
    owners: dict[int, Owner] = {}
    for node in model.graph.all_nodes():
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.GRAPH:
                owners[id(attribute.value)] = Owner(node, name)
            elif attribute.type == ir.AttributeType.GRAPHS:
                owners.update({id(graph): Owner(node, name) for graph in attribute.value})
    return owners
