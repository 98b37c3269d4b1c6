"""The models that the attack exports: edgefc export tests.attack.sources:small"""

import torch
from torch import Tensor, nn

import edgefc

WIDTH = 16


def rows() -> Tensor:
    return torch.linspace(-1, 1, 2 * WIDTH).reshape(2, WIDTH)


def _of(seed: int, *layers: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    linear = [nn.Linear(n, m) for n, m in layers]
    return nn.Sequential(edgefc.CirculantLinear(WIDTH, WIDTH, seed=seed), *linear), rows()


def small() -> tuple[nn.Module, Tensor]:
    """Models that fit in one file."""
    return _of(1, (WIDTH, 3))


def small_new() -> tuple[nn.Module, Tensor]:
    return _of(2, (WIDTH, 3))


def large() -> tuple[nn.Module, Tensor]:
    """36 MB, so that the weights are in a second file."""
    return _of(3, (WIDTH, 512), (512, 18000))


def large_new() -> tuple[nn.Module, Tensor]:
    return _of(4, (WIDTH, 512), (512, 18000))


def wrong() -> tuple[nn.Module, Tensor]:
    """A model whose exported file computes other values."""
    return _Wrong(), rows()


def wrong_large() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(_Wrong(), large()[0]), rows()


class _Wrong(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = edgefc.CirculantLinear(WIDTH, WIDTH, seed=5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y * 2 if torch.onnx.is_in_onnx_export() else y
