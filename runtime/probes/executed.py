"""What onnxruntime executed: the events of its profiler, laid beside the graph that it optimised.

An event tells its node's name, the types and shapes of the inputs that were there, and those of its outputs. The graph
adds what an event lacks: the names of values, and the weights that onnxruntime packed at load, which are no inputs of
an event any more.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgefc.runtime.graph import Graph, Node, Tensor
from edgefc.runtime.probes.contracts import Executed, Made, Taken

Event = Mapping[str, Any]  # name, op, start (microseconds), inputs and outputs: [{type: shape}, ...]
Scope = Mapping[str, tuple[str, Tensor]]  # by name, the weights that a node sees, each with a key of its own

_HOLDS_OTHERS = ("If", "Loop", "Scan")


@dataclass(frozen=True)
class _Ran:
    """One event, and those of the nodes inside of its If, Loop or Scan."""

    event: Event
    inside: tuple[_Ran, ...]


def executed(graph: Graph, events: Sequence[Event]) -> list[Executed]:
    """Every node that ran, in order; a node in a Loop each time.

    If, Loop and Scan themselves are left out, for the nodes inside of them are told.

    Raises:
        ValueError: the events are not those of the graph.
    """
    return list(_run(graph, {}, "", _nested(events)))


def _nested(events: Sequence[Event]) -> list[_Ran]:
    """An event is written when its node ends: what began after its If, Loop or Scan and ended before is inside."""
    result: list[_Ran] = []
    for event in events:
        inside: list[_Ran] = []
        if event["op"] in _HOLDS_OTHERS:
            while result and result[-1].event["start"] >= event["start"]:
                inside.append(result.pop())
        result.append(_Ran(event, tuple(reversed(inside))))
    return result


def _run(graph: Graph, outer: Scope, place: str, runs: Sequence[_Ran]) -> Iterator[Executed]:
    """One run of a graph. The order in which onnxruntime runs nodes is not always that of the graph."""
    scope = {**outer, **{name: (f"{place}{name}", tensor) for name, tensor in graph.weights.items()}}
    waiting, queue = _Waiting(graph, scope), deque(runs)
    while queue:
        ran = queue.popleft()
        index, node = waiting.take(ran.event)
        if not node.graphs:
            yield _told(node, scope, ran.event)
            continue
        before, bodies = _bodies(node, ran.inside)
        queue.extendleft(reversed(before))
        for body, part in bodies:
            yield from _run(node.graphs[body], scope, f"{place}{index}/{body}/", part)
    waiting.check_empty()


class _Waiting:
    """The nodes of a graph that have not run yet. onnxruntime names those without a name by operator and a number."""

    def __init__(self, graph: Graph, scope: Scope) -> None:
        self._scope = scope
        self._named = {node.name: (index, node) for index, node in enumerate(graph.nodes) if node.name}
        self._unnamed = [(index, node) for index, node in enumerate(graph.nodes) if not node.name]
        self._to_make = {value for node in graph.nodes for value in node.outputs if value}

    def take(self, event: Event) -> tuple[int, Node]:
        name, op = event["name"], event["op"]
        index, node = self._named.pop(name, (-1, None))
        if node is None and re.fullmatch(rf"{re.escape(op)}_\d+", name):
            ready = [each for each in self._unnamed if each[1].op == op and self._to_make.isdisjoint(each[1].inputs)]
            index, node = max(ready, key=lambda each: _alike(each[1], self._scope, event), default=(-1, None))
            self._unnamed = [each for each in self._unnamed if each[0] != index]
        if node is None or node.op != op:
            raise ValueError(f"no node {name!r} was there to run")
        self._to_make.difference_update(node.outputs)
        return index, node

    def check_empty(self) -> None:
        if self._named or self._unnamed:
            raise ValueError(f"{len(self._named) + len(self._unnamed)} nodes did not run")


def _alike(node: Node, scope: Scope, event: Event) -> int:
    """How many weights of a node have the shape of an input of the event: tells unnamed nodes of one kind apart."""
    shapes = [list(shape) for each in event["inputs"] for shape in each.values()]
    return sum(list(scope[name][1].shape) in shapes for name in node.inputs if name in scope)


def _bodies(node: Node, inside: Sequence[_Ran]) -> tuple[Sequence[_Ran], list[tuple[int, Sequence[_Ran]]]]:
    """Events before the node after all, as far as a clock of microseconds can tell, and those of each run of a body."""
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


def _told(node: Node, scope: Scope, event: Event) -> Executed:
    return Executed(event["name"], node.op, tuple(_inputs(node, scope, event)), tuple(_outputs(node, event)))


def _inputs(node: Node, scope: Scope, event: Event) -> Iterator[Taken]:
    """The inputs of the node, in order; those of the event are the same but for the packed ones."""
    there = [(dtype, list(shape)) for each in event["inputs"] for dtype, shape in each.items()]
    missing = sum(1 for name in node.inputs if name) - len(there)
    for name in node.inputs:
        if not name:
            yield Taken("", None, False, "undefined", (0,))
            continue
        key, weight = scope.get(name, (None, None))
        packed = weight is not None and missing > 0 and not (there and _is(there[0], weight))
        missing -= packed
        if packed and weight is not None:
            yield Taken(name, key, True, weight.dtype, tuple(weight.shape))
        elif there:
            dtype, shape = there.pop(0)
            yield Taken(name, key, False, dtype, tuple(shape))


def _is(array: tuple[str, list[int]], weight: Tensor) -> bool:
    return array[1] == list(weight.shape)


def _outputs(node: Node, event: Event) -> Iterator[Made]:
    """Named where every output of the node was made; an event does not tell which of several is left out."""
    names = [name for name in node.outputs if name]
    there = [(dtype, list(shape)) for each in event["outputs"] for dtype, shape in each.items()]
    padded = names if len(names) == len(there) else [*names, *[""] * len(there)]
    for name, (dtype, shape) in zip(padded, there, strict=False):
        yield Made(name, dtype, tuple(shape))
