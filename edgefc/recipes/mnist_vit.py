"""mnist-vit: a small vision transformer with a tenth of its numbers (tenth.py).

The images are cut into patches of 7 x 7 pixels. There are two pre-norm blocks of width 96, and the mean of the tokens
goes to a dense layer. The patch layer and all linear layers of the blocks are replaced.
"""

from functools import partial

from torch import Tensor, nn

from edgefc.recipes import tenth
from edgefc.recipes.bodies import Block, Model, Places
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

WIDTH, HEADS, DEPTH, SIDE, RATE = 96, 4, 2, 7, 0.003
STEPS, QUICK_STEPS, ROWS = 300, 3, 64
PLACES = 0.5  # initial standard deviation of position vectors; with 0.02, few steps learn little but the positions


def arms(images: Images) -> list[Arm]:
    return tenth.arms(partial(model, images), WIDTH, tenth.ALL, RATE, step=HEADS, tied=True)


def model(images: Images, width: int) -> nn.Module:
    """Images (N, channels, height, width) to (N, classes). Remaining pixels at the edge are not used."""
    channels, height, across = images.shape
    places = (height // SIDE) * (across // SIDE)
    blocks = (Block(width, HEADS, causal=False) for _ in range(DEPTH))
    body = nn.Sequential(
        nn.Linear(channels * SIDE * SIDE, width), Places(places, width, PLACES), *blocks, nn.LayerNorm(width), _Mean()
    )
    return Model(_Patches(), body, nn.Linear(width, images.classes))


def train(model: nn.Module, job: Job) -> Outcome:
    """The percentage of held-out images that are classified correctly."""
    return tenth.classified(model, job, QUICK_STEPS if job.quick else STEPS, ROWS)


class _Patches(nn.Module):
    """(N, channels, height, width) to (N, places, channels SIDE SIDE)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.unfold(x, SIDE, stride=SIDE).transpose(1, 2)


class _Mean(nn.Module):
    """(N, places, width) to (N, width)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


RECIPE = Recipe(
    name="mnist-vit",
    paper="EUGens, NeurIPS 2025, arXiv 2410.09771; Koyun and Toreyin 2024, arXiv 2401.16438; Dao et al. 2022, "
    "arXiv 2204.00595",
    question="Which families reach the accuracy of a small vision transformer with a tenth of its numbers?",
    bundled="10,000 digits of MNIST (downloaded once, 5 MB)",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=8,
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
