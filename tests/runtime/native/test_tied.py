"""The native kernel of TiedFFN in onnxruntime: each variant against float64, hostile models, what Session says."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special

from edgefc import TiedFFN
from edgefc.errors import ModelError
from edgefc.export import export
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.runtime import Session, native, profile
from edgefc.runtime.native import build
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.layers.tied.test_ffn import expected
from tests.support import native_models
from tests.support.native_models import CPUS, inputs, run, session, without_body

SIZES = (
    (1, 1), (1, 5), (5, 1), (7, 3), (17, 37), (61, 97), (64, 64), (384, 100), (100, 768), (2100, 70), (4100, 33),
    (16411, 9), (33000, 5),
)  # fmt: skip
BATCHES = (0, 1, 2, 3, 5, 6, 7, 8, 13, 16, 48, 49, 65)
GELU = list(ACTIVATIONS).index("gelu")

EXACT: dict[str, Any] = {  # without the cancellation of the formulas as they are written
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * special.ndtr(x),
    "gelu_tanh": lambda x: x * special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),
    "silu": lambda x: x * special.expit(x),
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(0, x),
    "sin": np.sin,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, library: str) -> str:
    return native_models.choose_cpu(request.param, monkeypatch, library)


@pytest.fixture
def loaded(library: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Session loads the library of this test."""
    monkeypatch.setattr(native, "library_path", lambda: library)
    return library


def make(d: int, h: int, activation: str = "gelu", **options: Any) -> TiedFFN:
    torch.manual_seed(d * 31 + h)
    return TiedFFN(d, h, activation, **options).eval()


# ---- values


@pytest.mark.parametrize(("d", "h"), SIZES)
def test_every_size_and_batch_against_float64(cpu: str, library: str, d: int, h: int) -> None:
    layer = make(d, h)
    kernel, longest = session(without_body(layer, d), library), inputs(BATCHES[-1], d)
    wanted = expected(layer, longest)
    for rows in BATCHES:
        y = run(kernel, longest[:rows])
        assert y.shape == (rows, d) and y.dtype == np.float32
        if rows:
            assert_close(y, wanted[:rows], nmse=1e-12, what=f"batch {rows}")


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_number_by_number(cpu: str, library: str, activation: str) -> None:
    """W = 1 and no bias: the function itself, from the smallest numbers to far beyond its bends."""
    layer = make(1, 1, activation, bias=False)
    layer.weight.data[:] = 1
    sizes = np.concatenate([np.linspace(0, 12, 4001), np.logspace(-30, 5, 2001)]).astype(np.float32)
    x = np.concatenate([sizes, -sizes])[:, None]

    y = run(session(without_body(layer, 1), library), x)

    np.testing.assert_allclose(y, EXACT[activation](x.astype(np.float64)), rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_the_body_has_the_same_answers(cpu: str, library: str, activation: str) -> None:
    for d, h in ((31, 130), (130, 31)):
        layer, x = make(d, h, activation), inputs(9, d)
        y = run(session(without_body(layer, d), library), x)
        assert_close(y, expected(layer, x), nmse=1e-12, what=activation)
        assert_close(y, run_onnxruntime(layer_model(layer, d), x), nmse=1e-12, what=f"{activation}, body")


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_where_a_dense_layer_sends_it(
    cpu: str, library: str, activation: str, value: float
) -> None:
    layer = make(37, 41, activation)
    for rows in (1, 9):
        x = inputs(rows, 37)
        x[0, 36] = value
        y, wanted = run(session(without_body(layer, 37), library), x), expected(layer, x)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
        np.testing.assert_array_equal(np.isinf(y) * np.sign(y), np.isinf(wanted) * np.sign(wanted))


def test_any_leading_axes(library: str) -> None:
    layer, x = make(24, 40), inputs(30, 24)
    model = layer_model(layer, 24, leading=("a", "b", "c"))
    y = run_onnxruntime(model, x.reshape(2, 3, 5, 24))
    model = without_body(layer, 24)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    kernel = session(model, library)

    assert_close(run(kernel, x.reshape(2, 3, 5, 24)), y, nmse=1e-12, what="three axes")
    assert run(kernel, x[0]).shape == (24,)
    assert run(kernel, x[:0].reshape(4, 0, 24)).shape == (4, 0, 24)


@pytest.mark.parametrize("rows", [1, 33, 100])
def test_threads_change_no_bit(library: str, rows: int) -> None:
    """onnxruntime's threads within a run, and several runs of one session at the same time."""
    layer, x = make(700, 900), inputs(rows, 700)
    native_models.check_threads(without_body(layer, 700), library, x)


# ---- hostile models

HOSTILE = [
    ({"d_model": -3}, "d_model is -3, not from 1 to 2147483647."),
    ({"d_hidden": 0}, "d_hidden is 0, not from 1 to 2147483647."),
    ({"d_hidden": 2**62}, "d_hidden is 4611686018427387904, not from 1 to 2147483647."),
    ({"d_model": 2**31 - 1, "d_hidden": 2**31 - 1}, "weight has shape (9, 4), not (2147483647, 2147483647)."),
    ({"d_model": 9, "d_hidden": 4}, "weight has shape (9, 4), not (4, 9)."),
    ({"activation": -1}, "activation is -1, not from 0 to 8."),
    ({"activation": 9}, "activation is 9, not from 0 to 8."),
    ({"activation": 2**32}, "activation is 4294967296, not from 0 to 8."),
    ({"activation": "gelu"}, "the attribute activation is missing or not an integer."),
    ({"d_model": None}, "the attribute d_model is missing or not an integer."),
]


@pytest.mark.parametrize(("changed", "said"), HOSTILE)
def test_one_sentence_with_layer_and_values(library: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match="edgefc::TiedFFN") as caught:
        session(without_body(make(4, 9), 4, **changed), library)
    assert str(caught.value).endswith(f"edgefc::TiedFFN encoder.fc1: {said}")


@pytest.mark.parametrize("name", ["weight", "bias_in", "bias_out"])
def test_weights_of_another_shape(library: str, name: str) -> None:
    """Constants are refused when the file is loaded, what is fed with each run then."""
    model = without_body(make(4, 9), 4)
    (stored,) = (weight for weight in model.graph.initializer if weight.name == name)
    stored.CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 4, 2), np.float32), name))
    with pytest.raises(Exception, match=rf"encoder\.fc1: {name} has shape \(3, 4, 2\), not \("):
        session(model, library)
    model.graph.initializer.remove(stored)
    model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    kernel = session(model, library)
    with pytest.raises(Exception, match=rf"encoder\.fc1: {name} has shape \(2,\), not \("):
        kernel.run(None, {"x": inputs(2, 4), name: np.ones(2, np.float32)})


