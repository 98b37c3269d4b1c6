"""eugen-siren: a network 2 -> 128 -> 128 -> 128 -> 1 with sines stores one photograph: coordinates in, grey value out.

SIREN (Sitzmann et al., NeurIPS 2020, arXiv 2006.09661) computes sin(30 (W x + b)) in each layer. The two layers of
128 x 128 are of the kind of the arm; the first and the last are dense in every arm. From the EUGens paper: SIREN among
its tasks, layers of 256 x 256, 32 features, a network of about a third of the size, and a trained G. Our
reconstructions: the position of the sine, Phi, the width, the number of features for a third of the size, and the
initialisation. There are three readings of the paper:

    EUGen relu, then sine       Phi = relu, the usual one in the paper, followed by the sine
    EUGen sine, then sine       Phi = sin, followed by the sine; also without the norm of the input
    EUGen for layer and sine    Phi = sin replaces the layer and its sine

"low rank" is W = B A followed by the sine. "narrow dense" is the SIREN with as many parameters. As in SIREN, the input
of a sine initially has variance 1 before the bias: layers that are not dense are scaled accordingly on the pixel grid.
Biases are initialised as in torch.nn.Linear in every arm.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.layers.eugen.linear import EUGenLinear
from edgefc.recipes import data, folders
from edgefc.recipes.fit import fit
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe
from edgefc.recipes.sizes import numbers, same_size

SIZE, WIDTH, FEATURES, HIDDEN = 128, 128, 20, 2
OMEGA = 30.0
STEPS, QUICK_STEPS, ROWS = 400, 5, 1024
RATES, HIGHER = (0.001, 0.003, 0.01), (0.003, 0.01, 0.03)  # higher where no sine multiplies steps by 30

Layer = Callable[[int, int], nn.Module]  # width, seed


@dataclass(frozen=True)
class Photographs:
    """Grey pictures in 0..1, (size, size): the one to measure, and the one to choose learning rates on."""

    about: str
    picture: Tensor
    other: Tensor


class Sine(nn.Module):
    """sin(30 x)"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(OMEGA * x)


class Kind(NamedTuple):
    """A hidden layer, the submodule with the weight to scale and the bias, and whether a sine follows."""

    layer: Layer
    last: Callable[[nn.Module], nn.Module] = lambda layer: layer
    sine: bool = True


def load(folder: Path | None) -> Photographs:
    if folder is None:
        picture, other = (_grey(data.photograph(name, SIZE)) for name in ("camera", "cat"))
        about = f"scikit-image's photograph camera, {SIZE} x {SIZE} grey pixels; the learning rates were chosen on cat"
        return Photographs(about, picture, other)
    given = folders.pictures(folder, SIZE, grey=True).train.x[:, 0]
    if len(given) < 2:
        raise UsageError(
            f"{folder} contains one picture, but eugen-siren needs two: it fits the first one and chooses the learning "
            "rates on the last one. Add a picture."
        )
    about = f"the user's picture, {SIZE} x {SIZE} grey pixels; the learning rates were chosen on another one"
    return Photographs(about, given[0], given[-1])


def arms(photographs: Photographs) -> list[Arm]:
    kinds = {
        "dense": Kind(_dense),
        "EUGen relu, then sine": Kind(_eugen("relu")),
        "EUGen sine, then sine": Kind(_eugen("sin")),
        "EUGen sine, then sine, no norm": Kind(_eugen("sin", norm=False)),
        "EUGen for layer and sine": Kind(_eugen("sin"), sine=False),
        "low rank": Kind(_low_rank, lambda layer: layer.get_submodule("1")),
    }
    narrow = same_size(lambda width: model(kinds["dense"], width, 0), numbers(model(kinds["low rank"], WIDTH, 0))[0])
    return [
        *(
            Arm(name, lambda seed, kind=kind: model(kind, WIDTH, seed), () if kind.sine else HIGHER)  # type: ignore[misc]
            for name, kind in kinds.items()
        ),
        Arm("narrow dense", lambda seed: model(kinds["dense"], narrow, seed)),
    ]


