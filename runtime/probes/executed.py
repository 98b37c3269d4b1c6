"""The nodes that onnxruntime executed, from the events of its profiler and the optimised graph.

An event has the name of its node, and the types and shapes of its inputs and outputs. The graph adds the names of the
values, and the weights that onnxruntime packed at load, which are no longer inputs of an event.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgefc.runtime.graph import Graph, Node, Tensor
from edgefc.runtime.probes.contracts import Executed, NodeInput, NodeOutput

Event = Mapping[str, Any]  # name, op, start (microseconds), inputs and outputs: [{type: shape}, ...]
Scope = Mapping[str, tuple[str, Tensor]]  # by name: a unique key and the tensor of each weight that a node can use

_WITH_SUBGRAPHS = ("If", "Loop", "Scan")


@dataclass(frozen=True)
class _Ran:
    """One event, and the events of the nodes inside its If, Loop or Scan."""

    event: Event
    inside: tuple[_Ran, ...]


def executed(graph: Graph, events: Sequence[Event]) -> list[Executed]:
    """Every node that ran, in order. A node in a Loop appears once for each iteration.

    If, Loop and Scan are left out, because the nodes inside them are listed.

    Raises:
        ValueError: the events do not match the graph.
    """
    return list(_run(graph, {}, "", _nested(events)))


def _nested(events: Sequence[Event]) -> list[_Ran]:
    """The events as a tree. Events are written when nodes end, so an If, Loop or Scan follows the nodes inside it."""
    result: list[_Ran] = []
    for event in events:
        inside: list[_Ran] = []
        if event["op"] in _WITH_SUBGRAPHS:
            while result and result[-1].event["start"] >= event["start"]:
                inside.append(result.pop())
        result.append(_Ran(event, tuple(reversed(inside))))
    return result


def _run(graph: Graph, outer: Scope, prefix: str, runs: Sequence[_Ran]) -> Iterator[Executed]:
    """The nodes of one run of a graph. onnxruntime does not always run nodes in the order of the graph."""
    scope = {**outer, **{name: (f"{prefix}{name}", tensor) for name, tensor in graph.weights.items()}}
    waiting, queue = _Waiting(graph, scope), deque(runs)
    while queue:
        ran = queue.popleft()
        index, node = waiting.take(ran.event)
        if not node.graphs:
            yield _executed(node, scope, ran.event)
            continue
        before, bodies = _bodies(node, ran.inside)
        queue.extendleft(reversed(before))
        for body, part in bodies:
            yield from _run(node.graphs[body], scope, f"{prefix}{index}/{body}/", part)
    waiting.check_empty()


class _Waiting:
    """The nodes of a graph that have not run yet. onnxruntime names an unnamed node by its operator and a number."""

    def __init__(self, graph: Graph, scope: Scope) -> None:
        self._scope = scope
        self._named = {node.name: (index, node) for index, node in enumerate(graph.nodes) if node.name}
        self._unnamed = [(index, node) for index, node in enumerate(graph.nodes) if not node.name]
        self._to_make = {value for node in graph.nodes for value in node.outputs if value}

    def take(self, event: Event) -> tuple[int, Node]:
        """Remove and return the node of an event, with its index in the graph."""
        name, op = event["name"], event["op"]
        index, node = self._named.pop(name, (-1, None))
        if node is None and re.fullmatch(rf"{re.escape(op)}_\d+", name):
            ready = [each for each in self._unnamed if each[1].op == op and self._to_make.isdisjoint(each[1].inputs)]
            index, node = max(ready, key=lambda each: _alike(each[1], self._scope, event), default=(-1, None))
            self._unnamed = [each for each in self._unnamed if each[0] != index]
        if node is None or node.op != op:
            raise ValueError(f"the graph has no node {name!r} that has not run")
        self._to_make.difference_update(node.outputs)
        return index, node

    def check_empty(self) -> None:
        if self._named or self._unnamed:
            raise ValueError(f"{len(self._named) + len(self._unnamed)} nodes did not run")


def _alike(node: Node, scope: Scope, event: Event) -> int:
    """How many weights of a node have the shape of an input of the event. It distinguishes unnamed nodes."""
    shapes = [list(shape) for each in event["inputs"] for shape in each.values()]
    return sum(list(scope[name][1].shape) in shapes for name in node.inputs if name in scope)


def _bodies(node: Node, inside: Sequence[_Ran]) -> tuple[Sequence[_Ran], list[tuple[int, Sequence[_Ran]]]]:
    """The events that precede the node, and the index and events of each run of a subgraph.

    The clock has a step of one microsecond, so an event before the node can seem to be inside it.
    """
    if node.op == "If":
        for index in sorted(range(len(node.graphs)), key=lambda each: -len(node.graphs[each].nodes)):
            count = len(node.graphs[index].nodes)
            part = inside[len(inside) - count :]
            if count <= len(inside) and _is_run_of(node.graphs[index], part):
                return inside[: len(inside) - count], [(index, part)]
        raise ValueError(f"no branch of node {node.name!r} ran")
    count = len(node.graphs[0].nodes)
    first = len(inside) % count if count else len(inside)
    starts = range(first, len(inside), max(count, 1))
    return inside[:first], [(0, inside[start : start + count]) for start in starts]


def _is_run_of(graph: Graph, part: Sequence[_Ran]) -> bool:
    names = {ran.event["name"] for ran in part}
    same = Counter(ran.event["op"] for ran in part) == Counter(node.op for node in graph.nodes)
    return same and all(node.name in names for node in graph.nodes if node.name)


def _executed(node: Node, scope: Scope, event: Event) -> Executed:
    return Executed(event["name"], node.op, tuple(_inputs(node, scope, event)), tuple(_outputs(node, event)))


def _inputs(node: Node, scope: Scope, event: Event) -> Iterator[NodeInput]:
    """The inputs of the node, in order. The event has the same inputs, but without the packed weights."""
    present = [(dtype, list(shape)) for each in event["inputs"] for dtype, shape in each.items()]
    missing = sum(1 for name in node.inputs if name) - len(present)
    for name in node.inputs:
        if not name:
            yield NodeInput("", None, False, "undefined", (0,))
            continue
        key, weight = scope.get(name, (None, None))
        packed = weight is not None and missing > 0 and not (present and _has_shape_of(present[0], weight))
        missing -= packed
        if packed and weight is not None:
            yield NodeInput(name, key, True, weight.dtype, tuple(weight.shape))
        elif present:
            dtype, shape = present.pop(0)
            yield NodeInput(name, key, False, dtype, tuple(shape))


def _has_shape_of(array: tuple[str, list[int]], weight: Tensor) -> bool:
    return array[1] == list(weight.shape)


def _outputs(node: Node, event: Event) -> Iterator[NodeOutput]:
    """The outputs of the node. They have names only if none is omitted, because an event does not say which one is."""
    names = [name for name in node.outputs if name]
    made = [(dtype, list(shape)) for each in event["outputs"] for dtype, shape in each.items()]
    padded = names if len(names) == len(made) else [*names, *[""] * len(made)]
    for name, (dtype, shape) in zip(padded, made, strict=False):
        yield NodeOutput(name, dtype, tuple(shape))
