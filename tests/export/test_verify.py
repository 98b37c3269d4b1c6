"""verify(): yes to the same numbers; no to others, and where they part ways; neither to a broken file."""

import copy
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

import edgefc.export.exporter
from edgefc import CirculantLinear, PRPLinear
from edgefc.errors import CheckFailed, ModelError, UsageError
from edgefc.export import export, verify
from edgefc.export.verifying import measures
from tests.support import cli_models as models
from tests.support import onnx_models
from tests.support.onnx_models import FLOAT


class Deep(nn.Module):
    """A structured layer at each end, dense ones and a nest between them, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = CirculantLinear(8, 20)
        self.body = nn.Sequential(nn.Linear(20, 20), nn.Sequential(PRPLinear(20, 20), nn.Tanh()))
        self.twice = CirculantLinear(20, 20)
        self.norm = nn.LayerNorm(20)
        self.last = PRPLinear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(self.first(x))
        y = self.norm(self.twice(self.twice(y).relu()))
        result: Tensor = self.last(y)
        return result


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """The model and its file, with its weights beside it; tests copy before they change."""
    torch.manual_seed(0)
    model, path = Deep().eval(), tmp_path_factory.mktemp("deep") / "deep.onnx"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edgefc.export.exporter, "EXTERNAL_FROM_BYTES", 512)
        export(model, models.rows(2), path, verify=False)
    return model, path


def copied(path: Path, folder: Path) -> Path:
    for part in path.parent.iterdir():
        (folder / part.name).write_bytes(part.read_bytes())
    return folder / path.name


def test_the_same_numbers_hold(deep: tuple[nn.Module, Path]) -> None:
    """At the rows of the example, at 1 and at 3, and on drawn inputs."""
    model, path = deep

    report = verify(path, model, models.rows(2))

    assert report.holds and report.parts_at is None
    assert [(output.rows, output.drawn) for output in report.outputs] == [(2, False), (1, False), (3, False), (2, True)]
    assert all(0 < output.nmse < 1e-10 and output.bound == 1e-9 for output in report.outputs)
    assert report.sentence().startswith("torch and onnxruntime agree at 1, 2, 3 rows: worst output 'output'")
    report.raise_if_failed("deep.onnx")


ELSEWHERE = pytest.mark.slow  # each takes seconds: torch runs many times to see what rounding does


@pytest.mark.parametrize(
    ("weight", "layer"),
    [
        pytest.param("first.kernel", "first", id="first", marks=ELSEWHERE),
        pytest.param("body.0.weight", "body.0", id="dense"),
        pytest.param("body.1.0.in_scale", "body.1.0", id="nested", marks=ELSEWHERE),
        pytest.param("twice.kernel", "twice", id="called-twice"),
        pytest.param("norm.bias", "norm", id="norm", marks=ELSEWHERE),
        pytest.param("last.out_scale", "last", id="last", marks=ELSEWHERE),
    ],
)
def test_another_weight_is_found(deep: tuple[nn.Module, Path], weight: str, layer: str) -> None:
    """One number changed by a hundredth: the check fails, and names the layer that holds it."""
    model, path = copy.deepcopy(deep[0]), deep[1]
    with torch.no_grad():
        model.get_parameter(weight).view(-1)[1] += 0.01

    report = verify(path, model, models.rows(2))

    assert not report.holds and report.parts_at == layer
    with pytest.raises(
        CheckFailed, match=f"deep.onnx does not compute .* the first layer that differs is '{layer}'"
    ) as caught:
        report.raise_if_failed("deep.onnx")
    assert caught.value.exit_code == 1
    assert not any(module._forward_hooks for module in model.modules())


def test_only_the_second_call_differs(deep: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """The file's second call of a shared layer gets a kernel of its own."""
    model, path = deep[0], copied(deep[1], tmp_path)
    file = onnx.load(path)
    (second,) = [node for node in file.graph.node if node.name == "twice#2"]
    (kernel,) = [tensor for tensor in file.graph.initializer if tensor.name == "twice.kernel"]
    other = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel)[..., ::-1].copy(), "other")
    file.graph.initializer.append(other)
    second.input[1] = "other"
    onnx.save(file, path)

    assert verify(path, model, models.rows(2)).parts_at == "twice#2"


