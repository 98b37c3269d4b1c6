"""A batch of no rows: outputs of the right shape and dtype, also where an onnxruntime kernel would refuse it."""

import numpy as np
import torch
from torch import nn

import edgefc
from edgefc.export import export
from edgefc.runtime import Session


def test_a_circulant_model_takes_an_empty_batch(tmp_path) -> None:
    """onnxruntime's MatMul cannot broadcast a table to a batch of 0; Session has nothing to run."""
    export(nn.Sequential(edgefc.CirculantLinear(64, 96), nn.ReLU()), torch.randn(2, 64), tmp_path / "m.onnx")

    outputs = Session(tmp_path / "m.onnx").run({"input": np.zeros((0, 64), np.float32)})

    (value,) = outputs.values()
    assert value.shape == (0, 96)
    assert value.dtype == np.float32


def test_an_output_that_holds_numbers_is_computed(tmp_path) -> None:
    """The sum over no rows is a row of zeros, and not empty: the model runs."""

    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(0) + 1

    export(Sum(), torch.randn(2, 5), tmp_path / "m.onnx")

    (value,) = Session(tmp_path / "m.onnx").run({"x": np.zeros((0, 5), np.float32)}).values()

    assert value.tolist() == [1.0] * 5
