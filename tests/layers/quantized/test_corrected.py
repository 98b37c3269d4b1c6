"""CorrectedLinear: the sum of a quantised layer and a correction of low rank."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgefc import CorrectedLinear, HalfLinear
from edgefc.errors import ShapeError
from edgefc.export import export
from edgefc.export.inspecting.inspector import inspect
from edgefc.testing import assert_close
from tests.layers.quantized.test_linear import fit_of
from tests.support import layer_models as models


@pytest.mark.parametrize("seed", [None, 5])
def test_computes_what_was_fitted(seed: int | None) -> None:
    fit = fit_of(40, 7, 2, 32, rank=3, seed=seed)
    linear = nn.Linear(40, 7, dtype=torch.float64).eval()
    layer, x = CorrectedLinear.from_fit(fit, linear), models.inputs(2, 40, dtype=np.float64)
    assert fit.bias is not None
    assert_close(layer(torch.from_numpy(x)), x @ fit.dense().T + fit.bias, nmse=1e-24, what="forward")
    assert_close(layer.dense(), fit.dense(), nmse=1e-26, what="dense")
    assert (layer.rank, layer.training) == (3, False)
    assert layer.bias is not None


def test_exported(tmp_path: Path) -> None:
    layer = CorrectedLinear.from_fit(fit_of(40, 7, 4, 32, rank=3, seed=5), nn.Linear(40, 7))
    report = export(layer, torch.randn(2, 40), tmp_path / "m.onnx")
    assert report.layers == ("main.rotation", "main", "down", "up")
    assert [part.stored_bytes for part in inspect(tmp_path / "m.onnx").layers] == [
        0, 7 * 64 // 2 + 2 * 7 * 2 + 4 * 7, 2 * 3 * 40 + 4 * 3, 2 * 7 * 3 + 4 * 7
    ]  # fmt: skip


def test_layers_that_do_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"got 40 -> 7, 40 -> 3, 2 -> 7"):
        CorrectedLinear(nn.Linear(40, 7), HalfLinear(40, 3, False), HalfLinear(2, 7, False))
