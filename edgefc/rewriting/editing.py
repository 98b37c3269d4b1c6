"""Changes graphs: adds initializers and nodes with free names, and replaces values.

onnxscript's rewriter is not used. It matches patterns, but the nodes to replace are already known, by the names in the
plan. It stores new initializers in the graph of the replaced node, where other branches cannot share them, and it
overwrites an initializer with the same name.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.convenience import convert_attributes

from edgefc.rewriting.constants import Array


class Editor:
    """Edits one model. Names of new values and nodes differ from all names in the model."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self._names = set(_names(model))

    def free(self, name: str) -> str:
        """A name that no value and no node has: the given one, or one with a number."""
        for number in itertools.count():
            chosen = f"{name}.{number}" if number else name
            if chosen not in self._names:
                self._names.add(chosen)
                return chosen
        raise AssertionError

    def initializer(self, graph: ir.Graph, name: str, array: Array, dtype: ir.DataType | None = None) -> ir.Value:
        """Stores an array in a graph."""
        free = self.free(name)
        tensor = ir.Tensor(array, dtype=dtype, name=free)
        value = ir.Value(name=free, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
        graph.register_initializer(value)
        return value

    def node(
        self,
        graph: ir.Graph,
        op: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        *,
        domain: str = "",
        before: ir.Node | None = None,
        after: ir.Node | None = None,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> ir.Value:
        """Adds a node with one output, before or after another node, or at the start. Returns the output."""
        label = self.free(name or op)
        made = ir.Node(
            domain, op, inputs, convert_attributes(attributes or {}), name=label, metadata_props=dict(metadata or {})
        )
        made.outputs[0].name = self.free(f"{label}.y")
        if before is not None:
            graph.insert_before(before, made)
        elif after is not None:
            graph.insert_after(after, made)
        else:
            self._insert_first(graph, made)
        return made.outputs[0]

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Lets all uses of a value read a new one. A graph output keeps its name."""
        if new.type is None:
            new.type = old.type
        if new.shape is None:
            new.shape = old.shape
        if old.is_graph_output():
            name, old.name = old.name, self.free(f"{old.name}.old")
            new.name = name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)

    def _insert_first(self, graph: ir.Graph, node: ir.Node) -> None:
        """Inserts a node of constants: after those that it reads, before all others."""
        producers = [value.producer() for value in node.inputs if value is not None]
        own = [each for each in producers if each is not None and each.graph is graph]
        last = max(own, key=graph.index) if len(own) > 1 else next(iter(own), None)
        if last is not None:
            graph.insert_after(last, node)
        elif len(graph):
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)


def _names(model: ir.Model) -> set[str]:
    names: set[str | None] = set()
    for graph in model.graphs():
        names.update(value.name for value in (*graph.inputs, *graph.initializers.values()))
        for node in graph:
            names.add(node.name)
            names.update(value.name for value in node.outputs)
    return {name for name in names if name}
