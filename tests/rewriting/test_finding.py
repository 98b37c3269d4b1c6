"""The weights of a file, their names, and what else uses them."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from edgefc.rewriting.finding import find, other_users, shared
from tests.support.onnx_models import FLOAT, INT64, write
from tests.support.rewriting_models import drawn, linear, looped, node, tied, two_branches


def test_every_kind_of_place(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("MatMul", ["v", "a"], ["b"]),
        node("MatMul", ["b", "batch"], ["c"]),
        node("Gemm", ["two", "g"], ["d"], transB=1),
        node("Conv", ["image", "k"], ["e"]),
        node("ConvTranspose", ["image", "t"], ["f"]),
        node("Gather", ["table", "ids"], ["h"]),
        node("LSTM", ["sequence", "lw", "lr"], ["i"], hidden_size=3, name="cell"),
        node("GRU", ["sequence", "gw", "gr"], ["j"], hidden_size=3),
    ]
    weights = {
        "w": drawn(4, 4), "v": drawn(4, 4), "batch": drawn(2, 4, 4), "g": drawn(3, 4), "k": drawn(3, 1, 5),
        "t": drawn(1, 3, 5), "table": drawn(9, 4), "lw": drawn(1, 12, 4), "lr": drawn(1, 12, 3), "gw": drawn(1, 9, 4),
        "gr": drawn(1, 9, 3),
    }  # fmt: skip
    inputs = {
        "x": (FLOAT, [2, 4, 4]), "two": (FLOAT, [2, 4]), "image": (FLOAT, [1, 1, 8]), "ids": (INT64, [3]),
        "sequence": (FLOAT, [2, 1, 4]),
    }  # fmt: skip
    path = write(tmp_path / "m.onnx", nodes, inputs, dict.fromkeys("cdefhij", (FLOAT, None)), weights)
    found = {place.names[-1]: (place.kind, place.name, place.shape) for place in find(ir.load(path))}
    assert found == {
        "w": ("linear", "node_a", (4, 4)),
        "v": ("matrix", "node_b", (4, 4)),
        "batch": ("matrix", "node_c", (2, 4, 4)),
        "g": ("linear", "node_d", (3, 4)),
        "k": ("convolution", "node_e", (3, 1, 5)),
        "t": ("convolution", "node_f", (1, 3, 5)),
        "table": ("table", "node_h", (9, 4)),
        "lw": ("recurrent", "cell:W", (1, 12, 4)),
        "lr": ("recurrent", "cell:R", (1, 12, 3)),
        "gw": ("recurrent", "node_j:W", (1, 9, 4)),
        "gr": ("recurrent", "node_j:R", (1, 9, 3)),
    }


def test_a_product_of_two_constants_and_indices_are_no_places(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["w", "w"], ["a"]),
        node("Gather", ["sizes", "ids"], ["b"]),
        node("Gather", ["w", "ids"], ["c"], axis=1),
    ]
    weights = {"w": drawn(4, 4), "sizes": np.arange(6).reshape(3, 2)}
    outputs = {"a": (FLOAT, None), "b": (INT64, None), "c": (FLOAT, None)}
    path = write(tmp_path / "m.onnx", nodes, {"ids": (INT64, [1])}, outputs, weights)
    assert find(ir.load(path)) == []


def test_bodies_of_if_and_loop_with_weights_of_the_outer_graph(tmp_path: Path) -> None:
    places = find(ir.load(two_branches(tmp_path / "if.onnx", drawn(4, 3))))
    places.sort(key=lambda place: place.name == "else_product")  # a protobuf's attributes have no fixed order
    assert [(place.name, place.roots[0].value.name) for place in places] == [
        ("then_product", "w"),
        ("else_product", "v"),
    ]
    assert places[0].graph is not places[0].roots[0].graph
    assert places[1].graph is places[1].roots[0].graph
    (place,) = find(ir.load(looped(tmp_path / "loop.onnx", drawn(4, 4))))
    assert place.name == "step"


@pytest.mark.parametrize("key", ["edgefc.layer", "pkg.torch.onnx.name_scopes", None])
def test_a_plan_can_use_the_name_of_the_layer_the_node_and_the_tensor(tmp_path: Path, key: str | None) -> None:
    path = linear(tmp_path / "m.onnx", drawn(3, 4))
    model = onnx.load(path)
    if key is not None:
        value = "encoder.dense" if key == "edgefc.layer" else "['', 'encoder.dense', 'matmul']"
        model.graph.node[0].metadata_props.append(onnx.StringStringEntryProto(key=key, value=value))
    (place,) = find(ir.from_proto(model))
    assert place.names == ("encoder/dense" if key is None else "encoder.dense", "/encoder/dense/MatMul", "w")


def test_places_with_a_tensor_in_common_are_one_group(tmp_path: Path) -> None:
    places = find(ir.load(tied(tmp_path / "m.onnx", drawn(9, 4))))
    assert [[place.name for place in group] for group in shared(places)] == [["embed", "head"]]
    assert other_users(places) is None
    assert other_users(places[:1]) == "the MatMul 'head' uses it too"


def test_groups_that_a_third_place_joins_are_one(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "a"], ["p"]),
        node("MatMul", ["x", "b"], ["q"]),
        node("Concat", ["a", "b"], ["ab"], axis=1),
        node("MatMul", ["x", "ab"], ["r"]),
    ]
    outputs = dict.fromkeys("pqr", (FLOAT, None))
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [2, 4])}, outputs, {"a": drawn(4, 3), "b": drawn(4, 3)})
    (group,) = shared(find(ir.load(path)))
    assert [place.name for place in group] == ["node_p", "node_q", "node_r"]


def test_a_use_that_is_no_place_is_named(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("ReduceSum", ["w"], ["z"], name="norm")]
    path = write(
        tmp_path / "m.onnx", nodes, {"x": (FLOAT, [2, 4])}, dict.fromkeys("yz", (FLOAT, None)), {"w": drawn(4, 3)}
    )
    assert other_users(find(ir.load(path))) == "the ReduceSum 'norm' uses it too"
    model = onnx.load(path)
    model.graph.node.pop()
    model.graph.output[1].CopyFrom(helper.make_tensor_value_info("w", FLOAT, [4, 3]))
    assert other_users(find(ir.from_proto(model))) == "'w' is an output of its graph"
