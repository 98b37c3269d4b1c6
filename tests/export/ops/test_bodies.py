"""What the tests of the bodies rest on: edgefc.testing itself, and several layers in one file."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgefc import CirculantLinear, PRPLinear
from edgefc.errors import ExportError, UsageError
from edgefc.export import export
from edgefc.export.building.body import DOMAIN
from edgefc.layers.common.onnx_node import layer_node
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models

ONE = np.array([[1.0, -2.0], [3.0, 4.0]])


# ---- assert_close


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_measure_does_not_move_with_the_scale(scale: float) -> None:
    """(0.03)^2 / (1 + 4 + 9 + 16) = 3e-5, at any scale."""
    off = ONE + np.array([[0.0, 0.0], [0.03, 0.0]])
    assert_close(off * scale, ONE * scale, nmse=3.1e-5, what="scaled")
    with pytest.raises(AssertionError, match=r"scaled: nmse 3\.00e-05 exceeds 3e-05; .* is at \(1, 0\)"):
        assert_close(off * scale, ONE * scale, nmse=2.9e-5, what="scaled")


@pytest.mark.parametrize(
    ("actual", "expected", "said"),
    [
        pytest.param(ONE[0], ONE, r"shape \(2,\), expected \(2, 2\)", id="shape"),
        pytest.param(ONE[:1], ONE, "shape", id="shape-that-broadcasts"),
        pytest.param(np.where(ONE > 3, np.nan, ONE), ONE, "1 of 4 values are not finite", id="nan"),
        pytest.param(np.where(ONE > 3, np.inf, ONE), ONE, "1 of 4 values are not finite", id="infinity"),
        pytest.param(ONE, np.where(ONE > 3, np.nan, ONE), "1 of 4 expected values are not finite", id="expected-nan"),
        pytest.param(0 * ONE, 0 * ONE, "proves nothing", id="all-zero"),
        pytest.param(np.zeros((0, 2)), np.zeros((0, 2)), "proves nothing", id="empty"),
        pytest.param(-ONE, ONE, r"nmse 4\.00e\+00", id="sign"),
    ],
)
def test_what_must_not_pass_does_not(actual: object, expected: object, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        assert_close(actual, expected, nmse=1e-3, what="it")


def test_tensors_are_taken_as_they_are() -> None:
    """With gradients, and in bfloat16, which numpy lacks."""
    assert_close(torch.tensor(ONE, requires_grad=True), torch.tensor(ONE).bfloat16(), nmse=0.0, what="tensor")


# ---- layer_model


@pytest.mark.parametrize(
    ("layer", "body", "opset"),
    [
        pytest.param(CirculantLinear(12, 9, block=4, seed=2**64 - 3), "matmul", 20, id="matmul"),
        pytest.param(CirculantLinear(12, 9, False), "dft", 18, id="dft"),
        pytest.param(PRPLinear(12, 9, distribution="ternary", seed=2**63), "resident", 20, id="resident"),
        pytest.param(PRPLinear(12, 9, False), "streaming", 23, id="streaming"),
    ],
)
def test_layer_model_is_what_export_writes(layer: nn.Module, body: str, opset: int, tmp_path: Path) -> None:
    """The same node and attributes, the same function, the same weights: so what is tested is what is shipped."""
    path = tmp_path / "layer.onnx"
    export(
        nn.Sequential(layer), torch.ones(2, 12), path, opset=opset, verify=False, bodies={type(layer).__name__: body}
    )
    written, quick = onnx.load(path), ir.to_proto(layer_model(layer, 12, opset=opset, body=body))
    assert list(written.functions) == list(quick.functions)
    ours, theirs = quick.graph.node[0], written.graph.node[-1]
    assert (ours.domain, ours.op_type) == (theirs.domain, theirs.op_type)
    assert {a.name: a for a in ours.attribute} == {a.name: a for a in theirs.attribute}
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
    for name, tensor in zip(theirs.input[1:], quick.graph.initializer, strict=True):
        if name in tensors:  # the zeros of a layer without bias may be computed
            np.testing.assert_array_equal(tensors[name], onnx.numpy_helper.to_array(tensor))


def test_layer_model_is_a_valid_model_with_its_axes_open() -> None:
    model = ir.to_proto(layer_model(PRPLinear(5, 3), 5, leading=("batch", 7)))
    onnx.checker.check_model(model, full_check=True)
    dims = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [["batch", 7, 5], ["batch", 7, 3]]


def test_layer_model_copies_the_weights() -> None:
    """What happens to the layer afterwards does not reach the model; or no meta-test could fail."""
    layer, x = models.randomise(CirculantLinear(8, 8)), models.inputs(3, 8)
    model, y = layer_model(layer, 8), models.expected(layer, x)
    with torch.no_grad():
        layer.kernel.zero_()
    assert_close(run_reference(model, x), y, nmse=1e-12, what="after")


def test_a_layer_that_shows_no_node_is_named() -> None:
    with pytest.raises(UsageError, match=r"Linear creates 0 nodes when it is exported.*layer_node"):
        layer_model(nn.Linear(4, 4), 4)


def test_a_node_that_nothing_lowers_is_named() -> None:
    class Unknown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer_node(self, x, (), {}, (*x.shape[:-1], 3))

    with pytest.raises(ExportError, match="Unknown, which has no ONNX form"):
        layer_model(Unknown(), 4)


def test_a_layer_is_itself_again_after_layer_model() -> None:
    layer, x = PRPLinear(5, 3), torch.ones(2, 5)
    before = layer(x)
    layer_model(layer, 5)
    assert torch.equal(layer(x), before)


# ---- several layers in one file


def net() -> nn.Sequential:
    """Layers of both ops, each op in two sizes: each function has to serve both."""
    layers = [
        CirculantLinear(20, 33, seed=1),
        PRPLinear(33, 70, seed=2),
        CirculantLinear(70, 12, False, block=7, seed=3),
        PRPLinear(12, 5, False, distribution="ternary", seed=4),
    ]
    return nn.Sequential(*(models.randomise(layer) for layer in layers))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("circulant", "prp", "flat"),
    [
        pytest.param("matmul", "resident", False),
        pytest.param("matmul", "resident", True, marks=pytest.mark.slow),
        pytest.param("dft", "streaming", False, marks=pytest.mark.slow),
        pytest.param("dft", "streaming", True),
    ],
)
def test_one_function_serves_layers_of_all_sizes(circulant: str, prp: str, flat: bool, tmp_path: Path) -> None:
    path, x, model = tmp_path / "net.onnx", models.inputs(4, 20), net()
    bodies = {"CirculantLinear": circulant, "PRPLinear": prp}
    export(model, torch.from_numpy(x), path, verify=False, bodies=bodies, flat=flat)
    y = x.astype(np.float64)
    for layer in model:
        y = models.expected(layer, y)
    loaded = ir.load(path)
    loaded.graph.inputs[0].name = "x"
    assert sorted(f.name for f in loaded.functions.values()) == ([] if flat else ["CirculantLinear", "PRPLinear"])
    assert sum(node.domain == DOMAIN for node in loaded.graph) == (0 if flat else 4)
    assert_close(run_reference(loaded, x), y, nmse=1e-11, what="reference")
    assert_close(run_onnxruntime(loaded, x), y, nmse=1e-11 if circulant == "matmul" else 1e-8, what="onnxruntime")


def test_swapped_layers_are_noticed(tmp_path: Path) -> None:
    """Meta-test: two PRP layers of one size that trade seeds."""
    x, model = models.inputs(4, 16), nn.Sequential(PRPLinear(16, 16, seed=1), PRPLinear(16, 16, seed=2))
    swapped = nn.Sequential(PRPLinear(16, 16, seed=2), PRPLinear(16, 16, seed=1))
    models.take_weights(swapped, model)
    export(swapped, torch.from_numpy(x), tmp_path / "net.onnx", verify=False)
    loaded = ir.load(tmp_path / "net.onnx")
    loaded.graph.inputs[0].name = "x"
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run_onnxruntime(loaded, x), model(torch.from_numpy(x)), nmse=1e-9, what="swapped")
