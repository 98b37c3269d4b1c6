"""circulant-mlp: a perceptron n -> 512 -> 512 -> classes with ReLU between. The first two layers are of the arm's kind.

The last layer is dense in every arm. The paper replaced the fully connected layers of a convolutional network on MNIST
and CIFAR-10. This is a plain perceptron, so its results are not comparable with the paper's. "narrow dense" is the
perceptron with narrower hidden layers and about as many parameters as the circulant one. "frozen circulant" is the
paper's randomized circulant: kernels come from the seed, and only biases and the last layer are trained.
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
    """The percentage of held-out images that are classified correctly."""
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
    question="Does a perceptron with circulant layers classify digits as well as a dense one, and better than a dense "
    "one with about as many parameters?",
    bundled="scikit-learn's digits",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=1,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(0.001, 0.003, 0.01, 0.03, 0.1),
    training=f"Adam, {STEPS} steps of 64 images; the learning rate decreases to zero along a half cosine. For each arm "
    "separately, the first rate is the best of 0.001, 0.003, 0.01, 0.03 and 0.1 on a held-out fifth of the training "
    "images.",
    pairs=(
        ("circulant", "dense"), ("circulant", "narrow dense"), ("circulant", "frozen circulant"),
        ("frozen circulant", "dense"),
    ),
    seeds=10,
)  # fmt: skip
