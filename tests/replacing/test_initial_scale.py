"""replace(init="new") gives layers whose outputs have the variance of a new layer of torch, or that of the paper."""

import math

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from edgefc.layers.bilinear.factors import factors
from edgefc.plan.configurations import (
    PRP,
    Bilinear,
    Circulant,
    Configuration,
    EUGen,
    Half,
    Int2,
    Int3,
    Int4,
    Int8,
    LowRank,
    Monarch,
)
from edgefc.replacing.finding import CONVOLUTION, LINEAR, RECURRENT, TABLE
from edgefc.replacing.replacing import replace
from edgefc.replacing.serving import SERVICES

SEEDS, ROWS = 6, 200
CONFIGURATIONS: tuple[Configuration, ...] = (
    Circulant(), Circulant(block=16), PRP(), PRP("hadamard"), EUGen(32), Bilinear(), Bilinear(terms=3), Monarch(),
    LowRank(ratio=4), LowRank(ratio=4, storage="half"), LowRank(ratio=4, storage="int8"), Half(), Int8(), Int4(),
    Int3(), Int2(), Int2(rank=8),
)  # fmt: skip
MADE = {
    LINEAR: (lambda: nn.Linear(192, 384), lambda: torch.randn(ROWS, 192)),
    CONVOLUTION: (lambda: nn.Conv2d(32, 64, 3), lambda: torch.randn(4, 32, 10, 10)),
    TABLE: (lambda: nn.Embedding(512, 64), lambda: torch.randint(512, (ROWS,))),
}
CASES = [
    (kind, configuration)
    for kind in MADE
    for configuration in CONFIGURATIONS
    if type(configuration) in SERVICES[kind]
    and (kind == LINEAR or configuration != PRP("hadamard"))  # a matrix of linear layers only
]


def expected(kind: str, configuration: Configuration) -> float:
    """The mean square of the outputs without the bias, for inputs of variance 1."""
    if isinstance(configuration, Circulant | PRP):
        return 1.0
    if isinstance(configuration, Bilinear):
        if kind == TABLE:
            return (0.05**2 / 3) ** 2  # the authors' code: both factors uniform in +-0.05
        (d1, d2), (u1, u2) = (factors(size) for size in ((192, 384) if kind == LINEAR else (32 * 9, 64)))
        return d1 * d2 * 2 / (d1 + u1) * 2 / (d2 + u2)  # Glorot's variances
    return 1.0 if kind == TABLE else 1 / 3


@pytest.mark.parametrize(("kind", "configuration"), CASES, ids=str)
def test_outputs_of_new_layers(kind: str, configuration: Configuration) -> None:
    """Within 15 %, over six layers."""
    make, example = MADE[kind]
    squares = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = nn.Sequential(make())
        replace(model, {"0": configuration}, init="new")
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        squares.append(model(example()).detach().float().square().mean())
    assert float(torch.stack(squares).mean()) == pytest.approx(expected(kind, configuration), rel=0.15)


@pytest.mark.parametrize("configuration", [Circulant(), Bilinear(), Bilinear(terms=3), Int8(), Int4()], ids=str)
def test_matrices_of_new_lstms(configuration: Configuration) -> None:
    """The mean square of a gate's sum of products with inputs, and with hidden values, both of variance 1."""
    n, h = 64, 256
    found = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.LSTM(n, h))
        replace(model, {"0": configuration}, init="new")
        into, back = model[0].layers[0].matrices()
        found.append(torch.stack([n * into.detach().square().mean(), h * back.detach().square().mean()]))
    if isinstance(configuration, Circulant):
        both = (1.0, 1.0)
    elif isinstance(configuration, Bilinear):  # 8 x 8 to 16 x 16; Glorot's variance of all gates, and orthogonal
        both = (n * (2 / (8 + 4 * 16)) ** 2, h * (1 / (4 * 16)) ** 2)
    else:
        both = (n / (3 * h), 1 / 3)
    assert torch.stack(found).mean(0).tolist() == pytest.approx(both, rel=0.15)


def test_every_kind_of_layer_is_here() -> None:
    tested = {type(configuration) for configuration in CONFIGURATIONS}
    assert {configuration for kind in SERVICES.values() for configuration in kind} == tested
    assert set(SERVICES) == {*MADE, RECURRENT}
    assert math.isclose(expected(LINEAR, Monarch()), 1 / 3)
