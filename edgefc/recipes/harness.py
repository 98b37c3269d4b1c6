"""run(): train every arm with every seed, and write the table, the notes and the plot to one folder.

recipe.json           marks the folder as belonging to this recipe
trained/*.json        one finished training each; reused if its fingerprint has not changed
trained/*.png         the picture of the first seed, for recipes that make pictures
summary.json          the results (results.py)
table.md              the table and its notes
plot.png              the metric over the number of parameters, or the pictures side by side
"""

import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from pydantic import ValidationError

import edgefc
from edgefc.errors import CheckFailed
from edgefc.files import claim, write_text
from edgefc.progress import Bar
from edgefc.recipes import findings, pictures, report
from edgefc.recipes.recipe import TUNING_SEEDS, Arm, Data, Job, Outcome, Recipe, file_name
from edgefc.recipes.results import SCHEMA_VERSION, ArmPart, Machine, MetricPart, Results, Run
from edgefc.recipes.sizes import numbers
from edgefc.recipes.sources import fingerprint
from edgefc.runtime.probes.machine import environment
from edgefc.runtime.profiling.parts import Part
from edgefc.screen import err, out

QUICK_SEEDS = 2
_PACKAGES = ("torch", "numpy", "scikit-learn", "scikit-image")


class _StoredTraining(Part):
    """One finished training."""

    fingerprint: str
    run: Run
    parameters: int
    numbers_stored: int


class _TrainingFolder(NamedTuple):
    """The folder of finished trainings, and the fingerprint that they must have to be reused."""

    folder: Path
    mark: str