def test_another_sign_seed_is_found(deep: tuple[nn.Module, Path]) -> None:
    model = copy.deepcopy(deep[0])
    model.get_submodule("first").seed = 1  # type: ignore[assignment]

    assert verify(deep[1], model, models.rows(2)).parts_at == "first"


def test_a_model_that_is_one_layer(tmp_path: Path) -> None:
    layer = CirculantLinear(8, 8)
    export(layer, models.rows(2), tmp_path / "m.onnx")
    with torch.no_grad():
        layer.kernel += 1

    assert verify(tmp_path / "m.onnx", layer, models.rows(2)).parts_at == "CirculantLinear"


class Scaled(nn.Module):
    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        return x * scale + scale


def scaled_file(path: Path) -> Path:
    """y = x * scale + scale, inputs in that order."""
    ports = {name: (onnx_models.FLOAT, ["n", 3]) for name in ("x", "scale")}
    nodes = [helper.make_node("Mul", ["x", "scale"], ["p"]), helper.make_node("Add", ["p", "scale"], ["y"])]
    return onnx_models.write(path, nodes, ports, {"y": ports["x"]}, {})  # type: ignore[arg-type]


def test_keyword_inputs_go_by_name(tmp_path: Path) -> None:
    path, x, scale = scaled_file(tmp_path / "m.onnx"), models.rows(2, 3), models.rows(3, 3)[:2]

    assert verify(path, Scaled(), {"scale": scale, "x": x}).holds
    assert verify(path, Scaled(), (x, scale)).holds
    assert not verify(path, lambda_module(lambda x, scale: scale * x + x), (x, scale)).holds


def lambda_module(function: Any) -> nn.Module:
    module = nn.Module()
    module.forward = function
    return module


