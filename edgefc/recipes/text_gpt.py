import math
from functools import partial
import torch
from torch import nn
from edgefc.recipes import tenth
from edgefc.recipes.bodies import Model, Block, Places
from edgefc.recipes.bilinear_lstm import load as _load, ALPHABET
from edgefc.recipes.fit import fit
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe
WIDTH, HEADS, DEPTH, LENGTH = 128, 4, 2, 32
STEPS, QUICK_STEPS, ROWS = 400, 3, 32
FAMILIES = [tenth.LOW_RANK, tenth.MONARCH, tenth.CIRCULANT, tenth.PRP_RANK, tenth.EUGEN, tenth.BILINEAR]
def load(x): return _load(x)
def arms(c) -> list[Arm]:
    return tenth.arms(model, WIDTH, FAMILIES, step=HEADS)

def model(width: int) -> nn.Module:
    body = nn.Sequential(Places(LENGTH, width, .1), *(Block(width, HEADS, causal=True) for _ in range(DEPTH)), nn.LayerNorm(width))
    return Model(nn.Embedding(len(ALPHABET), width), body, nn.Linear(width, len(ALPHABET)))

def nats(model, rows):
    return nn.functional.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

def train(model, job):
    rows = job.data.parts[0].unfold(0, LENGTH+1, 1)
    held = job.data.parts[1 if job.tuning else 2].unfold(0,LENGTH+1,LENGTH+1)[:2000]
    fit(model, job.rate, QUICK_STEPS if job.quick else STEPS, lambda c: nats(model, rows[c]), len(rows), ROWS)
    size = tenth.stored(model, job.arm, rows[:512*8:8,:-1])
    with torch.no_grad():
        return Outcome(float(nats(model, held))/math.log(2), {"kB": size})
