"""Small models for the tests of export, verify and the command line; those without arguments serve as SOURCE."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc import CirculantLinear, PRPLinear

IN_FEATURES = 8


def tiny() -> nn.Module:
    """One layer of each kind and a dense one between them; the same weights at every call."""
    torch.manual_seed(0)
    first, last = CirculantLinear(IN_FEATURES, 16, seed=0), PRPLinear(16, 4, seed=0)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(16, 16), last)


def tiny_and_inputs() -> tuple[nn.Module, Tensor]:
    return tiny(), rows(2)


def dense() -> tuple[nn.Module, Tensor]:
    """No structured layer."""
    torch.manual_seed(0)
    return nn.Linear(IN_FEATURES, 3), rows(2)


def raises() -> nn.Module:
    raise KeyError("weights of\nmy own")


def leaves() -> nn.Module:
    raise SystemExit(3)


def endless() -> tuple[nn.Module, Tensor]:
    """Of the signature of tests.support.endless."""
    return nn.Identity(), rows(2)


def leaves_with_0() -> nn.Module:
    raise SystemExit(0)


def forward_leaves() -> tuple[nn.Module, Tensor]:
    return ForwardLeaves(), rows(2)


def named_tensors_leave() -> tuple[nn.Module, Tensor]:
    return BuffersLeave(), rows(2)


def random() -> tuple[nn.Module, Tensor]:
    return Random(), rows(2)


def text() -> str:
    return "a model"


def needs_an_argument(size: int) -> nn.Module:
    return nn.Linear(size, size)


def rows(count: int, *shape: int) -> Tensor:
    """Seeded normal numbers, (count, *shape) or (count, IN_FEATURES)."""
    return torch.randn(count, *(shape or (IN_FEATURES,)), generator=torch.Generator().manual_seed(count))


class ForwardRaises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("out of tune\nand a second line")


class ForwardLeaves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise SystemExit(0)


class BuffersLeave(nn.Module):
    """Ends the process where no command expects it."""

    def train(self, mode: bool = True) -> nn.Module:
        raise SystemExit(0)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Random(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rand_like(x)


class LooksAtNumbers(nn.Module):
    """Control flow that depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(IN_FEATURES, IN_FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


class TwoRowsOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(IN_FEATURES, IN_FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.reshape(2, IN_FEATURES))


class OtherInTheFile(nn.Module):
    """Computes one thing in torch and another in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = CirculantLinear(IN_FEATURES, IN_FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y * 2 if torch.onnx.is_in_onnx_export() else y


def other_in_the_file() -> tuple[nn.Module, Tensor]:
    return OtherInTheFile(), rows(2)


def looks_at_numbers() -> tuple[nn.Module, Tensor]:
    return LooksAtNumbers(), rows(2)


def two_rows_only() -> tuple[nn.Module, Tensor]:
    return TwoRowsOnly(), rows(2)


def answers(path: Path, *inputs: Any) -> list[NDArray[Any]]:
    """What onnxruntime computes from the file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    feeds = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
    result: list[NDArray[Any]] = session.run(None, feeds)
    return result


def nmse(actual: NDArray[Any], expected: Tensor) -> float:
    """|actual - expected|^2 / |expected|^2, written apart from edgefc's own."""
    assert actual.shape == tuple(expected.shape)
    wanted = expected.detach().double().numpy()
    return float(np.sum((actual.astype(np.float64) - wanted) ** 2) / np.sum(wanted**2))


def files(folder: Path) -> dict[str, str]:
    """Every file and folder below, hidden ones too, with what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in folder.rglob("*")
    }
