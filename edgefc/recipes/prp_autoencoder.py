"""prp-autoencoder: an autoencoder n -> h -> c -> h -> n for pieces of pictures, with all layers of one kind.

There is a ReLU after each hidden layer except the code. A PRP layer stores n + 2 m numbers, and so does a low-rank
layer of rank 1 with its bias, so these two have the same number of parameters. A low-rank layer of rank 4 and a narrow
dense network show the effect of more, or other, parameters. "mean picture" is the training mean and has no parameters.
The paper states that PRP reconstructs better than low-rank layers with far fewer parameters. Its sizes, ranks and
results were not available to us, so the sizes and ranks here are our own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefc.layers.prp.linear import PRPLinear
from edgefc.recipes import data, folders
from edgefc.recipes.data import Images
from edgefc.recipes.fit import fit
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

PIECE, STRIDE = 16, 3  # of the bundled faces: pieces of 16 x 16 pixels, 16 of them in each picture of 25 x 25
HIDDEN, CODE = 128, 32
STEPS, QUICK_STEPS, ROWS = 1000, 5, 64
RANK = 4

Layer = Callable[[int, int, int], nn.Module]  # inputs, outputs, seed


@dataclass(frozen=True)
class Pieces:
    """Pictures that are split, then cut into pieces, so that no picture is in both parts. piece None: no cutting."""

    about: str
    images: Images
    piece: int | None

    @property
    def size(self) -> int:
        """The number of values in one piece."""
        channels, height, width = self.images.shape
        return channels * height * width if self.piece is None else channels * self.piece**2

    @property
    def test_over_train(self) -> float:
        return self.images.test_over_train

    def split(self, seed: int, *, tuning: bool) -> tuple[Tensor, Tensor]:
        """The training part and the test part, each (rows, size), minus the mean of the training rows."""
        first, second = (self._cut(part.x) for part in self.images.split(seed, tuning=tuning))
        middle = first.mean(0)
        return first - middle, second - middle

    def _cut(self, x: Tensor) -> Tensor:
        if self.piece is None:
            return x.flatten(1)
        cut = x.unfold(2, self.piece, STRIDE).unfold(3, self.piece, STRIDE)  # (rows, channels, down, across, p, p)
        return cut.permute(0, 2, 3, 1, 4, 5).reshape(-1, self.size)


def load(folder: Path | None) -> Pieces:
    if folder is not None:
        images = folders.images(folder)
        return Pieces(images.about, images, None)
    faces = data.faces()
    return Pieces(f"{faces.about}, then cut into pieces of {PIECE} x {PIECE}", faces, PIECE)


def arms(pieces: Pieces) -> list[Arm]:
    n = pieces.size

    def model(layer: Layer, h: int, c: int, seed: int) -> nn.Module:
        sizes = ((n, h), (h, c), (c, h), (h, n))
        first, second, third, last = (layer(*size, 4 * seed + index) for index, size in enumerate(sizes))
        return nn.Sequential(first, nn.ReLU(), second, third, nn.ReLU(), last)

    small = numbers(model(_prp("rademacher"), HIDDEN, CODE, 0))[0]
    narrow = same_size(lambda width: model(_dense, width, width, 0), small)
    kinds = {
        "dense": _dense, "PRP rademacher": _prp("rademacher"), "PRP gaussian": _prp("gaussian"),
        "low rank 1": _low_rank(1), f"low rank {RANK}": _low_rank(RANK),
    }  # fmt: skip
    return [
        *(Arm(name, lambda seed, layer=layer: model(layer, HIDDEN, CODE, seed)) for name, layer in kinds.items()),  # type: ignore[misc]
        Arm("narrow dense", lambda seed: model(_dense, narrow, narrow, seed)),
        Arm("mean picture", lambda seed: _Zero(), rates=(0.0,)),
    ]


def train(model: nn.Module, job: Job) -> float:
    """The mean squared error on held-out pieces, in percent of their mean square around the training mean."""
    rows, held_out = job.data.split(job.seed, tuning=job.tuning)
    scale = rows.square().mean()

    def loss(chosen: Tensor) -> Tensor:
        error: Tensor = nn.functional.mse_loss(model(rows[chosen]), rows[chosen]) / scale
        return error

    if numbers(model)[0]:
        fit(model, job.rate, QUICK_STEPS if job.quick else STEPS, loss, len(rows), ROWS)
    with torch.no_grad():
        return 100 * float((model(held_out) - held_out).square().mean() / held_out.square().mean())


def _dense(n: int, m: int, seed: int) -> nn.Module:
    return nn.Linear(n, m)


def _prp(distribution: str) -> Layer:
    return lambda n, m, seed: PRPLinear(n, m, distribution=distribution, seed=seed)


def _low_rank(rank: int) -> Layer:
    return lambda n, m, seed: nn.Sequential(nn.Linear(n, rank, bias=False), nn.Linear(rank, m))


class _Zero(nn.Module):
    """Returns zeros, which is the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


RECIPE = Recipe(
    name="prp-autoencoder",
    paper="Szorc 2025, arXiv 2512.13480",
    question="Does an autoencoder with PRP layers reconstruct unseen pictures better than one with low-rank layers "
    "with as many parameters, and how much better is a dense one?",
    bundled="scikit-image's LFW subset",
    wanted="CIFAR-10 (binary), MNIST (idx), a folder of images per class, such as TinyImageNet",
    minutes=2,
    metric=Metric("reconstruction error", "% of the variance", "lower", ".2f"),
    load=load,
    arms=arms,
    train=train,
    rates=(0.001, 0.003, 0.01, 0.03, 0.1),
    training=f"mean squared error, Adam, {STEPS} steps of {ROWS} pieces; the learning rate decreases to zero along a "
    "half cosine. For each arm separately, the first rate is the best of 0.001, 0.003, 0.01, 0.03 and 0.1 on a "
    "held-out fifth of the training pictures.",
    pairs=(
        ("PRP rademacher", "low rank 1"), ("PRP gaussian", "low rank 1"), ("PRP rademacher", "narrow dense"),
        ("PRP rademacher", f"low rank {RANK}"), ("PRP rademacher", "dense"), ("PRP gaussian", "PRP rademacher"),
    ),
    seeds=10,
)  # fmt: skip
