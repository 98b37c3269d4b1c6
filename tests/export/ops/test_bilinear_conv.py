"""BilinearConv2d exported: both forms on two evaluators against the formula in float64, and their operators."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn

from edgefc import BilinearConv2d
from edgefc.export import export
from edgefc.export.ops import bilinear_conv as operator
from edgefc.export.ops.bilinear_conv import FACTORED, PADS, SAME_UPPER
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import bilinear_models as bilinear
from tests.support import layer_models as models
from tests.support.evaluators import both

ROUNDING = 1e-12
FORMS = pytest.mark.parametrize("factored", [False, True], ids=["conv", "factored"])

WINDOWS = [  # kernel, stride, padding
    pytest.param((1, 1), (1, 1), 0, id="pointwise"),
    pytest.param((3, 3), (1, 1), 1, id="3-by-3"),
    pytest.param((3, 2), (2, 1), (2, 0), id="uneven"),
    pytest.param((3, 3), (2, 2), "tf_same", id="tf-same"),
    pytest.param((2, 3), (3, 2), "tf_same", id="tf-same-uneven"),
    pytest.param((1, 1), (2, 2), "tf_same", id="tf-same-steps-beyond-the-kernel"),
    pytest.param((2, 3), (1, 1), "same", id="same"),
]


def make(*args: Any, **options: Any) -> Any:
    return models.randomise(BilinearConv2d(*args, **options))  # type: ignore[type-var]


def model_of(layer: Any, size: tuple[int, int], factored: bool | None = None, **options: Any) -> ir.Model:
    """The layer's model in the form that is asked for, for images of any batch."""
    with pytest.MonkeyPatch.context() as patch:
        if factored is not None:
            patch.setattr(operator, "_factors_pay", lambda _: factored)
        return layer_model(layer, torch.zeros(1, layer.in_channels, *size, dtype=layer.left.dtype), **options)


def expected(layer: Any, x: Any) -> Any:
    window = layer.window
    pads = None if layer.padding == "tf_same" else window.pads
    return bilinear.expected_images(layer, x, window.kernel_size, window.stride, pads)


@both
@FORMS
@pytest.mark.parametrize("terms", bilinear.TERMS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), WINDOWS)
def test_windows(kernel: Any, stride: Any, padding: Any, terms: int, factored: bool, run: Any) -> None:
    layer = make(4, 6, kernel, stride, padding, terms=terms)
    for size in ((7, 6), (8, 5)):
        x = models.inputs(3, 4, *size)
        assert_close(run(model_of(layer, size, factored), x), expected(layer, x), nmse=ROUNDING, what=f"{size}")


@both
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize(("c", "m"), [(1, 1), (3, 7), (5, 13), (11, 2)])
def test_channels_without_good_factors(c: int, m: int, bias: bool, run: Any) -> None:
    """Padded patches and cut channels: a Conv, always."""
    for kernel in (1, 3):
        layer, x = make(c, m, kernel, bias=bias, terms=2), models.inputs(2, c, 5, 6)
        assert_close(run(model_of(layer, (5, 6)), x), expected(layer, x), nmse=ROUNDING, what=f"{kernel}")


@both
@FORMS
@pytest.mark.parametrize("padding", [1, "tf_same"])
def test_images_of_any_size(padding: Any, factored: bool, run: Any) -> None:
    """One file whose heights and widths are open."""
    layer = make(4, 6, 3, 2, padding)
    model = model_of(layer, (7, 7), factored)
    model.graph.inputs[0].shape = ir.Shape(["batch", 4, "height", "width"])
    for size in ((7, 6), (9, 12), (3, 3)):
        x = models.inputs(2, 4, *size)
        assert_close(run(model, x), expected(layer, x), nmse=ROUNDING, what=f"{size}")


@pytest.mark.parametrize(("run", "factored"), [(run_reference, False), (run_reference, True), (run_onnxruntime, True)])
def test_in_float64_only_rounding_is_left(factored: bool, run: Any) -> None:
    """onnxruntime has no Conv of float64."""
    layer = make(4, 6, 3, 2, "tf_same", terms=3, dtype=torch.float64)
    x = models.inputs(2, 4, 8, 7, dtype=np.float64)
    assert_close(run(model_of(layer, (8, 7), factored), x), expected(layer, x), nmse=1e-26, what="float64")


@FORMS
def test_float16_layers(factored: bool) -> None:
    """onnxruntime has no Conv of float16 on every CPU, so the expanded form runs on the reference alone."""
    layer, x = make(4, 6, 3, padding=1, dtype=torch.float16), models.inputs(2, 4, 6, 5, dtype=np.float16)
    run = run_onnxruntime if factored else run_reference
    actual = run(model_of(layer, (6, 5), factored), x)
    assert actual.dtype == np.float16
    assert_close(actual, expected(layer, x), nmse=1e-5, what="float16")


@FORMS
@pytest.mark.parametrize("opset", range(18, 24))
def test_every_opset(opset: int, factored: bool) -> None:
    layer, x = make(4, 6, 3, 2, "tf_same", terms=2), models.inputs(2, 4, 6, 5)
    actual = run_onnxruntime(model_of(layer, (6, 5), factored, opset=opset), x)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"opset {opset}")


