"""mnist-choices: how to train structured layers: warm-up at a high rate, and the initial scale.

The models are those of mnist-mlp with half of the steps. "rate 0.03" uses that rate from the first step, and "rate
0.03, warm-up" reaches it after a tenth of the steps. The other arms have rate 0.01. "weights x3" and "weights / 3"
start with weights of the replaced layers that are 3 times as large and 3 times as small as those of
replace(init="new").
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import nn

from edgefc.recipes import mnist_mlp, tenth
from edgefc.recipes.data import Images
from edgefc.recipes.downloaded import mnist_or_images
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

STEPS, QUICK_STEPS, ROWS, WARM = 300, 3, 64, 30
RATE, HIGH = 0.01, 0.03
FAMILIES = (tenth.LOW_RANK, tenth.CIRCULANT, tenth.BILINEAR)
WARM_UP = "warm-up"
SCALES = {"weights x3": 3.0, "weights / 3": 1 / 3}


def arms(images: Images) -> list[Arm]:
    kinds = tenth.arms(partial(mnist_mlp.model, images), mnist_mlp.WIDTH, FAMILIES, RATE)[: len(FAMILIES) + 1]
    return [arm for kind in kinds for arm in _variants(kind)]


def train(model: nn.Module, job: Job) -> Outcome:
    """The percentage of held-out images that are classified correctly."""
    steps = QUICK_STEPS if job.quick else STEPS
    return tenth.classified(model, job, steps, ROWS, warm=WARM if job.arm.endswith(WARM_UP) else 0)


def _variants(kind: Arm) -> Iterator[Arm]:
    yield Arm(kind.name, kind.build, (RATE,))
    yield Arm(f"{kind.name}, rate {HIGH}", kind.build, (HIGH,))
    yield Arm(f"{kind.name}, rate {HIGH}, {WARM_UP}", kind.build, (HIGH,))
    for name, factor in SCALES.items():
        yield Arm(f"{kind.name}, {name}", partial(_scaled, kind, factor), (RATE,))


@torch.no_grad()
def _scaled(kind: Arm, factor: float, seed: int) -> nn.Module:
    """The model with weights of the body that are `factor` times as large. A product of two is scaled as a whole."""
    model = kind.build(seed)
    for layer in model.get_submodule("body").children():
        weights = [each for name, each in layer.named_parameters() if name != "bias"]
        for weight in weights:
            weight.mul_(factor ** (1 / len(weights)))
    return model


RECIPE = Recipe(
    name="mnist-choices",
    paper="none: how to train",
    question="What do warm-up and the initial scale change when structured layers are trained from scratch?",
    bundled="10,000 digits of MNIST (downloaded once, 5 MB)",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=3,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=mnist_or_images,
    arms=arms,
    train=train,
    rates=(RATE,),
    training=f"Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half cosine. "
    f"The rates are {RATE} and, where the name says so, {HIGH}; they are not tuned. Warm-up: the first {WARM} steps.",
    pairs=(),
    seeds=3,
)
