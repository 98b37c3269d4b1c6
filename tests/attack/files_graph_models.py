"""Hostile graphs: each function takes the path of a model and writes the model and its files."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from onnx import FunctionProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

F = TensorProto.FLOAT
Write = Callable[[Path], None]
GRAPHS: dict[str, Write] = {}


def _add(name: str, make: Callable[[], "ModelProto | bytes"]) -> None:
    def write(path: Path) -> None:
        made = make()
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())

    GRAPHS[name] = write


def named(make: Callable[[], "ModelProto | bytes"]) -> Callable[[], "ModelProto | bytes"]:
    """Register a function in GRAPHS under its name."""
    _add(make.__name__, make)
    return make


def port(name: str, shape: Any = ("b", 4), kind: int = F) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: Sequence[NodeProto], *, inputs: Sequence[Any] | None = None, outputs: Sequence[Any] | None = None,
    weights: Sequence[TensorProto] = (), functions: Sequence[FunctionProto] = (), opsets: dict[str, int] | None = None,
) -> ModelProto:  # fmt: skip
    """A model with input x of shape (b, 4) and output y by default. It is not checked."""
    inputs = [port("x")] if inputs is None else inputs
    outputs = [port("y")] if outputs is None else outputs
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    imports = [helper.make_opsetid(*pair) for pair in (opsets or {"": 20, "d": 1, "edgefc": 1}).items()]
    return helper.make_model(graph, ir_version=10, opset_imports=imports, functions=list(functions))


def weight(name: str = "w", value: Any = None) -> TensorProto:
    made: TensorProto = numpy_helper.from_array(np.eye(4, dtype=np.float32) if value is None else value, name)
    return made


def matmul(**changed: Any) -> ModelProto:
    """y = x w, with fields of w replaced."""
    w = weight()
    for name, value in changed.items():
        w.ClearField(name)  # type: ignore[arg-type]
        getattr(w, name).extend(value) if isinstance(value, list) else setattr(w, name, value)
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[w])


def identity(source: str = "x", target: str = "y") -> NodeProto:
    return helper.make_node("Identity", [source], [target])


def function(name: str, nodes: Sequence[NodeProto], **options: Any) -> FunctionProto:
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    return helper.make_function("d", name, ["a"], ["b"], list(nodes), imports, **options)


def chain(count: int, calls: int) -> ModelProto:
    """Functions that each call the previous one `calls` times."""
    functions = [function("F0", [identity("a", "b")])]
    for level in range(1, count):
        names = ["a", *(f"t{i}" for i in range(calls - 1)), "b"]
        nodes = [
            helper.make_node(f"F{level - 1}", [source], [target], domain="d") for source, target in pairwise(names)
        ]
        functions.append(function(f"F{level}", nodes))
    return model([helper.make_node(f"F{count - 1}", ["x"], ["y"], domain="d")], functions=functions)


# ---- initializers


def _initializers() -> dict[str, dict[str, Any]]:
    return {
        "raw_data_too_short": {"raw_data": b"\0" * 63},
        "raw_data_empty": {"raw_data": b""},
        "raw_data_too_long": {"raw_data": b"\0" * 65},
        "raw_and_float_data": {"float_data": [1.0] * 16},
        "dims_huge": {"dims": [2**40, 2**40]},
        "dims_overflow_to_16": {"dims": [2**62, 4, 4]},
        "dims_product_2_63": {"dims": [2**31, 2**32]},
        "dims_negative": {"dims": [-4, -4]},
        "dims_minus_one": {"dims": [4, -1]},
        "dims_zero": {"dims": [0, 4], "raw_data": b""},
        "dims_none": {"dims": []},
        "dims_many": {"dims": [1] * 10000 + [4, 4]},
        "type_undefined": {"data_type": 0},
        "type_unknown": {"data_type": 99},
        "type_negative": {"data_type": -1},
        "type_double": {"data_type": TensorProto.DOUBLE},
        "type_string": {"data_type": TensorProto.STRING},
        "type_string_data": {"data_type": TensorProto.STRING, "raw_data": b"", "string_data": [b"\xff"] * 16},
        "type_int4": {"data_type": TensorProto.INT4},
        "type_float8": {"data_type": TensorProto.FLOAT8E4M3FN},
        "type_complex": {"data_type": TensorProto.COMPLEX64},
        "type_bfloat16": {"data_type": TensorProto.BFLOAT16},
        "type_bool_of_odd_bytes": {"data_type": TensorProto.BOOL, "raw_data": b"\x02" * 16},
        "name_empty": {"name": ""},
        "name_of_the_input": {"name": "x"},
        "name_long": {"name": "w" * 100000},
        "nan_weights": {"raw_data": b"\xff" * 64},
    }


for _name, _changed in _initializers().items():
    _add(f"initializer_{_name}", partial(matmul, **_changed))


@named
def initializer_segment() -> ModelProto:
    made = matmul()
    made.graph.initializer[0].segment.begin, made.graph.initializer[0].segment.end = 0, 2**62
    return made


@named
def initializer_twice() -> ModelProto:
    return model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[weight(), weight()])


@named
def initializer_also_an_output_of_a_node() -> ModelProto:
    return model([identity("x", "w"), identity("w", "y")], weights=[weight()])


@named
def initializer_is_the_output() -> ModelProto:
    return model([], inputs=[], outputs=[port("w", (4, 4))], weights=[weight()])


@named
def sparse_initializer_lies() -> ModelProto:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    values, indices = weight("w", np.ones(3, np.float32)), weight("i", np.array([0, 5, 2**40]))
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4, 4]))
    return made


@named
def sparse_initializer_huge() -> ModelProto:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"])])
    values, indices = weight("w", np.ones(1, np.float32)), weight("i", np.array([0]))
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**20, 2**20]))
    return made


# ---- nodes and names


@named
def cycle() -> ModelProto:
    return model([helper.make_node("Add", ["x", "b"], ["a"]), identity("a", "b"), identity("b", "y")])


@named
def own_output_as_input() -> ModelProto:
    return model([helper.make_node("Add", ["x", "y"], ["y"])])


@named
def missing_input() -> ModelProto:
    return model([helper.make_node("Add", ["x", "nowhere"], ["y"])])


@named
def duplicate_outputs() -> ModelProto:
    return model([identity(), identity()])


@named
def duplicate_node_names() -> ModelProto:
    return model([helper.make_node("Relu", ["x"], ["a"], name="n"), helper.make_node("Relu", ["a"], ["y"], name="n")])


@named
def duplicate_inputs() -> ModelProto:
    return model([identity()], inputs=[port("x"), port("x")])


@named
def output_of_no_node() -> ModelProto:
    return model([identity("x", "z")])


@named
def empty_names() -> ModelProto:
    return model([helper.make_node("Identity", [""], [""])], inputs=[port("")], outputs=[port("")])


@named
def empty_op() -> ModelProto:
    return model([helper.make_node("", ["x"], ["y"])])


@named
def no_graph() -> ModelProto:
    return ModelProto(ir_version=10)


@named
def empty_graph() -> ModelProto:
    return model([], inputs=[], outputs=[])


@named
def no_opset() -> ModelProto:
    made = model([identity()])
    del made.opset_import[:]
    return made


@named
def opset_absurd() -> ModelProto:
    return model([identity()], opsets={"": 2**62})


@named
def opset_negative() -> ModelProto:
    return model([identity()], opsets={"": -5})


@named
def opset_twice() -> ModelProto:
    made = model([identity()])
    made.opset_import.add(domain="", version=7)
    return made


@named
def ir_version_absurd() -> ModelProto:
    made = model([identity()])
    made.ir_version = 2**40
    return made


@named
def ir_version_zero() -> ModelProto:
    made = model([identity()])
    made.ir_version = 0
    return made


@named
def unknown_operator_with_escapes() -> ModelProto:
    node = helper.make_node("Frob\x1b[31m", ["x"], ["y"], name="n\x1b]0;title\x07", domain="e\nvil")
    return model([node], opsets={"": 20, "e\nvil": 1})


@named
def edgefc_without_body() -> ModelProto:
    return model([helper.make_node("PRPLinear", ["x"], ["y"], domain="edgefc", name="a\x1b[2Jb")])


@named
def edgefc_unknown_operator() -> ModelProto:
    return model([helper.make_node("NoSuchLayer", ["x"], ["y"], domain="edgefc")])


@named
def edgefc_version_absurd() -> ModelProto:
    opsets = {"": 20, "edgefc": 2**60}
    return model([helper.make_node("CirculantLinear", ["x"], ["y"], domain="edgefc")], opsets=opsets)


@named
def very_many_nodes() -> ModelProto:
    names = ["x", *(f"t{i}" for i in range(20000)), "y"]
    return model([identity(a, b) for a, b in pairwise(names)])


@named
def very_many_inputs() -> ModelProto:
    names = [f"x{i}" for i in range(3000)]
    return model([helper.make_node("Sum", names, ["y"])], inputs=[port(name) for name in names])


@named
def long_names() -> ModelProto:
    name = "n" * 200000
    return model([identity(name, "y")], inputs=[port(name)])


# ---- names that are not UTF-8: Python's protobuf cannot write them, so a placeholder is replaced in the bytes


def _marked(**places: str) -> bytes:
    mark = "MARK"
    node = helper.make_node(places.get("op", "Identity"), [places.get("input", "x")], [places.get("output", "y")])
    node.name, node.domain = places.get("node", ""), places.get("domain", "")
    made = model(
        [node], inputs=[port(places.get("input", "x"))], outputs=[port(places.get("output", "y"))],
        opsets={"": 20, places.get("domain", "d"): 1},
    )  # fmt: skip
    made.graph.name = places.get("graph", "g")
    made.graph.doc_string = places.get("doc", "")
    made.metadata_props.add(key=places.get("metadata", "key"), value=places.get("metadata", "value"))
    if "axis" in places:
        made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = mark
    return made.SerializeToString().replace(b"MARK", b"\xff\xfe\x1b[")


for _place in ("node", "input", "output", "op", "domain", "graph", "doc", "metadata", "axis"):
    _add(f"not_utf8_{_place}", partial(_marked, **{_place: "MARK"}))


@named
def surrogates_in_names() -> bytes:
    return matmul().SerializeToString().replace(b"\x01w", b"\x01\x80")


# ---- types and shapes of inputs and outputs


@named
def input_huge() -> ModelProto:
    return model([identity()], inputs=[port("x", (2**40, 2**20))], outputs=[port("y", None)])


@named
def input_beyond_64_bits() -> ModelProto:
    return model([identity()], inputs=[port("x", (2**62, 2**62))], outputs=[port("y", None)])


@named
def input_negative() -> ModelProto:
    return model([identity()], inputs=[port("x", (-3, 4))], outputs=[port("y", None)])


@named
def input_zero() -> ModelProto:
    return model([identity()], inputs=[port("x", (0, 4))], outputs=[port("y", None)])


@named
def input_without_type() -> ModelProto:
    made = model([identity()])
    made.graph.input[0].ClearField("type")
    return made


@named
def input_without_rank() -> ModelProto:
    return model([identity()], inputs=[port("x", None)])


@named
def input_many_axes() -> ModelProto:
    return model([identity()], inputs=[port("x", (1,) * 300)], outputs=[port("y", None)])


@named
def input_unknown_type() -> ModelProto:
    return model([identity()], inputs=[port("x", kind=77)], outputs=[port("y", kind=77)])


@named
def input_string() -> ModelProto:
    kind = TensorProto.STRING
    return model([identity()], inputs=[port("x", kind=kind)], outputs=[port("y", kind=kind)])


@named
def input_bfloat16() -> ModelProto:
    kind = TensorProto.BFLOAT16
    return model([identity()], inputs=[port("x", kind=kind)], outputs=[port("y", kind=kind)])


@named
def input_float8() -> ModelProto:
    kind = TensorProto.FLOAT8E5M2
    return model([identity()], inputs=[port("x", kind=kind)], outputs=[port("y", kind=kind)])


@named
def input_sequence() -> ModelProto:
    info = helper.make_tensor_sequence_value_info("x", F, None)
    return model([helper.make_node("SequenceLength", ["x"], ["y"])], inputs=[info], outputs=[port("y", (), 7)])


@named
def output_sequence() -> ModelProto:
    info = helper.make_tensor_sequence_value_info("y", F, None)
    return model([helper.make_node("SequenceConstruct", ["x", "x"], ["y"])], outputs=[info])


@named
def input_optional() -> ModelProto:
    inner = helper.make_tensor_type_proto(F, ["b", 4])
    info = helper.make_value_info("x", helper.make_optional_type_proto(inner))
    return model([helper.make_node("OptionalGetElement", ["x"], ["y"])], inputs=[info])


@named
def input_map() -> ModelProto:
    made = model([identity()])
    kind = made.graph.input[0].type
    kind.map_type.key_type = TensorProto.STRING
    kind.map_type.value_type.CopyFrom(helper.make_tensor_type_proto(F, [1]))
    return made


@named
def output_of_another_shape() -> ModelProto:
    return model([identity()], outputs=[port("y", (7, 7, 7))])


@named
def output_of_another_type() -> ModelProto:
    return model([identity()], outputs=[port("y", kind=TensorProto.INT64)])


@named
def axis_names_that_lie() -> ModelProto:
    return model([identity()], outputs=[port("y", ("other", 4))])
