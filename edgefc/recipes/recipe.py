"""What a recipe is. One file in this folder holds one, as the constant RECIPE; the file's name is the recipe's.

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
        rates=(0.001, 0.003, 0.01, 0.03),             # one: no choice is made, and `training` says why that one
        training="Adam, 400 steps of 64 digits, ...",
    )

The harness seeds torch, builds the model, counts its numbers and calls train() on one thread, once for each arm and
seed. With more than one rate it does so first for each rate and the seeds TUNING_SEEDS, with job.tuning set: train()
then measures on a part held out of the training data, and the test data are not touched. Every arm has the same rates
to choose from, the best mean is taken, of equal ones the smaller rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor, nn

TUNING_SEEDS = (100, 101)


class Metric(NamedTuple):
    """form is a format such as ".2f"; unit may be empty."""

    name: str
    unit: str
    better: Literal["higher", "lower"]
    form: str = ".2f"


class Arm(NamedTuple):
    """One kind of model; build(seed) gives it untrained, and takes what it draws from torch's random state.

    Layers that have seeds of their own take them from `seed`. rates, if given, are this arm's instead of the recipe's.
    """

    name: str
    build: Callable[[int], nn.Module]
    rates: tuple[float, ...] = ()


class Job(NamedTuple):
    """One training. quick asks for a few steps; data is what the recipe's load() gave."""

    arm: str
    seed: int
    rate: float
    data: Any
    tuning: bool
    quick: bool


class Outcome(NamedTuple):
    """The metric, other quantities worth a column (names with units), and a picture in 0..1, (h, w) or (h, w, 3)."""

    value: float
    more: dict[str, float] = {}  # noqa: RUF012
    picture: Tensor | None = None


class Data(Protocol):
    """What load() returns: anything that says in a few words what it is, without paths.

    Data that each seed splits anew also has test_over_train, the rows to test on over those to train on (data.Images
    has it): the tests of such seeds overlap, and the notes allow for that. Without it the test data are the same.
    """

    @property
    def about(self) -> str: ...


def file_name(text: str) -> str:
    """Letters and digits of a name, hyphens for the rest."""
    return "".join(c if c.isalnum() else "-" for c in text)


@dataclass(frozen=True)
class Recipe:
    """See the head of this file.

    pairs are the comparisons that the notes make, (arm, other); empty compares every arm with the first. All of them
    share one error of 5 %, so name few. original gives the picture that pictures are to be held against. example gives
    an input of the models, to export them with: the weights of seed 0 are then kept.
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
    pairs: tuple[tuple[str, str], ...] = ()
    seeds: int = 5
    original: Callable[[Any], Tensor] | None = None
    example: Callable[[Any], Tensor] | None = None
