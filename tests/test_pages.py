"""What the pages say is what the code has. export/ops/README.md is generated: tests/export/test_layout.py."""

from pathlib import Path

import onnx
import onnxruntime
import pytest

from edgefc.export.registry import operators
from tests.support import native_ops

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "export/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("op", "inputs", "name"), [("Conv", "xw", "no float64 convolution"), ("Erf", "x", "no float64 GELU (Erf)")]
)
def test_the_page_says_what_onnxruntime_cannot_compute(op: str, inputs: str, name: str) -> None:
    """Once this is red, onnxruntime has learned it."""
    values = [onnx.helper.make_tensor_value_info(value, onnx.TensorProto.DOUBLE, [1, 1, 4, 4]) for value in inputs]
    graph = onnx.helper.make_graph([onnx.helper.make_node(op, [*inputs], ["y"])], "g", values, [])
    graph.output.add(name="y").type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert name in PAGE


def test_the_page_of_the_kernels_has_every_kernel() -> None:
    page = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "runtime/native").rglob("*.md"))
    ops = {word.split("::")[1].rstrip('";') for path in (ROOT / "runtime/native").glob("*/*_op.cc")
           for word in path.read_text().split() if word.startswith('"edgefc::')}  # fmt: skip
    assert {"PRPLinear", "CirculantLinear"} <= ops
    assert all(f"`{op}`" in page for op in ops)


def test_every_kernel_is_in_the_safety_tests() -> None:
    """The fuzzer and the safety tests read tests/support/native_ops/: one file per operator of the native library."""
    sources = "".join(path.read_text() for path in (ROOT / "runtime/native").rglob("*.cc"))
    kernels = {name for name in operators() if f'"edgefc::{name}"' in sources or f'"{name}"' in sources}
    assert kernels == set(native_ops.OPS)
