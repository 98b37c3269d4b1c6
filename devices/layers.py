"""The torch layer of every node that onnxruntime executed.

onnxruntime gives fused nodes names of its own and keeps the names of values. So a node belongs to the layer whose node
makes the same value in the file; nodes of a local function belong to the node that called it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgefc.runtime.graph import Model, Node
from edgefc.scopes import LAYER_KEY, layer_of

_INLINED = re.compile(r"_inlfunc_(?P<op>[A-Za-z0-9]+?)(?:_token_(?P<token>\d+))?_")

Call = tuple[str, int]  # operator, number that onnxruntime gave the call


def layers(executed: Sequence[Mapping[str, Any]], model: Model) -> list[str]:
    """Of each executed node, the layer; "" outside of all modules."""
    nodes = list(model.graph.all_nodes())
    by_value = {value: _layer(node) for node in nodes for value in node.outputs if value}
    by_name = {node.name: _layer(node) for node in nodes if node.name}
    calls = _calls(executed, [node for node in nodes if (node.domain, node.op) in model.functions])
    made: dict[str, str] = {}  # the layer by the value that an executed node made
    result: list[str] = []
    for node in executed:
        layer = _found(node, calls, by_value, by_name)
        if layer is None:
            sources = [made[each[0]] for each in node["inputs"] if each[0] in made]
            layer = sources[0] if sources else result[-1] if result else ""
        result.append(layer)
        made.update((value, layer) for value, *_ in node["outputs"] if value)
    return result


def _found(
    node: Mapping[str, Any], calls: Mapping[Call, str], by_value: Mapping[str, str], by_name: Mapping[str, str]
) -> str | None:
    name = node["name"]
    if call := _call(name):
        return calls[call]
    root = name.removeprefix("fused ").removesuffix("_nchwc")  # what it was before an activation was fused into it
    if root != name and root in by_name:
        return by_name[root]
    made = (by_value[value] for value, *_ in node["outputs"] if value in by_value)
    return next(made, by_name.get(name))


def _layer(node: Node) -> str:
    """By the file's own word; a node that it says nothing of is a layer of its own."""
    found = layer_of(node.name, node.metadata)
    return (node.name or next(iter(node.outputs), "") or node.op) if found is None else found


def _calls(executed: Sequence[Mapping[str, Any]], nodes: Sequence[Node]) -> dict[Call, str]:
    """The layer of each call of a local function: calls are numbered in the order of the file."""
    seen: dict[str, set[int]] = {}
    for node in executed:
        if call := _call(node["name"]):
            seen.setdefault(call[0], set()).add(call[1])
    return {call: layer for op, numbers in seen.items() for call, layer in _of_op(op, sorted(numbers), nodes)}


def _of_op(op: str, numbers: Sequence[int], nodes: Sequence[Node]) -> Iterator[tuple[Call, str]]:
    calling = [node for node in nodes if node.op == op]
    for index, number in enumerate(numbers):
        if len(calling) == len(numbers):
            yield (op, number), calling[index].metadata.get(LAYER_KEY) or _layer(calling[index])
        else:
            yield (op, number), f"{op} {index + 1}"


def _call(name: str) -> Call | None:
    found = _INLINED.match(name)
    return None if found is None else (found["op"], -1 if found["token"] is None else int(found["token"]))
