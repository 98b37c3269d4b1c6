"""QuantizedLinear exported: against the fit in float64 at the edges, with weights of the full range, and verified."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from edgefc import QuantizedLinear
from edgefc.errors import CheckFailed, ModelError
from edgefc.export import export, verify
from edgefc.export.verifying.int8 import round_no_inputs
from edgefc.layers.quantized.packing import GROUPS
from edgefc.runtime import Session
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.layers.quantized.test_linear import fit_of
from tests.support import arm64, avx2, stored_models
from tests.support import layer_models as models

EXACT, ROUNDED = 1e-11, 1e-3
EDGES = [(1, 1), (5, 1), (1, 5), (61, 31), (40, 7), (128, 128), (384, 768), (768, 384)]
CASES = [
    (n, m, bits, (16, 32, 128)[(place + bits // 4) % 3]) for place, (n, m) in enumerate(EDGES) for bits in (2, 4, 8)
]


def case(n: int, m: int, bits: int, group: int) -> tuple[QuantizedLinear, NDArray[Any], NDArray[np.float64]]:
    fit = fit_of(n, m, bits, group)
    x = models.inputs(5, n)
    assert fit.bias is not None
    return QuantizedLinear.from_fit(fit, nn.Linear(n, m)), x, x.astype(np.float64) @ fit.dense().T + fit.bias


@pytest.mark.parametrize(("n", "m", "bits", "group"), CASES)
def test_both_bodies(n: int, m: int, bits: int, group: int) -> None:
    """Codes of the full range; one row, several rows, none. MatMulNBits also without its rounding."""
    layer, x, y = case(n, m, bits, group)
    exact = layer_model(layer, n)
    assert round_no_inputs(exact)
    for model, bound in (
        (layer_model(layer, n), ROUNDED),
        (exact, EXACT),
        (layer_model(layer, n, body="dequantized"), EXACT),
    ):
        for rows in (1, 5):
            assert_close(run_onnxruntime(model, x[:rows]), y[:rows], nmse=bound, what=f"{rows} rows")
        assert run_onnxruntime(model, x[:0]).shape == (0, m)


def test_the_reference_evaluator_runs_the_standard_body() -> None:
    layer, x, y = case(40, 7, 4, 32)
    assert_close(run_reference(layer_model(layer, 40, body="dequantized"), x), y, nmse=EXACT, what="reference")


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_are_multiplied_in_float32(dtype: Any) -> None:
    layer, x, y = case(40, 7, 8, 32)
    typed = layer.half() if dtype == np.float16 else layer.double()
    found = run_onnxruntime(layer_model(typed, 40), x.astype(dtype))
    assert found.dtype == dtype
    assert_close(found, y, nmse=ROUNDED, what=str(dtype))


# ---- verify


def changed(path: Path, change: Any) -> Path:
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return path


@pytest.fixture
def exported(tmp_path: Path) -> tuple[nn.Module, torch.Tensor, Path]:
    torch.manual_seed(0)
    layers = QuantizedLinear(64, 48, bits=4, seed=1), nn.GELU(), QuantizedLinear(48, 24, bits=8, group=16)
    model, x = nn.Sequential(*layers).eval(), torch.randn(4, 64)
    export(model, x, tmp_path / "m.onnx")
    return model, x, tmp_path / "m.onnx"


def test_verify_reports_the_rounding_and_bounds_the_rest(exported: Any) -> None:
    model, x, path = exported
    report = verify(path, model, x)
    assert report.holds
    assert report.int8 is not None
    assert 1e-7 < report.int8 < 1e-3
    assert all(output.bound == 1e-9 and output.nmse < 1e-10 for output in report.outputs)
    assert "rounding the inputs of quantised layers to int8 causes" in report.sentence()


@pytest.mark.slow
@pytest.mark.parametrize("weight", ["0.codes", "0.scales", "0.bias", "2.codes"])
def test_verify_finds_one_wrong_number_that_the_rounding_would_hide(exported: Any, weight: str) -> None:
    model, x, path = exported

    def change(file: onnx.ModelProto) -> None:
        (tensor,) = (each for each in file.graph.initializer if each.name == weight)
        values = onnx.numpy_helper.to_array(tensor).copy()
        values.flat[0] += 1 if values.dtype == np.uint8 else values.dtype.type(0.004)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, weight))

    report = verify(changed(path, change), model, x)
    assert not report.holds
    assert report.worst.differs
    assert report.parts_at == weight.partition(".")[0]


def test_verify_fails_if_the_rounding_is_too_coarse(tmp_path: Path) -> None:
    """Inputs of which one is far larger than the others, which the product does not use."""
    layer = QuantizedLinear(32, 8, bits=4).eval()
    layer.codes[..., 0] = layer.codes[..., 0] & 0xF0 | 8  # 0 for the first input
    x = torch.cat([torch.full((4, 1), 1e4), torch.randn(4, 31)], 1)
    with pytest.raises(CheckFailed, match=r'bodies=\{"QuantizedLinear": "dequantized"\}'):
        export(layer, x, tmp_path / "m.onnx")
    assert export(layer, x, tmp_path / "m.onnx", bodies={"QuantizedLinear": "dequantized"}).verified is not None


@pytest.mark.parametrize("flat", [False, True])
def test_runs_in_a_session(tmp_path: Path, flat: bool) -> None:
    layer, x, y = case(384, 96, 4, 32)
    report = export(layer, torch.from_numpy(x), tmp_path / "m.onnx", flat=flat)
    assert report.layers == ("QuantizedLinear",)
    assert report.file_bytes < 0.16 * 4 * 384 * 96 + 16_000
    (found,) = Session(tmp_path / "m.onnx").run({"x": x}).values()
    assert_close(found, y, nmse=ROUNDED, what="session")


def test_bits_that_no_runtime_has(tmp_path: Path) -> None:
    def change(file: onnx.ModelProto) -> None:
        (bits,) = (each for each in file.graph.node[0].attribute if each.name == "bits")
        bits.i = 3

    layer, x, _ = case(40, 7, 4, 32)
    export(layer, torch.from_numpy(x), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="bits 3"):
        Session(changed(tmp_path / "m.onnx", change))


# ---- other processors


def processors() -> dict[str, tuple[ir.Model, NDArray[Any], NDArray[np.float64]]]:
    """All groups and bits, with codes of the full range and inputs whose products are as large as possible."""
    found = {}
    for bits in (2, 4, 8):
        for group in GROUPS:
            layer, _, _ = case(320, 67, bits, group)
            x = np.concatenate([np.ones((1, 320)), np.tile([1, -1], (1, 160)), models.inputs(3, 320)]).astype("f")
            y = (torch.from_numpy(x).double() @ layer.double().dense().T).numpy()
            y = y + layer.bias.detach().numpy()  # type: ignore[union-attr]
            found[f"{bits} bits, groups of {group}"] = layer_model(layer.float(), 320), x, y
    return found


@pytest.mark.slow
def test_is_right_with_avx2_alone(tmp_path: Path) -> None:
    """Kernels for int8 can saturate where there is no VNNI."""
    avx2.qemu()
    cases = processors()
    for number, (model, _, _) in enumerate(cases.values()):
        ir.save(model, tmp_path / f"{number}.onnx")
    x = next(iter(cases.values()))[1]
    todo = {str(number): avx2.Model(tmp_path / f"{number}.onnx", native="off") for number in range(len(cases))}
    found, _ = avx2.answers(todo, x, tmp_path)
    for outputs, (name, (_, _, y)) in zip(found.values(), cases.items(), strict=True):
        for output in outputs:
            assert_close(output, y[: len(output)], nmse=ROUNDED, what=name)


@pytest.mark.slow
def test_is_right_on_arm64(tmp_path: Path) -> None:
    """All groups and bits, and the other layers with stored weights. test_arm64.py has the kernels."""
    bounds, given = [], []
    for name, (model, x, y) in processors().items():
        given.append(arm64.Case(ir.to_proto(model).SerializeToString(), [x], [y], name))
        bounds.append(ROUNDED)
    (tmp_path / "files").mkdir()
    for case, path, x, y in stored_models.files(tmp_path / "files"):
        given.append(arm64.Case(path.read_bytes(), [x], [y], case.name))
        bounds.append(case.bound)
    found = arm64.answers(given, ["portable"], tmp_path, None)
    for number, (one, bound) in enumerate(zip(given, bounds, strict=True)):
        assert_close(found["portable", number, 0], one.expected[0], nmse=bound, what=one.what)
