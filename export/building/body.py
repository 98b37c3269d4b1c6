"""Writes one ONNX local function, operator by operator.

A body does not contain sizes: it reads them from its attributes and input shapes, and computes its tables from them.
When the runtime loads the file, it folds everything that depends only on constants.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

from edgefc.layers.common.facts import DOMAIN_VERSION as DOMAIN_VERSION

DOMAIN = "edgefc"

ONNXRUNTIME = "com.microsoft"
"""The domain of onnxruntime's own operators. All are of version 1."""

_KINDS = {
    int: ("value_int", ir.AttributeType.INT),
    tuple: ("value_ints", ir.AttributeType.INTS),
    float: ("value_float", ir.AttributeType.FLOAT),
    list: ("value_floats", ir.AttributeType.FLOATS),
}


class Body:
    """Collects nodes: op.MatMul(a, b) adds one MatMul and returns its output.

    Every node and value gets a name that is unique in the function and its subgraphs, so that profiles and error
    messages can identify it.
    """

    def __init__(self, root: "Body | None" = None, *, opset: int = 0) -> None:
        self._tape = Tape()
        self._root: Body = root or self
        self._opset = opset
        self._counter = itertools.count()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    @property
    def nodes(self) -> Sequence[ir.Node]:
        return self._tape.nodes

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        if not op_type[:1].isupper():
            raise AttributeError(f"Body has no {op_type!r}")
        return lambda *inputs, **attributes: self._add(op_type, inputs, attributes)

    def attribute(self, name: str, kind: type = int) -> ir.Value:
        """The value of an attribute of the function: int, float -> (); tuple -> (k,) int64; list -> (k,) float32."""
        key, attribute_type = _KINDS[kind]
        return self._add("Constant", (), {key: ir.RefAttr(key, name, attribute_type)})

    def onnxruntime(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Adds one operator of onnxruntime's own domain."""
        return self._add(op_type, inputs, attributes, ONNXRUNTIME)

    def reference(self, attribute: str, kind: type = int, *, name: str | None = None) -> ir.Attr:
        """An attribute of the function as the attribute `name` of a node, by default of the same name."""
        return ir.RefAttr(name or attribute, attribute, _KINDS[kind][1])

    def const(self, value: Any, dtype: Any = np.int64) -> ir.Value:
        """A constant with the shape of `value`, by default int64. Equal constants share one node."""
        array, root = np.array(value, dtype), self._root
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in root._constants:
            root._constants[key] = root._add("Constant", (), {"value": ir.tensor(array)})
        return root._constants[key]

    def shape(self, *sizes: "ir.Value | int") -> ir.Value:
        """A (k,) int64 of sizes, each an int or a computed value."""
        parts = [self.const([s]) if isinstance(s, int) else self.Reshape(s, self.const([1])) for s in sizes]
        return parts[0] if len(parts) == 1 else self.Concat(*parts, axis=0)

    def pad(self, values: ir.Value, missing: ir.Value) -> ir.Value:
        """Appends `missing` zeros along the last axis."""
        return self.Pad(values, self.shape(0, missing), None, self.const([-1]))

    def first(self, values: ir.Value, count: ir.Value) -> ir.Value:
        """The first `count` entries of the last axis."""
        return self.Slice(values, self.const([0]), self.shape(count), self.const([-1]))

    def dft(self, values: ir.Value, **attributes: int) -> ir.Value:
        """DFT of (., ., length, 1 or 2) along the length. The axis became an input in opset 20."""
        if self._root._opset < 20:
            return self._add("DFT", (values,), {**attributes, "axis": 2})
        return self._add("DFT", (values, None, self.const(2)), attributes)

    def when(self, condition: ir.Value, then: Callable[["Body"], ir.Value], otherwise: ir.Value) -> ir.Value:
        """then(body) if condition else otherwise. The runtime removes the branch that a constant excludes."""
        yes, no = Body(self._root), Body(self._root)
        branches = {
            "then_branch": _subgraph([], [then(yes)], yes, "then"),
            "else_branch": _subgraph([], [no.Identity(otherwise)], no, "else"),
        }
        return self._add("If", (condition,), branches)

    def loop(self, trips: ir.Value, step: Callable[["Body", ir.Value], ir.Value]) -> ir.Value:
        """step(body, i) for i in range(trips), stacked along a new first axis. The runtime does not fold it."""
        inner = Body(self._root)
        index = ir.val(self._label("i"), ir.DataType.INT64, [])
        go = ir.val(self._label("go"), ir.DataType.BOOL, [])
        result = step(inner, index)
        graph = _subgraph([index, go], [inner.Identity(go), result], inner, "loop")
        return self._add("Loop", (trips, self.const(True, np.bool_)), {"body": graph})

    def scan(
        self, states: Sequence[ir.Value], sequence: ir.Value, step: Callable[..., Sequence[ir.Value]]
    ) -> tuple[ir.Value, ...]:
        """*states, output = step(body, *states, part) for each part along the first axis of `sequence`.

        Returns the last states, then the outputs stacked along a new first axis. The runtime does not fold it, so
        compute everything that depends only on weights outside.
        """
        inner = Body(self._root)
        ports = [ir.val(self._label("state")) for _ in states] + [ir.val(self._label("part"))]
        graph = _subgraph(ports, list(step(inner, *ports)), inner, "scan")
        attributes = {"body": graph, "num_scan_inputs": 1}
        return self.several("Scan", *states, sequence, outputs=len(states) + 1, **attributes)

    def several(self, op_type: str, *inputs: ir.Value | None, outputs: int, **attributes: Any) -> tuple[ir.Value, ...]:
        """Adds one node with several outputs."""
        name = self._label(op_type)
        results = self._tape.op_multi_out(op_type, inputs, attributes, num_outputs=outputs, name=name)
        for index, result in enumerate(results):
            result.name = f"v{name.rpartition('_')[2]}.{index}"
        return tuple(results)

    def _add(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], domain: str = ""
    ) -> ir.Value:
        name = self._label(op_type)
        output = self._tape.op(op_type, inputs, attributes, name=name, domain=domain)
        output.name = f"v{name.rpartition('_')[2]}"
        return output

    def _label(self, prefix: str) -> str:
        return f"{prefix}_{next(self._root._counter)}"


def function(
    name: str,
    inputs: Sequence[str],
    attributes: dict[str, ir.AttributeType],
    write: Callable[..., ir.Value | tuple[ir.Value, ...]],
    opset: int,
    outputs: Sequence[str] = ("y",),
) -> ir.Function:
    """The local function edgefc::name; write(op, *inputs) writes its body and returns the output, or several."""
    op = Body(opset=opset)
    values = [ir.val(label) for label in inputs]
    written = write(op, *values)
    results = written if isinstance(written, tuple) else (written,)
    for label, result in zip(outputs, results, strict=True):
        result.name = label
    imports = {"": opset, **{node.domain: 1 for node in op.nodes if node.domain}}
    graph = ir.Graph(values, results, nodes=op.nodes, opset_imports=imports, name=name)
    declared = [ir.Attr(label, kind, None) for label, kind in attributes.items()]
    return ir.Function(DOMAIN, name, "", graph=graph, attributes=declared)


def _subgraph(inputs: list[ir.Value], outputs: list[ir.Value], body: Body, name: str) -> ir.Graph:
    return ir.Graph(inputs, outputs, nodes=body.nodes, name=name)
