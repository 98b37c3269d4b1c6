"""Bytes of .onnx files that nobody writes by accident."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (2, 4)


def field(number: int, payload: bytes) -> bytes:
    """A protobuf field with a length."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def node(op: str, given: str = "a", made: str = "b", *, domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, [given] if given else [], [made], domain=domain, **attributes)


def call(name: str, given: str = "a", made: str = "b") -> onnx.NodeProto:
    return node(name, given, made, domain="d")


def model(*nodes: onnx.NodeProto, weights: Sequence[TensorProto] = ()) -> onnx.ModelProto:
    """x -> y, both of SHAPE, with the domain d for functions."""
    ports = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE)] for name in "xy"]
    graph = helper.make_graph(list(nodes), "graph", *ports, list(weights))
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def add_function(
    to: onnx.ModelProto, name: str, *nodes: onnx.NodeProto, overload: str = "", inputs: Sequence[str] = ("a",)
) -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    made = helper.make_function("d", name, list(inputs), ["b"], list(nodes), opsets)
    made.overload = overload
    to.functions.append(made)


def chain(levels: int) -> onnx.ModelProto:
    """Functions that each call the one before; all give x."""
    made = model(call(f"F{levels - 1}", "x", "y"))
    for index in range(levels):
        add_function(made, f"F{index}", call(f"F{index - 1}") if index else node("Identity"))
    return made


def doubling(levels: int) -> onnx.ModelProto:
    """Functions that each call the one before twice."""
    made = model(call(f"F{levels - 1}", "x", "y"))
    for index in range(levels):
        inner = (call(f"F{index - 1}", "a", "t"), call(f"F{index - 1}", "t", "b"))
        add_function(made, f"F{index}", *(inner if index else (node("Neg"),)))
    return made


def branches(levels: int, inner: onnx.NodeProto) -> onnx.NodeProto:
    """`inner`, from a to b, within so many Ifs within each other, all of which take their first branch."""
    no_value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    other = helper.make_graph([node("Identity")], "other", [], [no_value])
    for _ in range(levels):
        taken = helper.make_graph([inner], "taken", [], [no_value])
        inner = helper.make_node("If", ["c"], ["b"], then_branch=taken, else_branch=other)
    return inner


def calls_in_branches(calls: int, branches_each: int) -> onnx.ModelProto:
    made = model(call(f"F{calls - 1}", "x", "y"))
    true = numpy_helper.from_array(np.array(True), "c")
    for index in range(calls):
        inner = call(f"F{index - 1}") if index else node("Identity")
        add_function(made, f"F{index}", node("Constant", "", "c", value=true), branches(branches_each, inner))
    return made


def copies(calls: int, constant: TensorProto) -> onnx.ModelProto:
    """A function with a constant, called so many times in a row."""
    made = model(*(call("F", f"v{i}" if i else "x", f"v{i + 1}" if i < calls - 1 else "y") for i in range(calls)))
    add_function(made, "F", node("Constant", "", "c", value=constant), helper.make_node("Add", ["a", "c"], ["b"]))
    return made


def external(name: str = "w", *entries: tuple[str, str]) -> TensorProto:
    """A tensor of SHAPE in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=SHAPE, data_location=TensorProto.EXTERNAL)
    for key, value in entries or (("location", "w.bin"),):
        tensor.external_data.add(key=key, value=value)
    return tensor