def run(
    recipe: Recipe,
    folder: Path,
    seeds: int | None = None,
    data: Path | None = None,
    quick: bool = False,
) -> Results:
    """Run the trainings that the folder does not have yet, and print and write the results.

    Raises:
        UsageError: the folder has other contents or cannot be written, or `data` cannot be read.
        CheckFailed: the result of a training is not finite.
    """
    loaded = recipe.load(data)
    claim(folder, "recipe.json", f"edgefc recipe {recipe.name}")
    versions = _versions()
    mark = fingerprint(recipe, loaded, versions, quick)
    arms = _trained(
        recipe,
        loaded,
        _TrainingFolder(folder / "trained", mark),
        seeds or (QUICK_SEEDS if quick else recipe.seeds),
        quick,
    )
    results = _results(recipe, loaded, arms, versions, mark, own_data=data is not None, quick=quick)
    report.show(results)  # before writing, which fails on a full disk
    write_text(folder / "summary.json", results.model_dump_json(indent=1) + "\n")
    write_text(folder / "table.md", report.markdown(results))
    original = recipe.original(loaded) if recipe.original else None
    out(pictures.plot(results, folder, original))
    return results


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Within the block, torch's random state starts from `seed` and torch uses one thread. Both are restored."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _trained(recipe: Recipe, data: Data, place: _TrainingFolder, seeds: int, quick: bool) -> list[ArmPart]:
    """Train all arms. The loop over seeds is the outer one, so that an interrupted run has complete seeds."""
    arms = list(recipe.arms(data))
    grids = {arm.name: arm.rates or recipe.rates for arm in arms}
    if quick:  # use the middle rate without tuning
        grids = {name: (rates[len(rates) // 2],) for name, rates in grids.items()}
    tuning_seeds = TUNING_SEEDS[: recipe.tuning_seeds]
    total = sum(seeds + (len(rates) * len(tuning_seeds) if len(rates) > 1 else 0) for rates in grids.values())
    done = 0
    with Bar(total=total, desc=recipe.name, unit="training") as bar:

        def one(arm: Arm, seed: int, rate: float, tuning: bool) -> _StoredTraining:
            nonlocal done
            bar.set_postfix_str(f"{arm.name}, rate {rate:g}" + (", choosing" if tuning else f", seed {seed}"))
            kept = _training(recipe, arm, Job(arm.name, seed, rate, data, tuning, quick), place)
            done += 1
            bar.update()
            return kept

        try:
            tried = {arm.name: _tried(arm, grids[arm.name], tuning_seeds, one) for arm in arms}
            rates = {name: _best(tried[name], recipe.metric.better == "higher") for name in tried}
            finished: dict[str, list[_StoredTraining]] = {arm.name: [] for arm in arms}
            for seed in range(seeds):
                for arm in arms:
                    finished[arm.name].append(one(arm, seed, rates[arm.name], False))
        except KeyboardInterrupt:
            err(f"{done} trainings are kept in {place.folder}; run the same command again to continue")
            raise
    return [
        ArmPart(
            name=name, parameters=kept[0].parameters, numbers_stored=kept[0].numbers_stored, rate=rates[name],
            tried={f"{rate:g}": value for rate, value in tried[name].items() if math.isfinite(value)},
            runs=tuple(each.run for each in kept),
        )
        for name, kept in finished.items()
    ]  # fmt: skip


def _tried(
    arm: Arm,
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    one: Callable[[Arm, int, float, bool], _StoredTraining],
) -> dict[float, float]:
    """The mean value of each rate over the tuning seeds. It is nan if the result of a training is not finite."""
    if len(rates) == 1:
        return {rates[0]: math.nan}
    means = {}
    for rate in sorted(rates):
        try:
            means[rate] = mean(one(arm, seed, rate, True).run.value for seed in seeds)
        except CheckFailed:
            means[rate] = math.nan
    return means


def _best(tried: dict[float, float], higher: bool) -> float:
    finite = {rate: value for rate, value in tried.items() if math.isfinite(value)}
    return min(finite or tried, key=lambda rate: (-tried[rate] if higher else tried[rate], rate))


def _training(recipe: Recipe, arm: Arm, job: Job, place: _TrainingFolder) -> _StoredTraining:
    """The stored training if it is still valid, otherwise a new one."""
    name = file_name(f"{arm.name}-{job.rate:g}-{job.seed}")
    path = place.folder / f"{name}{'-tuning' if job.tuning else ''}.json"
    try:
        kept = _StoredTraining.model_validate_json(path.read_bytes())
        if kept.fingerprint == place.mark:
            return kept
    except (OSError, ValidationError):
        pass
    started = time.process_time()
    with repeatable(job.seed):
        model = arm.build(job.seed)
        counts = numbers(model)
        value = recipe.train(model, job)
    outcome = value if isinstance(value, Outcome) else Outcome(float(value))
    if not all(map(math.isfinite, (outcome.value, *outcome.more.values()))):
        raise CheckFailed(
            f"training {arm.name!r} with seed {job.seed} and rate {job.rate:g} ended in {outcome.value}. "
            "Give the recipe smaller rates for this arm."
        )
    if outcome.picture is not None and job.seed == 0 and not job.tuning:
        pictures.keep(place.folder, arm.name, outcome.picture)
    run = Run(value=float(outcome.value), more=outcome.more, seconds=round(time.process_time() - started, 3))
    kept = _StoredTraining(fingerprint=place.mark, run=run, parameters=counts[0], numbers_stored=counts[1])
    write_text(path, kept.model_dump_json() + "\n")
    return kept


def _results(
    recipe: Recipe, data: Data, arms: list[ArmPart], versions: dict[str, str], mark: str, *, own_data: bool, quick: bool
) -> Results:
    metric, machine = recipe.metric, environment()
    results = Results(
        schema_version=SCHEMA_VERSION,
        recipe=recipe.name,
        paper=recipe.paper,
        question=recipe.question,
        quick=quick,
        data=data.about,
        test_over_train=getattr(data, "test_over_train", 0.0),
        own_data=own_data,
        metric=MetricPart(**metric._asdict()),
        training=recipe.training,
        pairs=tuple((arm.name, arms[0].name) for arm in arms[1:]) if recipe.pairs is None else recipe.pairs,
        arms=tuple(arms),
        machine=Machine(
            machine=machine["machine"],
            cpu=machine["cpu"],
            cores=machine["cores"],
            instructions=torch.backends.cpu.get_cpu_capability(),
        ),
        versions=versions,
        fingerprint=mark,
        seconds=round(sum(run.seconds for arm in arms for run in arm.runs), 1),
        sentences=(),
    )
    return results.model_copy(update={"sentences": findings.sentences(results)})


def _versions() -> dict[str, str]:
    """The versions of the installed packages. A recipe may not need all of them."""
    versions = {"edgefc": edgefc.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
