"""Mistakes that a reader of the code once found: each stays mended."""

import pytest
import torch
from torch import nn

import edgefc
from edgefc.cli import main
from edgefc.errors import UsageError
from edgefc.export import export, verify


@pytest.mark.parametrize("layer", [edgefc.CirculantLinear(8, 8), edgefc.PRPLinear(8, 8)])
def test_whole_numbers_are_refused_and_not_truncated(layer) -> None:
    with pytest.raises(UsageError, match=r"takes floating-point inputs .*x\.float\(\)"):
        layer(torch.arange(8))


def test_an_in_place_layer_does_not_move_the_blame(tmp_path) -> None:
    """ReLU(inplace=True) overwrites what the layer before it returned."""
    model = nn.Sequential(edgefc.CirculantLinear(8, 8), nn.ReLU(inplace=True), nn.Linear(8, 8))
    export(model, torch.randn(2, 8), tmp_path / "m.onnx")
    with torch.no_grad():
        model[2].weight.add_(1)

    assert verify(tmp_path / "m.onnx", model, torch.randn(2, 8)).parts_at == "2"


def test_a_model_that_changes_its_input_changes_a_copy(tmp_path) -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = edgefc.CirculantLinear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(nn.functional.relu_(x))

    x = torch.randn(2, 8)
    before = x.clone()

    export(InPlace(), x, tmp_path / "m.onnx")

    assert torch.equal(x, before)


def test_another_seed_is_another_matrix() -> None:
    """Also after the first matrix was made and kept."""
    layer = edgefc.PRPLinear(8, 8)
    x = torch.randn(2, 8)
    layer(x)
    layer.seed = 5

    torch.testing.assert_close(layer(x), x @ layer.dense().T + layer.bias)


@pytest.mark.parametrize("name", ["output", "output_0"])
def test_an_input_may_be_called_output(tmp_path, name) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.register_parameter(name, nn.Parameter(torch.ones(4)))

        def forward(self, output: torch.Tensor) -> torch.Tensor:
            return self.layer(output) * getattr(self, name)

    assert export(Named(), torch.randn(2, 4), tmp_path / "m.onnx").verified.holds


def test_a_report_never_replaces_the_model(tmp_path, capsys) -> None:
    model = tmp_path / "m.onnx"
    export(nn.Linear(4, 4), torch.randn(2, 4), model)
    before = model.read_bytes()

    assert main(["inspect", str(model), "--json", str(model)]) == 2
    assert main(["profile", str(model), "--json", str(model)]) == 2
    assert model.read_bytes() == before
    assert capsys.readouterr().err.count("uses that file already") == 2


def test_a_name_that_is_too_long_is_one_sentence(capsys) -> None:
    assert main(["inspect", "x" * 300 + ".onnx"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_model_is_called_onnx(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        export(nn.Linear(4, 4), torch.randn(2, 4), tmp_path / "m.json")


def test_a_compiled_model_keeps_its_names(tmp_path) -> None:
    model = torch.compile(nn.Sequential(edgefc.CirculantLinear(8, 8)))

    assert export(model, torch.randn(2, 8), tmp_path / "m.onnx").layers == ("0",)
