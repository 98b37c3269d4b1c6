"""The bytes that a run touches and the bytes that memory holds, by operator; and the layer of each step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefc.devices.estimating import rates
from edgefc.devices.estimating.estimate import estimate
from edgefc.devices.estimating.layers import layers
from edgefc.devices.estimating.products import product
from edgefc.devices.estimating.touched import Array, read, size, written
from edgefc.devices.estimating.work import Work, work_of
from edgefc.devices.profiles import profile
from edgefc.runtime import graph
from edgefc.runtime.probes import child
from edgefc.runtime.probes import work as probe
from edgefc.runtime.probes.contracts import Executed, NodeInput, NodeOutput
from tests.support import onnx_models, store_models
from tests.support.onnx_models import FLOAT, INT64


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe, without a process of its own for each model."""
    monkeypatch.setattr(child, "ask", lambda question, about: probe.work(question))


def counted(model: onnx.ModelProto, path: Path, inputs: dict[str, Any] | None = None, batch: int | None = None) -> Work:
    path.write_bytes(model.SerializeToString())
    if inputs is None:
        return work_of(path, batch)
    np.savez(path.parent / "inputs.npz", **inputs)
    return work_of(path, None, str(path.parent / "inputs.npz"))


def table(rows: int, *, columns: int = 16, tokens: int = 9) -> onnx.ModelProto:
    node = helper.make_node("Gather", ["table", "ids"], ["y"], name="/words/Gather")
    ids = helper.make_tensor_value_info("ids", INT64, [1, tokens])
    y = helper.make_tensor_value_info("y", FLOAT, [1, tokens, columns])
    weight = numpy_helper.from_array(np.zeros((rows, columns), np.float32), "table")
    made = helper.make_graph([node], "g", [ids], [y], [weight])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


# ---- look-ups


def test_a_look_up_reads_the_rows_that_it_gathers(tmp_path: Path) -> None:
    """Nine rows of sixteen floats, of a table of 30,000; memory holds the whole table."""
    work = counted(table(30_000), tmp_path / "m.onnx")

    (step,) = work.steps
    assert (step.layer, step.kind, step.flop) == ("words", "move", 0)
    assert step.weight_bytes == work.weight_bytes == 9 * 16 * 4
    assert work.held_bytes == 30_000 * 16 * 4
    assert step.activation_bytes == 9 * 8 + 9 * 16 * 4


def test_the_size_of_a_table_changes_memory_and_not_time(tmp_path: Path) -> None:
    board = rates.of_profile(profile.load("pi5"))
    small, large = (estimate(counted(table(rows), tmp_path / f"{rows}.onnx"), board) for rows in (1_000, 100_000))

    assert small.seconds == large.seconds
    assert large.memory_bytes - small.memory_bytes > 0.9 * 99_000 * 16 * 4
    assert large.layers[0].held_bytes == 100_000 * 16 * 4 and large.layers[0].weight_bytes == 9 * 16 * 4


def test_no_look_up_reads_more_than_the_table_has(tmp_path: Path) -> None:
    """A table of two rows, of which a run gathers nine; once they are in a cache there are no more."""
    work = counted(table(2), tmp_path / "m.onnx")

    assert work.weight_bytes == work.held_bytes == 2 * 16 * 4


