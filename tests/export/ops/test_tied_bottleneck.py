"""TiedBottleneck exported: the body on two evaluators against the formula, its operators, and one copy of W."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from edgefc import TiedBottleneck
from edgefc.errors import ExportError
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.layers.tied.test_bottleneck import expected, make
from tests.support import layer_models as models
from tests.support.evaluators import both

ROUNDING, HALF_ROUNDING = 1e-12, 2e-6  # as in test_bodies_circulant.py

EDGES = [  # channels, width, height, across
    pytest.param(1, 1, 1, 1, id="one-number"),
    pytest.param(1, 5, 2, 3, id="wider-than-its-channels"),
    pytest.param(7, 3, 5, 2, id="primes"),
    pytest.param(13, 7, 1, 9, id="one-row"),
    pytest.param(32, 8, 4, 4, id="powers-of-two"),
    pytest.param(97, 61, 3, 3, id="larger-primes"),
]


def model_of(layer: TiedBottleneck, x: Any, **options: Any) -> ir.Model:
    return layer_model(layer, torch.from_numpy(x), **options)


@both
@pytest.mark.parametrize(("channels", "width", "height", "across"), EDGES)
def test_edge_sizes(channels: int, width: int, height: int, across: int, run: Any) -> None:
    """The model is made from a batch of one and run on three."""
    layer, x = make(channels, width), models.inputs(3, channels, height, across)
    assert_close(run(model_of(layer, x[:1]), x), expected(layer, x), nmse=ROUNDING, what="body")


@pytest.mark.parametrize(("channels", "width"), [(384, 96), (256, 64)])
def test_larger_sizes_in_onnxruntime(channels: int, width: int) -> None:
    layer, x = make(channels, width), models.inputs(2, channels, 7, 7)
    assert_close(run_onnxruntime(model_of(layer, x), x), expected(layer, x), nmse=ROUNDING, what="body")


def test_in_float64_only_rounding_is_left() -> None:
    """By the reference alone: onnxruntime has no Conv of float64. The epsilon travels as float32."""
    layer, x = make(7, 3, dtype=torch.float64), models.inputs(2, 7, 4, 5, dtype=np.float64)
    assert_close(run_reference(model_of(layer, x), x), expected(layer, x), nmse=1e-20, what="float64")


def test_float16_layers() -> None:
    layer, x = make(20, 9, dtype=torch.float16), models.inputs(2, 20, 4, 5, dtype=np.float16)
    actual = run_onnxruntime(model_of(layer, x), x)
    assert actual.dtype == np.float16
    assert_close(actual, expected(layer, x), nmse=HALF_ROUNDING, what="float16")


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int) -> None:
    layer, x = make(16, 4), models.inputs(2, 16, 5, 6)
    actual = run_onnxruntime(model_of(layer, x, opset=opset), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"opset {opset}")


@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool) -> None:
    layer, x = make(16, 4), models.inputs(2, 16, 5, 6)
    actual = run_onnxruntime(model_of(layer, x), x, threads=threads, optimise=optimise)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="onnxruntime")


# ---- one copy


def test_an_exported_stage_stores_its_weight_once(tmp_path: Path) -> None:
    """Three blocks, three nodes, one W; the first counts it, as inspect counts what layers share."""
    model = nn.Sequential(nn.Conv2d(3, 64, 3), make(64, 16, 3)).eval()
    export(model, torch.randn(2, 3, 9, 8), tmp_path / "stage.onnx")
    told = inspect(tmp_path / "stage.onnx")
    inner = 9 * 16**2 + 8 * 16
    assert [(layer.name, layer.op) for layer in told.layers] == [
        (f"1.blocks.{index}", "TiedBottleneck") for index in range(3)
    ]
    assert [layer.stored for layer in told.layers] == [64 * 16 + inner, inner, inner]
    assert [layer.dense for layer in told.layers] == [2 * 64 * 16 + inner] * 3
    graph = ir.load(tmp_path / "stage.onnx").graph
    assert [list(v.shape or ()) for v in graph.initializers.values()].count([16, 64, 1]) == 1


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL"])
def test_onnxruntime_makes_no_second_copy(level: str, tmp_path: Path) -> None:
    """Not scaled by a norm, not in the order of vectors: one initializer, read by Conv and ConvTranspose."""
    ir.save(model_of(make(64, 16), models.inputs(2, 64, 7, 7)), tmp_path / "tied.onnx")
    assert _kernels(tmp_path / "tied.onnx", level, 64 * 16) == [([16, 64, 1], ["Conv", "ConvTranspose"])]


def test_onnxruntime_makes_a_second_copy_for_convolutions_over_images(tmp_path: Path) -> None:
    """Why the pixels stand in a row. When this fails, onnxruntime shares such weights, and the rows can go."""
    weight = ir.tensor(np.random.default_rng(0).standard_normal((16, 64, 1, 1)).astype(np.float32))
    x = ir.val("x", ir.DataType.FLOAT, ["batch", 64, 7, 7])
    w = ir.Value(name="w", const_value=weight, type=ir.TensorType(weight.dtype), shape=ir.Shape(weight.shape))
    norm = [
        ir.Value(name=name, const_value=ir.tensor(np.full(16, 0.5, np.float32)), type=w.type, shape=ir.Shape([16]))
        for name in ("scale", "shift", "mean", "variance")
    ]
    down = ir.node("Conv", [x, w])
    normed = ir.node("BatchNormalization", [down.outputs[0], *norm])
    up = ir.node("ConvTranspose", [normed.outputs[0], w])
    graph = ir.Graph([x], up.outputs, nodes=[down, normed, up], initializers=[w, *norm], opset_imports={"": 20})
    graph.name, up.outputs[0].type, up.outputs[0].shape = "images", x.type, ir.Shape([None] * 4)
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "images.onnx")
    assert len(_kernels(tmp_path / "images.onnx", "ORT_ENABLE_BASIC", 64 * 16)) == 2


def _kernels(path: Path, level: str, size: int) -> list[tuple[list[Any], list[str]]]:
    """Initializers of that size in the graph as onnxruntime runs it, and what reads them."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(path.with_suffix(".optimised.onnx"))
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    values = ir.load(path.with_suffix(".optimised.onnx")).graph.initializers.values()
    matches = [value for value in values if value.const_value is not None and value.const_value.size == size]
    return [(list(value.shape or ()), [node.op_type for node, _ in value.uses()]) for value in matches]


