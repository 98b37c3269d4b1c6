"""Products with trained matrices become fitted layers. Planted structures are found exactly, so that the outputs stay.

The oracles are onnxruntime on the source, and float64 products in numpy.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from edgefc import generator
from edgefc.errors import UsageError
from edgefc.plan import PRP, Bilinear, Circulant, EUGen, Int2, Int3, Int4, Int8, LowRank, Monarch
from edgefc.rewriting import replace_file
from tests.support.onnx_models import FLOAT, write
from tests.support.rewriting_models import drawn, free, linear, node, operators, run, two_branches

INT2 = pytest.mark.skipif(
    tuple(map(int, ort.__version__.split(".")[:2])) < (1, 26),
    reason="onnxruntime multiplies 2-bit weights from 1.26 on",
)
RNG = np.random.default_rng(2)
X = {"x": RNG.standard_normal((3, 5, 64)).astype(np.float32)}


def on_grid(bits: int, group: int) -> Any:
    """(48, 64) numbers that codes and float16 scales hold exactly."""
    half = 2 ** (bits - 1)
    codes = RNG.integers(-half, half, (48, 64 // group, group))
    codes[..., 0] = -half
    scales = RNG.choice([0.125, 0.25, 0.0625], (48, 64 // group, 1))
    return (codes * scales).reshape(48, 64).astype(np.float32)


def circulant(block: int) -> Any:
    r, (i, j) = RNG.standard_normal((4, 4, block)), np.indices((block, block))
    blocks = r[:, :, (i - j) % block].transpose(0, 2, 1, 3).reshape(4 * block, 4 * block)
    signs = generator.matrix(0, 1, 4 * block, "rademacher")[0]
    return (blocks * signs).astype(np.float32)


def kronecker() -> Any:
    return np.kron(RNG.standard_normal((8, 8)), RNG.standard_normal((8, 8))).astype(np.float32)


def low_rank() -> Any:
    return (RNG.standard_normal((48, 4)) @ RNG.standard_normal((4, 64))).astype(np.float32)


def eugen() -> Any:
    features = generator.matrix(0, 8, 64, "gaussian") / 8
    return (RNG.standard_normal((48, 8)) @ features).astype(np.float32)


def prp() -> Any:
    entries = generator.matrix(0, 48, 64, "rademacher") / 8
    return (RNG.uniform(0.5, 2, (48, 1)) * entries * RNG.uniform(0.5, 2, 64)).astype(np.float32)


EXACT: dict[str, tuple[Any, Any, list[str]]] = {
    "circulant": (circulant(16), Circulant(block=16), ["CirculantLinear"]),
    "kronecker": (kronecker(), Bilinear(), ["BilinearLinear"]),
    "low rank": (low_rank(), LowRank(rank=4), ["MatMul", "MatMul", "Add"]),
    "eugen": (eugen(), EUGen(features=8), ["EUGenLinear"]),
    "prp": (prp(), PRP(distribution="rademacher"), ["PRPLinear"]),
    "int3": (on_grid(3, 64), Int3(group=64, rotate=False), ["Int3Linear"]),
}


@pytest.mark.parametrize("case", EXACT)
def test_planted_structures_leave_the_outputs_as_they_are(tmp_path: Path, case: str) -> None:
    weight, to, expected = EXACT[case]
    path = linear(tmp_path / "m.onnx", weight, drawn(len(weight)))
    report = replace_file(path, to, tmp_path / "small.onnx")
    (layer,) = report.layers
    assert layer.replaced, layer.reason
    assert layer.output_error is not None and layer.output_error < 1e-5
    assert layer.bytes_before == weight.nbytes and layer.bytes_after < layer.bytes_before
    assert operators(tmp_path / "small.onnx") == expected
    before, after = run(path, X)["y"], run(tmp_path / "small.onnx", X)["y"]
    np.testing.assert_allclose(after, before, atol=1e-4 * np.abs(before).max())


@pytest.mark.parametrize(
    ("bits", "to"),
    [
        (8, Int8(group=32)),
        (4, Int4(group=32, rotate=False)),
        pytest.param(2, Int2(group=32, rotate=False), marks=INT2),
        (4, Int4()),
        (3, Int3()),
    ],
)
def test_quantised_products(tmp_path: Path, bits: int, to: Any) -> None:
    """Without a rotation the weight is on the grid; what remains is the rounding of inputs to int8."""
    weight, bias = on_grid(bits, 32), drawn(48)
    path = linear(tmp_path / "m.onnx", weight, bias)
    report = replace_file(path, to, tmp_path / "small.onnx")
    rotated = getattr(to, "rotate", False)
    expected = X["x"].astype(np.float64) @ weight.T.astype(np.float64) + bias
    error = np.linalg.norm(run(tmp_path / "small.onnx", X)["y"] - expected) / np.linalg.norm(expected)
    assert error < ({4: 0.1, 3: 0.25}[bits] if rotated else 0.01)
    assert report.layers[0].bytes_after == 48 * (64 * bits // 8 + 2 * (64 // min(to.group, 64))) or bits == 3 or rotated
    first = ["HadamardRotation"] if rotated and bits != 3 else []
    assert operators(tmp_path / "small.onnx") == [*first, "Int3Linear" if bits == 3 else "QuantizedLinear"]
    assert report.lowest_onnxruntime == {2: "1.28", 3: ""}.get(bits, "1.22")


@INT2
def test_a_correction_of_low_rank_acts_on_the_inputs_before_the_rotation(tmp_path: Path) -> None:
    weight = 10 * low_rank() + on_grid(2, 32)
    path = linear(tmp_path / "m.onnx", weight, drawn(48))
    before = run(path, X)["y"].astype(np.float64)
    errors = []
    for rank in (0, 4):
        replace_file(path, Int2(rank=rank), tmp_path / "small.onnx")
        errors.append(np.linalg.norm(run(tmp_path / "small.onnx", X)["y"] - before) / np.linalg.norm(before))
    assert errors[1] < 0.1 * errors[0]


@pytest.mark.parametrize("storage", ["half", "int8"])
def test_low_rank_factors_in_fewer_bits(tmp_path: Path, storage: Any) -> None:
    path = linear(tmp_path / "m.onnx", low_rank(), drawn(48))
    report = replace_file(path, LowRank(rank=4, storage=storage), tmp_path / "small.onnx")
    before, after = run(path, X)["y"], run(tmp_path / "small.onnx", X)["y"]
    assert np.linalg.norm(after - before) < {"half": 2e-3, "int8": 2e-2}[storage] * np.linalg.norm(before)
    assert report.layers[0].output_error is not None and report.layers[0].output_error > 0


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("addend", ["(m,)", "(1, m)", "()", "none"])
def test_every_form_of_gemm(tmp_path: Path, transposed: int, addend: str) -> None:
    weight = low_rank()
    c = {"(m,)": drawn(48), "(1, m)": drawn(1, 48), "()": np.float32(2).reshape(()), "none": None}[addend]
    inputs = ["x", "w"] if c is None else ["x", "w", "c"]
    gemm = node("Gemm", inputs, ["y"], alpha=0.5, beta=-2.0, transA=transposed, transB=transposed)
    weights = {"w": weight if transposed else np.ascontiguousarray(weight.T)} | ({} if c is None else {"c": c})
    x = drawn(64, 7) if transposed else drawn(7, 64)
    path = write(tmp_path / "m.onnx", [gemm], {"x": (FLOAT, list(x.shape))}, {"y": free(2)}, weights)
    report = replace_file(path, LowRank(rank=4), tmp_path / "small.onnx")
    assert report.layers[0].replaced, report.layers[0].reason
    before = run(path, {"x": x})["y"]
    np.testing.assert_allclose(run(tmp_path / "small.onnx", {"x": x})["y"], before, atol=1e-4 * np.abs(before).max())
    assert "Gemm" not in operators(tmp_path / "small.onnx")


def test_a_gemm_that_adds_a_computed_matrix_stays(tmp_path: Path) -> None:
    nodes = [node("Gemm", ["x", "w", "c"], ["y"]), node("MatMul", ["y", "v"], ["z"])]
    ports = {"x": (FLOAT, [7, 64]), "c": (FLOAT, [7, 48])}, {"z": free(2)}
    path = write(tmp_path / "m.onnx", nodes, *ports, {"w": low_rank().T.copy(), "v": drawn(48, 32)})
    report = replace_file(path, LowRank(rank=4), tmp_path / "small.onnx")
    assert [layer.reason for layer in report.layers] == ["its Gemm adds a matrix that is not a constant vector", ""]


@pytest.mark.parametrize("output", [True, False])
def test_an_addition_that_is_not_a_bias_stays(tmp_path: Path, output: bool) -> None:
    """The product itself is an output, or has a second use, or what is added has other axes."""
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["y"])]
    outputs = {"y": free(2)} | ({"p": free(2)} if output else {})
    bias = drawn(48) if output else drawn(7, 48)
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [7, 64])}, outputs, {"w": low_rank().T.copy(), "b": bias})
    replace_file(path, LowRank(rank=4), tmp_path / "small.onnx")
    x = {"x": drawn(7, 64)}
    before, after = run(path, x), run(tmp_path / "small.onnx", x)
    assert list(before) == list(after)
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, atol=1e-4 * np.abs(value).max())


def test_products_of_one_input_share_its_rotation_and_products_of_one_weight_its_codes(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("MatMul", ["h", "q"], ["a"]),
        node("MatMul", ["h", "k"], ["b"]),
        node("MatMul", ["x", "k"], ["c"]),
    ]
    outputs = dict.fromkeys("abc", free(2))
    weights = {"q": drawn(64, 48), "k": drawn(64, 48)}
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, ["n", 64])}, outputs, weights)
    x = {"x": drawn(40, 64)}
    report = replace_file(path, Int4(), tmp_path / "small.onnx", calibration=x)
    assert operators(tmp_path / "small.onnx").count("HadamardRotation") == 2
    codes = [t.name for t in onnx.load(tmp_path / "small.onnx").graph.initializer if ".codes" in t.name]
    assert len(codes) == 2 and [layer.samples for layer in report.layers] == [32, 64]
    for name, value in run(path, x).items():
        assert np.linalg.norm(run(tmp_path / "small.onnx", x)[name] - value) < 0.12 * np.linalg.norm(value)


def test_products_in_the_branches_of_if(tmp_path: Path) -> None:
    path = two_branches(tmp_path / "m.onnx", low_rank().T.copy())
    replace_file(
        path, [*_rules({"then_product": LowRank(rank=4), "else_product": Int8(group=32)})], tmp_path / "s.onnx"
    )
    for taken in (True, False):
        feeds = {"x": drawn(3, 64), "c": np.array(taken)}
        before, after = run(path, feeds)["y"], run(tmp_path / "s.onnx", feeds)["y"]
        assert np.linalg.norm(after - before) < (1e-5 if taken else 2e-2) * np.linalg.norm(before)


@pytest.mark.parametrize(("dtype", "code", "bound"), [(np.float16, 10, 2e-2), (np.float64, 11, 1e-2)])
def test_other_float_types_are_cast(tmp_path: Path, dtype: Any, code: int, bound: float) -> None:
    weight = on_grid(4, 32).astype(dtype)
    path = linear(tmp_path / "m.onnx", weight, drawn(48, dtype=dtype), dtype=code)
    replace_file(path, Int4(group=32, rotate=False), tmp_path / "small.onnx")
    x = {"x": X["x"].astype(dtype)}
    before, after = run(path, x)["y"], run(tmp_path / "small.onnx", x)["y"]
    assert after.dtype == dtype
    assert np.linalg.norm((after - before).astype(np.float64)) < bound * np.linalg.norm(before.astype(np.float64))


def test_a_weight_behind_other_operators(tmp_path: Path) -> None:
    """Stored in float16 and transposed; the stored tensor goes."""
    nodes = [
        node("Cast", ["w"], ["wide"], to=FLOAT),
        node("Transpose", ["wide"], ["turned"]),
        node("Identity", ["turned"], ["same"]),
        node("MatMul", ["x", "same"], ["y"]),
    ]
    weight = low_rank().astype(np.float16)
    path = write(tmp_path / "m.onnx", nodes, {"x": (FLOAT, [7, 64])}, {"y": free(2)}, {"w": weight})
    report = replace_file(path, Int8(group=64), tmp_path / "small.onnx")
    assert report.layers[0].bytes_before == weight.nbytes
    assert operators(tmp_path / "small.onnx") == ["QuantizedLinear"]
    x = {"x": drawn(7, 64)}
    before = run(path, x)["y"]
    assert np.linalg.norm(run(tmp_path / "small.onnx", x)["y"] - before) < 2e-2 * np.linalg.norm(before)


def test_a_fit_to_the_inputs_beats_a_fit_to_the_weights(tmp_path: Path) -> None:
    """Inputs with a mean, on a subspace and some noise."""
    path = linear(tmp_path / "m.onnx", drawn(48, 64))
    basis = RNG.standard_normal((8, 64))

    def inputs() -> Any:
        return (RNG.standard_normal((40, 5, 8)) @ basis + 0.1 * RNG.standard_normal((40, 5, 64)) + 1).astype(np.float32)

    data, fresh = {"x": inputs()}, {"x": inputs()}
    before, errors = run(path, fresh)["y"].astype(np.float64), {}
    for name, given in (("weights", None), ("inputs", data)):
        report = replace_file(path, LowRank(rank=8), tmp_path / "small.onnx", calibration=given)
        errors[name] = np.linalg.norm(run(tmp_path / "small.onnx", fresh)["y"] - before)
    assert errors["inputs"] < 0.2 * errors["weights"]
    assert report.layers[0].samples == 32 * 5
    assert 0 < report.outputs[0].nmse < 0.05


@pytest.mark.parametrize("to", [Monarch(blocks=4), PRP(distribution="hadamard"), PRP(rank=4)])
def test_the_file_computes_what_the_report_says(tmp_path: Path, to: Any) -> None:
    """For white inputs the relative error of the outputs is that of the fit."""
    path = linear(tmp_path / "m.onnx", drawn(48, 64))
    report = replace_file(path, to, tmp_path / "small.onnx")
    x = {"x": RNG.standard_normal((40, 50, 64)).astype(np.float32)}
    before = run(path, x)["y"].astype(np.float64)
    error = np.linalg.norm(run(tmp_path / "small.onnx", x)["y"] - before) / np.linalg.norm(before)
    assert error == pytest.approx(report.layers[0].output_error, rel=0.03)


def _rules(given: dict[str, Any]) -> Any:
    from edgefc.plan import Rule

    return [Rule(match, to=to) for match, to in given.items()]


def test_int2_with_an_older_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "__version__", "1.22.1")
    path = linear(tmp_path / "m.onnx", drawn(48, 64))
    with pytest.raises(UsageError, match=r"Int2 needs onnxruntime 1.28, and 1.22.1 is installed"):
        replace_file(path, Int2(), tmp_path / "small.onnx")
    assert replace_file(path, Int4(), tmp_path / "small.onnx").layers[0].replaced