ROWS: Array = ("float", [100, 64])
IDS: Array = ("int64", [3])
OUT: Array = ("float", [3, 64])


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "expected"),
    [
        ("Gather", [ROWS, IDS], [OUT], [768, 24]),
        ("GatherElements", [ROWS, ("int64", [3, 64])], [OUT], [768, 1536]),
        ("GatherND", [ROWS, ("int64", [3, 1])], [OUT], [768, 24]),
        ("Slice", [ROWS, ("int64", [1]), ("int64", [1])], [OUT], [768, 8, 8]),
        ("Compress", [ROWS, ("bool", [100])], [OUT], [768, 100]),
        ("Gather", [("float", [2, 64]), IDS], [OUT], [512, 24]),
        ("Gather", [("float16", [100, 64]), IDS], [("float16", [3, 64])], [384, 24]),
        ("GatherBlockQuantized", [("UInt4x2", [100, 64]), IDS, ("float", [100, 2])], [OUT], [96, 24, 24]),
        ("GatherBlockQuantized", [("uint8", [100, 32]), IDS, ("float", [100, 2])], [OUT], [96, 24, 24]),
        (
            "EmbedLayerNormalization",
            [("int32", [1, 3]), ("int32", [1, 3]), ROWS, ("float", [50, 64]), ("float", [2, 64]), ("float", [64])],
            [("float", [1, 3, 64])],
            [12, 12, 768, 768, 512, 256],
        ),
        ("Split", [ROWS], [("float", [50, 64])] * 2, [25600]),
        ("Expand", [("float", [1, 64]), ("int64", [2])], [ROWS], [256, 16]),
        ("Where", [("bool", [100, 64]), ("float", []), ROWS], [ROWS], [6400, 4, 25600]),
        ("ScatterND", [ROWS, ("int64", [3, 1]), OUT], [ROWS], [25600, 24, 768]),
        ("OneHot", [IDS, ("int64", []), ("float", [2])], [("float", [3, 100])], [24, 8, 8]),
        ("MatMul", [OUT, ("float", [64, 5])], [("float", [3, 5])], [768, 1280]),
        ("Reshape", [ROWS, ("int64", [1])], [("float", [6400])], [0, 0]),
        ("Shape", [ROWS], [("int64", [2])], [0]),
        ("Size", [ROWS], [("int64", [])], [0]),
    ],
)
def test_what_is_read(op: str, inputs: Sequence[Array], outputs: Sequence[Array], expected: list[int]) -> None:
    """By hand: entries times bytes."""
    assert read(op, inputs, outputs) == expected
    assert written(op, outputs) == (0 if op in ("Reshape", "Shape", "Size") else sum(map(size, outputs)))


@pytest.mark.parametrize(
    ("dtype", "expected"), [("double", 56), ("float", 28), ("bfloat16", 14), ("bool", 7), ("Int4x2", 4), ("int2", 2),
                            ("Float8E4M3FN", 7), ("uint32", 28)],
)  # fmt: skip
def test_sizes_of_types(dtype: str, expected: int) -> None:
    assert size((dtype, [7])) == expected


# ---- weights that nodes share, pack, or read again


def test_a_shared_weight_is_held_once_and_read_twice(tmp_path: Path) -> None:
    """Tables stay as they are; a matrix is packed for each product, and memory holds each copy."""
    nodes = [helper.make_node("Add", ["x", "w"], ["p"]), helper.make_node("Mul", ["p", "w"], ["y"])]
    work = counted(store_models.model(nodes, [store_models.tensor("w", 5, 8)]), tmp_path / "m.onnx", batch=5)

    assert [step.weight_bytes for step in work.steps] == [160, 160]
    assert [step.held_bytes for step in work.steps] == [160, 0]
    assert work.weight_bytes == work.held_bytes == 160


def test_a_packed_weight_is_counted(tmp_path: Path) -> None:
    """onnxruntime packs both matrices at load and shows neither in a run."""
    work = counted(store_models.shared(), tmp_path / "m.onnx", batch=3)

    assert [step.flop for step in work.steps] == [2 * 3 * 64] * 2
    assert [(step.weight_bytes, step.held_bytes) for step in work.steps] == [(256, 256)] * 2


def test_integers_of_few_bits(tmp_path: Path) -> None:
    (step,) = counted(store_models.blocks(), tmp_path / "m.onnx", batch=3).steps

    assert (step.op, step.kind, step.flop) == ("MatMulNBits", "product", 2 * 3 * 64 * 128)
    assert step.weight_bytes == step.held_bytes == 4096 + 1024 + 128


def test_a_loop_reads_its_weights_again(tmp_path: Path) -> None:
    """Three products with one matrix: read three times, held and cached once."""
    ports = [helper.make_tensor_value_info(*each) for each in (("i", INT64, []), ("go", onnx_models.BOOL, []))]
    state = helper.make_tensor_value_info("h", FLOAT, [1, 8])
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "w"], ["h2"], name="/cell/MatMul"),
            helper.make_node("Identity", ["go"], ["g2"]),
        ],
        "body", [*ports, state],
        [helper.make_tensor_value_info("g2", onnx_models.BOOL, []), helper.make_tensor_value_info("h2", FLOAT, [1, 8])],
        [store_models.tensor("w", 8, 8)],
    )  # fmt: skip
    count = numpy_helper.from_array(np.array(3), "count")
    loop = helper.make_node("Loop", ["count", "", "x"], ["y"], body=body)

    work = counted(store_models.model([loop], [count]), tmp_path / "m.onnx", batch=1)

    steps = [step for step in work.steps if step.op == "MatMul"]
    assert [step.layer for step in steps] == ["cell"] * 3
    assert [(step.weight_bytes, step.fresh_bytes, step.held_bytes) for step in steps] == [
        (256, 256, 256), (256, 0, 0), (256, 0, 0)
    ]  # fmt: skip
    assert not {"Loop", "If"} & {step.op for step in work.steps}


