"""edgefc/recipes/TRAINING.md, with the figures of the results in edgefc/recipes/measured:

python -m tests.recipes.training > edgefc/recipes/TRAINING.md

The sentences are made from the figures. Results that are not there yet are named as such.
"""

import importlib
import sys
from collections.abc import Mapping
from statistics import mean
from string import Template

from edgefc.recipes.findings import conditions
from edgefc.recipes.measured import measured
from edgefc.recipes.report import spread
from edgefc.recipes.results import ArmPart, Results
from edgefc.recipes.tenth import AFTERWARDS, KB
from edgefc.screen import out, run
from edgefc.tables import markdown_table
from tests.recipes.training_text import TEXT

MODELS = {"mnist-mlp": "MLP", "mnist-cnn": "CNN", "mnist-vit": "ViT", "text-lstm": "LSTM", "text-gpt": "GPT"}
CHOICES = "mnist-choices"
PAPERS = {  # family: how the names of its arms begin
    "circulant": "Circulant", "prp": "PRP", "eugen": "EUGen", "bilinear": "Bilinear", "tied": "Tied",
    "lowrank": "LowRank", "monarch": "Monarch",
}  # fmt: skip
RIVALS = ("dense", "narrow dense", *AFTERWARDS)


def page(found: Mapping[str, Results] | None = None) -> str:
    """The whole page, from the given results by the name of the recipe, or from those in measured/."""
    found = measured() if found is None else found
    results = {name: found[name] for name in MODELS if name in found}
    missing = [name for name in (*MODELS, CHOICES) if name not in found]
    choices = found.get(CHOICES)
    parts = {
        "missing": f"Not measured yet: {', '.join(missing)}.\n" if missing else "",
        "arms": _arms(results),
        "summary": "\n".join(f"- {line}" for line in map(_nearest, results.values())),
        "rates": _rates(results),
        "rate_summary": "\n".join(_dense_rates(results)),
        "choices": "" if choices is None else _choices(choices),
        "choice_summary": "" if choices is None else "\n".join(_effects(choices)),
        "width": "\n".join(_widths(results)),
        "papers": _papers(results),
        "sizes": _sizes(results),
        "conditions": "\n".join(
            f"- {MODELS[name]}: {each.data}. {each.training} {conditions(each)}" for name, each in results.items()
        ),
    }
    return Template(TEXT).substitute(parts).rstrip() + "\n"


def _names(results: Mapping[str, Results]) -> list[str]:
    """The names of all arms, in the order of the first recipe that has them."""
    return list(dict.fromkeys(arm.name for found in results.values() for arm in found.arms))


def _has(found: Results, name: str) -> bool:
    return any(arm.name == name for arm in found.arms)


def _text(found: Results, arm: ArmPart) -> str:
    unit = f" {found.metric.unit}" if found.metric.unit else ""
    return f"{spread(found, arm)}{unit}"


def _worse(found: Results, one: float, other: float) -> float:
    return other - one if found.metric.better == "higher" else one - other


def _amount(found: Results, value: float) -> str:
    """The absolute value with its unit: points of a percentage, or bits."""
    return f"{found.metric.text(abs(value))} {'points' if found.metric.unit == '%' else 'bits'}"


# ---- what is reached


def _arms(results: Mapping[str, Results]) -> str:
    columns = ("", *(f"{MODELS[name]}, {found.metric.heading}" for name, found in results.items()))
    rows = [(name, *(_cell(found, name) for found in results.values())) for name in _names(results)]
    return markdown_table(columns, rows) if rows else ""


def _cell(found: Results, name: str) -> str:
    if not _has(found, name):
        return "-"
    arm = found.arm(name)
    if arm is found.arms[0]:
        return spread(found, arm)
    text = f"{spread(found, arm)} ({found.distance(arm):+.1f})"
    return f"**{text}**" if name in found.within else text


def _nearest(found: Results) -> str:
    """Which structured families reach dense quality, and the nearest one against the plain rivals."""
    own = [arm for arm in found.arms if arm.name not in RIVALS]
    reached = [arm.name for arm in own if arm.name in found.within]
    best = min(own, key=found.distance)
    rivals = ", ".join(f"{arm.name} {_text(found, arm)}" for arm in found.arms[1:] if arm.name in RIVALS)
    start = (
        f"{', '.join(reached)} reach dense quality. The best is {best.name}"
        if reached
        else f"no structured family reaches dense quality. The nearest is {best.name}"
    )
    return (
        f"{MODELS[found.recipe]}: {start}, {_text(found, best)} with {best.parameters:,} numbers, against "
        f"{_text(found, found.arms[0])} with {found.arms[0].parameters:,} ({found.distance(best):+.1f} standard "
        f"deviations). The plain rivals: {rivals}."
    )


