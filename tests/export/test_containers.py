"""Inputs and outputs in other containers than tensors and tuples, and what they are called in the file."""

import dataclasses
import re
from collections import OrderedDict, UserDict, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefc import CirculantLinear
from edgefc.errors import UsageError
from edgefc.export import export, verify


class Batch(NamedTuple):
    x: Tensor
    mask: Tensor


@dataclasses.dataclass
class Registered:
    x: Tensor
    mask: Tensor


@dataclasses.dataclass
class Unknown:
    x: Tensor
    mask: Tensor


@dataclasses.dataclass
class Answer:
    logits: Tensor
    hidden: tuple[Tensor, ...]
    note: str = "told"


torch.export.register_dataclass(Registered)


class Takes(nn.Module):
    """One argument that holds two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(8, 8)

    def forward(self, batch: Any) -> Tensor:
        x, mask = (batch.x, batch.mask) if hasattr(batch, "x") else (batch["x"], batch["mask"])
        y: Tensor = self.layer(x) * mask
        return y


class Returns(nn.Module):
    def __init__(self, how: Any) -> None:
        super().__init__()
        self.layer, self.how = CirculantLinear(8, 8), how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.layer(x), x)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(8, 8)

    def forward(self, x: Tensor, **options: Any) -> Tensor:
        y: Tensor = self.layer(x) * options["scale"] + options.get("shift", 0.0)
        return y if options["sign"] > 0 else -y


X, MASK = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)), torch.ones(2, 1)


def ports(path: Path) -> tuple[list[str], list[str]]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [i.name for i in session.get_inputs()], [o.name for o in session.get_outputs()]


def run(path: Path, **feeds: Tensor) -> list[Any]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    results: list[Any] = session.run(None, {name: tensor.numpy() for name, tensor in feeds.items()})
    return results


@pytest.mark.parametrize(
    "batch",
    [
        pytest.param(Batch(X, MASK), id="named-tuple"),
        pytest.param(OrderedDict(x=X, mask=MASK), id="ordered-dict", marks=pytest.mark.slow),
        pytest.param(defaultdict(list, x=X, mask=MASK), id="default-dict", marks=pytest.mark.slow),
        pytest.param(Registered(X, MASK), id="registered-dataclass"),
    ],
)
@pytest.mark.parametrize("dynamic_batch", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_containers_of_inputs(tmp_path: Path, batch: Any, dynamic_batch: bool) -> None:
    model, path = Takes().eval(), tmp_path / "m.onnx"

    report = export(model, (batch,), path, dynamic_batch=dynamic_batch)

    assert report.verified is not None and report.verified.holds
    assert ports(path) == (["batch_x", "batch_mask"], ["output"])
    x = torch.randn(3 if dynamic_batch else 2, 8)
    (result,) = run(path, batch_x=x, batch_mask=torch.full((len(x), 1), 2.0))
    np.testing.assert_allclose(result, (x.double() @ model.layer.dense().double().T).numpy() * 2, rtol=1e-4, atol=1e-5)
    assert verify(path, model, (batch,)).holds


def test_a_container_that_torch_does_not_know(tmp_path: Path) -> None:
    """It would be one constant, and its tensors would be baked into the file."""
    with pytest.raises(UsageError, match=r"^argument 'batch' is a Unknown, .*register_dataclass\.$"):
        export(Takes(), (Unknown(X, MASK),), tmp_path / "m.onnx")


def test_a_mapping_that_is_no_dict(tmp_path: Path) -> None:
    """As a tokenizer of transformers returns."""
    report = export(Batchwise(), UserDict(x=X, mask=MASK), tmp_path / "m.onnx")
    assert [info.name for info in report.inputs] == ["x", "mask"]


class Batchwise(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


@pytest.mark.parametrize(
    ("how", "names"),
    [
        pytest.param(lambda y, x: y, ["output"], id="one"),
        pytest.param(lambda y, x: (y, None, y * 2), ["output_0", "output_1"], id="tuple", marks=pytest.mark.slow),
        pytest.param(lambda y, x: Batch(y, x * 2), ["x_out", "mask"], id="named-tuple"),
        pytest.param(lambda y, x: {"scores": y, "boxes": {"low": y, "high": y + 1}},
                     ["scores", "boxes.low", "boxes.high"], id="dicts"),
        pytest.param(lambda y, x: Answer(y, (y + 1, y + 2)), ["logits", "hidden.0", "hidden.1"], id="dataclass"),
        pytest.param(lambda y, x: [y, {"a": y + 1}], ["output_0", "output_1.a"], id="mixed", marks=pytest.mark.slow),
        pytest.param(lambda y, x: (x, x, y), ["output_0", "output_1", "output_2"], id="inputs-as-outputs"),
    ],
)  # fmt: skip
def test_outputs_are_named_by_their_fields(tmp_path: Path, how: Any, names: list[str]) -> None:
    model, path = Returns(how).eval(), tmp_path / "m.onnx"

    report = export(model, X, path)

    assert ports(path)[1] == names == [info.name for info in report.outputs]
    assert report.verified is not None and report.verified.holds


def test_output_names(tmp_path: Path) -> None:
    model, path = Returns(lambda y, x: (y, y * 2)), tmp_path / "m.onnx"

    report = export(model, X, path, output_names=["plain", "twice"])

    assert ports(path) == (["x"], ["plain", "twice"])
    assert verify(path, model, X).holds and report.verified is not None
    for given, said in (
        (["a"], "output_names has 'a' for 2 outputs: output_0, output_1. Give one name for each output, all different"),
        (["x", "a"], "output_names has 'x', 'a' for 2 outputs: output_0, output_1. Give one name for each"),
        (["a", "a"], "output_names has 'a', 'a' for 2 outputs"),
        ("ab", "output_names must be a list of names, got 'ab'."),
        (["a" * 999, "a" * 999], " ... for 2 outputs"),
    ):
        with pytest.raises(UsageError, match=re.escape(said)):
            export(model, X, path, output_names=given)


def test_keyword_arguments(tmp_path: Path) -> None:
    """Tensors among them are inputs by their own names; numbers are fixed, and the report says so."""
    model, path, scale = Keywords().eval(), tmp_path / "m.onnx", torch.randn(2, 1)

    report = export(model, {"x": X, "scale": scale, "sign": -1}, path)

    assert ports(path) == (["x", "scale"], ["output"])
    assert report.notes == ("argument sign is fixed at -1",)
    x, scale = torch.randn(5, 8), torch.randn(5, 1)
    with torch.no_grad():
        np.testing.assert_allclose(run(path, x=x, scale=scale)[0], model(x, scale=scale, sign=-1), rtol=1e-4, atol=1e-5)


def test_what_is_no_tensor_is_left_out_and_told(tmp_path: Path) -> None:
    report = export(Returns(lambda y, x: {"y": y, "count": 3}), X, tmp_path / "m.onnx")

    assert ports(tmp_path / "m.onnx")[1] == ["y"]
    assert report.notes == ("output count is the int 3, not a tensor: the file does not contain it",)
