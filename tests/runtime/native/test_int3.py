"""The native kernel of Int3Linear in onnxruntime: each variant against float64, int8 activations, hostile models."""

from functools import cached_property
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgefc.fitting.rotation import block_of, rotate
from edgefc.layers.int3 import packing
from edgefc.testing import assert_close
from tests.layers.int3.test_linear import drawn_fit
from tests.support import native_models
from tests.support.native_models import CPUS, Array, inputs, run, session

SIZES = ((1, 1), (2, 3), (7, 5), (31, 33), (37, 17), (64, 64), (129, 65), (300, 401), (384, 40), (768, 16))
BATCHES = (0, 1, 2, 3, 5, 8, 33, 65)
SAID = "edgefc::Int3Linear encoder.fc1: "


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.fixture(params=CPUS)
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, library: str) -> str:
    return native_models.choose_cpu(request.param, monkeypatch, library)


class Case:
    """A layer of any codes and scales, and its answers in float64. `changed` replaces attributes of the node."""

    def __init__(
        self, n: int, m: int, group: int = 128, seed: int | None = None, changed: dict[str, Any] | None = None
    ) -> None:
        self.n, self.fit = n, drawn_fit(n, m, group, seed)
        signed = 0 if seed is None else seed - 2**64 if seed >= 2**63 else seed
        self.attributes = {
            "in_features": n, "out_features": m, "group": group, "rotated": int(seed is not None), "seed": signed,
            **(changed or {}),
        }  # fmt: skip

    def model(self) -> ModelProto:
        """Without a body: only the native kernel can run it."""
        assert self.fit.bias is not None
        weights = {
            "packed": packing.pack(self.fit.codes),
            "scales": packing.pack_scales(self.fit.scales),
            "bias": self.fit.bias.astype(np.float32),
        }
        kept = {name: value for name, value in self.attributes.items() if value is not None}
        node = helper.make_node("Int3Linear", ["x", *weights], ["y"], "encoder.fc1", domain="edgefc", **kept)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
        stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], stored)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgefc", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def expected(self, x: Array) -> NDArray[np.float64]:
        y: NDArray[np.float64] = x.astype(np.float64) @ self.matrix.T + self.fit.bias
        return y

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        return self.fit.dense()

    def rounded(self, x: Array) -> NDArray[np.float64]:
        """What int8 activations give: each group of z in 255 levels of its own step."""
        z = np.pad(x.astype(np.float64), ((0, 0), (0, self.fit.codes.shape[1] - self.n)))
        z = z if self.fit.seed is None else rotate(z, self.fit.seed, block_of(self.n))
        z = z.reshape(len(z), -1, self.fit.group)
        step = np.maximum(np.abs(z).max(-1, keepdims=True), 1e-300) / 127
        y: NDArray[np.float64] = (np.round(z / step) * step).reshape(len(z), -1) @ self.fit.values().T + self.fit.bias
        return y


@pytest.mark.parametrize("seed", [None, 2**64 - 1])
@pytest.mark.parametrize("group", [32, 128, 512])
def test_every_size_and_batch_against_float64(cpu: str, library: str, group: int, seed: int | None) -> None:
    for n, m in SIZES:
        case = Case(n, m, group, seed)
        kernel = session(case.model(), library)
        for rows in BATCHES:
            x = inputs(rows, n)
            y = run(kernel, x)
            assert y.shape == (rows, m) and y.dtype == np.float32
            expected = case.expected(x)
            error, size = np.square(y - expected).sum(), np.square(expected).sum()
            assert error <= 1e-12 * size, f"{n} -> {m}, batch {rows}: {error / size:.1e}"


def test_long_rows_and_large_groups(cpu: str, library: str) -> None:
    for group in (32, 4096):
        case = Case(9000, 40, group, 3)
        kernel = session(case.model(), library)
        for rows in (1, 9):
            x = inputs(rows, 9000)
            assert_close(run(kernel, x), case.expected(x), nmse=1e-12, what=f"groups of {group}")


def test_every_code_is_the_extreme_of_the_sums(cpu: str, library: str) -> None:
    """The largest codes and digits, whose sums in 16 bits are the largest, and all signs alike."""
    for code in (0, 7):
        case = Case(4096, 16, 4096)
        case.fit.codes[:] = code
        case.fit.scales[:] = 1
        model = case.model()
        for value in (1.0, -1.0, -255 / 256):
            x = np.full((2, 4096), value, np.float32)
            assert_close(run(session(model, library), x), case.expected(x), nmse=1e-12, what=f"code {code}")


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("power", [-36, -30, 0, 30, 37])
def test_inputs_of_very_different_sizes(cpu: str, library: str, rows: int, power: int) -> None:
    """A giant among small ones, sums near the ends of float32, and groups of zeros."""
    for seed in (None, 1):
        case = Case(200, 40, 32, seed)
        case.fit.scales[:] = np.clip(case.fit.scales, -0.5, 0.5)
        case.fit.bias[:] = 0
        x = inputs(rows, 200)
        x[:, 64:128] = 0
        x[:, 3] = 1e4
        x *= np.float32(10.0) ** np.float32(power - 4)
        expected = case.expected(x)
        assert_close(
            run(session(case.model(), library), x), expected, nmse=1e-12 if power > -36 else 1e-6, what="native"
        )


