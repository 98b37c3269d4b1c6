"""mnist-cnn: two 5x5 convolutions with stride 2 (16 and 32 filters), a layer 1568 -> 256 and a class layer, with ReLU
between, with a tenth of its numbers (tenth.py).

Only the layer 1568 -> 256 is replaced, which has 96 % of the numbers. That is what the circulant paper does with the
fully connected layers of its convolutional networks.
"""

from functools import partial

from torch import nn

from edgefc.recipes import tenth
from edgefc.recipes.bodies import Model
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

WIDTH, RATE = 16, 0.01
STEPS, QUICK_STEPS, ROWS = 300, 3, 64


def arms(images: Images) -> list[Arm]:
    return tenth.arms(partial(model, images), WIDTH, tenth.ALL, RATE)


def model(images: Images, width: int) -> nn.Module:
    """Images (N, channels, height, width) to (N, classes); `width` filters in the first convolution."""
    channels, height, across = images.shape
    places = -(-height // 4) * -(-across // 4)  # two strides of 2, each rounded up
    first = nn.Sequential(
        nn.Conv2d(channels, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 5, 2, 2), nn.ReLU(), nn.Flatten()
    )
    body = nn.Sequential(nn.Linear(2 * width * places, 16 * width), nn.ReLU())
    return Model(first, body, nn.Linear(16 * width, images.classes))


def train(model: nn.Module, job: Job) -> Outcome:
    """The percentage of held-out images that are classified correctly."""
    return tenth.classified(model, job, QUICK_STEPS if job.quick else STEPS, ROWS)


RECIPE = Recipe(
    name="mnist-cnn",
    paper="Cheng et al. 2015, arXiv 1502.03436; Yu et al. 2021, arXiv 2011.01391",
    question="Which families reach the accuracy of a convolutional network with a tenth of its numbers, if they "
    "replace its large dense layer?",
    bundled="10,000 digits of MNIST (downloaded once, 5 MB)",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=6,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=mnist_or_images,
    arms=arms,
    train=train,
    rates=(0.003, 0.01),
    training=f"Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half cosine. For each "
    "arm separately, the first rate is the better of 0.003 and 0.01 on a held-out fifth of the training images, with "
    f"one seed; the models that are rounded afterwards have {RATE}.",
    pairs=(),
    seeds=3,
    tuning_seeds=1,
)
