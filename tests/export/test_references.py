"""Every operator's reference against what its bodies compute in onnxruntime, and against the layer in torch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

import edgefc
from edgefc.export.passes import attributes_of
from edgefc.export.registry import built_in
from edgefc.export.verifying.int8 import round_no_inputs
from edgefc.layers.quantized.rotation import HadamardRotation
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.support.layer_entries import of_one_node

SEED = 2**64 - 5


def cases() -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """Sizes that no block, tile or factor divides, and every option that an attribute stands for."""
    rows, images, tokens = torch.randn(3, 2, 13), torch.randn(2, 5, 9, 8), torch.tensor([[0, 6, 2], [4, 6, 1]])
    steps, even = torch.randn(3, 2, 7), torch.randn(2, 6, 9, 8)
    conv = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}
    yield "circulant", edgefc.CirculantLinear(13, 9, block=5, seed=SEED), rows
    yield "circulant, prime", edgefc.CirculantLinear(13, 11, seed=SEED), rows
    yield "circulant conv", edgefc.CirculantConv2d(5, 7, (3, 2), block=3, seed=SEED, **conv), images
    yield "circulant lstm", edgefc.CirculantLSTM(7, 6, block=4, seed=SEED), steps
    for distribution in ("gaussian", "ternary", "rademacher", "orthogonal", "hadamard"):
        yield distribution, edgefc.PRPLinear(13, 9, distribution=distribution, seed=SEED), rows
    yield "prp conv", edgefc.PRPConv2d(5, 7, (3, 2), seed=SEED, **conv), images
    yield "prp embedding", edgefc.PRPEmbedding(7, 5, seed=SEED), tokens
    for activation in ("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid", "softplus", "sin", "identity"):
        yield f"eugen, {activation}", edgefc.EUGenLinear(13, 9, features=6, activation=activation, seed=SEED), rows
    yield "eugen, order 3", edgefc.EUGenLinear(13, 9, features=6, order=3, one=True, norm=False, seed=SEED), rows
    yield "eugen, apart", edgefc.EUGenLinear(13, 9, features=6, order=3, shared=False, seed=SEED), rows
    yield "eugen, stored", edgefc.EUGenLinear(13, 9, features=6, order=2, projection="trained", seed=SEED), rows
    yield "bilinear", edgefc.BilinearLinear(13, 9, terms=2), rows
    yield "bilinear conv", edgefc.BilinearConv2d(5, 7, (3, 2), stride=(2, 1), padding=(1, 2), terms=2), images
    yield "bilinear conv, same", edgefc.BilinearConv2d(5, 7, (3, 2), stride=2, padding="tf_same", terms=2), images
    yield "bilinear embedding", edgefc.BilinearEmbedding(7, 5, terms=2, padding_idx=6), tokens
    yield "bilinear lstm", edgefc.BilinearLSTM(7, 6, terms=2, gates="keras"), steps
    yield "hadamard rotation", HadamardRotation(13, seed=SEED), rows
    for bits in (2, 4, 8):
        yield f"quantised, {bits} bits", edgefc.QuantizedLinear(13, 9, bits=bits, group=16), rows
        yield f"quantised, {bits} bits, partial group", edgefc.QuantizedLinear(37, 1, bits=bits), torch.randn(3, 37)
    grouped = {**conv, "groups": 2}
    for bits in (2, 4, 8):
        yield f"quantised embedding, {bits} bits", edgefc.QuantizedEmbedding(7, 21, bits=bits, group=16), tokens
        yield f"quantised conv, {bits} bits", edgefc.QuantizedConv2d(6, 4, (3, 2), bits=bits, **grouped), even
        yield f"quantised lstm, {bits} bits", edgefc.QuantizedLSTM(7, 6, bits=bits, group=16), steps
    yield "half", edgefc.HalfLinear(13, 9), rows
    yield "half embedding", edgefc.HalfEmbedding(7, 5), tokens
    yield "half conv", edgefc.HalfConv2d(6, 4, (3, 2), **grouped), even
    yield "tied ffn", edgefc.TiedFFN(13, 9, activation="gelu"), rows
    yield "tied bottleneck", edgefc.TiedBottleneck(5, 3), images
    for entry in of_one_node():
        yield f"{entry.name} of the catalogue", entry.make(12), entry.example(12)


def filled(layer: nn.Module) -> Any:
    """No weight is zero, and no norm is the identity."""
    with torch.no_grad():
        for name, tensor in layer.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim:
                tensor.copy_(
                    torch.rand_like(tensor) + 0.5 if "running_var" in name else tensor + torch.randn_like(tensor) / 4
                )
    return layer.eval()


torch.manual_seed(0)
CASES = {name: (filled(layer), x) for name, layer, x in cases()}


def reference_of(model: ir.Model, x: np.ndarray[Any, Any]) -> list[Any]:
    (node,) = model.graph
    weights = [value.const_value.numpy().astype(np.float64) for value in node.inputs[1:] if value is not None]  # type: ignore[union-attr]
    given = x.astype(np.float64) if x.dtype.kind == "f" else x
    answer = built_in()[node.op_type].reference(attributes_of(node), given, *weights)
    return list(answer) if isinstance(answer, tuple) else [answer]


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_what_the_bodies_compute(name: str) -> None:
    layer, x = CASES[name]
    model = layer_model(layer, x)
    wanted = reference_of(model, x.numpy())
    for body in built_in()[model.graph[0].op_type].bodies:
        model = layer_model(layer, x, body=body)
        as_exported = run_onnxruntime(model, x.numpy())
        rounds = round_no_inputs(model)
        check(as_exported, wanted, 2e-3 if rounds else 1e-9, body)
        if rounds:
            check(run_onnxruntime(model, x.numpy()), wanted, 1e-9, f"{body}, without rounded inputs")
    if name.endswith("of the catalogue"):  # batch first, where the node has steps first
        return
    with torch.no_grad():
        y = layer(x)
    assert_close(y[0] if isinstance(y, tuple) else y, wanted[0], nmse=1e-9, what="torch")


def check(found: Any, wanted: list[Any], bound: float, what: str) -> None:
    for value, reference in zip(found if isinstance(found, list) else [found], wanted, strict=True):
        assert_close(value, reference, nmse=bound, what=what)


def test_every_operator_is_compared() -> None:
    """By the catalogue, a new one too; but for TiedProjection: attention makes several of its nodes."""
    compared = {layer_model(layer, x).graph[0].op_type for layer, x in CASES.values()}
    assert compared | {"TiedProjection"} == set(built_in())


@pytest.mark.parametrize("turned", [0, 1])
def test_tied_projection(turned: int) -> None:
    """A node by itself, by its function."""
    operator = built_in()["TiedProjection"]
    function = ir.to_proto(operator.function(20))
    random = np.random.default_rng(0)
    x, bias = random.standard_normal((3, 4)), random.standard_normal(6)
    weight = random.standard_normal((6, 4) if turned else (4, 6))
    attributes = {"in_features": 4, "out_features": 6, "transB": turned}
    node = onnx.helper.make_node("TiedProjection", ["x", "weight", "bias"], ["y"], domain="edgefc", **attributes)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in ("x", "y")]
    stored = [onnx.numpy_helper.from_array(weight, "weight"), onnx.numpy_helper.from_array(bias, "bias")]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], stored)
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("edgefc", 1)]
    proto = onnx.helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)
    y = run_onnxruntime(ir.from_proto(proto), x)
    assert_close(y, operator.reference(attributes, x, weight, bias), nmse=1e-20, what="product")