def test_scales_of_every_size(cpu: str, library: str) -> None:
    """Subnormal numbers of float16, zero, the largest ones, and negative ones."""
    case = Case(32, 48, 32)
    case.fit.bias[:] = 0
    case.fit.scales[:, 0] = np.arange(48).astype(np.uint16).view(np.float16)
    case.fit.scales[::3, 0] = -case.fit.scales[::3, 0]
    case.fit.scales[:16, 0] = 65504
    y, expected = run(session(case.model(), library), inputs(3, 32)), case.expected(inputs(3, 32))
    for part in (slice(0, 16), slice(16, 48)):
        assert_close(y[:, part], expected[:, part], nmse=1e-12, what="scales")


@pytest.mark.parametrize("seed", [None, 5])
def test_threads_change_no_bit(library: str, seed: int | None) -> None:
    case = Case(700, 900, 128, seed)
    native_models.check_threads(case.model(), library, inputs(40, 700))


def test_computed_weights(cpu: str, library: str) -> None:
    """Weights that the graph gives are checked in the run, as those of the file are at load."""
    case, x = Case(100, 24, 32, 1), inputs(3, 100)
    model = ModelProto()
    model.CopyFrom(case.model())
    feeds: dict[str, Array] = {"x": x}
    for stored in model.graph.initializer:
        feeds[stored.name] = numpy_helper.to_array(stored)
        model.graph.input.append(helper.make_tensor_value_info(stored.name, stored.data_type, None))
    del model.graph.initializer[:]
    kernel = session(model, library)
    assert_close(kernel.run(None, feeds)[0], case.expected(x), nmse=1e-12, what="computed")
    packed = next(name for name, value in feeds.items() if value.dtype == np.uint8)
    with pytest.raises(Exception, match=rf"{SAID}packed has shape \(1, 4, 192\), not \(2, 4, 192\)\.$"):
        kernel.run(None, {**feeds, packed: feeds[packed][:1]})


# ---- int8 activations


@pytest.mark.parametrize("seed", [None, 5])
def test_int8_activations_round_each_group_and_nothing_else(cpu: str, library: str, seed: int | None) -> None:
    """Where float32 rounds a half to the other side than float64, one digit of some hundred differs."""
    for n, m in ((1, 1), (7, 5), (64, 33), (300, 401)):
        case = Case(n, m, 32, seed)
        kernel = session(case.model(), library, activations="int8")
        for rows in (1, 2, 5, 33):
            x = inputs(rows, n)
            error = np.square(run(kernel, x) - case.rounded(x)).sum()
            assert error <= 2e-7 * np.square(case.expected(x)).sum(), f"{n} -> {m}, batch {rows}"


@pytest.mark.parametrize("n", [384, 1024, 4096])
def test_the_error_of_int8_activations(library: str, n: int) -> None:
    """What runtime/native/README.md states, for Gaussian inputs."""
    case, x = Case(n, 64, 128, 3), inputs(16, n)
    expected = case.expected(x) - case.fit.bias
    error = np.square(run(session(case.model(), library, activations="int8"), x) - case.fit.bias - expected).sum()
    assert 1e-5 < error / np.square(expected).sum() < 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_nan_with_int8(cpu: str, library: str, value: float) -> None:
    case = Case(300, 24, 32, 1)
    kernel = session(case.model(), library, activations="int8")
    for rows in (1, 9):
        x = inputs(rows, 300)
        x[0, 3] = value
        y = run(kernel, x)
        assert np.isnan(y[0]).all() and np.isfinite(y[1:]).all()


# ---- hostile models

HOSTILE = [
    ({"in_features": -3}, "in_features is -3, not from 1 to 2147483647."),
    ({"out_features": 0}, "out_features is 0, not from 1 to 2147483647."),
    ({"out_features": 2**31 - 1}, "packed has shape (1, 4, 192), not (134217728, 4, 192)."),
    ({"in_features": 2**31 - 1}, "packed has shape (1, 4, 192), not (1, 67108864, 192)."),
    ({"in_features": 129}, "packed has shape (1, 4, 192), not (1, 8, 192)."),
    ({"group": 64}, "scales has shape (1, 1, 16), not (1, 2, 16)."),
    ({"group": 48}, "group is 48, not a power of two from 32 to 4096."),
    ({"group": -32}, "group is -32, not a power of two from 32 to 4096."),
    ({"group": 2**62}, "group is 4611686018427387904, not a power of two from 32 to 4096."),
    ({"group": None}, "the attribute group is missing or not an integer."),
    ({"rotated": 2}, "rotated is 2, not 0 or 1."),
    ({"seed": None}, "the attribute seed is missing or not an integer."),
]


@pytest.mark.parametrize(("changed", "said"), HOSTILE)
def test_one_sentence_with_layer_and_values(library: str, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match="edgefc::Int3Linear") as caught:
        session(Case(128, 9, 128, 1, changed).model(), library)
    assert str(caught.value).endswith(SAID + said)
