"""onnxruntime's texts: what stands before the reason is removed, and never the reason."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as some
from onnx import TensorProto, helper

from edgefc import onnxruntime_text
from edgefc.runtime import failures
from tests.support import native_models, onnx_models

PATH = Path("folder/m.onnx")
HEADS = (
    "[ONNXRuntimeError] : 1 : FAIL : ",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : ",
    "Exception during initialization: ",
    f"Load model from {PATH} failed:",
    "conv.cc:261 Compute ",
    "element_wise_ops.cc:2256 operator() ",
    "/onnxruntime_src/core/common/safeint.h:17 static void SafeIntExceptionHandler<E>::SafeIntOnOverflow() ",
    "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal("
    "size_t, bool, onnxruntime::Stream*) ",
    "/onnxruntime_src/onnxruntime/core/providers/cpu/math/element_wise_ops.h:256 onnxruntime::Div<T>::Div("
    "const onnxruntime::OpKernelInfo&) [with T = long int] ",
    "/src/graph.cc:9 onnxruntime::Graph::Resolve(const Options&)::<lambda(const Node&)> ",
    "/src/a.cc:9 std::function<void(int)> onnxruntime::f(int, std::string) const ",
    "C:\\a\\onnxruntime\\core\\reshape.h:84 onnxruntime::ReshapeHelper::ReshapeHelper(const TensorShape&, bool) ",
    "/src/a.cc:9 virtual OrtValue* onnxruntime::{anonymous}::operator()(int, const onnxruntime::TensorShape&) ",
)
"""What onnxruntime writes before a reason, one or several after another."""


@pytest.mark.parametrize("head", HEADS)
def test_a_reason_is_whole_behind_each_head(head: str) -> None:
    for reason in ("Reason", "it (the reason) is [here] > 0", "constant is missing", "f(int) of a.h:3 fails"):
        assert onnxruntime_text.bare(head + reason, PATH) == reason


@given(
    heads=some.lists(some.sampled_from(HEADS), max_size=4),
    reason=some.text(some.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=80),
)
def test_a_reason_is_whole_behind_any_heads(heads: list[str], reason: str) -> None:
    """The reason starts with a word of its own, so that no part of it can be taken for a head."""
    reason = " ".join(f"Reason {reason}".split())

    said = onnxruntime_text.bare("".join(heads) + reason, PATH)

    assert said == reason


@given(some.text(max_size=2000))
def test_no_text_is_lost(text: str) -> None:
    """Whatever a release writes: some of the text is shown, its end where it is too long for all of it."""
    said = onnxruntime_text.reason(RuntimeError(text), PATH)

    flat = " ".join(text.split()).rstrip(" .")
    assert said
    assert len(said) <= onnxruntime_text.LONGEST + 5
    if flat:
        assert flat.endswith(said[-20:].strip())


@pytest.mark.parametrize("error", [RuntimeError(), RuntimeError(""), RuntimeError(" \n ")])
def test_an_exception_without_a_text(error: Exception) -> None:
    assert str(failures.load_error(PATH, error)) == (
        f"cannot load {PATH}: onnxruntime raised RuntimeError without a message."
    )


TEXTS = {
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: edgefc::CirculantLinear 0: "
    "in_features is -1, not from 1 to 2147483647.": "edgefc::CirculantLinear 0: in_features is -1, not from 1 to "
    "2147483647.",
    "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime_src/onnxruntime/core/providers/cpu/"
    "math/element_wise_ops.cc:2310 onnxruntime::Mod::Mod(const onnxruntime::OpKernelInfo&) [ONNXRuntimeError] : 1 : "
    "FAIL : element_wise_ops.cc:2256 operator() Integer modulo by zero\n": "Integer modulo by zero.",
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Pad node. Name:'it's a pad' Status "
    "Message: /onnxruntime_src/onnxruntime/core/framework/op_kernel.cc:87 virtual OrtValue* "
    "onnxruntime::OpKernelContext::OutputMLValue(int, const onnxruntime::TensorShape&) [ONNXRuntimeError] : 1 : FAIL : "
    "tensor.cc:57 CalculateTensorStorageSize Tensor shape.Size() must be >= 0\n": "its Pad node \"it's a pad\" failed: "
    "Tensor shape.Size() must be >= 0.",
    "[ONNXRuntimeError] : 1 : FAIL : Load model from folder/m.onnx failed:Node (conv) Op (BilinearConv2d) "
    "[ShapeInferenceError] Inference error(s): (op_type:If, node name: If_39): [ShapeInferenceError] Inference "
    "error(s): (op_type:Constant, node name: Constant_8): [ShapeInferenceError] Attribute 'value_int' expect an "
    "integer.\n(op_type:Reshape, node name: Reshape_10): [TypeInferenceError] Input 0 expected to have type but "
    "instead is null\n": "its BilinearConv2d node 'conv', in its Constant node 'Constant_8': Attribute 'value_int' "
    "expect an integer.",
    "[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. In Node, (\"norm\", BatchNormalization, \"\", "
    "-1) : (\"a\": tensor(float),\"b\": tensor(float),) -> (\"y\",) , Error Mismatched attribute type in 'norm : "
    "epsilon'. Expected: 'FLOAT', actual: 'INT'": "its BatchNormalization node 'norm': Mismatched attribute type in "
    "'norm : epsilon'. Expected: 'FLOAT', actual: 'INT'.",
    "[ONNXRuntimeError] : 1 : FAIL : Deserialize tensor w failed.endian_utils.cc:66 CopyLittleEndian source and "
    "destination buffer size mismatch": "Deserialize tensor w failed: source and destination buffer size mismatch.",
    "[ONNXRuntimeError] : 1 : FAIL : External data path validation failed for initializer: w. Error: "
    "tensorprotoutils.cc:434 ValidateExternalDataPathFromDir Absolute path not allowed": "External data path "
    "validation failed for initializer: w. Error: Absolute path not allowed.",
    "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/onnxruntime/core/graph/graph.cc:1377 onnxruntime::Graph::Graph("
    "const onnxruntime::Model&, bool) status.IsOK() was false. [ONNXRuntimeError] : 1 : FAIL : tensorprotoutils.cc:9 "
    "operator() index 5 is out of range": "status.IsOK() was false: index 5 is out of range.",
}  # fmt: skip
"""Of onnxruntime 1.31, and what is shown."""


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_onnxruntime(text: str) -> None:
    assert str(failures.load_error(PATH, RuntimeError(text))) == f"cannot load {PATH}: {TEXTS[text]}"


CHANGED = {
    "PRPLinear": ("in_features", "out_features", "bits", "codebook", "seed"),
    "CirculantLinear": ("in_features", "out_features", "block", "sign_seed"),
    "EUGenLinear": ("in_features", "out_features", "features", "order", "shared", "norm", "one", "activation", "bits"),
    "TiedFFN": ("d_model", "d_hidden", "activation"),
}


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, names in CHANGED.items() for name in names])
def test_what_a_kernel_says_at_load_is_shown(op: str, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Its message ends onnxruntime's text, and is in the sentence as a whole."""
    from tests.support import native_ops

    library = native_models.library(tmp_path_factory)
    model = native_ops.model(op, 12, 24, body=False)
    (node,) = model.graph.node
    kept = [each for each in node.attribute if each.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, -1.5)])

    with pytest.raises(Exception, match=name) as caught:
        native_models.session(model, library)

    kernels = str(caught.value).partition("initialization: ")[2]
    assert name in kernels
    assert str(failures.load_error(PATH, caught.value)) == f"cannot load {PATH}: {kernels}"