def test_a_weight_that_is_fed(library: str) -> None:
    layer, x = make(40, 60), inputs(7, 40)
    model = without_body(layer, 40)
    (stored,) = (weight for weight in model.graph.initializer if weight.name == "weight")
    model.graph.initializer.remove(stored)
    model.graph.input.append(onnx.helper.make_tensor_value_info("weight", onnx.TensorProto.FLOAT, None))
    y = session(model, library).run(None, {"x": x, "weight": layer.weight.detach().numpy()})[0]

    assert_close(y, expected(layer, x), nmse=1e-12, what="fed")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changed=st.dictionaries(
        st.sampled_from(["d_model", "d_hidden", "activation"]),
        st.integers(-1, 12) | st.integers(-(2**63), 2**63 - 1),
    ),
    x=st.lists(st.integers(0, 6), max_size=4),
)
def test_whatever_the_attributes_nothing_crashes(library: str, changed: dict[str, int], x: list[int]) -> None:
    model = without_body(make(4, 9), 4, **changed)
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.ClearField("shape")
    said = "edgefc::TiedFFN encoder.fc1"
    try:
        run(session(model, library), np.ones(x, np.float32))
    except Exception as error:
        said = str(error)
    assert "edgefc::TiedFFN encoder.fc1" in said


# ---- the session


@torch.no_grad()
def test_one_file_with_and_without(loaded: str, tmp_path: Path) -> None:
    layer, x = make(60, 50), inputs(3, 60)
    export(layer, torch.from_numpy(x), tmp_path / "m.onnx", verify=False)
    for mode in ("auto", "on", "off"):
        opened = Session(tmp_path / "m.onnx", native=mode)
        assert opened.native_variant is None if mode == "off" else opened.native_variant in CPUS
        (y,) = opened.run({opened.inputs[0].name: x}).values()
        assert_close(y, expected(layer, x), nmse=1e-12, what=mode)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_run_by_their_bodies(loaded: str, tmp_path: Path, dtype: torch.dtype) -> None:
    layer, x = make(60, 50, "relu", dtype=dtype), torch.randn(3, 60, dtype=dtype)
    export(layer, x, tmp_path / "m.onnx", verify=False)

    assert Session(tmp_path / "m.onnx").native_variant is None
    with pytest.raises(ModelError, match=r"its operator TiedFFN has an input of type (double|float16)"):
        Session(tmp_path / "m.onnx", native="on")


@pytest.mark.slow
def test_the_weights_are_held_once(library: str, tmp_path: Path) -> None:
    """2048 to 8192, 64 MB that the runtime maps: no packed copy, in the preset that packs."""
    if Path(library).resolve() != build.HERE / native.NAME:
        pytest.skip("child processes look for the installed library")
    layer = make(2048, 8192)
    export(layer, torch.randn(2, 2048), tmp_path / "tied.onnx", verify=False)
    record = profile(
        tmp_path / "tied.onnx", batch=[1, 64], preset="latency", native="on", min_time_s=0.02, processes=1, rounds=1,
        launches=1, progress=False,
    )  # fmt: skip
    weights = sum(p.numel() * p.element_size() for p in layer.parameters())
    for cell in record.cells:
        peak = cell.peak_above_baseline_bytes
        assert peak is not None
        assert 0.95 * weights < peak < 1.2 * weights, f"batch {cell.batch}: {peak / weights:.2f}"