# ---- operators

GOLDEN = """
    Shape ReduceProd Shape Shape Concat Reshape Conv Reshape Concat Reshape BatchNormalization Relu Conv
    BatchNormalization Relu Reshape Concat Reshape ConvTranspose Shape Reshape Add
"""


def test_the_operators_are_these() -> None:
    """In order, without constants: a new one costs latency on every device. Change it on purpose."""
    models.check_operators(model_of(make(12, 4), models.inputs(1, 12, 3, 3)), GOLDEN)


@both
def test_a_swapped_weight_is_noticed(run: Any) -> None:
    """Meta-test: at the bound that float32 is held to, two rows that changed places do not pass."""
    layer, x = make(16, 8), models.inputs(2, 16, 3, 3)
    model = model_of(layer, x)
    layer.weight.data[[3, 4]] = layer.weight.data[[4, 3]]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), expected(layer, x), nmse=ROUNDING, what="swapped")


def test_a_norm_that_has_no_place_in_the_node_is_refused(tmp_path: Path) -> None:
    """And the layer is not written out as ordinary operators instead, which torch's second way of tracing would do."""
    layer = TiedBottleneck(4, 2)
    layer.blocks[0].norm_in = nn.BatchNorm2d(2, track_running_stats=False)
    with pytest.raises(ExportError, match="cannot export a norm without running statistics"):
        export(nn.Sequential(layer).eval(), torch.randn(2, 4, 5, 5), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("conv", "told"),
    [
        (nn.Conv2d(2, 2, 3, padding=1), "Conv2d(2, 2, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"),
        (nn.Identity(), "Identity()"),
    ],
)
def test_a_convolution_that_has_no_place_in_the_node_is_refused(conv: nn.Module, told: str, tmp_path: Path) -> None:
    """One with a bias above all, which fusing a norm into it makes: the file would lose the bias silently."""
    layer = TiedBottleneck(4, 2)
    layer.blocks[0].conv = conv
    said = (
        f"TiedBottleneck cannot export {told} as its inner convolution. Use Conv2d(2, 2, kernel_size=(3, 3), "
        f"stride=(1, 1), padding=(1, 1), bias=False)."
    )
    with pytest.raises(ExportError, match=re.escape(said)):
        export(nn.Sequential(layer).eval(), torch.randn(2, 4, 5, 5), tmp_path / "m.onnx")
