"""text-gpt: a small GPT that predicts the next character (characters.py), with a tenth of its numbers (tenth.py).

There are two causal pre-norm blocks of width 96, and sequences of 32 characters. All linear layers of the blocks are
replaced. The embedding and the last layer are dense in every arm.
"""

from torch import nn

from edgefc.recipes import characters, tenth
from edgefc.recipes.bodies import Block, Model, Places
from edgefc.recipes.characters import ALPHABET, Characters
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

WIDTH, HEADS, DEPTH, RATE = 96, 4, 2, 0.01
STEPS, QUICK_STEPS, LENGTH, ROWS = 300, 3, 32, 32
PLACES = 0.1  # initial standard deviation of position vectors


def arms(text: Characters) -> list[Arm]:
    return tenth.arms(model, WIDTH, tenth.ALL, RATE, step=HEADS, tied=True)


def model(width: int) -> nn.Module:
    """Tokens (N, LENGTH) to (N, LENGTH, characters)."""
    blocks = (Block(width, HEADS, causal=True) for _ in range(DEPTH))
    body = nn.Sequential(Places(LENGTH, width, PLACES), *blocks, nn.LayerNorm(width))
    return Model(nn.Embedding(len(ALPHABET), width), body, nn.Linear(width, len(ALPHABET)))


def train(model: nn.Module, job: Job) -> Outcome:
    """The mean number of bits per character of the held-out sequences."""
    return characters.predicted(model, job, QUICK_STEPS if job.quick else STEPS, LENGTH, ROWS)


RECIPE = Recipe(
    name="text-gpt",
    paper="Dao et al. 2022, arXiv 2204.00595; Koyun and Toreyin 2024, arXiv 2401.16438",
    question="Which families predict characters as well as a small GPT with a tenth of its numbers?",
    bundled="docstrings of Python's standard library",
    wanted=".txt files",
    minutes=8,
    metric=Metric("bits per character", "", "lower", ".3f"),
    load=characters.load,
    arms=arms,
    train=train,
    rates=(0.003, 0.01),
    training=f"cross-entropy, Adam, {STEPS} steps of {ROWS} sequences of {LENGTH} characters; the learning rate "
    "decreases to zero along a half cosine. For each arm separately, the first rate is the better of 0.003 and 0.01 on "
    "the tenth of the text between the training part and the test part, with one seed; the models that are rounded "
    f"afterwards have {RATE}.",
    pairs=(),
    seeds=3,
    tuning_seeds=1,
)
