"""The perceptron 64 -> width -> width -> 10, ReLU between; the first two layers are of one kind, the last is dense.

The functions dense, circulant and prp make the models that the demo exports, untrained, for edgefc verify:

    edgefc verify edgefc-demo/prp-streaming.onnx edgefc.demo.models:prp --weights edgefc-demo/prp.safetensors
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgefc.demo.data import CLASSES, PIXELS, digits
from edgefc.layers.circulant.linear import CirculantLinear
from edgefc.layers.prp.linear import PRPLinear

KINDS = ("dense", "circulant", "prp")
WIDTH = 2048
EXPORTED_SEED = 0

Example = tuple[nn.Module, Tensor]


def build(kind: str, width: int, seed: int) -> nn.Sequential:
    """The untrained model; each layer starts as it does by default, from torch's random state.

    The signs of circulant layers and the matrices of PRP layers come from `seed`, another for each layer.
    """
    first, second = 2 * seed, 2 * seed + 1
    layers: dict[str, Callable[[int, int], nn.Module]] = {
        "dense": lambda n, _: nn.Linear(n, width),
        "circulant": lambda n, layer_seed: CirculantLinear(n, width, seed=layer_seed),
        "prp": lambda n, layer_seed: PRPLinear(n, width, seed=layer_seed),
    }
    layer = layers[kind]
    return nn.Sequential(
        layer(PIXELS, first), nn.ReLU(), layer(width, second), nn.ReLU(), nn.Linear(width, CLASSES)
    )  # fmt: skip


def dense() -> Example:
    """With torch.nn.Linear, and some test digits."""
    return _example("dense")


def circulant() -> Example:
    """With edgefc.CirculantLinear, and some test digits."""
    return _example("circulant")


def prp() -> Example:
    """With edgefc.PRPLinear, and some test digits."""
    return _example("prp")


def example_digits() -> Tensor:
    """Test digits of the exported seed: (8, 64)."""
    return digits(EXPORTED_SEED).test.x[:8]


def numbers(model: nn.Module) -> int:
    """How many numbers the model stores: its parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _example(kind: str) -> Example:
    with torch.random.fork_rng(devices=[]):
        return build(kind, WIDTH, EXPORTED_SEED), example_digits()
