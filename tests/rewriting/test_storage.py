"""Weights in float16 and 8 bits, for every operator, against onnxruntime on the source."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgefc.plan import Half, Int8, Rule
from edgefc.rewriting import replace_file
from tests.support.onnx_models import FLOAT, write
from tests.support.rewriting_models import drawn, free, looped, node, operators, run, tied

RNG = np.random.default_rng(5)
SEQUENCE, IMAGE = (FLOAT, [5, 2, 16]), (FLOAT, [2, 8, 9, 9])
LSTM = {"w": drawn(1, 64, 16), "r": drawn(1, 64, 16)}
CASES: dict[str, tuple[Any, tuple[int, list[int]], dict[str, Any]]] = {
    "Conv": (node("Conv", ["x", "w"], ["y"]), IMAGE, {"w": drawn(16, 8, 3, 3)}),
    "Conv with groups": (
        node("Conv", ["x", "w", "b"], ["y"], group=4),
        IMAGE,
        {"w": drawn(16, 2, 3, 3), "b": drawn(16)},
    ),
    "ConvTranspose": (node("ConvTranspose", ["x", "w"], ["y"]), IMAGE, {"w": drawn(8, 16, 3, 3)}),
    "LSTM": (node("LSTM", ["x", "w", "r"], ["", "y"], hidden_size=16, name="cell"), SEQUENCE, LSTM),
    "GRU": (
        node("GRU", ["x", "w", "r"], ["", "y"], hidden_size=16, direction="bidirectional", name="cell"),
        SEQUENCE,
        {"w": drawn(2, 48, 16), "r": drawn(2, 48, 16)},
    ),
    "a batch of matrices": (node("MatMul", ["x", "w"], ["y"]), SEQUENCE, {"w": drawn(5, 16, 24)}),
    "from the left": (node("MatMul", ["w", "x"], ["y"]), SEQUENCE, {"w": drawn(24, 2)}),
    "Gemm from the left": (node("Gemm", ["w", "x"], ["y"], transA=1), (FLOAT, [16, 8]), {"w": drawn(16, 24)}),
}


def made(folder: Path, case: str, opset: int = 20) -> Path:
    each, port, weights = CASES[case]
    return write(folder / "m.onnx", [each], {"x": port}, {"y": free(_rank(each, port))}, weights, opsets={"": opset})


def _rank(each: Any, port: tuple[int, list[int]]) -> int:
    return 3 if each.op_type in ("LSTM", "GRU") else len(port[1])


def error(path: Path, other: Path) -> float:
    shape = [d.dim_value for d in onnx.load(path).graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    before, after = run(path, feeds)["y"].astype(np.float64), run(other, feeds)["y"]
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


@pytest.mark.parametrize(("to", "bound", "ratio"), [(Half(), 1e-3, 0.51), (Int8(), 1.5e-2, 0.32)])
@pytest.mark.parametrize("case", CASES)
def test_every_operator(tmp_path: Path, case: str, to: Any, bound: float, ratio: float) -> None:
    path = made(tmp_path, case)
    report = replace_file(path, to, tmp_path / "small.onnx")
    assert all(layer.replaced for layer in report.layers), report.layers
    assert report.weights_after <= ratio * report.weights_before + 64
    assert 0 < error(path, tmp_path / "small.onnx") < bound
    held = {t.name for t in onnx.load(tmp_path / "small.onnx").graph.initializer}
    assert not held & set(CASES[case][2]) - {"b"}, "a replaced tensor is still stored"


@pytest.mark.parametrize(("case", "axis"), [("ConvTranspose", 1), ("LSTM", 1), ("Gemm from the left", 1), ("Conv", 0)])
def test_scales_follow_the_outputs(tmp_path: Path, case: str, axis: int) -> None:
    """Weights of outputs with very different sizes keep their accuracy, whatever axis the outputs are on."""
    each, port, weights = CASES[case]
    place = list(each.input).index("w")
    size, axes = weights["w"].shape[axis], weights["w"].ndim
    factors = RNG.permutation(np.logspace(-2, 1, size)).reshape([-1 if a == axis else 1 for a in range(axes)])
    scaled = {**weights, "w": (weights["w"] * factors).astype(np.float32)}
    path = write(tmp_path / "m.onnx", [each], {"x": port}, {"y": free(_rank(each, port))}, scaled)
    replace_file(path, Rule(type=each.op_type, to=Int8()), tmp_path / "small.onnx")
    made = onnx.load(tmp_path / "small.onnx")
    name = next(node.input[place] for node in made.graph.node if node.op_type == each.op_type)
    made.graph.output.append(onnx.helper.make_tensor_value_info(name, *free(axes)))
    onnx.save(made, tmp_path / "shown.onnx")
    stored = run(tmp_path / "shown.onnx", {"x": np.zeros(port[1], np.float32)})[name]
    errors = np.linalg.norm(np.moveaxis(stored - scaled["w"], axis, 0).reshape(size, -1), axis=1)
    sizes = np.linalg.norm(np.moveaxis(scaled["w"], axis, 0).reshape(size, -1), axis=1)
    assert (errors < 0.01 * sizes).all()


@pytest.mark.parametrize(("dtype", "code"), [(np.float16, 10), (np.float64, 11)])
def test_other_float_types(tmp_path: Path, dtype: Any, code: int) -> None:
    weight = drawn(16, 24, dtype=dtype)
    nodes = [node("MatMul", ["w", "x"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (code, [24, 3])}, {"y": free(2, code)}, {"w": weight})
    replace_file(path, Int8(), tmp_path / "small.onnx")
    x = drawn(24, 3, dtype=dtype)
    np.testing.assert_allclose(run(tmp_path / "small.onnx", {"x": x})["y"], run(path, {"x": x})["y"], atol=2e-2)
    if dtype is np.float64:
        replace_file(path, Half(), tmp_path / "half.onnx")
        np.testing.assert_allclose(run(tmp_path / "half.onnx", {"x": x})["y"], run(path, {"x": x})["y"], atol=1e-3)


def test_old_opsets_stay(tmp_path: Path) -> None:
    path = made(tmp_path, "Conv", opset=9)
    report = replace_file(path, Int8(), tmp_path / "small.onnx")
    assert report.opset == 9 and error(path, tmp_path / "small.onnx") < 1.5e-2


def test_a_tied_table_is_stored_once(tmp_path: Path) -> None:
    table = drawn(64, 32)
    path = tied(tmp_path / "m.onnx", table)
    report = replace_file(path, Int8(), tmp_path / "small.onnx")
    (layer,) = report.layers
    assert layer.names == ("embed", "head") and layer.bytes_before == table.nbytes
    ids = {"ids": np.arange(12).reshape(2, 6)}
    before, after = run(path, ids)["y"], run(tmp_path / "small.onnx", ids)["y"]
    assert np.linalg.norm(after - before) < 0.02 * np.linalg.norm(before)


def test_a_weight_in_the_body_of_a_loop(tmp_path: Path) -> None:
    path = looped(tmp_path / "m.onnx", drawn(16, 16))
    replace_file(path, Half(), tmp_path / "small.onnx")
    x = {"x": drawn(2, 16)}
    np.testing.assert_allclose(run(tmp_path / "small.onnx", x)["y"], run(path, x)["y"], atol=1e-3)
    assert "Cast" in operators(tmp_path / "small.onnx")


def test_calibration_makes_convolutions_better_and_corrects_the_mean(tmp_path: Path) -> None:
    """Inputs with a mean and correlated channels, as after a ReLU."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((8, 8))

    def inputs(count: int) -> Any:
        x = np.einsum("ij,bjhw->bihw", mix, rng.standard_normal((count, 8, 9, 9))) + 2
        return np.maximum(x, 0).astype(np.float32)

    path = made(tmp_path, "Conv")
    data = {"x": inputs(100)}
    plain = replace_file(path, Int8(group=256), tmp_path / "plain.onnx")
    fitted = replace_file(path, Int8(group=256), tmp_path / "fitted.onnx", calibration=data)
    assert plain.outputs == () and fitted.layers[0].samples == 80 * 49
    fresh = {"x": inputs(2)}
    before = run(path, fresh)["y"].astype(np.float64)
    errors = {}
    for name in ("plain", "fitted"):
        change = run(tmp_path / f"{name}.onnx", fresh)["y"] - before
        errors[name] = np.linalg.norm(change)
    assert errors["fitted"] < 0.6 * errors["plain"]


def test_what_float16_cannot_hold_stays_with_the_reason(tmp_path: Path) -> None:
    weights = {"w": drawn(4, 8) * 1e6, "v": drawn(8, 4)}
    nodes = [node("MatMul", ["x", "w"], ["h"], name="large"), node("MatMul", ["h", "v"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [2, 4])}, {"y": free(2)}, weights)
    report = replace_file(path, Half(), tmp_path / "small.onnx")
    large, other = report.layers
    assert not large.replaced and "float16 holds numbers up to 65504" in large.reason
    assert large.bytes_after == large.bytes_before and other.replaced