def _node(op: str, count: int = 1, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, [f"x{index}" for index in range(count)], ["y"], name="the node", **attributes)


REFUSED = {
    "a wrong type of an attribute": (_node("Softmax", axis=1.5), []),
    "an attribute that there is not": (_node("Relu", strides=[1, 2]), []),
    "an axis out of range": (_node("Softmax", axis=7), []),
    "too few inputs": (_node("Gemm"), []),
    "shapes that do not multiply": (_node("MatMul", 2), [np.ones((3, 5), "f")]),
    "types that do not add": (_node("Add", 2), [np.ones((4, 8), "d")]),
    "a kernel larger than the image": (_node("Conv", 2), [np.ones((4, 8, 3, 3), "f")]),
    "an index out of range": (_node("Gather", 2), [np.array([99])]),
    "an integer division by zero": (helper.make_node("Div", ["x1", "x2"], ["y"]), [np.array([1]), np.array([0])]),
    "a shape that does not fit": (_node("Reshape", 2), [np.array([3, 5])]),
    "a negative size": (helper.make_node("ConstantOfShape", ["x1"], ["y"]), [np.array([-4])]),
    "a permutation of other axes": (_node("Transpose", perm=[0, 0]), []),
    "a split that does not fit": (_node("Split", num_outputs=7), []),
    "an unknown mode": (_node("Resize", 4, mode="nonsense"), [np.ones(0, "f"), np.ones(0, "f"), np.array([4, 8])]),
    "an equation": (_node("Einsum", equation="a->b"), []),
    "a cast to no type": (_node("Cast", to=999), []),
    "a branch that is missing": (_node("If"), []),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_standard_operators_say_is_shown(case: str, tmp_path: Path) -> None:
    """The end of onnxruntime's text is in the sentence, or the sentence is one of those of failures.py."""
    node, weights = REFUSED[case]
    stored = {f"x{index}": value for index, value in enumerate(weights, 1)}
    ports = {"x0": (TensorProto.FLOAT, [4, 8])}, {"y": (TensorProto.FLOAT, None)}
    path = onnx_models.write(tmp_path / "m.onnx", [node], *ports, stored)
    quiet, options = ort.RunOptions(), ort.SessionOptions()
    quiet.log_severity_level = options.log_severity_level = 4

    try:
        opened = ort.InferenceSession(str(path), options)
        opened.run(None, {"x0": np.ones((4, 8), "f")}, quiet)
    except Exception as error:
        raw, told = str(error), str(failures.load_error(path, error))
    else:
        pytest.skip("this onnxruntime takes it")

    end = " ".join(raw.split()).rstrip(" .")[-25:]
    assert end in told or any(known in told for known in ("its operator", "does not compute", "has no operator"))
    assert "[ONNXRuntimeError]" not in told
    assert "onnxruntime_src" not in told
