"""Published results. NAME.json is the summary.json that `edgefc recipe NAME` wrote.

If the wording of the code changes, the texts in these files are changed too, but never the numbers.
"""

from pathlib import Path

from edgefc.recipes.report import spread
from edgefc.recipes.results import Results


def measured() -> dict[str, Results]:
    """The results by the name of the recipe."""
    files = sorted(Path(__file__).parent.glob("*.json"))
    return {path.stem: Results.model_validate_json(path.read_text(encoding="utf-8")) for path in files}


def summary(name: str) -> str:
    """The first comparison of a recipe in one line, or "not measured" if there is no result.

    For a recipe without comparisons: the first arm, and those at most one of its standard deviations worse.
    """
    results = measured().get(name)
    if results is None:
        return "not measured"
    unit = f" {results.metric.unit}" if results.metric.unit else ""
    shown = results.pairs[0] if results.pairs else (results.arms[0].name,)
    figures = ", ".join(f"{arm.name} {spread(results, arm)}{unit}" for arm in map(results.arm, shown))
    near = "" if results.pairs else f"; at most one sd worse: {', '.join(results.within) or 'none'}"
    return f"{results.metric.name}: {figures}{near}"
