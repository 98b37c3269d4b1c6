"""Models, arguments and places that export refuses: one sentence, and nothing written or lost."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefc import CirculantLinear
from edgefc.errors import CheckFailed, EdgefcError, ExportError, UsageError
from edgefc.export import export
from edgefc.layers.common.onnx_node import layer_node
from tests.support import cli_models as models


class OfItsOwn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return layer_node(self, x, (), {}, x.shape) if torch.onnx.is_in_onnx_export() else x


class ReturnsNumbers(nn.Module):
    def forward(self, x: Tensor) -> list[float]:
        return [1.0, 2.0]


class ComputesOnOneSize(nn.Module):
    """Runs at any batch, and takes the batch for a constant."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(int(x.shape[0]), -1) * len(x.tolist())


def refused(error: type[EdgefcError], folder: Path, model: Any, args: Any, **options: Any) -> str:
    """What export says; the folder stays as it was."""
    before = models.files(folder)
    with pytest.raises(error) as caught:
        export(model, args, folder / "m.onnx", **options)
    assert type(caught.value) is error
    assert models.files(folder) == before
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".") and len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(models.ForwardRaises, r"^ForwardRaises cannot run .*: RuntimeError: out of tune\.", id="raises"),
        pytest.param(lambda: nn.Linear(9, 2), r"^Linear cannot run on .*\(2, 8\): .*Pass example", id="other-shape"),
        pytest.param(models.TwoRowsOnly, r"batch = 3 instead of 2: Runtime.*dynamic_batch=False", id="fixes-the-batch"),
        pytest.param(ComputesOnOneSize, r"^cannot export ComputesOnOneSize", id="computes-on-one-size"),
        pytest.param(models.LooksAtNumbers, "torch reports GuardOnDataDependentSymNode", id="control-flow"),
        pytest.param(ReturnsNumbers, "^ReturnsNumbers must return tensors, got list", id="returns-no-tensor"),
        pytest.param(OfItsOwn, "is a OfItsOwn, which has no ONNX form.*Circulant", id="own-layer"),
        pytest.param(lambda: CirculantLinear(8, 8).bfloat16(), r"^kernel is bfloat16.*model\.float\(\)", id="bfloat16"),
    ],
)  # fmt: skip
def test_models_without_an_onnx_form(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], make: Callable[[], nn.Module], said: str
) -> None:
    """The graphs and warnings that torch prints on the way are kept from the terminal."""
    message = refused(ExportError, tmp_path, make(), models.rows(2))

    assert re.search(said, message), message
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param("x", "args must be a tensor, .* got str", id="text"),
        pytest.param(3, "args must be a tensor, .* got int", id="number"),
        pytest.param((), "contain no tensor", id="nothing"),
        pytest.param({"x": [1.0]}, "contain no tensor", id="a-list-of-numbers"),
        pytest.param(torch.zeros(0, 8), "batch size 0", id="no-rows"),
    ],
)
def test_example_inputs_that_are_none(tmp_path: Path, args: Any, said: str) -> None:
    assert re.search(said, refused(UsageError, tmp_path, models.tiny(), args))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"opset": 17}, "opset=17. Choose one from 18 to 23"),
        ({"opset": 24}, "opset=24"),
        ({"opset": "20"}, "opset='20'"),
        ({"bodies": {"CirculantLinear": "fft"}}, "CirculantLinear has no body 'fft'"),
        ({"bodies": {"PRPLinear": "dense"}}, "PRPLinear has no body 'dense'"),
    ],
    ids=str,
)
def test_options_that_do_not_exist(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    assert said in refused(UsageError, tmp_path, models.tiny(), models.rows(2), **options)


def test_what_is_no_module(tmp_path: Path) -> None:
    assert "model must be a torch.nn.Module, got function" in refused(UsageError, tmp_path, models.tiny, models.rows(2))


def test_a_file_that_differs_is_not_written(tmp_path: Path) -> None:
    """Neither a new one nor over an old one; and the model is left without hooks, in its mode."""
    (tmp_path / "m.onnx").write_bytes(b"the old one")
    (tmp_path / "m.onnx.data").write_bytes(b"its weights")
    model = models.OtherInTheFile().train()

    message = refused(CheckFailed, tmp_path, model, models.rows(2))

    assert message.startswith("m.onnx does not compute what the torch model computes: output 'output'")
    assert all(module.training and not module._forward_hooks for module in model.modules())


def test_the_model_keeps_its_mode_when_it_cannot_be_exported(tmp_path: Path) -> None:
    model = models.LooksAtNumbers().train()

    refused(ExportError, tmp_path, model, models.rows(2))

    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("place", ["", "file/m.onnx", "x" * 300 + ".onnx"], ids=["folder", "below-a-file", "long-name"])
def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "file").write_text("no folder")
    before = models.files(tmp_path)

    with pytest.raises(UsageError, match="cannot write") as caught:
        export(nn.Linear(2, 2), models.rows(2, 2), tmp_path / place, verify=False)

    assert "\n" not in str(caught.value)
    assert models.files(tmp_path) == before
