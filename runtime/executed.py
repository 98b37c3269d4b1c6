"""What onnxruntime executed: the events of its profiler, laid beside the graph that it optimised.

An event tells its node's name, the types and shapes of the inputs that were there, and those of its outputs. The graph
adds what an event lacks: the names of values, and the weights that onnxruntime packed at load, which are no inputs of
an event any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgefc.runtime.graph import Graph, Node, Tensor

Event = Mapping[str, Any]  # name, op, inputs and outputs: [{type: shape}, ...]
Scope = Mapping[str, tuple[str, Tensor]]  # by name, the weights that a node sees, each with a key of its own


def executed(graph: Graph, events: Sequence[Event]) -> list[dict[str, Any]]:
    """Of every node that ran, in order: name, op, inputs and outputs; a node in a Loop each time.

    An input is [value, weight, packed, type, shape]: the value's name ("" where an optional one is left out), a key
    that tells the weights of a model apart (null for no weight), and whether onnxruntime packed it at load. An output
    is [value, type, shape]. If, Loop and Scan themselves are left out, for the nodes inside of them are told.

    Raises:
        ValueError: the events are not those of the graph.
    """
    walk = _Walk(events)
    told = list(walk.graph(graph, {}, ""))
    if walk.at != len(events):
        raise ValueError(f"of {len(events)} events {len(events) - walk.at} belong to no node")
    return told


class _Walk:
    """Goes through events and nodes together: both stand in the order of execution."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.events, self.at = events, 0

    def graph(self, graph: Graph, outer: Scope, place: str) -> Iterator[dict[str, Any]]:
        scope = {**outer, **{name: (f"{place}{name}", tensor) for name, tensor in graph.weights.items()}}
        for index, node in enumerate(graph.nodes):
            if node.graphs:
                yield from self._bodies(node, scope, f"{place}{index}/")
            event = self._next(node)
            if not node.graphs:
                yield _told(node, scope, event)

    def _bodies(self, node: Node, scope: Scope, place: str) -> Iterator[dict[str, Any]]:
        """The events of a body, as often as it ran; the event of its own node follows them."""
        while not self._is_next(node):
            body = next((i for i, graph in enumerate(node.graphs) if self._starts(graph)), None)
            if body is None:
                raise ValueError(f"nothing that is in node {node.name!r} ran at event {self.at}")
            yield from self.graph(node.graphs[body], scope, f"{place}{body}/")

    def _starts(self, graph: Graph) -> bool:
        if not graph.nodes:
            return False
        first = graph.nodes[0]
        return self._is_next(first) or any(self._starts(inner) for inner in first.graphs)

    def _is_next(self, node: Node) -> bool:
        if self.at >= len(self.events):
            raise ValueError(f"node {node.name!r} has no event")
        event = self.events[self.at]
        named = event["name"] == node.name if node.name else re.fullmatch(rf"{node.op}_\d+", event["name"])
        return bool(named) and event["op"] == node.op

    def _next(self, node: Node) -> Event:
        if not self._is_next(node):
            raise ValueError(f"event {self.at} is not of node {node.name!r}")
        self.at += 1
        return self.events[self.at - 1]


def _told(node: Node, scope: Scope, event: Event) -> dict[str, Any]:
    return {
        "name": event["name"], "op": node.op, "inputs": list(_inputs(node, scope, event)),
        "outputs": list(_outputs(node, event)),
    }  # fmt: skip


def _inputs(node: Node, scope: Scope, event: Event) -> Iterator[list[Any]]:
    """The inputs of the node, in order; those of the event are the same but for the packed ones."""
    there = [(dtype, list(shape)) for each in event["inputs"] for dtype, shape in each.items()]
    missing = sum(1 for name in node.inputs if name) - len(there)
    for name in node.inputs:
        if not name:
            yield ["", None, False, "undefined", [0]]
            continue
        key, weight = scope.get(name, (None, None))
        packed = weight is not None and missing > 0 and not (there and _is(there[0], weight))
        missing -= packed
        if packed and weight is not None:
            yield [name, key, True, weight.dtype, list(weight.shape)]
        elif there:
            yield [name, key, False, *there.pop(0)]


def _is(array: tuple[str, list[int]], weight: Tensor) -> bool:
    return array[1] == list(weight.shape)


def _outputs(node: Node, event: Event) -> Iterator[list[Any]]:
    """Named where every output of the node was made; an event does not tell which of several is left out."""
    names = [name for name in node.outputs if name]
    there = [(dtype, list(shape)) for each in event["outputs"] for dtype, shape in each.items()]
    padded = names if len(names) == len(there) else [*names, *[""] * len(there)]
    for name, (dtype, shape) in zip(padded, there, strict=False):
        yield [name, dtype, shape]