@pytest.mark.parametrize("sign", [1, -1])
def test_the_branch_that_ran(tmp_path: Path, sign: int) -> None:
    """Either branch has a matrix of the same name; the one that ran is counted."""
    model = store_models.branches()
    model.graph.node[0].op_type = "ReduceMax"
    model.graph.node.insert(1, helper.make_node("Relu", ["s"], ["r"]))
    model.graph.node[2].input[0] = "r"
    for index, graph_ in enumerate(attribute.g for attribute in model.graph.node[3].attribute):
        graph_.node[0].name, graph_.node[1].name = f"/branch{index}/MatMul", f"/branch{index}/Add"
    names = {attribute.name: attribute.g.node[0].name for attribute in model.graph.node[3].attribute}

    work = counted(model, tmp_path / "m.onnx", {"x": np.full((2, 8), sign, np.float32)})

    (step,) = [step for step in work.steps if step.kind == "product"]
    assert f"/{step.layer}/MatMul" == names["then_branch" if sign > 0 else "else_branch"]
    assert step.held_bytes >= 128


def test_an_lstm_counts_its_gates(tmp_path: Path) -> None:
    """5 steps of batch 2, 6 inputs, 10 hidden: 2 x 5 x 2 x 40 x (6 + 10) operations; all gates' weights are read."""
    weights = [store_models.tensor(n, *s) for n, s in (("W", (1, 40, 6)), ("R", (1, 40, 10)), ("B", (1, 80)))]
    model = store_models.model([helper.make_node("LSTM", ["x", "W", "R", "B"], ["y"], hidden_size=10)], weights)
    for size_ in (5, 2, 6):
        model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=size_)
    del model.graph.input[0].type.tensor_type.shape.dim[:2]

    (step,) = counted(model, tmp_path / "m.onnx").steps

    assert step.flop == 2 * 5 * 2 * 40 * (6 + 10)
    assert step.weight_bytes == 4 * (240 + 400 + 80)


@pytest.mark.parametrize(
    ("op", "shapes", "out", "flop"),
    [
        ("MatMul", [[3, 4, 5], [5, 6]], [3, 4, 6], 2 * 12 * 30),
        ("MatMul", [[5], [5, 6]], [6], 2 * 30),
        ("MatMul", [[4, 5], [5]], [4], 2 * 20),
        ("Gemm", [[4, 5], [4, 5]], [5, 5], 2 * 25 * 4),
        ("FusedMatMul", [[7, 17, 64], [17, 64, 32]], [17, 7, 32], 2 * 17 * 7 * 32 * 64),
        ("QLinearMatMul", [[4, 5], [], [], [5, 6], [], [], [], []], [4, 6], 2 * 120),
        ("ConvTranspose", [[2, 3, 5, 5], [3, 4, 2, 2]], [2, 4, 6, 6], 2 * 2 * 25 * 3 * 16),
    ],
)
def test_products_by_hand(op: str, shapes: list[list[int]], out: list[int], flop: int) -> None:
    count, rows, columns, inner = product(op, [("float", shape) for shape in shapes], [("float", out)])
    assert 2 * count * rows * columns * inner == flop


# ---- layers


def told(name: str, outputs: Sequence[str], inputs: Sequence[str] = ()) -> Executed:
    taken = tuple(NodeInput(each, None, False, "float", (1,)) for each in inputs)
    return Executed(name, "Op", taken, tuple(NodeOutput(each, "float", (1,)) for each in outputs))


def source(*nodes: tuple[str, str], functions: Sequence[str] = ()) -> graph.Model:
    """Nodes by name and the value that each makes."""
    made = [graph.Node(name, name.rpartition("/")[2], "", (), (value,), {}, ()) for name, value in nodes]
    return graph.Model(graph.Graph(tuple(made), {}), frozenset(("", name) for name in functions))


def test_fused_nodes_belong_to_the_value_that_they_make() -> None:
    nodes = [("/a/MatMul", "p"), ("/a/Add", "q"), ("/b/LayerNorm", "r"), ("/c/Gemm", "s"), ("/c/act/Tanh", "t")]
    ran = [
        told("/a/MatMul", ["p"]), told("SkipLayerNormalization_token_3", ["r", "", "q"], ["p"]),
        told("InsertedCast_r", ["r_cast"], ["r"]), told("fused /c/Gemm", ["t"], ["r_cast"]),
        told("r_nchwc", ["reordered"], []), told("ReorderOutput", ["u"], ["reordered"]),
    ]  # fmt: skip
    assert layers(ran, source(*nodes)) == ["a", "b", "b", "c", "b", "b"]


