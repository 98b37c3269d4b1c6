"""The native kernel of EUGenLinear in onnxruntime: each variant against float64, hostile models, what Session says."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from edgefc import EUGenLinear, generator
from edgefc.errors import ModelError
from edgefc.export import export
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.runtime import Session, native
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.support import eugen_models, native_models
from tests.support.native_models import CPUS, inputs, run, session, without_body

SIZES = (  # inputs, outputs, features
    (1, 1, 1), (2, 3, 5), (7, 5, 16), (31, 33, 17), (64, 64, 64), (63, 130, 33), (129, 65, 70), (300, 401, 9),
    (17, 70, 300), (1009, 13, 61), (4099, 9, 3),
)  # fmt: skip
BATCHES = (0, 1, 2, 3, 5, 6, 7, 13, 48, 49, 65)
STRUCTURES: tuple[dict[str, Any], ...] = (
    {}, {"one": True}, {"norm": False}, {"norm": False, "one": True}, {"order": 2}, {"order": 2, "shared": False},
    {"order": 5, "one": True, "features": 3}, {"order": 4, "shared": False, "features": 21},
    {"order": 32, "features": 2},
)  # fmt: skip


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


def make(n: int, m: int, **options: Any) -> EUGenLinear:
    torch.manual_seed(n * 31 + m)
    layer = EUGenLinear(n, m, **{"seed": 3, "features": 9, **options}).eval()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


# ---- values


@pytest.mark.parametrize(("n", "m", "features"), SIZES)
def test_every_size_and_batch_against_float64(cpu: str, library: str, n: int, m: int, features: int) -> None:
    layer = make(n, m, features=features)
    kernel, longest = session(without_body(layer, n), library), inputs(BATCHES[-1], n)
    wanted = eugen_models.expected(layer, longest)
    for rows in BATCHES:
        y = run(kernel, longest[:rows])
        assert y.shape == (rows, m) and y.dtype == np.float32
        if rows:
            assert_close(y, wanted[:rows], nmse=1e-12, what=f"batch {rows}")


@pytest.mark.parametrize("options", STRUCTURES, ids=str)
def test_every_structure(cpu: str, library: str, options: dict[str, Any]) -> None:
    layer = make(37, 29, activation="tanh", **options)
    kernel = session(without_body(layer, 37), library)
    for rows in (1, 9):
        x = inputs(rows, 37)
        y = run(kernel, x)
        assert_close(y, eugen_models.expected(layer, x), nmse=1e-12, what=f"{rows} rows")


@pytest.mark.parametrize("options", [{}, {"order": 3, "shared": False, "one": True}], ids=str)
def test_the_body_has_the_same_answers(library: str, options: dict[str, Any]) -> None:
    layer, x = make(37, 29, activation="gelu", **options), inputs(9, 37)
    y = run(session(without_body(layer, 37), library), x)
    assert_close(y, run_onnxruntime(layer_model(layer, 37), x), nmse=1e-12, what="body")


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation(cpu: str, library: str, activation: str) -> None:
    layer, x = make(40, 30, activation=activation, features=50), inputs(5, 40)
    y = run(session(without_body(layer, 40), library), x)
    assert_close(y, eugen_models.expected(layer, x), nmse=1e-12, what=activation)


@pytest.mark.parametrize("seed", [0, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize("distribution", generator.CODEBOOKS)
def test_the_kernel_makes_the_seeded_matrix(cpu: str, library: str, distribution: str, seed: int) -> None:
    """Fed the identity, with the identity behind it, the model answers with numpy's matrix to the bit."""
    layer = EUGenLinear(
        64, 50, features=50, activation="identity", norm=False, distribution=distribution, seed=seed, bias=False
    )
    layer.weight.data = 8 * torch.eye(50)  # G is scaled by 1 / sqrt(64)
    kernel, x = session(without_body(layer, 64), library), np.eye(64, dtype=np.float32)
    wanted = generator.matrix(seed, 50, 64, distribution)

    np.testing.assert_array_equal(run(kernel, x).T, wanted)
    np.testing.assert_array_equal(run(kernel, x[9:10])[0], wanted[:, 9])


def test_a_matrix_that_is_too_large_to_keep(cpu: str, library: str) -> None:
    """Codes of 8 bits beyond kMostStored: made again in each run, as all others are."""
    layer, x = make(2100, 3, features=8100, distribution="ternary"), inputs(2, 2100)
    y = run(session(without_body(layer, 2100), library), x)
    assert_close(y, eugen_models.expected(layer, x), nmse=1e-12, what="large")


