"""Compare the arms of a result, paired by seed, and state only differences that are significant.

A difference is significant if Student's interval of the mean paired difference does not contain zero. All comparisons
of a recipe share an error of 5 % (Bonferroni: with k comparisons, each interval has the level 1 - 0.05 / k). If each
seed splits the same data differently, the test sets of the seeds overlap and the usual interval is too narrow. Then the
variance of the mean is s^2 (1 / seeds + test rows / training rows), after Nadeau and Bengio, "Inference for the
Generalization Error", Machine Learning 52, 2003.
"""

from statistics import mean, stdev
from typing import Literal, NamedTuple

from scipy.stats import t as student_t

from edgefc.recipes.results import ArmPart, Results
from edgefc.runtime.profiling.table import processor_text

SANITY = "Small data shows that a layer trains. It does not reproduce a result of the paper."
OWN_DATA = (
    "These are the user's data, with the small models and few steps of this recipe. They show that a layer trains. "
    "They do not reproduce a result of the paper."
)
LEAST_SEEDS = 3
_ERROR = 0.05


class Gap(NamedTuple):
    """The mean over the seeds of arm minus other, and its interval. low and high are None for too few seeds."""

    mean: float
    low: float | None
    high: float | None

    def verdict(self, better: Literal["higher", "lower"]) -> Literal["better", "worse", "undecided"]:
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        return "better" if (self.low > 0) == (better == "higher") else "worse"


def gap(arm: ArmPart, other: ArmPart, comparisons: int, test_over_train: float = 0.0) -> Gap:
    """The difference of two arms, paired by seed: with the same seed, both are trained on the same split."""
    gaps = [one - two for one, two in zip(arm.values, other.values, strict=True)]
    if len(gaps) < LEAST_SEEDS:
        return Gap(mean(gaps), None, None)
    quantile = float(student_t.ppf(1 - _ERROR / comparisons / 2, len(gaps) - 1))
    half = quantile * stdev(gaps) * (1 / len(gaps) + test_over_train) ** 0.5
    return Gap(mean(gaps), mean(gaps) - half, mean(gaps) + half)


def sentences(results: Results) -> tuple[str, ...]:
    """One sentence per comparison, then the statistics, the training, the machine and the limitations."""
    about = (_about(results, results.arm(one), results.arm(two)) for one, two in results.pairs)
    quick = ("This was a quick run with few seeds, few steps and untuned rates. It shows only that the recipe runs.",)
    return (
        *(quick if results.quick else (*about, *_distances(results))),
        _statistics(results),
        _training(results),
        *_edges(results),
        *_chosen(results),
        conditions(results),
        OWN_DATA if results.own_data else SANITY,
    )


def _about(results: Results, arm: ArmPart, other: ArmPart) -> str:
    metric, difference = results.metric, gap(arm, other, len(results.pairs), results.test_over_train)
    verdict = difference.verdict(metric.better)
    size = _size(arm, other)
    figures = f"{metric.text(arm.mean)} against {metric.text(other.mean)}{' ' + metric.unit if metric.unit else ''}"
    low, high = difference.low, difference.high
    if low is None or high is None:
        return f"{arm.name} and {other.name} ({size}): {figures}; a difference needs at least {LEAST_SEEDS} seeds."
    span = f"difference {difference.mean:+{metric.form}}, interval {low:+{metric.form}} to {high:+{metric.form}}"
    if verdict == "undecided":
        return f"No difference could be shown between {arm.name} and {other.name} ({size}): {figures}; {span}."
    return f"{arm.name} is {verdict} than {other.name} ({size}): {figures}; {span}."


def _distances(results: Results) -> list[str]:
    """For recipes without comparisons."""
    if results.pairs or not results.arms[0].sd:
        return []
    first, near = results.arms[0].name, results.within
    rest = [f"{a.name} ({results.distance(a):.1f})" for a in results.arms[1:] if a.name not in near]
    return [
        f"At most one standard deviation of {first} worse than {first}: {', '.join(near) or 'none'}.",
        *([f"Further away, in standard deviations of {first}: {', '.join(rest)}."] if rest else []),
    ]


def _size(arm: ArmPart, other: ArmPart) -> str:
    few, many = sorted((arm.parameters, other.parameters))
    if few == many:
        return "the same number of parameters"
    if few == 0:
        return "one of them has no parameters"
    ratio = f"{many / few:.3g}"
    if ratio == "1":
        return "nearly the same number of parameters"
    return f"{ratio} times {'fewer' if arm.parameters < many else 'more'} parameters"


def _statistics(results: Results) -> str:
    split, number = results.test_over_train > 0, len(results.pairs)
    seeds = f"{results.seeds} seed{'' if results.seeds == 1 else 's'}"
    wider = ", which is widened because the test sets of the seeds overlap (Nadeau and Bengio 2003)" if split else ""
    shared = f"The {number} comparisons share one error of 5 %." if number > 1 else "Its level is 95 %."
    varied = "initialisation and split" if split else "initialisation"
    if not number:
        return f"Mean and standard deviation are over {seeds}, each with its own {varied}, of the same data set."
    return (
        f"Mean and standard deviation are over {seeds}, each with its own {varied}. Differences are paired by seed, "
        f"with Student's interval{wider}. {shared} All seeds use the same data set, so the intervals cover the "
        f"{varied}, but not other data."
    )


def _training(results: Results) -> str:
    rates = ", ".join(f"{arm.name} {arm.rate:g}" for arm in results.arms if arm.parameters)
    return f"Data: {results.data}. Training: {results.training} First learning rates: {rates}."


def _edges(results: Results) -> list[str]:
    """A note about arms whose best learning rate is the smallest or largest one tried."""
    names = []
    for arm in results.arms:
        rates = sorted(map(float, arm.tried))
        if len(rates) > 1 and arm.parameters and arm.rate in (rates[0], rates[-1]):
            names.append(f"{arm.name} ({arm.rate:g})")
    return (
        [f"The best rates of these arms are at an end of the tried range: {', '.join(names)}. Others may be better."]
        if names
        else []
    )


def _chosen(results: Results) -> list[str]:
    """A note about the effect of choosing rates on data that other seeds test on."""
    if not (results.test_over_train and any(len(arm.tried) > 1 for arm in results.arms)):
        return []
    return [
        "The rates were chosen on rows that other seeds test on, so the values of all arms may be slightly too good."
    ]


def conditions(results: Results) -> str:
    """The machine and the versions."""
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    processor = processor_text(machine.machine, machine.cpu)
    instructions = f" with {machine.instructions}" if machine.instructions else ""
    return f"Trained on {processor}{instructions}, one thread of {machine.cores}; {versions}."
