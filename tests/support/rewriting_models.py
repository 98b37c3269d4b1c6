"""Small .onnx files with weights at many kinds of places, and onnxruntime as the oracle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import GraphProto, NodeProto, helper, numpy_helper

from tests.support.onnx_models import BOOL, FLOAT, INT64, write

RNG = np.random.default_rng(0)


def drawn(*shape: int, dtype: Any = np.float32) -> Any:
    return (RNG.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)


def node(op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs, outputs, name=attributes.pop("name", f"node_{outputs[0]}"), **attributes)


def free(rank: int, dtype: int = FLOAT) -> tuple[int, list[int | str]]:
    """A port with this number of axes of any size."""
    return dtype, [f"axis{index}" for index in range(rank)]


def branch(nodes: list[NodeProto], output: str, weights: Mapping[str, Any] | None = None) -> GraphProto:
    """A branch of If, or the body of a loop without inputs."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    port = helper.make_tensor_value_info(output, *free(2))
    return helper.make_graph(nodes, f"to_{output}", [], [port], tensors)


def run(path: Path | str, feeds: Mapping[str, Any]) -> dict[str, Any]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def linear(path: Path, weight: Any, bias: Any = None, *, opset: int = 20, dtype: int = FLOAT) -> Path:
    """y = x W^T + bias as MatMul and Add, for W (m, n). The weight is stored as (n, m)."""
    m, n = weight.shape
    nodes = [node("MatMul", ["x", "w"], ["y" if bias is None else "p"], name="/encoder/dense/MatMul")]
    weights = {"w": np.ascontiguousarray(weight.T)}
    if bias is not None:
        nodes.append(node("Add", ["bias", "p"], ["y"]))
        weights["bias"] = bias
    ports = {"x": (dtype, ["batch", "time", n])}, {"y": (dtype, ["batch", "time", m])}
    return write(path, nodes, *ports, weights, opsets={"": opset}, producer_name="a test")


def two_branches(path: Path, weight: Any) -> Path:
    """If c: y = relu(x) w, with w in the outer graph. Otherwise y = x v, with v in a Constant node."""
    n, m = weight.shape
    other = numpy_helper.from_array(drawn(n, m), "v")
    then = branch([node("Relu", ["x"], ["r"]), node("MatMul", ["r", "w"], ["a"], name="then_product")], "a")
    constant = helper.make_node("Constant", [], ["v"], value=other)
    otherwise = branch([constant, node("MatMul", ["x", "v"], ["b"], name="else_product")], "b")
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)]
    ports = {"x": (FLOAT, ["batch", n]), "c": (BOOL, [])}, {"y": (FLOAT, ["batch", m])}
    return write(path, nodes, *ports, {"w": weight})


def looped(path: Path, weight: Any) -> Path:
    """y = x, then three times y = tanh(y w), in a Loop."""
    n = len(weight)
    state = helper.make_tensor_value_info("h", *free(2))
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("MatMul", ["h", "w"], ["p"], name="step"), node("Tanh", ["p"], ["t"])],
        "body",
        [
            helper.make_tensor_value_info("i", INT64, []),
            helper.make_tensor_value_info("go", BOOL, []),
            state,
        ],
        [helper.make_tensor_value_info("on", BOOL, []), helper.make_tensor_value_info("t", *free(2))],
    )
    nodes = [node("Loop", ["three", "yes", "x"], ["y"], body=body)]
    weights = {"w": weight, "three": np.array(3), "yes": np.array(True)}
    return write(path, nodes, {"x": (FLOAT, ["batch", n])}, {"y": (FLOAT, ["batch", n])}, weights)


def tied(path: Path, table: Any) -> Path:
    """Rows of a table, and their product with the transposed table."""
    nodes = [
        node("Gather", ["table", "ids"], ["rows"], name="embed"),
        node("Transpose", ["table"], ["turned"], perm=[1, 0]),
        node("MatMul", ["rows", "turned"], ["y"], name="head"),
    ]
    ports = {"ids": (INT64, ["batch", "words"])}, {"y": (FLOAT, ["batch", "words", len(table)])}
    return write(path, nodes, *ports, {"table": table})


def operators(path: Path | str) -> list[str]:
    """The operators of all graphs of a file, with those of functions left out."""
    found: list[str] = []

    def walk(graph: GraphProto) -> None:
        for each in graph.node:
            found.append(each.op_type)
            for attribute in each.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)

    walk(onnx.load(str(path)).graph)
    return found
