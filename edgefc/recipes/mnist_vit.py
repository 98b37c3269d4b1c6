from functools import partial
import torch
from torch import nn
from edgefc.recipes import tenth
from edgefc.recipes.bodies import Model, Block, Places
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.fit import accuracy, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe
WIDTH, HEADS, DEPTH, SIDE = 96, 4, 2, 7
STEPS, QUICK_STEPS, ROWS = 400, 3, 64
FAMILIES = [tenth.LOW_RANK, tenth.MONARCH, tenth.CIRCULANT, tenth.PRP_RANK, tenth.EUGEN, tenth.BILINEAR]

def arms(images: Images) -> list[Arm]:
    return tenth.arms(partial(model, images), WIDTH, FAMILIES, step=HEADS)

class Patches(nn.Module):
    def __init__(self, side): super().__init__(); self.side=side
    def forward(self, x):
        return nn.functional.unfold(x, self.side, stride=self.side).transpose(1,2)

class Mean(nn.Module):
    def forward(self, x): return x.mean(1)

def model(images: Images, width: int) -> nn.Module:
    channels, height, across = images.shape
    places = (height // SIDE) * (across // SIDE)
    body = nn.Sequential(
        nn.Linear(channels*SIDE*SIDE, width), Places(places, width, .5), *(Block(width, HEADS, causal=False) for _ in range(DEPTH)), nn.LayerNorm(width), Mean())
    return Model(Patches(SIDE), body, nn.Linear(width, images.classes))

def train(model, job):
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    fit_classes(model, job.rate, QUICK_STEPS if job.quick else STEPS, part, ROWS)
    size = tenth.stored(model, job.arm, part.x[:512])
    return Outcome(accuracy(model, held_out), {"kB": size})
