"""The rotation of the inputs: against the fit's numpy rotation, for every size, and its inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefc import HadamardRotation
from edgefc.errors import ShapeError
from edgefc.fitting.rotation import block_of, rotate
from edgefc.testing import assert_close, layer_model, run_onnxruntime, run_reference
from tests.support import layer_models as models

SIZES = st.one_of(st.integers(1, 300), st.sampled_from([384, 768, 1000]))


def expected(layer: HadamardRotation, x: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    padded = np.pad(x.astype(np.float64), [(0, 0)] * (x.ndim - 1) + [(0, layer.width - layer.features)])
    return rotate(padded, layer.seed, layer.block)


@given(n=SIZES, seed=st.integers(0, 2**64 - 1), data=st.data())
@settings(max_examples=40, deadline=None)
def test_is_the_rotation_of_the_fit(n: int, seed: int, data: st.DataObject) -> None:
    leading = data.draw(st.sampled_from([(4,), (), (2, 3)]))
    layer, x = HadamardRotation(n, seed=seed), models.inputs(*leading, n, dtype=np.float64)
    y = layer(torch.from_numpy(x))
    assert_close(y, expected(layer, x), nmse=1e-28, what="forward")
    assert_close(y.norm(), np.linalg.norm(x), nmse=1e-28, what="norm")
    rows = torch.from_numpy(models.inputs(3, layer.width, dtype=np.float64))
    assert_close(layer.back(rows) @ torch.from_numpy(x).reshape(-1, n).T, rows @ y.reshape(-1, layer.width).T,
                 nmse=1e-26, what="back")  # fmt: skip


@pytest.mark.parametrize(("n", "width"), [(1, 1), (2, 2), (13, 16), (128, 128), (129, 256), (384, 384)])
def test_exported(n: int, width: int) -> None:
    layer = HadamardRotation(n, seed=2**64 - 1)
    assert (layer.width, layer.block) == (width, block_of(n))
    model = layer_model(layer, torch.zeros(2, n))
    for rows in (0, 1, 5):
        x = models.inputs(rows, n)
        y = run_onnxruntime(model, x)
        assert y.shape == (rows, width)
        if rows:
            assert_close(y, expected(layer, x), nmse=1e-12, what="onnxruntime")
            assert_close(run_reference(model, x), expected(layer, x), nmse=1e-12, what="reference evaluator")


def test_the_matrix_written_out() -> None:
    """Three inputs in a block of four: signs, then sums and differences, halved."""
    layer = HadamardRotation(3, seed=0)
    a, b, c = (layer.back(torch.eye(4)) * 2)[0]  # the signs
    assert {float(a), float(b), float(c)} <= {1.0, -1.0}
    x = torch.tensor([1.0, 10.0, 100.0])
    a, b, c = a, b * 10, c * 100
    assert torch.equal(layer(x) * 2, torch.stack([a + b + c, a - b + c, a + b - c, a - b - c]))


def test_other_widths_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"expects inputs of shape \(\.\.\., 13\), got \(2, 12\)"):
        HadamardRotation(13, seed=0)(torch.zeros(2, 12))
