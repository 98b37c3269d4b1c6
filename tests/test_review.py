"""Mistakes that a reader of the code once found: each stays mended."""

import onnxruntime
import pytest
import torch
from torch import nn

import edgefc
from edgefc.cli import main
from edgefc.errors import ExportError, UsageError
from edgefc.export import export, verify


@pytest.mark.parametrize("layer", [edgefc.CirculantLinear(8, 8), edgefc.PRPLinear(8, 8)])
def test_whole_numbers_are_refused_and_not_truncated(layer) -> None:
    with pytest.raises(UsageError, match=r"expects floating-point inputs, .*x\.float\(\)"):
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
    with pytest.raises(UsageError, match=r"must end in \.onnx"):
        export(nn.Linear(4, 4), torch.randn(2, 4), tmp_path / "m.json")


def test_a_compiled_model_keeps_its_names(tmp_path) -> None:
    model = torch.compile(nn.Sequential(edgefc.CirculantLinear(8, 8)))

    assert export(model, torch.randn(2, 8), tmp_path / "m.onnx").layers == ("0",)


class Writes(nn.Module):
    """Changes its input by more with each call, where it gets the same tensor twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = edgefc.CirculantLinear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.add_(1))


def test_a_model_that_writes_to_its_input_is_not_called_random(tmp_path) -> None:
    x, model = torch.randn(3, 8), Writes()
    assert export(model, x, tmp_path / "m.onnx").verified.holds
    got = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"x": x.numpy()})[0]

    torch.testing.assert_close(torch.from_numpy(got), model(x.clone()))


@pytest.mark.parametrize("model", [nn.Linear(8, 8), nn.Embedding(8, 8)])
def test_a_dtype_that_differs_is_no_agreement(tmp_path, model) -> None:
    class Wider(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).double()

    x = torch.randn(3, 8) if isinstance(model, nn.Linear) else torch.tensor([1, 2])
    export(nn.Sequential(model), x, tmp_path / "m.onnx")
    report = verify(tmp_path / "m.onnx", Wider(model), x)

    assert not report.holds
    assert "is float32 in onnxruntime and float64 in torch" in report.sentence()


def test_an_output_without_a_name_gets_one(tmp_path) -> None:
    class Unnamed(nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"": x + 1, "y": x + 2}

    report = export(Unnamed(), torch.randn(3, 8), tmp_path / "m.onnx")
    assert [output.name for output in report.outputs] == ["output_0", "y"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda x: torch.complex(x, x), r"'input' is torch\.complex64, which onnxruntime does not support as an input"),
        (lambda x: x.to_sparse(), r"'input' is torch\.sparse_coo"),
        (lambda x: x.to("meta"), "'input' is on the meta device"),
    ],
)
def test_inputs_that_no_file_takes(tmp_path, make, said) -> None:
    with pytest.raises(UsageError, match=said):
        export(nn.Sequential(nn.Linear(8, 8)), make(torch.randn(2, 8)), tmp_path / "m.onnx")


def test_complex_outputs_are_refused(tmp_path) -> None:
    class Spectrum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.fft(x)

    with pytest.raises(ExportError, match=r"'output' is torch\.complex64.*view_as_real"):
        export(Spectrum(), torch.randn(2, 8), tmp_path / "m.onnx")


def test_an_error_over_the_bound_that_passes_is_explained(tmp_path) -> None:
    """Numbers below the smallest normal one may be zero in a runtime, so their differences count for nothing."""

    class Tiny(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.scale = scale

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.scale

    x = torch.randn(4, 8)
    export(Tiny(1e-42), x, tmp_path / "m.onnx", verify=False)
    assert "exceeded by no more than rounding" in verify(tmp_path / "m.onnx", Tiny(-1e-42), x).sentence()
