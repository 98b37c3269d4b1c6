"""Hostile graphs that need much more work than their size suggests, nest deeply, or are not models: more of GRAPHS."""

from itertools import pairwise

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, TensorProto, helper

from tests.attack.files_graph_models import GRAPHS as GRAPHS
from tests.attack.files_graph_models import chain, function, identity, matmul, model, named, port, weight

# ---- much work for a small file


@named
def output_enormous() -> ModelProto:
    shape = weight("s", np.array([2**20, 2**20], np.int64))
    return model([helper.make_node("ConstantOfShape", ["s"], ["y"])], weights=[shape], outputs=[port("y", None)])


@named
def output_enormous_at_run() -> ModelProto:
    nodes = [
        helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Mul", ["s", "k"], ["t"]),
        helper.make_node("ConstantOfShape", ["t"], ["y"]),
    ]
    return model(nodes, weights=[weight("k", np.array([2**22], np.int64))], outputs=[port("y", None)])


@named
def range_enormous() -> ModelProto:
    weights = [weight(name, np.array(value, np.int64)) for name, value in (("a", 0), ("e", 2**50), ("s", 1))]
    return model([helper.make_node("Range", ["a", "e", "s"], ["y"])], weights=weights, outputs=[port("y", None, 7)])


@named
def tile_enormous() -> ModelProto:
    times = weight("t", np.array([2**20, 2**20], np.int64))
    return model([helper.make_node("Tile", ["x", "t"], ["y"])], weights=[times], outputs=[port("y", None)])


@named
def pad_negative_and_enormous() -> ModelProto:
    pads = weight("p", np.array([-(2**40), 0, 2**40, 2**62], np.int64))
    return model([helper.make_node("Pad", ["x", "p"], ["y"])], weights=[pads], outputs=[port("y", None)])


@named
def doubling_by_concat() -> ModelProto:
    """x concatenated with itself, 40 times in a row."""
    names = ["x", *(f"t{i}" for i in range(39)), "y"]
    nodes = [helper.make_node("Concat", [a, a], [b], axis=0) for a, b in pairwise(names)]
    return model(nodes, outputs=[port("y", None)])


@named
def convolution_of_zero_strides() -> ModelProto:
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[0, 0], kernel_shape=[2**31, 2**31], pads=[-1] * 4)
    weights = [weight("w", np.ones((1, 1, 2, 2), np.float32))]
    return model([node], inputs=[port("x", ("b", 1, 4, 4))], weights=weights, outputs=[port("y", None)])


@named
def gather_outside() -> ModelProto:
    ids = weight("i", np.array([2**40, -(2**40)], np.int64))
    return model([helper.make_node("Gather", ["x", "i"], ["y"], axis=1)], weights=[ids], outputs=[port("y", None)])


@named
def reshape_by_overflow() -> ModelProto:
    shape = weight("s", np.array([2**32, 2**32, 8], np.int64))
    return model([helper.make_node("Reshape", ["x", "s"], ["y"])], weights=[shape], outputs=[port("y", None)])


@named
def divide_by_zero() -> ModelProto:
    weights = [weight("z", np.zeros(4, np.int64)), weight("n", np.array([-(2**63)] * 4, np.int64))]
    return model([helper.make_node("Div", ["n", "z"], ["y"])], weights=weights, outputs=[port("y", None, 7)])


@named
def slice_by_zero() -> ModelProto:
    weights = [weight(n, np.array([v], np.int64)) for n, v in (("s", 0), ("e", 2**63 - 1), ("a", 1), ("t", 0))]
    return model([helper.make_node("Slice", ["x", *"seat"], ["y"])], weights=weights, outputs=[port("y", None)])


# ---- functions and subgraphs


@named
def functions_3000_deep() -> ModelProto:
    return chain(3000, 1)


@named
def functions_200_deep() -> ModelProto:
    return chain(200, 1)


@named
def functions_doubling_24_deep() -> ModelProto:
    return chain(24, 2)


@named
def functions_tenfold_7_deep() -> ModelProto:
    return chain(7, 10)


@named
def function_calls_itself() -> ModelProto:
    nodes = [helper.make_node("F", ["a"], ["b"], domain="d")]
    return model([helper.make_node("F", ["x"], ["y"], domain="d")], functions=[function("F", nodes)])


@named
def functions_call_each_other() -> ModelProto:
    functions = [function(n, [helper.make_node(o, ["a"], ["b"], domain="d")]) for n, o in (("F", "G"), ("G", "F"))]
    return model([helper.make_node("F", ["x"], ["y"], domain="d")], functions=functions)


