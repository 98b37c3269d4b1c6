"""eugen-distill: replace the middle of a trained perceptron n -> 256 -> 256 -> 256 -> classes with ReLU between.

The middle is a layer 256 -> 256, its ReLU and the next layer 256 -> 256. From the EUGens paper: record the inputs and
outputs of the middle on the training images, and solve for the weight of one EUGen layer by least squares, with fixed
G. The following linear layer is merged, because the solution is for its outputs. Also from the paper: train G, weight
and bias of that layer alone with the Huber loss. Labels are not used, and the rest of the network does not change. Our
reconstructions: the network, the bias in the solution, outputs scaled to variance 1 for the loss, and tuning from the
closed form.

The plain layer is one low-rank matrix from input to output, without the ReLU. It starts as the matrix of that rank with
the smallest squared error on the training images (reduced-rank regression), and is tuned in the same way. EUGen with m
features and G from a seed stores as many numbers as rank m / 2. With a trained G it stores as many as rank m, except
for 64 numbers in 33,000.

On the bundled digits the middle is nearly linear, and EUGen is worse: in closed form and tuned, its output error is
larger than that of low rank with the same size. The difference is smaller with Phi = gelu, which is smoother than relu.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from edgefc.layers.eugen.fit import fit_closed_form
from edgefc.layers.eugen.linear import EUGenLinear
from edgefc.recipes import folders
from edgefc.recipes.data import Images
from edgefc.recipes.fit import accuracy, fit, fit_classes
from edgefc.recipes.recipe import Arm, Job, Metric, Outcome, Recipe

WIDTH, MIDDLE = 256, 3
STEPS, QUICK_STEPS, ROWS = 300, 5, 64
TEACHER_RATE, TUNING_RATES = 0.003, (0.0003, 0.001, 0.003, 0.01)


class Kind(NamedTuple):
    """A function that makes a middle from a seed, its initialisation from recorded inputs and outputs, and whether it
    is tuned afterwards."""

    middle: Callable[[int], nn.Module]
    start: Callable[[nn.Module, Tensor, Tensor], None]
    tuned: bool = False


def arms(images: Images) -> list[Arm]:
    return [
        Arm("dense teacher", lambda seed: network(images, _dense())),
        *(
            Arm(name, lambda seed, kind=kind: network(images, kind.middle(seed)), TUNING_RATES if kind.tuned else ())  # type: ignore[misc]
            for name, kind in KINDS.items()
        ),
    ]


def network(images: Images, middle: nn.Module) -> nn.Sequential:
    channels, height, width = images.shape
    first, last = nn.Linear(channels * height * width, WIDTH), nn.Linear(WIDTH, images.classes)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), middle, nn.ReLU(), last)


def train(model: nn.Module, job: Job) -> Outcome:
    """Train the teacher and replace its middle. Returns the percentage of held-out images classified correctly."""
    assert isinstance(model, nn.Sequential)
    part, held_out = job.data.split(job.seed, tuning=job.tuning)
    steps = QUICK_STEPS if job.quick else STEPS
    torch.manual_seed(job.seed)  # the same teacher in every arm
    teacher = network(job.data, _dense())
    fit_classes(teacher, TEACHER_RATE, steps, part)
    started = time.process_time()
    if job.arm in KINDS:
        model[1], model[-1] = teacher[1], teacher[-1]
        x, y = record(teacher, part.x)
        KINDS[job.arm].start(model[MIDDLE], x, y)
        if KINDS[job.arm].tuned:
            tune(model[MIDDLE], x, y, job.rate, steps)
    else:
        model.load_state_dict(teacher.state_dict())
    seconds = time.process_time() - started
    more = {
        "error of the middle's output, % of its spread": off(model[MIDDLE], *record(teacher, held_out.x)),
        "CPU s of the replacement": seconds,
    }
    return Outcome(accuracy(model, held_out), more)


@torch.no_grad()
def record(teacher: nn.Sequential, images: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs and outputs of the middle, both (rows, WIDTH)."""
    x = teacher[:MIDDLE](images)
    return x, teacher[MIDDLE](x)


def tune(middle: nn.Module, x: Tensor, y: Tensor, rate: float, steps: int) -> None:
    """Train only the middle, with the Huber loss on outputs scaled to variance 1."""
    size = y.std()

    def loss(rows: Tensor) -> Tensor:
        return nn.functional.huber_loss(middle(x[rows]) / size, y[rows] / size)

    fit(middle, rate, steps, loss, len(x), ROWS)