@torch.no_grad()
def model(kind: Kind, width: int, seed: int) -> nn.Sequential:
    """(rows, 2) -> (rows, 1)"""
    layers: list[nn.Module] = [_uniform(nn.Linear(2, width), 1 / 2), Sine()]
    x = nn.Sequential(*layers)(grid())
    for index in range(HIDDEN):
        layer = kind.layer(width, HIDDEN * seed + index)
        last = kind.last(layer).get_parameter
        last("bias").zero_()
        if kind.layer is not _dense:  # outputs that replace a sine start with the mean square of a sine, about 1/2
            wanted = 1 / OMEGA if kind.sine else math.sqrt(1 / 2)
            last("weight").mul_(wanted / layer(x).square().mean().sqrt())
        last("bias").uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width))
        added = [layer, Sine()] if kind.sine else [layer]
        x = nn.Sequential(*added)(x)
        layers += added
    return nn.Sequential(*layers, _uniform(nn.Linear(width, 1), _bound(width)))


def train(model: nn.Module, job: Job) -> Outcome:
    """The peak signal-to-noise ratio of the whole picture, clamped to 0..1, in dB."""
    picture, x = job.data.other if job.tuning else job.data.picture, grid()
    y = 2 * picture.reshape(-1, 1) - 1

    def loss(rows: Tensor) -> Tensor:
        error: Tensor = nn.functional.mse_loss(model(x[rows]), y[rows])
        return error

    fit(model, job.rate, QUICK_STEPS if job.quick else STEPS, loss, len(x), ROWS)
    with torch.no_grad():
        fitted = ((model(x) + 1) / 2).clamp(0, 1).reshape(picture.shape)
    return Outcome(-10 * math.log10(float((fitted - picture).square().mean())), picture=fitted)


def grid() -> Tensor:
    """The coordinates of all pixels in -1..1, row by row: (SIZE^2, 2)."""
    line = torch.linspace(-1, 1, SIZE)
    return torch.cartesian_prod(line, line)


def _grey(picture: Tensor) -> Tensor:
    return picture if picture.dim() == 2 else picture.mean(-1)


def _bound(width: int) -> float:
    """The bound of SIREN's uniform initialisation, which gives the sines arguments of variance 1."""
    return math.sqrt(6 / width) / OMEGA


@torch.no_grad()
def _uniform(linear: nn.Linear, bound: float) -> nn.Linear:
    linear.weight.uniform_(-bound, bound)
    return linear


def _dense(width: int, seed: int) -> nn.Module:
    return _uniform(nn.Linear(width, width), _bound(width))


def _eugen(activation: str, *, norm: bool = True) -> Layer:
    return lambda width, seed: EUGenLinear(
        width, width, features=FEATURES, activation=activation, norm=norm, seed=seed, projection="trained"
    )


def _low_rank(width: int, seed: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, FEATURES, bias=False), nn.Linear(FEATURES, width))


RECIPE = Recipe(
    name="eugen-siren",
    paper="EUGens, NeurIPS 2025, arXiv 2410.09771",
    question="Does a network of sines that stores a photograph keep its quality with EUGen layers at a third of its "
    "size, and is it better than with low-rank or narrower layers with about as many parameters?",
    bundled="scikit-image's photograph camera",
    wanted="a folder of images per class; the first image is fitted",
    minutes=3,
    metric=Metric("PSNR of the fitted pixels", "dB", "higher", ".2f"),
    load=load,
    arms=arms,
    train=train,
    rates=RATES,
    training=f"mean squared error, Adam, {STEPS} steps of {ROWS} pixels; the learning rate decreases to zero along a "
    "half cosine. For each arm separately, the first rate is the best of 0.001, 0.003 and 0.01 on another photograph "
    "(of 0.003, 0.01 and 0.03 for EUGen for layer and sine). All pixels are used for training and for the metric: the "
    "network stores a picture and does not predict unseen pixels.",
    pairs=(
        ("EUGen relu, then sine", "low rank"), ("EUGen sine, then sine", "low rank"),
        ("EUGen for layer and sine", "low rank"), ("EUGen sine, then sine, no norm", "EUGen sine, then sine"),
        ("EUGen sine, then sine, no norm", "low rank"), ("EUGen sine, then sine, no norm", "narrow dense"),
        ("EUGen sine, then sine", "dense"),
    ),
    original=lambda photographs: photographs.picture,
)  # fmt: skip
