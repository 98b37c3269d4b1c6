"""circulant-mlp: a perceptron n -> 512 -> 512 -> classes, ReLU between; the first two layers are of one kind.

The last layer is dense in every arm. The paper replaced the fully connected layers of a convolutional network on MNIST
and CIFAR-10; this is a plain perceptron, so its figures are not the paper's. "narrow dense" is the perceptron whose
two hidden layers are as wide as the parameters of the circulant one pay for. "frozen circulant" is the paper's
randomized circulant: kernels from the seed, only biases and the last layer trained.
"""

import math
from collections.abc import Callable
from functools import partial

from torch import nn

from edgefc.layers.circulant.linear import CirculantLinear
from edgefc.recipes import folders
from edgefc.recipes.data import Images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

WIDTH, STEPS, QUICK_STEPS = 512, 400, 5

Layer = Callable[[int, int, int], nn.Module]  # inputs, outputs, seed


def arms(images: Images) -> list[Arm]:
    small = numbers(perceptron(circulant_layer, images, WIDTH, 0))[0]
    narrow = same_size(lambda width: perceptron(dense_layer, images, width, 0), small)
    return [
        Arm("dense", partial(perceptron, dense_layer, images, WIDTH)),
        Arm("circulant", partial(perceptron, circulant_layer, images, WIDTH)),
        Arm("frozen circulant", partial(perceptron, _frozen, images, WIDTH)),
        Arm("narrow dense", partial(perceptron, dense_layer, images, narrow)),
    ]


def perceptron(layer: Layer, images: Images, width: int, seed: int) -> nn.Module:
    """The untrained model: images (N, channels, height, width) to (N, classes)."""
    first, second = layer(math.prod(images.shape), width, 2 * seed), layer(width, width, 2 * seed + 1)
    return nn.Sequential(
        nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(width, images.classes)
    )  # fmt: skip


def train(model: nn.Module, job: Job) -> float:
    """Percent of held-out images named correctly."""
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part)
    return accuracy(model, held_out)


def dense_layer(n: int, m: int, seed: int) -> nn.Module:
    return nn.Linear(n, m)


def circulant_layer(n: int, m: int, seed: int) -> nn.Module:
    return CirculantLinear(n, m, seed=seed)


def _frozen(n: int, m: int, seed: int) -> nn.Module:
    return CirculantLinear(n, m, seed=seed, frozen=True)


RECIPE = Recipe(
    name="circulant-mlp",
    paper="Cheng et al., ICCV 2015, arXiv 1502.03436",
    question="Does a perceptron with circulant layers read digits as well as a dense one, and better than a dense one "
    "of as many parameters?",
    bundled="scikit-learn's digits",
    wanted="MNIST (idx), CIFAR-10 (binary), class folders of images",
    minutes=1,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(0.001, 0.003, 0.01, 0.03, 0.1),
    training=f"Adam, {STEPS} steps of 64 images, the rate falling to zero along a half cosine; the first rate is the "
    "best of 0.001, 0.003, 0.01, 0.03 and 0.1 on a fifth of the training images held out, for each arm by itself.",
    pairs=(
        ("circulant", "dense"), ("circulant", "narrow dense"), ("circulant", "frozen circulant"),
        ("frozen circulant", "dense"),
    ),
    seeds=10,
)  # fmt: skip
