"""The torch layer of every node that onnxruntime executed.

onnxruntime renames fused nodes but keeps the names of values. So an executed node belongs to the layer of the file's
node with the same output. Nodes of a local function belong to the layer of the calling node.
"""

import re
from collections.abc import Iterator, Sequence

from edgefc.runtime.graph import Model, Node
from edgefc.runtime.probes.contracts import Executed
from edgefc.scopes import LAYER_KEY, layer_of

_INLINED = re.compile(r"_inlfunc_(?P<op>[A-Za-z0-9]+?)(?:_token_(?P<token>\d+))?_")

Call = tuple[str, int]  # operator, and onnxruntime's number of the call


def layers(executed: Sequence[Executed], model: Model) -> list[str]:
    """The layer of each executed node, or "" for a node outside of all modules."""
    source = _Source(model)
    calls = _calls(executed, source.calling)
    made: dict[str, str] = {}  # output value of an executed node -> its layer
    result: list[str] = []
    for node in executed:
        call = _call(node.name)
        layer = source.layer(node) if call is None else calls[call]
        if layer is None:
            inputs = [made[each.value] for each in node.inputs if each.value in made]
            layer = inputs[0] if inputs else result[-1] if result else ""
        result.append(layer)
        made.update((each.value, layer) for each in node.outputs if each.value)
    return result


class _Source:
    """The layers of the nodes in the file, by the names that survive in the executed nodes."""

    def __init__(self, model: Model) -> None:
        nodes = list(model.graph.all_nodes())
        self.calling = [node for node in nodes if (node.domain, node.op) in model.functions]
        self._by_name = {node.name: _layer(node) for node in nodes if node.name}
        self._by_value = {value: _layer(node) for node in nodes for value in node.outputs if value}
        self._by_weight = {value: _layer(node) for node in reversed(nodes) for value in node.inputs}

    def layer(self, node: Executed) -> str | None:
        """The layer of an executed node, or None if onnxruntime added the node."""
        name = node.name
        root = name.removeprefix("fused ").removesuffix("_nchwc")
        if root != name:  # a fused node, or one with a blocked layout: use the name of the original node
            weights = (self._by_weight[each.weight] for each in node.inputs if each.weight in self._by_weight)
            return self._by_name.get(root) or next(weights, self._by_value.get(root))
        made = (self._by_value[each.value] for each in node.outputs if each.value in self._by_value)
        return next(made, self._by_name.get(name))


def _layer(node: Node) -> str:
    """The layer according to the file. A node without layer information is its own layer."""
    layer = layer_of(node.name, node.metadata)
    return (node.name or next(iter(node.outputs), "") or node.op) if layer is None else layer


def _calls(executed: Sequence[Executed], nodes: Sequence[Node]) -> dict[Call, str]:
    """The layer of each call of a local function. Calls are numbered in the order of the file."""
    seen: dict[str, set[int]] = {}
    for node in executed:
        if call := _call(node.name):
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
    match = _INLINED.match(name)
    return None if match is None else (match["op"], -1 if match["token"] is None else int(match["token"]))