# ---- how to train


def _rates(results: Mapping[str, Results]) -> str:
    names = [name for name in _names(results) if name not in AFTERWARDS]
    rows = [(name, *(_tried(found, name) for found in results.values())) for name in names]
    return markdown_table(("", *(MODELS[name] for name in results)), rows) if rows else ""


def _tried(found: Results, name: str) -> str:
    """The values of the rates, from the best to the worst."""
    if not _has(found, name):
        return "-"
    values = found.arm(name).tried.items()
    ordered = sorted(values, key=lambda item: item[1], reverse=found.metric.better == "higher")
    return ", ".join(f"{rate}: {found.metric.text(value)}" for rate, value in ordered)


def _dense_rates(results: Mapping[str, Results]) -> list[str]:
    """What each family loses with the rate that is best for the dense model."""
    lines = []
    for name, found in results.items():
        rate = f"{found.arms[0].rate:g}"
        losses = [
            (arm.name, _worse(found, arm.tried[rate], arm.tried[f"{arm.rate:g}"]), arm.rate)
            for arm in found.arms[1:]
            if arm.name not in RIVALS and arm.rate != found.arms[0].rate and rate in arm.tried
        ]
        told = ", ".join(f"{arm} {_amount(found, loss)} (best: {best:g})" for arm, loss, best in losses)
        lines.append(f"- {MODELS[name]}: the best rate of dense is {rate}. Families lose with it: {told or 'nothing'}.")
    return lines


def _choices(found: Results) -> str:
    return markdown_table(("", found.metric.heading), [(arm.name, spread(found, arm)) for arm in found.arms])


def _effects(found: Results) -> list[str]:
    """The change of each variant against the arm that it varies: that with the longest name that begins it."""
    lines = []
    for arm in found.arms:
        before = [each for each in found.arms if arm.name.startswith(f"{each.name}, ")]
        if before:
            base = max(before, key=lambda each: len(each.name))
            lines.append(f"- {arm.name}: {arm.mean - base.mean:+.2f} points against {base.name}.")
    return lines


def _widths(results: Mapping[str, Results]) -> list[str]:
    lines = []
    for name, found in results.items():
        if _has(found, "Bilinear x2"):
            one, two = found.arm("Bilinear"), found.arm("Bilinear x2")
            worse = _worse(found, two.mean, one.mean)
            lines.append(
                f"- {MODELS[name]}: {_text(found, two)} with twice the width, {_text(found, one)} without, so it is "
                f"{'worse' if worse > 0 else 'better'} by {_amount(found, worse)}; CPU seconds per training: "
                f"{two.seconds:.2g} and {one.seconds:.2g}."
            )
    return lines


# ---- papers and sizes


def _papers(results: Mapping[str, Results]) -> str:
    rows = []
    for family, start in PAPERS.items():
        module = importlib.import_module(f"edgefc.layers.{family}")
        cells = [
            f"{MODELS[key]}, {arm.name}, {found.arms[0].parameters / arm.parameters:.3g} times fewer: "
            f"{_text(found, arm)} against {_text(found, found.arms[0])}"
            for key, found in results.items()
            for arm in found.arms
            if arm.name.startswith(start)
        ]
        rows.append((module.PAPER, module.CLAIM, "; ".join(cells) or "not measured yet"))
    return markdown_table(("paper", "its claim, as far as we know it", "here"), rows)


def _sizes(results: Mapping[str, Results]) -> str:
    rows = [
        (
            MODELS[name],
            arm.name,
            f"{arm.parameters:,}",
            f"{found.arms[0].parameters / arm.parameters:.3g}",
            f"{mean(run.more[KB] for run in arm.runs):,.1f}",
            f"{arm.seconds:.2g}",
        )
        for name, found in results.items()
        for arm in found.arms
    ]
    columns = ("model", "arm", "numbers", "times fewer", "kB", "CPU s per training")
    return markdown_table(columns, rows) if rows else ""


def main() -> int:
    """Print the page."""
    out(*page().rstrip("\n").split("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
