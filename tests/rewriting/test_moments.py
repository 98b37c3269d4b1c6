"""Moments of the inputs of layers, against numpy and against the outputs of the layers in onnxruntime."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgefc.rewriting import moments
from edgefc.rewriting.finding import find
from edgefc.rewriting.moments import Statistics, collect
from tests.support.onnx_models import FLOAT, INT64, write
from tests.support.rewriting_models import drawn, free, linear, looped, node, run, two_branches

RNG = np.random.default_rng(1)


def observed(path: Path, feeds: list[dict[str, Any]]) -> Statistics:
    wanted = list(range(len(find(ir.load(path)))))
    return collect(path, wanted, feeds, functions=False, threads=1)


def check(found: Any, vectors: Any) -> None:
    rows = np.asarray(vectors, np.float64).reshape(-1, len(found.mean))
    assert found.count == len(rows)
    np.testing.assert_allclose(found.mean, rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(rows.T, bias=True), atol=1e-6)


def test_inputs_of_a_product(tmp_path: Path) -> None:
    feeds = [{"x": drawn(2, 5, 4) + 1} for _ in range(3)]
    found = observed(linear(tmp_path / "m.onnx", drawn(3, 4)), feeds)
    check(found.moments[0], np.concatenate([feed["x"] for feed in feeds]))


def test_inputs_of_a_gemm_that_transposes_them(tmp_path: Path) -> None:
    nodes = [node("Gemm", ["x", "w"], ["y"], transA=1)]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [4, "n"])}, {"y": free(2)}, {"w": drawn(4, 3)})
    x = drawn(4, 9)
    check(observed(path, [{"x": x}]).moments[0], x.T)


def test_padding_is_left_out(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Reshape", ["x", "flat"], ["rows"]),
        node("MatMul", ["rows", "w"], ["b"]),
        node("Gather", ["table", "ids"], ["c"]),
        node("Cast", ["attention_mask"], ["d"], to=FLOAT),
    ]
    inputs = {"x": (FLOAT, [2, 3, 4]), "ids": (INT64, [2, 3]), "attention_mask": (INT64, [2, 3])}
    weights = {"w": drawn(4, 3), "table": drawn(5, 2), "flat": np.array([-1, 4])}
    path = write(tmp_path / "m.onnx", nodes, inputs, {"a": free(3), "b": free(2), "c": free(3), "d": free(2)}, weights)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    feed = {"x": drawn(2, 3, 4), "ids": np.array([[4, 4, 0], [-1, 0, 0]]), "attention_mask": mask}
    found = observed(path, [feed])
    check(found.moments[0], feed["x"][mask != 0])
    check(found.moments[1], feed["x"][mask != 0])
    assert found.counts[2].counts.tolist() == [0, 0, 0, 0, 3]


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
)
def test_patches_of_a_convolution_have_the_moments_of_its_outputs(tmp_path: Path, attributes: dict[str, Any]) -> None:
    """The outputs are W patch, so that their mean is W mean and their covariance is W C W^T."""
    weight = drawn(5, 2, 3, 2)
    nodes = [node("Conv", ["x", "w"], ["y"], **attributes)]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [3, 2, 9, 8])}, {"y": free(4)}, {"w": weight})
    feed = {"x": RNG.standard_normal((3, 2, 9, 8)).astype(np.float32) + 1}
    found = observed(path, [feed]).moments[0]
    outputs = np.moveaxis(run(path, feed)["y"], 1, -1).reshape(-1, 5).astype(np.float64)
    rows = weight.reshape(5, -1).astype(np.float64)
    assert found.count == len(outputs)
    np.testing.assert_allclose(rows @ found.mean, outputs.mean(0), atol=1e-5)
    np.testing.assert_allclose(rows @ found.covariance @ rows.T, np.cov(outputs.T, bias=True), atol=1e-5)


def test_one_dimension_and_a_long_input(tmp_path: Path) -> None:
    """Of many positions, every second, third, ... is used."""
    weight = drawn(2, 1, 3)
    nodes = [node("Conv", ["x", "w"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [1, 1, "n"])}, {"y": free(3)}, {"w": weight})
    x = RNG.standard_normal((1, 1, 4002)).astype(np.float32)
    found = observed(path, [{"x": x}]).moments[0]
    check(found, np.lib.stride_tricks.sliding_window_view(x[0, 0], 3)[::3])


def test_a_branch_of_if_is_observed_where_it_runs(tmp_path: Path) -> None:
    path = two_branches(tmp_path / "m.onnx", drawn(4, 3))
    feeds = [{"x": drawn(2, 4), "c": np.array(taken)} for taken in (True, False, True)]
    found = observed(path, feeds)
    names = {place.name: index for index, place in enumerate(find(ir.load(path)))}
    check(found.moments[names["then_product"]], np.maximum(np.concatenate([feeds[0]["x"], feeds[2]["x"]]), 0))
    check(found.moments[names["else_product"]], feeds[1]["x"])
    only = observed(path, feeds[:1])
    assert only.missing == {names["else_product"]: "the calibration data did not reach it"}


def test_the_body_of_a_loop_is_not_observed(tmp_path: Path) -> None:
    found = observed(looped(tmp_path / "m.onnx", drawn(4, 4)), [{"x": drawn(2, 4)}])
    assert found.moments == {} and "Loop" in found.missing[0]


def test_several_runs_within_the_memory_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"], ["y"]), node("MatMul", ["x", "u"], ["z"])]
    weights = {"w": drawn(4, 3), "v": drawn(3, 2), "u": drawn(4, 2)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [5, 4])}, dict.fromkeys("yz", free(2)), weights)
    feeds = [{"x": drawn(5, 4)}]
    whole = observed(path, feeds)
    assert whole.moments[0] is whole.moments[2]  # the same input
    monkeypatch.setattr(moments, "MOST_BYTES", 1)
    runs: list[int] = []
    plain = moments._run
    monkeypatch.setattr(moments, "_run", lambda *given: (runs.append(1), plain(*given)))
    parts = observed(path, feeds)
    assert len(runs) == 2
    for index in range(3):
        np.testing.assert_array_equal(parts.moments[index].scatter, whole.moments[index].scatter)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_types(tmp_path: Path, dtype: Any) -> None:
    code = {np.float16: 10, np.float64: 11}[dtype]
    path = linear(tmp_path / "m.onnx", drawn(3, 4, dtype=dtype), dtype=code)
    x = drawn(2, 5, 4, dtype=dtype)
    check(observed(path, [{"x": x}]).moments[0], x)
