"""Element-wise functions inside nodes: torch's own against a function body on two evaluators."""

import onnx_ir as ir
import pytest
import torch

from edgefc.errors import UsageError
from edgefc.export.building.activations import activate
from edgefc.export.building.body import DOMAIN, Body, function
from edgefc.layers.common.activations import ACTIVATIONS, activation, code
from edgefc.testing import assert_close
from tests.support import layer_models as models
from tests.support.evaluators import both


def model(name: str) -> ir.Model:
    def write(op: Body, x: ir.Value) -> ir.Value:
        return op.Identity(activate(op, op.attribute("activation"), x))

    f = function("Activation", ["x"], {"activation": ir.AttributeType.INT}, write, 20)
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 8]))
    node = ir.node("Activation", [x], attributes={"activation": code(name)}, domain=DOMAIN)
    y = node.outputs[0]
    y.name, y.type, y.shape = "y", x.type, x.shape
    graph = ir.Graph([x], [y], nodes=[node], opset_imports={"": 20, DOMAIN: 1})
    return ir.Model(graph, ir_version=10, functions=[f])


@both
@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_the_same_in_torch_and_in_files(name: str, run: object) -> None:
    x = 3 * models.inputs(16, 8)
    expected = activation(name)(torch.from_numpy(x).double())
    assert_close(run(model(name), x), expected, nmse=1e-12, what=name)  # type: ignore[operator]


def test_numbers_in_files_stay() -> None:
    """Files that were written name a function by its place."""
    assert list(ACTIVATIONS) == [
        "identity", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus", "sin",
    ]  # fmt: skip


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"unknown activation 'relu6'\. Choose one of: identity, relu"):
        code("relu6")
