"""Small models that keep their weights in every place where an .onnx file can."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Make = Callable[[], onnx.ModelProto]
FLOAT = TensorProto.FLOAT


def numbers(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def model(nodes: Sequence[Any], weights: Sequence[Any] = (), **options: Any) -> onnx.ModelProto:
    """x (batch, 8) -> y."""
    ports = [[helper.make_tensor_value_info(name, FLOAT, shape)] for name, shape in (("x", ["batch", 8]), ("y", None))]
    graph = helper.make_graph(list(nodes), "graph", *ports, list(weights), **options.pop("graph", {}))
    opsets = [helper.make_opsetid(*each) for each in options.pop("opsets", {"": 21}).items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **options)


def tensor(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(numbers(*shape), name)


def branches() -> onnx.ModelProto:
    """One weight of 8 x 4 in each branch of an If, and one of 4 outside: 68 numbers."""

    def branch(name: str) -> onnx.GraphProto:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Add", ["p", "b"], [name])]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(name, FLOAT, None)], [tensor("w", 8, 4)]
        )

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("yes"), else_branch=branch("no")),
    ]
    return model(nodes, [tensor("b", 4)])


def constant() -> onnx.ModelProto:
    """A Constant of 8 x 4, and one of two floats: 34 numbers."""
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor("", 8, 4)),
        helper.make_node("Constant", [], ["f"], value_floats=[1.0, 2.0]),
        helper.make_node("MatMul", ["x", "w"], ["p"]),
        helper.make_node("ReduceSum", ["f"], ["s"]),
        helper.make_node("Mul", ["p", "s"], ["y"]),
    ]
    return model(nodes)


def function() -> onnx.ModelProto:
    """A local function that holds 8 x 4 numbers, called twice."""
    body = [
        helper.make_node("Constant", [], ["w"], value=tensor("", 8, 4)),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
    ]
    made = helper.make_function("other", "Projection", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    calls = [helper.make_node("Projection", ["x"], [name], domain="other") for name in "pq"]
    add = helper.make_node("Add", ["p", "q"], ["y"])
    return model([*calls, add], functions=[made], opsets={"": 21, "other": 1})


def sparse() -> onnx.ModelProto:
    """Of 8 x 4 numbers three are stored, with an index of eight bytes each."""
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "w")
    indices = numpy_helper.from_array(np.array([0, 5, 31], np.int64), "at")
    weight = helper.make_sparse_tensor(values, indices, [8, 4])
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], graph={"sparse_initializer": [weight]})


def shared() -> onnx.ModelProto:
    """One matrix of 8 x 8 that two nodes use."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("MatMul", ["p", "w"], ["y"])]
    return model(nodes, [tensor("w", 8, 8)])


def unused() -> onnx.ModelProto:
    """5 numbers that no node uses, beside a matrix of 8 x 8."""
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", 8, 8), tensor("left", 5)])


def quantised() -> onnx.ModelProto:
    """8 x 4 integers of 4 bits in 16 bytes, 4 scales in 16 bytes, 4 zero points in 2."""
    weights = [
        helper.make_tensor("q", TensorProto.INT4, [8, 4], bytes(16), raw=True),
        numpy_helper.from_array(np.ones(4, np.float32), "scale"),
        helper.make_tensor("zero", TensorProto.INT4, [4], bytes(2), raw=True),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["w"], axis=1),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    return model(nodes, weights)


def blocks() -> onnx.ModelProto:
    """64 x 128 numbers of 4 bits in 4,096 bytes, 256 scales, 256 zero points of 4 bits in 128 bytes."""
    weights = [
        numpy_helper.from_array(np.zeros((64, 4, 16), np.uint8), "q"),
        numpy_helper.from_array(np.ones(256, np.float32), "scale"),
        numpy_helper.from_array(np.zeros(128, np.uint8), "zero"),
    ]
    node = helper.make_node(
        "MatMulNBits", ["x", "q", "scale", "zero"], ["y"], domain="com.microsoft", K=128, N=64, bits=4, block_size=32
    )
    made = model([node], weights, opsets={"": 21, "com.microsoft": 1})
    made.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 128
    return made


def trees() -> onnx.ModelProto:
    """Coefficients in a list of floats, as scikit-learn's converter writes them: 8 and one intercept."""
    node = helper.make_node(
        "LinearRegressor", ["x"], ["y"], domain="ai.onnx.ml", coefficients=[0.5] * 8, intercepts=[1.0]
    )
    return model([node], opsets={"": 21, "ai.onnx.ml": 3})
