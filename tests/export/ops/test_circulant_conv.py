"""CirculantConv2d exported: both ways of its body, on two evaluators, against the convolution in float64."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefc import CirculantConv2d, CirculantLinear
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.export.ops import circulant_conv as operator
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import circulant_conv_models as models
from tests.support import layer_models
from tests.support.evaluators import both
from tests.support.layer_models import inputs

ROUNDING = 1e-12
"""float32 answers: a relative error of 1e-6, some ten roundings."""

HALF_ROUNDING = 2e-6
"""float16 answers, rounded between the three convolutions: a relative error of 1.4e-3, some ten roundings of a half."""

cases = pytest.mark.parametrize(("n", "m", "block", "kernel", "stride", "padding", "dilation", "size"), models.CASES)


ways = pytest.mark.parametrize("way", ["frequencies", "dense"])


def model(layer: nn.Module, x: Any, *, way: str = "frequencies", **options: Any) -> Any:
    """The layer's model, by the way that is asked for and not the one that costs less."""
    with mock.patch.object(operator, "_spectral_cost", return_value=0 if way == "frequencies" else float("inf")):
        return layer_model(layer, torch.from_numpy(x), **options)


@both
@ways
@cases
def test_the_body_is_the_convolution(
    n: int, m: int, block: int | None, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any,
    way: str, run: Any,
) -> None:  # fmt: skip
    """For the batch that it was exported with and for another."""
    layer, x = models.make(n, m, kernel, stride, padding, dilation, block=block), inputs(3, n, *size)
    wanted = models.expected(layer, x, stride, padding, dilation)
    file = model(layer, x[:1], way=way)
    assert_close(run(file, x), wanted, nmse=ROUNDING, what="three")
    assert_close(run(file, x[:1]), wanted[:1], nmse=ROUNDING, what="one")


@pytest.mark.parametrize(
    ("n", "m", "block", "kernel"),
    [(64, 64, 16, 3), (64, 64, 64, 3), (61, 97, None, 3), (96, 384, 48, 1), (384, 384, 32, 1), (256, 128, 33, 3)],
)
@ways
def test_common_sizes_in_onnxruntime(n: int, m: int, block: int | None, kernel: int, way: str) -> None:
    layer, x = models.make(n, m, kernel, 1, "same", block=block), inputs(2, n, 7, 6)
    wanted = models.expected(layer, x, padding="same")
    assert_close(run_onnxruntime(model(layer, x, way=way), x), wanted, nmse=ROUNDING, what=way)


@both
@ways
def test_without_bias(way: str, run: Any) -> None:
    layer, x = models.make(6, 7, 3, bias=False, block=4), inputs(2, 6, 5, 5)
    assert_close(run(model(layer, x, way=way), x), models.expected(layer, x), nmse=ROUNDING, what="no bias")


@ways
@pytest.mark.parametrize("block", [None, 1, 4, 5])
def test_in_float64_only_rounding_is_left(block: int | None, way: str) -> None:
    """On ONNX's own evaluator: onnxruntime has no Conv of float64, and none of a dense one either."""
    layer, x = models.make(10, 9, 3, block=block, dtype=torch.float64), inputs(2, 10, 5, 5, dtype=np.float64)
    assert_close(run_reference(model(layer, x, way=way), x), models.expected(layer, x), nmse=1e-26, what="float64")


@both
@ways
@pytest.mark.parametrize("block", [None, 4])
def test_float16(block: int | None, way: str, run: Any) -> None:
    layer, x = models.make(12, 10, 3, block=block, dtype=torch.float16), inputs(2, 12, 5, 5, dtype=np.float16)
    actual = run(model(layer, x, way=way), x)
    assert actual.dtype == np.float16
    assert_close(actual, models.expected(layer, x), nmse=HALF_ROUNDING, what="float16")


@ways
@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int, way: str) -> None:
    layer, x = models.make(7, 5, 3, 2, 1, block=3), inputs(2, 7, 6, 6)
    actual = run_onnxruntime(model(layer, x, way=way, opset=opset), x)
    assert_close(actual, models.expected(layer, x, 2, 1), nmse=ROUNDING, what=f"opset {opset}")