@pytest.mark.parametrize(
    ("args", "said"),
    [
        pytest.param((torch.ones(2, 3),), r"cannot run on .*'scale'", id="too-few"),
        pytest.param((torch.ones(2, 4), torch.ones(2, 5)), r"cannot run on .*\(2, 4\), \(2, 5\)", id="shape"),
        pytest.param((torch.ones(2, 3), torch.ones(1, 3)), "are both named 'n', .* are 2 and 1", id="two-batches"),
        pytest.param((torch.ones(0, 3), torch.ones(0, 3)), "batch size 0", id="no-rows"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit(tmp_path: Path, args: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        verify(scaled_file(tmp_path / "m.onnx"), Scaled(), args)
    assert "\n" not in str(caught.value)


def test_a_file_of_other_inputs_or_outputs(tmp_path: Path) -> None:
    path = scaled_file(tmp_path / "m.onnx")

    with pytest.raises(UsageError, match=r"has 2 inputs \(x, scale\), got 1 tensors"):
        verify(path, nn.Identity(), torch.ones(2, 3))
    with pytest.raises(UsageError, match=r"m\.onnx has 1 outputs, but the model has 2"):
        verify(path, lambda_module(lambda x, scale: (x, scale)), (torch.ones(2, 3), torch.ones(2, 3)))
    with pytest.raises(ModelError, match=r"onnxruntime cannot run m\.onnx on inputs of shapes"):
        verify(path, Scaled(), (torch.ones(2, 4), torch.ones(2, 4)))


def test_whole_numbers_are_exact(tmp_path: Path) -> None:
    """Off by one in a million is off."""
    ports = {"x": (onnx_models.INT64, ["n", 3])}
    node = helper.make_node("Add", ["x", "one"], ["y"])
    path = onnx_models.write(tmp_path / "m.onnx", [node], ports, {"y": ports["x"]}, {"one": np.array([1, 1, 2])})  # type: ignore[arg-type]
    x = torch.full((2, 3), 10**6)

    report = verify(path, lambda_module(lambda x: x + 1), x)

    assert not report.holds and report.worst.bound == 0 and report.worst.largest_difference == 1
    assert verify(path, lambda_module(lambda x: x + torch.tensor([1, 1, 2])), x).holds


def test_another_shape_is_another_answer(tmp_path: Path) -> None:
    path = scaled_file(tmp_path / "m.onnx")
    model = lambda_module(lambda x, scale: (x * scale + scale).flatten())

    assert verify(path, model, (torch.ones(2, 3), torch.ones(2, 3))).worst.nmse == float("inf")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("actual", "expected", "value"),
    [
        pytest.param([1, 2], [1, 2], 0, id="equal"),
        pytest.param([], [], 0, id="empty"),
        pytest.param([0, 0], [0, 0], 0, id="both-zero"),
        pytest.param([3, 4.05], [3, 4], 0.05**2 / 25, id="a-little"),
        pytest.param([1e-30, 0], [0, 0], INF, id="zero-expected"),
        pytest.param([1, NAN], [1, NAN], 0, id="same-nan"),
        pytest.param([1, NAN], [1, 2], INF, id="nan-for-a-number"),
        pytest.param([1, 2], [1, NAN], INF, id="number-for-nan"),
        pytest.param([1, INF], [1, INF], 0, id="same-infinity"),
        pytest.param([1, -INF], [1, INF], INF, id="other-infinity"),
        pytest.param([NAN, 2], [INF, 2], INF, id="nan-for-infinity"),
        pytest.param([1], [1, 1], INF, id="other-shape"),
    ],
)
def test_nmse(actual: list[float], expected: list[float], value: float) -> None:
    result = measures.nmse(np.array(actual, np.float32), np.array(expected, np.float32))

    assert result == pytest.approx(value, rel=1e-5)


def test_the_bounds() -> None:
    assert (measures.NMSE_BOUND, measures.NMSE_BOUND_HALF) == (1e-9, 1e-4)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(500))


def test_no_room_for_the_search_does_not_lose_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, x = scaled_file(tmp_path / "m.onnx"), torch.ones(2, 3)
    monkeypatch.setattr(edgefc.export.verifying.divergence.ir, "save", full)

    report = verify(path, lambda_module(lambda x, scale: scale * x + x), (x, 2 * x))

    assert not report.holds and report.parts_at is None
    with pytest.raises(CheckFailed, match=r"was not searched for: cannot write temporary files to .*: No space left"):
        report.raise_if_failed("m.onnx")


def data_of(path: Path) -> Path:
    (data,) = path.parent.glob("deep-*.onnx.data")
    return data


def weights_gone(path: Path) -> None:
    data_of(path).unlink()


def weights_cut(path: Path) -> None:
    data_of(path).write_bytes(b"short")


BROKEN = [empty, cut, noise, weights_gone, weights_cut]


@pytest.mark.parametrize("damage", BROKEN)
def test_broken_files(deep: tuple[nn.Module, Path], tmp_path: Path, capfd: Any, damage: Any) -> None:
    path = copied(deep[1], tmp_path)
    damage(path)

    with pytest.raises(ModelError, match=r"cannot load .*deep\.onnx: .*\. [A-Z].*\.$") as caught:
        verify(path, deep[0], models.rows(2))

    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert capfd.readouterr() == ("", "")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file .*absent\.onnx"):
        verify(tmp_path / "absent.onnx", nn.Identity(), torch.ones(1))


def test_long_names_of_a_file_are_shortened(tmp_path: Path) -> None:
    """An input takes another size than the model's, and the sentence about it names the input."""
    name = "x" * 100_000
    node = helper.make_node("Identity", [name], ["y"])
    path = onnx_models.write(tmp_path / "m.onnx", [node], {name: (FLOAT, [2, 9])}, {"y": (FLOAT, [2, 9])}, {})

    with pytest.raises(ModelError, match=r"^onnxruntime cannot run m\.onnx on inputs of shapes ") as caught:
        verify(path, nn.Identity(), torch.randn(2, 8))
    assert len(str(caught.value)) < 1000
