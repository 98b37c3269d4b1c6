"""What models export to: layers, weights, inputs and outputs, and the numbers of the file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from edgefc import CirculantLinear, PRPLinear
from edgefc.export import ExportReport, TensorInfo, export
from edgefc.export.bodies import BodyChoice
from tests.support import cli_models as models

NMSE = 1e-10  # of float32: a relative error of 1e-5


class TwoInTwoOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = CirculantLinear(8, 6), PRPLinear(5, 6)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        z = self.left(x) + self.right(y)
        return z, z.mean(-1)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(8, 6)

    def forward(self, x: Tensor, scale: Tensor | None = None) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"plain": y, "scaled": y if scale is None else y * scale}


class Nest(nn.Module):
    """Takes a list and a dict, the dict in last place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(8, 6)

    def forward(self, several: list[Tensor], by_name: dict[str, Tensor]) -> Tensor:
        y: Tensor = self.layer(several[0] + several[1]) * by_name["scale"]
        return y


class Star(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(8, 6)

    def forward(self, *several: Tensor) -> Tensor:
        y: Tensor = self.layer(torch.stack(several).sum(0))
        return y


class Shared(nn.Module):
    """One layer called twice, another under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.one = CirculantLinear(8, 8), PRPLinear(8, 8)
        self.other = self.one

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.twice(self.other(self.twice(self.one(x)).relu()))
        return y


class Tied(nn.Module):
    """Two layers, one kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = CirculantLinear(8, 8), CirculantLinear(8, 8)
        self.second.kernel = self.first.kernel

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x).relu())
        return y


def only_a_layer() -> nn.Module:
    return CirculantLinear(8, 3, bias=False)


def nested() -> nn.Module:
    return nn.Sequential(nn.Sequential(CirculantLinear(8, 8), nn.Sequential(PRPLinear(8, 8))), nn.Linear(8, 2))


def transposed_weight() -> nn.Module:
    """Weights that are views into memory in another order."""
    linear = nn.Linear(8, 6)
    linear.weight = nn.Parameter(torch.randn(8, 6).T)
    return nn.Sequential(linear, CirculantLinear(6, 6))


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


def x_and_y(n: int) -> tuple[Tensor, ...]:
    return models.rows(n), models.rows(n, 5)


def list_and_dict(n: int) -> tuple[Any, ...]:
    return [models.rows(n), models.rows(n)], {"scale": models.rows(n, 1)}


LATER = pytest.mark.slow  # forms that are rare, or that other tests meet on their way

MODELS = [  # model, inputs of n rows, names of its structured layers
    pytest.param(models.tiny, models.rows, ("0", "3"), id="one-of-each-and-dense"),
    pytest.param(lambda: nn.Linear(8, 3), models.rows, (), id="no-structured-layer", marks=LATER),
    pytest.param(only_a_layer, models.rows, ("CirculantLinear",), id="only-a-layer", marks=LATER),
    pytest.param(models.tiny, lambda n: models.rows(n, 3, 8), ("0", "3"), id="3-d"),
    pytest.param(TwoInTwoOut, x_and_y, ("left", "right"), id="several-in-and-out"),
    pytest.param(Named, lambda n: {"scale": models.rows(n, 1), "x": models.rows(n)}, ("layer",), id="by-name"),
    pytest.param(Nest, list_and_dict, ("layer",), id="list-and-dict", marks=LATER),
    pytest.param(Star, lambda n: (models.rows(n),), ("layer",), id="star-of-one", marks=LATER),
    pytest.param(nested, models.rows, ("0.0", "0.1.0"), id="nested", marks=LATER),
    pytest.param(Shared, models.rows, ("one", "twice", "other", "twice#2"), id="shared-layers"),
    pytest.param(Tied, models.rows, ("first", "second"), id="tied-kernels", marks=LATER),
    pytest.param(transposed_weight, models.rows, ("1",), id="weights-that-are-views"),
    pytest.param(attention, lambda n: models.rows(n, 3, 8), (), id="attention", marks=LATER),
    pytest.param(
        lambda: nn.Sequential(nn.Embedding(9, 8), PRPLinear(8, 4)), lambda n: torch.arange(n)[:, None] % 9, ("1",),
        id="whole-numbers-in", marks=LATER,
    ),
]  # fmt: skip


