"""CirculantLinear in onnxruntime by the native library: against float64 and the portable body, and hostile files."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edgefc import CirculantLinear
from edgefc.testing import assert_close, layer_model, run_onnxruntime
from tests.support import layer_models as models
from tests.support import native_models

Open = Callable[..., ort.InferenceSession]
SIZES = [(1, 1, None), (12, 12, None), (97, 97, None), (1000, 10, None), (48, 130, 20), (256, 256, 64), (30, 20, 7)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    return native_models.library(tmp_path_factory)


@pytest.fixture
def open_session(library: str) -> Open:
    def open_it(model: ir.Model, threads: int = 1) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # the errors that the tests provoke
        options.register_custom_ops_library(library)
        return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)

    return open_it


def run(session: ort.InferenceSession, x: NDArray[Any]) -> NDArray[np.float32]:
    y: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: x})[0]
    return y


def make(n: int, m: int, block: int | None = None) -> Any:
    return models.randomise(CirculantLinear(n, m, block=block, seed=2**64 - 3))


def node_of(model: ir.Model) -> ir.Node:
    return next(node for node in model.graph if node.op_type == "CirculantLinear")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("n", "m", "block"), SIZES)
def test_against_float64_and_the_portable_body(
    n: int, m: int, block: int | None, threads: int, open_session: Open
) -> None:
    layer = make(n, m, block)
    model = layer_model(layer, n)
    session = open_session(model, threads)
    for rows in (1, 3, 70):
        x = models.inputs(rows, n)
        y = run(session, x)
        assert_close(y, models.expected(layer, x), nmse=1e-13, what=f"{rows} rows")
        assert_close(y, run_onnxruntime(model, x), nmse=1e-12, what=f"{rows} rows, portable body")
    assert run(session, models.inputs(0, n)).shape == (0, m)


def test_leading_axes(open_session: Open) -> None:
    layer = make(24, 20)
    for leading in ((), (2, 3), (2, 0, 3)):
        model = layer_model(layer, 24, leading=("a", "b", "c")[: len(leading)])
        x = models.inputs(*leading, 24)
        y = run(open_session(model), x)
        assert y.shape == (*leading, 20)
        if x.size:
            assert_close(y, models.expected(layer, x), nmse=1e-13, what=f"{leading}")


def test_it_is_the_library_that_runs(open_session: Open) -> None:
    """A file without the function that is the portable body runs all the same."""
    layer = make(24, 24)
    model = layer_model(layer, 24)
    model.functions.clear()
    x = models.inputs(2, 24)
    assert_close(run(open_session(model), x), models.expected(layer, x), nmse=1e-13, what="no body")


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        pytest.param("in_features", 0, "in_features is 0, not from 1 to", id="no-inputs"),
        pytest.param("out_features", -5, "out_features is -5, not from 1 to", id="negative"),
        pytest.param("block", 2**62, "block is 4611686018427387904, not from 1 to", id="huge-block"),
        pytest.param("block", 25, "kernel has shape (1, 1, 24), not (1, 1, 25)", id="another-block"),
        pytest.param("out_features", 2**31 - 1, "bias has shape (24,), not (2147483647,)", id="huge-outputs"),
        pytest.param("in_features", 2**31 - 1, "kernel has shape (1, 1, 24), not (1, 89478486, 24)", id="huge-inputs"),
    ],
)
def test_hostile_attributes(attribute: str, value: int, message: str, open_session: Open) -> None:
    """One sentence with the layer and the values, when the file is loaded."""
    model = layer_model(make(24, 24), 24)
    model.functions.clear()
    node_of(model).attributes[attribute] = ir.AttrInt64(attribute, value)
    with pytest.raises(Exception, match=re.escape(message)):
        open_session(model)