def test_a_convolution_in_blocks_belongs_to_its_weights(tmp_path: Path) -> None:
    """onnxruntime names it by the value behind the activation that it fused, and gives the kernel another name."""
    nodes = [
        helper.make_node("Conv", ["x", "kernel", "bias"], ["p"], name="/conv/Conv"),
        helper.make_node("Relu", ["p"], ["y"], name="/act/Relu"),
    ]
    model = store_models.model(nodes, [store_models.tensor("kernel", 16, 16, 3, 3), store_models.tensor("bias", 16)])
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    for size_ in (1, 16, 9, 9):
        model.graph.input[0].type.tensor_type.shape.dim.add(dim_value=size_)

    steps = counted(model, tmp_path / "m.onnx").steps

    assert {step.layer for step in steps if step.kind == "product"} == {"conv"}


def test_calls_of_a_function_are_told_apart() -> None:
    ran = [told(f"_inlfunc_F{token}_MatMul", [f"v{i}"]) for i, token in enumerate(("", "_token_9", "_token_17"))]

    assert layers(ran, source(("/a/F", "p"), ("/b/F", "q"), ("/c/F", "r"), functions=["F"])) == ["a", "b", "c"]
    assert layers(ran, source(("/a/F", "p"), ("/b/F", "q"), functions=["F"])) == ["F 1", "F 2", "F 3"]


# ---- what ran, against the profiler's own sums


@pytest.mark.parametrize(
    "make", [store_models.constant, store_models.function, store_models.shared, store_models.unused]
)
def test_every_node_that_onnxruntime_saves_ran(tmp_path: Path, make: store_models.Make) -> None:
    """The steps are the nodes of the graph that onnxruntime saves by itself, and hold the weights that these use."""
    path = tmp_path / "m.onnx"
    path.write_bytes(make().SerializeToString())
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 4, str(tmp_path / "o.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    saved = onnx.load(tmp_path / "o.onnx").graph

    work = work_of(path, 2)

    assert sorted(step.op for step in work.steps) == sorted(node.op_type for node in saved.node)
    used = [name for node in saved.node for name in node.input]
    sizes = {each.name: numpy_helper.to_array(each).nbytes for each in saved.initializer}
    assert sum(step.weight_bytes for step in work.steps) == sum(sizes.get(name, 0) for name in used)


def test_a_graph_is_read_as_onnx_reads_it(tmp_path: Path) -> None:
    """Names, types and shapes; also where the writer packs the sizes of a shape into one field."""
    model = store_models.branches()
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.INT4, [2, 300], bytes(300), raw=True))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())

    found = graph.read(tmp_path / "m.onnx").graph

    assert [(n.name, n.op, n.inputs, n.outputs) for n in found.nodes] == [
        (n.name, n.op_type, tuple(n.input), tuple(n.output)) for n in model.graph.node
    ]
    assert {name: (t.dtype, t.shape) for name, t in found.weights.items()} == {
        "b": ("float", (4,)), "q": ("int4", (2, 300))
    }  # fmt: skip
    assert [inner.weights["w"].shape for inner in found.nodes[2].graphs] == [(8, 4), (8, 4)]
    assert len(list(found.all_nodes())) == 3 + 4


def test_sizes_that_are_packed_into_one_field(tmp_path: Path) -> None:
    """protobuf 3 writes repeated numbers so; onnx itself does not."""
    tensor = bytes([0x0A, 3, 2, 0xAC, 2, 0x10, 1, 0x42, 1]) + b"w"  # dims [2, 300] packed, float, name w
    inner = bytes([0x2A, len(tensor)]) + tensor
    (tmp_path / "m.onnx").write_bytes(bytes([0x3A, len(inner)]) + inner)

    assert graph.read(tmp_path / "m.onnx").graph.weights == {"w": graph.Tensor("w", "float", (2, 300))}


@pytest.mark.parametrize("data", [b"\x3a\x05\x0a", b"\x07", b"\xff" * 20])
def test_bytes_that_are_no_graph(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)

    with pytest.raises(ValueError, match=r"ends early|ends outside|wire type|longer than"):
        graph.read(tmp_path / "m.onnx")