@ways
@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool, way: str) -> None:
    layer, x = models.make(7, 5, 3, block=3), inputs(2, 7, 6, 6)
    actual = run_onnxruntime(model(layer, x, way=way), x, threads=threads, optimise=optimise)
    assert_close(actual, models.expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@both
@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_seeds_at_the_edge(seed: int, run: Any) -> None:
    layer, x = models.make(70, 3, 1, block=35, seed=seed), inputs(2, 70, 2, 2)
    assert_close(run(model(layer, x), x), models.expected(layer, x), nmse=ROUNDING, what=f"{seed=}")


# ---- which way


@pytest.mark.parametrize(
    ("n", "m", "block", "kernel", "stride", "spectral"),
    [
        (64, 64, 16, 3, 1, 1),  # each of these was measured to be so
        (64, 64, 64, 3, 1, 1),
        (256, 256, 64, 3, 1, 1),
        (256, 256, 16, 1, 1, 1),
        (64, 64, 16, 1, 1, 0),
        (16, 16, 4, 3, 1, 0),
        (3, 64, 64, 7, 1, 0),
        (256, 256, 16, 1, 3, 0),  # nine input pixels to transform for one output; this one was not measured
        (64, 64, 1, 3, 1, 0),  # a dense layer in disguise
    ],
)
def test_the_way_is_the_cheaper_one(n: int, m: int, block: int, kernel: int, stride: int, spectral: int) -> None:
    attributes = {"in_channels": n, "out_channels": m, "block": block}
    prepared = operator.prepare({**attributes, "kernel_shape": [kernel] * 2, "strides": [stride] * 2})
    assert prepared["spectral"] == spectral


def test_what_the_runtime_is_left_with(tmp_path: Path) -> None:
    """All that depends on weights alone is folded: three convolutions and two moves, or one convolution."""
    for block, way, left in ((4, "frequencies", {"Conv": 3, "Transpose": 2}), (4, "dense", {"Conv": 1})):
        layer, x = models.make(12, 12, 3, block=block), inputs(2, 12, 5, 5)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 4
        onnxruntime.InferenceSession(ir.to_proto(model(layer, x, way=way)).SerializeToString(), options)
        nodes = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
        assert {name: nodes.count(name) for name in ("Conv", "Transpose") if name in nodes} == left
        assert not {"If", "Sin", "MatMul", "Gather"} & set(nodes)


GOLDEN = """
    Equal Min Min Mul Mul Max Sub Add Div Range Reshape Cast BitwiseAnd Cast BitShift Cast Add BitShift
    BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift
    BitwiseXor Mul BitShift BitwiseXor BitwiseXor Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift
    BitwiseXor BitwiseXor Unsqueeze Cast Unsqueeze Cast Add BitShift BitwiseXor Mul BitShift BitwiseXor Mul
    BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Mul BitShift BitwiseXor Mul
    Add BitShift BitwiseXor Mul BitwiseXor BitShift BitwiseXor Mul BitShift BitwiseXor Range Cast Cast BitShift
    Sub Unsqueeze BitShift BitwiseAnd Cast Transpose Cast Mul Sub Reshape Reshape Slice Range Unsqueeze Equal
    Div Where Concat Unsqueeze Range Mul Mod Cast Div Cast Mul Where Shape Expand Concat Unsqueeze Add Sin Mod
    Equal And And Unsqueeze Where Reshape Concat Reshape Greater If If Greater If Not If If If Conv Greater If
    If Greater If
"""


def test_the_operators_are_these() -> None:
    """In order, without constants and without what is inside If: a new one costs latency on every device.

    Change it on purpose.
    """
    layer_models.check_operators(model(models.make(12, 12, 3, block=4), inputs(2, 12, 5, 5)), GOLDEN)


# ---- a whole network


class Small(nn.Module):
    """Images of 3 channels to 10 numbers: a dense convolution, a residual block of circulant ones, a circulant head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first = CirculantConv2d(16, 32, 3, 2, 1, block=16, seed=1)
        self.norm = nn.BatchNorm2d(32)
        self.second = CirculantConv2d(32, 32, (2, 3), padding="same", bias=False, block=8, seed=2**64 - 1)
        self.head = CirculantLinear(32, 10)
        nn.init.normal_(self.first.bias)  # type: ignore[arg-type] # zeros would be stored once for both

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.first(torch.relu(self.stem(x)))))
        h = h + torch.relu(self.second(h))
        y: Tensor = self.head(h.mean((2, 3)))
        return y


@pytest.mark.parametrize("flat", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_real_export_is_verified_and_listed(tmp_path: Path, flat: bool) -> None:
    torch.manual_seed(0)
    network = Small().eval()
    report = export(network, torch.randn(2, 3, 12, 12), tmp_path / "small.onnx", flat=flat)
    assert report.verified is not None
    assert {row.rows for row in report.verified.outputs} == {1, 2, 3}
    if flat:
        return
    assert report.layers == ("first", "second", "head")
    first, second, _ = inspect(tmp_path / "small.onnx").layers
    assert (first.op, first.shape, first.detail) == (
        "CirculantConv2d",
        "32 x 16 x 3 x 3",
        "block 16, signs from seed 1",
    )
    assert (first.stored, first.dense) == (32 * 16 * 9 // 16 + 32, 32 * 16 * 9 + 32)
    assert (second.shape, second.detail) == ("32 x 32 x 2 x 3", f"block 8, signs from seed {2**64 - 1}")
    assert (second.stored, second.dense) == (32 * 32 * 6 // 8 + 32, 32 * 32 * 6 + 32)


# ---- the comparisons can fail


@both
@ways
def test_a_swapped_kernel_entry_is_noticed(way: str, run: Any) -> None:
    layer, x = models.make(16, 16, 3, block=8), inputs(2, 16, 5, 5)
    file = model(layer, x, way=way)
    layer.kernel.data[0, 1, [3, 4], 1, 2] = layer.kernel.data[0, 1, [4, 3], 1, 2]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(file, x), models.expected(layer, x), nmse=1e-7, what="swapped")
