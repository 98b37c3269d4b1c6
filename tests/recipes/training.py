"""edgefc/recipes/TRAINING.md, with the figures of the results in edgefc/recipes/measured:

python -m tests.recipes.training > edgefc/recipes/TRAINING.md
"""

import importlib
import sys
from statistics import mean
from string import Template

from edgefc.recipes.findings import conditions
from edgefc.recipes.measured import measured
from edgefc.recipes.report import spread
from edgefc.recipes.results import Results
from edgefc.recipes.tenth import AFTERWARDS, KB
from edgefc.screen import out, run
from edgefc.tables import markdown_table
from tests.recipes.training_text import TEXT

MODELS = {"mnist-mlp": "MLP", "mnist-cnn": "CNN", "mnist-vit": "ViT", "text-lstm": "LSTM", "text-gpt": "GPT"}
PAPERS = {  # family: how the names of its arms begin
    "circulant": "Circulant", "prp": "PRP", "eugen": "EUGen", "bilinear": "Bilinear", "tied": "Tied",
    "lowrank": "LowRank", "monarch": "Monarch",
}  # fmt: skip


def page() -> str:
    """The whole page."""
    found = measured()
    results = {name: found[name] for name in MODELS}
    figures = {"arms": _arms(results), "rates": _rates(results), "papers": _papers(results), "rivals": _rivals(results)}
    choices = found["mnist-choices"]
    figures |= {"choices": _choices(choices), "conditions": _conditions(results)}
    return Template(TEXT).substitute(figures)


def _names(results: dict[str, Results]) -> list[str]:
    """The names of all arms, in the order of the first recipe that has them."""
    return list(dict.fromkeys(arm.name for found in results.values() for arm in found.arms))


def _arms(results: dict[str, Results]) -> str:
    """The values, and in brackets how many standard deviations of the dense model they are worse."""
    columns = ("", *(f"{MODELS[name]}, {found.metric.heading}" for name, found in results.items()))
    rows = [(name, *(_cell(found, name) for found in results.values())) for name in _names(results)]
    return markdown_table(columns, rows)


def _cell(found: Results, name: str) -> str:
    if name not in {arm.name for arm in found.arms}:
        return "-"
    arm = found.arm(name)
    if arm is found.arms[0]:
        return spread(found, arm)
    text = f"{spread(found, arm)} ({found.distance(arm):+.1f})"
    return f"**{text}**" if name in found.within else text


def _rates(results: dict[str, Results]) -> str:
    """The chosen rate of each arm."""
    names = [name for name in _names(results) if name not in AFTERWARDS]
    rows = [(name, *(_rate(found, name) for found in results.values())) for name in names]
    return markdown_table(("", *(MODELS[name] for name in results)), rows)


def _rate(found: Results, name: str) -> str:
    """The chosen rate, and what the value was with the other rates, from the best to the worst."""
    arm = next((arm for arm in found.arms if arm.name == name), None)
    if arm is None:
        return "-"
    tried = sorted(arm.tried.items(), key=lambda item: item[1], reverse=found.metric.better == "higher")
    return ", ".join(f"{rate}: {found.metric.text(value)}" for rate, value in tried)


def _rivals(results: dict[str, Results]) -> str:
    """Numbers and kB of all arms."""
    rows = []
    for name, found in results.items():
        for arm in found.arms:
            size = mean(run.more[KB] for run in arm.runs)
            times = f"{found.arms[0].parameters / arm.parameters:.3g}"
            rows.append((MODELS[name], arm.name, f"{arm.parameters:,}", times, f"{size:.3g}", f"{arm.seconds:.2g}"))
    return markdown_table(("model", "arm", "numbers", "times fewer", "kB", "CPU s per training"), rows)


def _papers(results: dict[str, Results]) -> str:
    """What each paper says, beside the figures at a tenth."""
    rows = []
    for family, start in PAPERS.items():
        module = importlib.import_module(f"edgefc.layers.{family}")
        cells = [
            f"{MODELS[key]}, {arm.name}, {found.arms[0].parameters / arm.parameters:.3g} times fewer: "
            f"{spread(found, arm)} against {spread(found, found.arms[0])}"
            for key, found in results.items()
            for arm in found.arms
            if arm.name.startswith(start)
        ]
        rows.append((module.PAPER, module.CLAIM, "; ".join(cells)))
    return markdown_table(("paper", "its claim, as far as we know it", "here"), rows)


def _choices(found: Results) -> str:
    rows = [(arm.name, spread(found, arm)) for arm in found.arms]
    return markdown_table(("", found.metric.heading), rows)


def _conditions(results: dict[str, Results]) -> str:
    lines = (f"{MODELS[name]}: {found.data}. {found.training} {conditions(found)}" for name, found in results.items())
    return "\n".join(f"- {line}" for line in lines)


def main() -> int:
    """Print the page."""
    out(*page().rstrip("\n").split("\n"))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