@named
def function_twice() -> ModelProto:
    functions = [function("F", [identity("a", "b")])] * 2
    return model([helper.make_node("F", ["x"], ["y"], domain="d")], functions=functions)


@named
def function_without_body() -> ModelProto:
    return model([helper.make_node("F", ["x"], ["y"], domain="d")], functions=[function("F", [])])


@named
def function_with_other_arguments() -> ModelProto:
    functions = [function("F", [identity("a", "b")])]
    return model([helper.make_node("F", ["x", "x", "x"], ["y", "z"], domain="d")], functions=functions)


@named
def function_in_the_standard_domain() -> ModelProto:
    made = function("Identity", [helper.make_node("Neg", ["a"], ["b"])])
    made.domain = ""
    return model([identity()], functions=[made])


@named
def function_with_attributes_that_are_missing() -> ModelProto:
    node = helper.make_node("LeakyRelu", ["a"], ["b"])
    reference = node.attribute.add(name="alpha", ref_attr_name="slope")
    reference.type = onnx.AttributeProto.FLOAT
    functions = [function("F", [node], attributes=["slope"])]
    return model([helper.make_node("F", ["x"], ["y"], domain="d")], functions=functions)


def _nested(depth: int) -> GraphProto:
    inner = helper.make_graph([identity("x", "o0")], "g0", [], [port("o0")])
    for level in range(1, depth):
        node = helper.make_node("If", ["c"], [f"o{level}"], then_branch=inner, else_branch=inner)
        if level > 8:  # continue in one branch only, because two would double the file
            leaf = helper.make_graph([identity("x", f"l{level}")], "l", [], [port(f"l{level}")])
            node = helper.make_node("If", ["c"], [f"o{level}"], then_branch=inner, else_branch=leaf)
        inner = helper.make_graph([node], f"g{level}", [], [port(f"o{level}")])
    return inner


def _nested_model(depth: int) -> ModelProto:
    graph = _nested(depth)
    node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
    return model([node], inputs=[port("x"), port("c", (), TensorProto.BOOL)])


@named
def subgraphs_12_deep() -> ModelProto:
    return _nested_model(12)


@named
def subgraphs_24_deep() -> ModelProto:
    return _nested_model(24)


def _deep_bytes(depth: int) -> bytes:
    """Graphs in attributes of nodes, nested more deeply than Python's protobuf can build, so the bytes are written by
    hand."""

    def field(number: int, content: bytes) -> bytes:
        size, length = len(content), bytearray()
        while size > 127:
            length.append(size & 127 | 128)
            size >>= 7
        return bytes([number << 3 | 2, *length, size]) + content

    graph = b""
    for _ in range(depth):
        attribute = field(1, b"body") + field(6, graph) + b"\xa0\x01\x05"  # type 20: GRAPH
        graph = field(1, field(2, b"y") + field(4, b"Loop") + field(5, attribute))
    return b"\x08\x0a" + field(7, graph) + field(8, b"\x10\x14")


@named
def subgraphs_1000_deep() -> bytes:
    return _deep_bytes(1000)


@named
def subgraphs_5000_deep() -> bytes:
    return _deep_bytes(5000)


@named
def loop_without_body() -> ModelProto:
    return model([helper.make_node("Loop", ["", "", "x"], ["y"])])


@named
def loop_body_of_other_arguments() -> ModelProto:
    body = helper.make_graph([identity("x", "o")], "b", [], [port("o")])
    return model([helper.make_node("Loop", ["", "", "x"], ["y"], body=body)])


# ---- unknown fields and other files


@named
def unknown_group() -> bytes:
    return b"\xa3\x06\x08\x01\xa4\x06" + matmul().SerializeToString()


@named
def unknown_group_deep() -> bytes:
    return b"\xa3\x06" * 200000 + b"\xa4\x06" * 200000 + matmul().SerializeToString()


@named
def unknown_group_open() -> bytes:
    return matmul().SerializeToString() + b"\xa3\x06"


@named
def unknown_fields() -> bytes:
    return matmul().SerializeToString() + b"\xfa\xff\xff\xff\x0f\x03abc"


@named
def field_number_zero() -> bytes:
    return matmul().SerializeToString() + b"\x02\x01a"


@named
def graph_twice() -> bytes:
    return matmul().SerializeToString() * 2


@named
def text_file() -> bytes:
    return b"not a model\n" * 100


@named
def git_lfs_pointer() -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


@named
def ort_file() -> bytes:
    return b"\x18\x00\x00\x00ORTM" + bytes(200)


@named
def zeros() -> bytes:
    return bytes(1 << 20)


@named
def ones() -> bytes:
    return b"\xff" * (1 << 16)


@named
def empty() -> bytes:
    return b""
