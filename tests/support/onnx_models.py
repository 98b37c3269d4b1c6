"""Small .onnx files for the runtime's tests."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


Ports = dict[str, tuple[int, list[int | str]]]


def write(
    path: Path, nodes: Sequence[Any], inputs: Ports, outputs: Ports, weights: dict[str, Any], **options: Any
) -> Path:
    """`inputs` and `outputs` are (element type, shape) by name."""
    ports = [[helper.make_tensor_value_info(n, *port) for n, port in side.items()] for side in (inputs, outputs)]
    initializers = [numpy_helper.from_array(np.asarray(w), name) for name, w in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", *ports, initializers)
    opsets = [helper.make_opsetid(domain, version) for domain, version in options.pop("opsets", {"": 20}).items()]
    model = helper.make_model(graph, **{"opset_imports": opsets, "ir_version": 10, **options})
    path.write_bytes(model.SerializeToString())
    return path


def matmul(path: Path, n: int = 8, m: int = 4, *, batch: int | str = "batch") -> Path:
    """y = x @ w, with w[i, j] = i + j / 10."""
    weight = (np.arange(n)[:, None] + np.arange(m) / 10).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return write(path, [node], {"x": (FLOAT, [batch, n])}, {"y": (FLOAT, [batch, m])}, {"w": weight})


def two_in_two_out(path: Path) -> Path:
    """total = a + b, flipped = not c."""
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Not", ["c"], ["flipped"])]
    inputs = {"a": (FLOAT, ["n", 3]), "b": (FLOAT, ["n", 3]), "c": (BOOL, ["n"])}
    return write(path, nodes, inputs, {"total": (FLOAT, ["n", 3]), "flipped": (BOOL, ["n"])}, {})


def embedding(path: Path, *, words: int | str = 5) -> Path:
    """Rows of a table of two, by int64 ids."""
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    table = np.eye(2, 4, dtype=np.float32)
    return write(path, [node], {"ids": (INT64, ["n", words])}, {"y": (FLOAT, ["n", words, 4])}, {"table": table})


def unknown_operator(path: Path) -> Path:
    """mine:Nope, which nothing defines."""
    node = helper.make_node("Nope", ["x"], ["y"], domain="mine")
    return write(path, [node], {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}, {}, opsets={"": 20, "mine": 1})


def missing_weights(path: Path, location: str = "weights.bin") -> Path:
    """matmul whose weights are in a file that is not there, or in the one that is at `location`."""
    model = onnx.load(matmul(path))
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    return path