@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")
@pytest.mark.parametrize("distribution", ["gaussian", "ternary"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_goes_where_a_dense_layer_sends_it(
    cpu: str, library: str, distribution: str, value: float
) -> None:
    layer = make(37, 41, distribution=distribution, features=30, norm=False, activation="identity")
    for rows in (1, 9):
        x = inputs(rows, 37)
        x[0, 36] = value
        y, wanted = run(session(without_body(layer, 37), library), x), eugen_models.expected(layer, x)
        np.testing.assert_array_equal(np.isnan(y), np.isnan(wanted))
        np.testing.assert_array_equal(np.isinf(y) * np.sign(y), np.isinf(wanted) * np.sign(wanted))


def test_any_leading_axes(library: str) -> None:
    layer, x = make(24, 10), inputs(30, 24)
    model = without_body(layer, 24)
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.ClearField("shape")
    kernel = session(model, library)

    y = run(kernel, x.reshape(2, 3, 5, 24)).reshape(30, 10)
    assert_close(y, eugen_models.expected(layer, x), nmse=1e-12, what="three axes")
    assert run(kernel, x[0]).shape == (10,)
    assert run(kernel, x[:0].reshape(4, 0, 24)).shape == (4, 0, 10)


@pytest.mark.parametrize("rows", [1, 33, 100])
def test_threads_change_no_bit(library: str, rows: int) -> None:
    """onnxruntime's threads within a run, and several runs of one session at the same time."""
    layer, x = make(1500, 1200, features=130, order=2), inputs(rows, 1500)
    native_models.check_threads(without_body(layer, 1500), library, x)


# ---- hostile models

HOSTILE = [
    ({"in_features": -3}, "in_features is -3, not from 1 to 2147483647."),
    ({"out_features": 0}, "out_features is 0, not from 1 to 2147483647."),
    ({"features": 2**62}, "features is 4611686018427387904, not from 1 to 2147483647."),
    ({"features": 2**31 - 1}, "weight has shape (7, 9), not (7, 2147483647)."),
    ({"features": 2**31 - 1, "order": 2}, "its projections have 4294967294 rows, above 2147483647."),
    ({"order": 0}, "order is 0, not from 1 to 32."),
    ({"order": 33}, "order is 33, not from 1 to 32."),
    ({"order": 2}, "weight has shape (7, 9), not (7, 18)."),
    ({"shared": 2}, "shared is 2, not from 0 to 1."),
    ({"norm": -1}, "norm is -1, not from 0 to 1."),
    ({"one": 2**40}, "one is 1099511627776, not from 0 to 1."),
    ({"activation": 9}, "activation is 9, not from 0 to 8."),
    ({"bits": 3}, "bits is 3, not 1, 2, 4 or 8."),
    ({"bits": 8}, "the codebook has 16 levels, and codes of 8 bits need 256."),
    ({"codebook": [0.5] * 257}, "the attribute codebook has 257 numbers, above 256."),
    ({"codebook": [1.0] * 15 + [float("inf")]}, "the codebook contains a level that is not finite."),
    ({"codebook": None}, "the attribute codebook is missing or not a list of numbers."),
    ({"seed": None}, "the attribute seed is missing or not an integer."),
]


@pytest.mark.parametrize(("changed", "said"), HOSTILE)
def test_one_sentence_with_layer_and_values(library: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match="edgefc::EUGenLinear") as caught:
        session(without_body(make(4, 7), 4, **changed), library)
    assert str(caught.value).endswith(f"edgefc::EUGenLinear encoder.fc1: {said}")


def test_huge_inputs_need_no_huge_matrix(library: str) -> None:
    """2^31 inputs that only an attribute claims: nothing of that size is made, and the run says what x has."""
    kernel = session(without_body(make(4, 7, distribution="ternary"), 4, in_features=2**31 - 1), library)
    with pytest.raises(Exception, match=r"x has shape \(2, 4\), and its last axis is not in_features 2147483647"):
        run(kernel, inputs(2, 4))


@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_of_another_shape(library: str, name: str) -> None:
    """Constants are refused when the file is loaded, what is fed with each run then."""
    model = without_body(make(4, 7), 4)
    (stored,) = (weight for weight in model.graph.initializer if weight.name == name)
    stored.CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 4, 2), np.float32), name))
    with pytest.raises(Exception, match=rf"encoder\.fc1: {name} has shape \(3, 4, 2\), not \("):
        session(model, library)
    model.graph.initializer.remove(stored)
    model.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    kernel = session(model, library)
    with pytest.raises(Exception, match=rf"encoder\.fc1: {name} has shape \(2,\), not \("):
        kernel.run(None, {"x": inputs(2, 4), name: np.ones(2, np.float32)})


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changed=st.dictionaries(
        st.sampled_from(["in_features", "out_features", "features", "order", "shared", "norm", "one", "bits", "seed"]),
        st.integers(-1, 12) | st.integers(-(2**63), 2**63 - 1),
    ),
    codebook=st.lists(st.floats(width=32), min_size=1, max_size=300) | st.none(),
    x=st.lists(st.integers(0, 6), max_size=4),
)
def test_whatever_the_attributes_nothing_crashes(
    library: str, changed: dict[str, Any], codebook: list[float] | None, x: list[int]
) -> None:
    changed = changed if codebook is None else {**changed, "codebook": codebook}
    model = without_body(make(4, 7), 4, **changed)
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.ClearField("shape")
    said = "edgefc::EUGenLinear encoder.fc1"
    try:
        run(session(model, library), np.ones(x, np.float32))
    except Exception as error:
        said = str(error)
    assert "edgefc::EUGenLinear encoder.fc1" in said


# ---- the session


@torch.no_grad()
def test_one_file_with_and_without(loaded: str, tmp_path: Path) -> None:
    """Both ops: the one with stored projections runs by its body beside the kernel."""
    layers, x = [make(60, 50, order=2), make(50, 20, projection="trained")], inputs(3, 60)
    export(nn.Sequential(*layers), torch.from_numpy(x), tmp_path / "m.onnx", verify=False)
    wanted = eugen_models.expected(layers[1], eugen_models.expected(layers[0], x))
    for mode in ("auto", "on", "off"):
        opened = Session(tmp_path / "m.onnx", native=mode)
        assert opened.native_variant is None if mode == "off" else opened.native_variant in CPUS
        (y,) = opened.run({opened.inputs[0].name: x}).values()
        assert_close(y, wanted, nmse=1e-12, what=mode)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_other_types_run_by_their_bodies(loaded: str, tmp_path: Path, dtype: torch.dtype) -> None:
    layer, x = make(60, 50, dtype=dtype), torch.randn(3, 60, dtype=dtype)
    export(layer, x, tmp_path / "m.onnx", verify=False)

    assert Session(tmp_path / "m.onnx").native_variant is None
    with pytest.raises(ModelError, match=r"its operator EUGenLinear has an input of type (double|float16)"):
        Session(tmp_path / "m.onnx", native="on")
