"""The classes of a recipe. Each recipe is a file in this folder with the same name and a constant RECIPE.

    RECIPE = Recipe(
        name="circulant-mlp",                         # circulant_mlp.py
        paper="Cheng et al. 2015, arXiv 1502.03436",
        question="...?",
        bundled="scikit-learn's digits", wanted="MNIST, idx files",
        minutes=1.5,
        metric=Metric("test accuracy", "%", better="higher", form=".2f"),
        load=load,                                    # Path of --data, or None -> data, with an `about`
        arms=arms,                                    # data -> the arms; the first is the baseline
        train=train,                                  # (model, Job) -> the metric, or an Outcome
        rates=(0.001, 0.003, 0.01, 0.03),             # a single rate is used as it is; `training` explains it
        training="Adam, 400 steps of 64 digits, ...",
    )

For each arm and seed, the harness seeds torch, builds the model, counts its parameters and calls train() on one thread.
If there is more than one rate, it first does so for each rate and each tuning seed, with job.tuning set. Then
train() measures on a held-out part of the training data, and the test data are not used. Every arm chooses among the
same rates; the rate with the best mean is used, and the smaller one of equal rates.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor, nn

TUNING_SEEDS = (100, 101)


class Metric(NamedTuple):
    """The metric of a recipe. form is a format such as ".2f"; unit may be empty."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    form: str = ".2f"


class Arm(NamedTuple):
    """One kind of model. build(seed) returns an untrained model, initialised from torch's random state.

    Layers with their own seeds get them from `seed`. rates, if given, replace the recipe's rates for this arm.
    """

    name: str
    build: Callable[[int], nn.Module]
    rates: tuple[float, ...] = ()


class Job(NamedTuple):
    """One training. data is the result of the recipe's load(). With quick, train() runs only a few steps."""

    arm: str
    seed: int
    rate: float
    data: Any
    tuning: bool
    quick: bool


class Outcome(NamedTuple):
    """The metric, further columns (names with units), and an optional picture in 0..1, (h, w) or (h, w, 3)."""

    value: float
    more: dict[str, float] = {}  # noqa: RUF012
    picture: Tensor | None = None


class Data(Protocol):
    """The result of load(): any object with a short description `about` without paths.

    Data that each seed splits differently also have test_over_train, the number of test rows / training rows (see
    data.Images): the test sets of the seeds overlap, which the statistics take into account. Without it, all seeds have
    the same test data.
    """

    @property
    def about(self) -> str: ...


def file_name(text: str) -> str:
    """The text with all characters except letters and digits replaced by hyphens."""
    return "".join(c if c.isalnum() else "-" for c in text)


@dataclass(frozen=True)
class Recipe:
    """See the docstring of this module.

    pairs lists the comparisons of the notes, (arm, other). If it is None, every arm is compared with the first. All
    comparisons share one error of 5 %, so use few. If it is empty, the notes have the distance of every arm from the
    first, in standard deviations of the first. tuning_seeds is how many of TUNING_SEEDS are used. original returns the
    picture that is drawn first in plot.png, for comparison.
    """

    name: str
    paper: str
    question: str
    bundled: str
    wanted: str
    minutes: float
    metric: Metric
    load: Callable[[Path | None], Data]
    arms: Callable[[Any], Sequence[Arm]]
    train: Callable[[nn.Module, Job], float | Outcome]
    rates: tuple[float, ...]
    training: str
    pairs: tuple[tuple[str, str], ...] | None = None
    seeds: int = 5
    tuning_seeds: int = len(TUNING_SEEDS)
    original: Callable[[Any], Tensor] | None = None
