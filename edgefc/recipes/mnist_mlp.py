"""mnist-mlp: a perceptron 784 -> 512 -> 512 -> classes with ReLU between, with a tenth of its numbers (tenth.py).

The first two layers are of the arm's kind. The last is dense in every arm.
"""

import math
from functools import partial

from torch import nn

from edgefc.recipes import tenth
from edgefc.recipes.bodies import Model
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

WIDTH = 512
STEPS, QUICK_STEPS, ROWS = 600, 3, 64


def arms(images: Images) -> list[Arm]:
    return tenth.arms(partial(model, images), WIDTH, FAMILIES)


def model(images: Images, width: int) -> nn.Module:
    """Images (N, channels, height, width) to (N, classes)."""
    body = nn.Sequential(nn.Linear(math.prod(images.shape), width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return Model(nn.Flatten(), body, nn.Linear(width, images.classes))


def train(model: nn.Module, job: Job) -> Outcome:
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part, ROWS)
    size = tenth.stored(model, job.arm, part.x[:512])
    return Outcome(accuracy(model, held_out), {"kB": size})

FAMILIES = [tenth.LOW_RANK, tenth.MONARCH, tenth.CIRCULANT, tenth.PRP_RANK, tenth.EUGEN, tenth.BILINEAR]