def leaves(value: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def call(model: nn.Module, args: Any) -> list[Tensor]:
    """The model's tensors, in eval mode."""
    model.eval()
    with torch.no_grad():
        if isinstance(args, dict):
            return leaves(model(**args))
        return leaves(model(*args) if isinstance(args, tuple) else model(args))


def assert_same(path: Path, model: nn.Module, args: Any) -> None:
    """The file computes what the model computes."""
    got, wanted = models.answers(path, *leaves(args)), call(model, args)
    assert len(got) == len(wanted)
    for actual, expected in zip(got, wanted, strict=True):
        assert models.nmse(actual, expected) < NMSE


@pytest.mark.parametrize(("make", "inputs", "layers"), MODELS)
def test_models(tmp_path: Path, make: Callable[[], nn.Module], inputs: Callable[[int], Any], layers: Any) -> None:
    """The batch is open: one file runs at 1, 2 and 7 rows, and edgefc's own check agrees."""
    torch.manual_seed(0)
    model = make()

    report = export(model, inputs(2), tmp_path / "m.onnx")

    assert report.layers == layers
    assert report.verified is not None and report.verified.holds
    for n in (1, 2, 7):
        assert_same(tmp_path / "m.onnx", model, inputs(n))


@pytest.mark.parametrize(("make", "kernels"), [(Shared, 4), (Tied, 2)])
def test_a_weight_is_stored_once(tmp_path: Path, make: Callable[[], nn.Module], kernels: int) -> None:
    """Shared and tied weights, and zero biases, are one initializer each; and an op is one function."""
    export(make(), models.rows(2), tmp_path / "m.onnx", verify=False)

    model = ir.load(tmp_path / "m.onnx")
    stored = [value.const_value.tobytes() for value in model.graph.initializers.values() if value.const_value]
    assert len(stored) == len(set(stored))
    assert len([v for v in model.graph.initializers.values() if v.const_value and v.const_value.size == 8]) <= kernels
    assert sorted(f.name for f in model.functions.values()) == sorted({n.op_type for n in model.graph if n.domain})


def test_a_fixed_batch(tmp_path: Path) -> None:
    model = models.TwoRowsOnly()

    export(model, models.rows(2), tmp_path / "m.onnx", dynamic_batch=False)

    assert ir.load(tmp_path / "m.onnx").graph.inputs[0].shape == ir.Shape([2, 8])
    assert_same(tmp_path / "m.onnx", model, models.rows(2))


def test_one_row_as_the_example(tmp_path: Path) -> None:
    """torch takes a size of 1 for a constant: the batch is open all the same."""
    model = models.tiny()

    export(model, models.rows(1), tmp_path / "m.onnx")

    assert_same(tmp_path / "m.onnx", model, models.rows(7))


@pytest.mark.slow
def test_inputs_of_different_batches_need_a_fixed_one(tmp_path: Path) -> None:
    model = nn.Bilinear(3, 3, 2)
    args = (models.rows(2, 3), models.rows(2, 3))

    export(model, args, tmp_path / "m.onnx", dynamic_batch=False)

    assert_same(tmp_path / "m.onnx", model, args)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    """Exported in eval mode, dropout off; then each module trains as it did, without hooks, with its weights."""
    model = nn.Sequential(CirculantLinear(8, 8), nn.Dropout(0.9), nn.BatchNorm1d(8)).train()
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    export(model, models.rows(2), tmp_path / "m.onnx")

    assert [module.training for module in model.modules()] == [True, True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert_same(tmp_path / "m.onnx", model, models.rows(3))


@pytest.mark.parametrize(
    ("dtype", "circulant", "bound"),
    [
        pytest.param(torch.float16, "matmul", 1e-5, id="half"),
        pytest.param(torch.float16, "dft", 1e-5, id="half-dft", marks=pytest.mark.slow),
        pytest.param(torch.float64, "matmul", 1e-26, id="double", marks=pytest.mark.slow),
        pytest.param(torch.float64, "dft", 1e-26, id="double-dft"),
    ],
)
def test_other_floats(tmp_path: Path, dtype: torch.dtype, circulant: Any, bound: float) -> None:
    """float16 to three digits, float64 to thirteen."""
    model, x = models.tiny().to(dtype), models.rows(3).to(dtype)

    export(model, x, tmp_path / "m.onnx", bodies={"CirculantLinear": circulant})

    assert models.nmse(models.answers(tmp_path / "m.onnx", x)[0], call(model, x)[0]) < bound


def test_the_report(tmp_path: Path) -> None:
    report = export(models.tiny(), models.rows(2), str(tmp_path / "m.onnx"))

    assert report == ExportReport(
        path=tmp_path / "m.onnx",
        opset=20,
        file_bytes=(tmp_path / "m.onnx").stat().st_size,
        data_bytes=0,
        data=None,
        layers=("0", "3"),
        inputs=(TensorInfo("input", "float32", ("batch", 8)),),
        outputs=(TensorInfo("output", "float32", ("batch", 4)),),
        fixed=("axis 1 of input is fixed at 8",),
        notes=(),
        bodies={
            "CirculantLinear": BodyChoice("matmul", "the default"),
            "PRPLinear": BodyChoice("resident", "0.0 MiB of matrices, within 64 MiB: folded at load for speed"),
        },
        seconds=report.seconds,
        verified=report.verified,
    )
    assert report.seconds > 0


def test_without_verification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefc.export.exporter.compare", None)

    assert export(models.tiny(), models.rows(2), tmp_path / "m.onnx", verify=False).verified is None