@FORMS
@pytest.mark.parametrize(("threads", "optimise"), [(1, False), (2, True)], ids=["node-by-node", "two-threads"])
def test_the_runtime_may_fold_or_not(threads: int, optimise: bool, factored: bool) -> None:
    layer, x = make(8, 12, 3, padding=1, terms=2), models.inputs(2, 8, 6, 5)
    actual = run_onnxruntime(model_of(layer, (6, 5), factored), x, threads=threads, optimise=optimise)
    assert_close(actual, expected(layer, x), nmse=ROUNDING, what="onnxruntime")


@FORMS
def test_reference_takes_an_empty_batch(factored: bool) -> None:
    """Not so onnxruntime: it ends the process in Conv, and its MatMul cannot broadcast a matrix to a batch of 0."""
    layer = make(4, 6, 3, padding=1)
    if factored:
        assert run_reference(model_of(layer, (6, 5), factored), models.inputs(0, 4, 6, 5)).shape == (0, 6, 6, 5)
        with pytest.raises(Exception, match=r"MatMul node.*cannot broadcast on dim 0"):
            run_onnxruntime(model_of(layer, (6, 5), factored), models.inputs(0, 4, 6, 5))


# ---- which form


@pytest.mark.parametrize(
    ("c", "m", "kernel", "form"),
    [
        pytest.param(64, 64, 3, PADS, id="64-channels"),
        pytest.param(128, 128, 3, FACTORED, id="128-channels"),
        pytest.param(256, 256, 3, FACTORED, id="256-channels"),
        pytest.param(128, 128, 1, PADS, id="128-channels-pointwise"),
        pytest.param(256, 256, 1, FACTORED, id="256-channels-pointwise"),
        pytest.param(257, 256, 1, PADS, id="padded-patches"),
        pytest.param(256, 257, 1, PADS, id="cut-channels"),
    ],
)
def test_the_form_is_the_faster_one(c: int, m: int, kernel: int, form: int) -> None:
    """As measured by tests/bench/bilinear_conv.py."""
    model = model_of(BilinearConv2d(c, m, kernel), (4, 4))
    assert next(iter(model.graph)).attributes["form"].value == form


def test_tensorflows_padding_is_left_to_the_operator() -> None:
    model = model_of(BilinearConv2d(8, 8, 3, 2, "tf_same"), (4, 4))
    assert next(iter(model.graph)).attributes["form"].value == SAME_UPPER


def test_large_layers_in_the_form_that_is_chosen() -> None:
    for kernel, stride, padding in ((3, 2, "tf_same"), (1, 1, 0)):
        layer, x = make(256, 256, kernel, stride, padding), models.inputs(2, 256, 6, 5)
        actual = run_onnxruntime(model_of(layer, (6, 5)), x)
        assert_close(actual, expected(layer, x), nmse=ROUNDING, what=f"{kernel}")


def test_a_model_by_the_exporter(tmp_path: Path) -> None:
    """Both forms in one file, an image without a batch too."""
    model = nn.Sequential(make(3, 128, 3, 2, "tf_same"), nn.ReLU(), make(128, 128, 3, padding=1)).eval()
    nn.init.normal_(model[2].left, std=0.2)
    report = export(model, torch.randn(2, 3, 8, 8), tmp_path / "model.onnx")
    assert report.layers == ("0", "2")
    forms = [n.attributes["form"].value for n in ir.load(report.path).graph if n.domain == "edgefc"]
    assert forms == [SAME_UPPER, FACTORED]
    session = onnxruntime.InferenceSession(report.path, providers=["CPUExecutionProvider"])
    x = models.inputs(5, 3, 8, 8)
    y = expected(model[2], np.maximum(expected(model[0], x), 0))
    assert_close(session.run(None, {session.get_inputs()[0].name: x})[0], y, nmse=1e-11, what="file")


def test_it_says_what_it_is() -> None:
    node = next(iter(model_of(BilinearConv2d(8, 16, (3, 1), terms=2), (4, 4)).graph))
    described = operator.describe({name: attribute.value for name, attribute in node.attributes.items()})
    assert (described.shape, described.dense) == ("16 x 8 x 3 x 1", 16 * 8 * 3 + 16)
    assert described.detail == "4 x 6 to 4 x 4, 2 terms"


# ---- operators


def test_the_operators_are_these() -> None:
    """Without what is inside If. Change it on purpose."""
    models.check_operators(model_of(make(4, 6, 3), (5, 5)), "Equal If Equal If Equal If")


@pytest.mark.parametrize(("padding", "stride"), [(1, 1), ("tf_same", 2)])
def test_the_runtime_is_left_with_one_conv(padding: Any, stride: int, tmp_path: Path) -> None:
    """The weight is folded, whatever the terms; Reorder is onnxruntime's own."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    content = ir.to_proto(model_of(make(4, 6, 3, stride, padding, terms=2), (6, 5))).SerializeToString()
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    nodes = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert [op for op in nodes if not op.startswith("Reorder")] == ["Conv"]


# ---- the comparisons can fail


@both
@FORMS
def test_swapped_entries_are_noticed(factored: bool, run: Any) -> None:
    layer, x = make(4, 6, 3), models.inputs(2, 4, 5, 5)
    model = model_of(layer, (5, 5), factored)
    layer.right.data[0, [1, 2], 0] = layer.right.data[0, [2, 1], 0]
    with pytest.raises(AssertionError, match="nmse"):
        assert_close(run(model, x), expected(layer, x), nmse=1e-7, what="swapped")
