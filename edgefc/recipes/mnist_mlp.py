"""mnist-mlp: a perceptron n -> 512 -> 512 -> classes with ReLU between, with a tenth of its numbers (tenth.py).

The first two layers are replaced. The last is dense in every arm. "PRP" is the layer of the paper, without a low-rank
part: it has far fewer numbers than a tenth. "Bilinear x2" has layers of twice the width.
"""

import math
from functools import partial

from torch import nn

from edgefc.plan.configurations import PRP
from edgefc.recipes import tenth
from edgefc.recipes.bodies import Model
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe
from edgefc.replacing.replacing import replace

WIDTH, RATE = 512, 0.003
STEPS, QUICK_STEPS, ROWS = 600, 3, 64


def arms(images: Images) -> list[Arm]:
    make = partial(model, images)
    dense, *rest = tenth.arms(make, WIDTH, (*tenth.ALL, tenth.BILINEAR_X2), RATE)
    return [dense, Arm("PRP", lambda seed: _prp(make(WIDTH))), *rest]


def model(images: Images, width: int) -> nn.Module:
    """Images (N, channels, height, width) to (N, classes)."""
    body = nn.Sequential(nn.Linear(math.prod(images.shape), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return Model(nn.Flatten(), body, nn.Linear(width, images.classes))


def train(model: nn.Module, job: Job) -> Outcome:
    """The percentage of held-out images that are classified correctly."""
    return tenth.classified(model, job, QUICK_STEPS if job.quick else STEPS, ROWS)


def _prp(dense: nn.Module) -> nn.Module:
    replace(dense, {tenth.BODY: PRP()}, init="new")
    return dense


RECIPE = Recipe(
    name="mnist-mlp",
    paper="Cheng et al. 2015, arXiv 1502.03436; Szorc 2025, arXiv 2512.13480; Yu et al. 2021, arXiv 2011.01391",
    question="Which families reach the accuracy of a dense perceptron with a tenth of its numbers?",
    bundled="10,000 digits of MNIST (downloaded once, 5 MB)",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=6,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=mnist_or_images,
    arms=arms,
    train=train,
    rates=(0.003, 0.01, 0.03),
    training=f"Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half cosine. For each "
    "arm separately, the first rate is the best of 0.003, 0.01 and 0.03 on a held-out fifth of the training images, "
    f"with one seed; the models that are rounded afterwards have {RATE}.",
    pairs=(),
    seeds=3,
    tuning_seeds=1,
)
