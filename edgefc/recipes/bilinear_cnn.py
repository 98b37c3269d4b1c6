"""bilinear-cnn: four 3x3 convolutions (the second and fourth with stride 2), a hidden layer, and a class layer, with
ReLU between.

The network is that of the authors for CIFAR-10 (SVGG, BiSVGG) with fewer layers and filters: 8, 8, 16 and 16 filters
and 32 hidden units. All layers except the last are of the kind of the arm. At scale s, a bilinear convolution has s^2
times the filters (s times the rows and s times the columns), and the hidden layer has s times the units, as in the
layers of the authors. "small dense" is the dense network with about as many parameters as the bilinear one at scale 2.
"""

from torch import nn

from edgefc.layers.bilinear.conv import BilinearConv2d
from edgefc.layers.bilinear.factors import factors
from edgefc.layers.bilinear.linear import BilinearLinear
from edgefc.recipes import folders
from edgefc.recipes.data import Images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Recipe
from edgefc.recipes.sizes import numbers, same_size

FILTERS, STRIDES, HIDDEN, SCALES = (8, 8, 16, 16), (1, 2, 1, 2), 32, (1, 2, 3)
STEPS, QUICK_STEPS, ROWS = 300, 5, 32


def arms(images: Images) -> list[Arm]:
    def dense(width: int) -> nn.Module:
        """`width` is the number of filters of the last convolution."""
        filters = tuple(max(1, round(width * f / FILTERS[-1])) for f in FILTERS)
        convs = [_dense_conv(n, m, s) for n, m, s in _sizes(images, filters)]
        return _network(images, convs, filters[-1], width * HIDDEN // FILTERS[-1], nn.Linear)

    def bilinear(scale: int) -> nn.Module:
        filters = tuple(f * scale**2 for f in FILTERS)
        convs = [_bilinear_conv(n, m, s, scale) for n, m, s in _sizes(images, filters)]
        return _network(images, convs, filters[-1], HIDDEN * scale, BilinearLinear)

    small = same_size(dense, numbers(bilinear(2))[0])
    return [
        Arm("dense", lambda seed: dense(FILTERS[-1])),
        *(Arm(f"bilinear x{scale}", lambda seed, scale=scale: bilinear(scale)) for scale in SCALES),  # type: ignore[misc]
        Arm("small dense", lambda seed: dense(small)),
    ]


def train(model: nn.Module, job: Job) -> float:
    """The percentage of held-out images that are classified correctly."""
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part, ROWS)
    return accuracy(model, held_out)


def _sizes(images: Images, filters: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """Input channels, output channels and stride of every convolution."""
    return list(zip((images.shape[0], *filters), filters, STRIDES, strict=False))


def _network(images: Images, convs: list[nn.Module], channels: int, hidden: int, layer: type[nn.Module]) -> nn.Module:
    height, width = (-(-side // 4) for side in images.shape[1:])  # two strides of 2, each rounded up
    return nn.Sequential(
        *(each for conv in convs for each in (conv, nn.ReLU())), nn.Flatten(),
        layer(channels * height * width, hidden), nn.ReLU(), nn.Linear(hidden, images.classes),
    )  # fmt: skip


def _dense_conv(n: int, m: int, stride: int) -> nn.Module:
    return nn.Conv2d(n, m, 3, stride, 1)


def _bilinear_conv(n: int, m: int, stride: int, scale: int) -> nn.Module:
    u1, u2 = factors(m // scale**2)
    return BilinearConv2d(n, m, 3, stride, 1, out_factors=(u1 * scale, u2 * scale))


RECIPE = Recipe(
    name="bilinear-cnn",
    paper="Yu et al., IEEE TNNLS 2021, arXiv 2011.01391",
    question="Does a convolutional network of bilinear layers classify digits as well as a dense one if it has more "
    "filters, and better than a dense one with about as many parameters?",
    bundled="scikit-learn's digits",
    wanted="CIFAR-10 (binary), MNIST (idx), a folder of images per class",
    minutes=2,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(0.003, 0.01, 0.03),
    training=f"Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half cosine. For each "
    "arm separately, the first rate is the best of 0.003, 0.01 and 0.03 on a held-out fifth of the training images.",
    pairs=(
        ("bilinear x2", "dense"), ("bilinear x2", "small dense"), ("bilinear x2", "bilinear x1"),
        ("bilinear x3", "bilinear x2"),
    ),
    seeds=5,
)  # fmt: skip
