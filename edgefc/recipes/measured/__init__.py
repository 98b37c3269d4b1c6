"""Published results: NAME.json is the summary.json that `edgefc recipe NAME` left in its folder, copied by hand."""

from pathlib import Path

from edgefc.recipes.report import spread
from edgefc.recipes.results import Results


def measured() -> dict[str, Results]:
    """By the name of the recipe."""
    files = sorted(Path(__file__).parent.glob("*.json"))
    return {path.stem: Results.model_validate_json(path.read_text(encoding="utf-8")) for path in files}


def summary(name: str) -> str:
    """The first comparison of a recipe in a line; says so where nothing was published."""
    results = measured().get(name)
    if results is None:
        return "not measured"
    unit = f" {results.metric.unit}" if results.metric.unit else ""
    figures = ", ".join(f"{arm.name} {spread(results, arm)}{unit}" for arm in map(results.arm, results.pairs[0]))
    return f"{results.metric.name}: {figures}"
