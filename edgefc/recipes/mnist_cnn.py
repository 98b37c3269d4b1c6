from functools import partial
import torch
from torch import nn
from edgefc.recipes import tenth
from edgefc.recipes.bodies import Model
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe
WIDTH, STEPS, QUICK_STEPS, ROWS = 16, 400, 3, 64
FAMILIES = [tenth.LOW_RANK, tenth.MONARCH, tenth.CIRCULANT, tenth.PRP_RANK, tenth.EUGEN, tenth.BILINEAR]

def arms(images: Images) -> list[Arm]:
    return tenth.arms(partial(model, images), WIDTH, FAMILIES)

def model(images: Images, width: int) -> nn.Module:
    channels, height, across = images.shape
    places = -(-height // 4) * -(-across // 4)
    body = nn.Sequential(
        nn.Conv2d(channels, width, 5, 2, 2), nn.ReLU(), nn.Conv2d(width, 2 * width, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * width * places, 16 * width), nn.ReLU(),
    )
    return Model(nn.Identity(), body, nn.Linear(16 * width, images.classes))

def train(model, job):
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part, ROWS)
    size = tenth.stored(model, job.arm, part.x[:512])
    return Outcome(accuracy(model, held_out), {"kB": size})