@torch.no_grad()
def reduced_rank(middle: nn.Module, x: Tensor, y: Tensor) -> None:
    """Set a layer of rank r (two linear layers, the second with a bias) to the least-squares solution."""
    inner, outer = middle.children()
    assert isinstance(inner, nn.Linear)
    assert isinstance(outer, nn.Linear)
    x, y = x.double(), y.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    whole = torch.linalg.lstsq(x - x_mean, y - y_mean, driver="gelsd").solution  # (n, l); dead ReLUs make zero columns
    fitted = (x - x_mean) @ whole
    main = torch.linalg.eigh(fitted.T @ fitted).eigenvectors[:, -inner.out_features :]  # (l, r), directions of outputs
    inner.weight.copy_((whole @ main).T)
    outer.weight.copy_(main)
    outer.bias.copy_(y_mean - x_mean @ whole @ main @ main.T)


@torch.no_grad()
def off(middle: nn.Module, x: Tensor, y: Tensor) -> float:
    """The root mean square of the error, in percent of the standard deviation of y."""
    return 100 * float((middle(x) - y).norm() / (y - y.mean(0)).norm())


def _dense() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))


def _eugen(features: int, activation: str = "relu", *, tuned: bool = False) -> Kind:
    def middle(seed: int) -> nn.Module:
        projection = "trained" if tuned else "random"
        return EUGenLinear(WIDTH, WIDTH, features=features, activation=activation, seed=seed, projection=projection)

    def start(layer: nn.Module, x: Tensor, y: Tensor) -> None:
        assert isinstance(layer, EUGenLinear)
        fit_closed_form(layer, zip(torch.split(x, 1000), torch.split(y, 1000), strict=True))

    return Kind(middle, start, tuned)


def _low_rank(rank: int, *, tuned: bool = False) -> Kind:
    def middle(seed: int) -> nn.Module:
        return nn.Sequential(nn.Linear(WIDTH, rank, bias=False), nn.Linear(rank, WIDTH))

    return Kind(middle, reduced_rank, tuned)


KINDS = {
    "EUGen 16, closed form": _eugen(16),
    "low rank 8, closed form": _low_rank(8),
    "EUGen 64, closed form": _eugen(64),
    "EUGen gelu 64, closed form": _eugen(64, "gelu"),
    "low rank 32, closed form": _low_rank(32),
    "EUGen 64, then tuned": _eugen(64, tuned=True),
    "EUGen gelu 64, then tuned": _eugen(64, "gelu", tuned=True),
    "low rank 64, then tuned": _low_rank(64, tuned=True),
}

RECIPE = Recipe(
    name="eugen-distill",
    paper="EUGens, NeurIPS 2025, arXiv 2410.09771",
    question="Can one EUGen layer in closed form, without labels, replace two layers of a trained perceptron better "
    "than a low-rank matrix with about as many parameters, and how much does tuning add?",
    bundled="scikit-learn's digits",
    wanted="MNIST (idx), CIFAR-10 (binary), a folder of images per class",
    minutes=2,
    metric=Metric("test accuracy", "%", "higher", ".2f"),
    load=folders.digits_or_images,
    arms=arms,
    train=train,
    rates=(TEACHER_RATE,),
    training=f"the teacher by Adam, {STEPS} steps of {ROWS} images; the learning rate decreases to zero along a half "
    f"cosine, from {TEACHER_RATE}, which was not tuned. All arms use the same teacher. Tuning: the same number of "
    "steps for the replacement alone, with G trained, and the Huber loss to the teacher's outputs. Its first rate is "
    "the best of 0.0003, 0.001, 0.003 and 0.01 on a held-out fifth of the training images. Parameters are those of the "
    "whole network, whose first and last layers are the teacher's. CPU s per training includes the training of the "
    "teacher. The error of low rank shows how far the middle is from a linear map. An earlier run had eight "
    "comparisons. After its results were seen, these five were kept, and a lower rate was added for tuning.",
    pairs=(
        ("EUGen 64, closed form", "low rank 32, closed form"), ("EUGen 16, closed form", "low rank 8, closed form"),
        ("EUGen gelu 64, closed form", "low rank 32, closed form"),
        ("EUGen 64, then tuned", "low rank 64, then tuned"), ("EUGen gelu 64, then tuned", "dense teacher"),
    ),
    seeds=10,
)  # fmt: skip
