"""Draws the report of compress(): quality against size, with all uniform plans.

Imports no torch: the report of an .onnx file is drawn too.
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edgefc.choosing.report import CompressReport, PlanResult
from edgefc.errors import UsageError
from edgefc.files import staged

FORMATS = (".svg", ".png")
_CHOSEN, _UNIFORM, _TRIED, _FRONTIER = "#b35806", "#053061", "#9e9e9e", "#67a9cf"


def check_format(path: str | Path) -> None:
    """
    Raises:
        UsageError: the name does not end in .svg or .png.
    """
    if Path(path).suffix.lower() not in FORMATS:
        raise UsageError(f"cannot draw {path}: its name must end in {' or '.join(FORMATS)}. Give such a name.")


def draw(report: CompressReport, path: str | Path) -> None:
    """Writes the picture as .svg or .png, depending on the name.

    Raises:
        UsageError: the name has another ending, or the file cannot be written.
    """
    check_format(path)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    _plans(axes, report)
    if report.before.metric is not None:
        axes.set_ylabel("metric")
        axes.axhline(report.before.metric, color="#404040", linewidth=0.8, linestyle=":")
    else:
        axes.set_yscale("log")
        axes.invert_yaxis()
        axes.set_ylabel("loss of the outputs (better is higher)")
    axes.set_xscale("log")
    axes.set_xlabel(f"{report.what} of the whole model")
    axes.grid(which="both", color="#e8e8e8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", fontsize=8)
    figure.suptitle("Quality and size", x=0.01, ha="left", fontsize=12, fontweight="bold")
    with staged(path) as file:
        figure.savefig(file, dpi=150)


def _plans(axes: Axes, report: CompressReport) -> None:
    if report.before.metric is None:
        line = [(each.cost, each.predicted) for each in report.frontier if each.predicted]
        if line:
            axes.plot(*zip(*line, strict=True), color=_FRONTIER, linewidth=1.2, label="least predicted loss")
    _dots(axes, report, report.tried, "other plans", color=_TRIED, marker=".", s=18)
    _dots(axes, report, report.uniform, "uniform plans", color=_UNIFORM, marker="o", s=22)
    for each in report.uniform:
        height = _height(report, each)
        if height is not None:
            axes.annotate(each.name, (each.cost, height), xytext=(4, 3), textcoords="offset points", fontsize=6.5)
    _dots(axes, report, report.stages[1:-1], "before the last step", color=_CHOSEN, marker="x", s=36)
    _dots(axes, report, report.stages[-1:], report.after.name, color=_CHOSEN, marker="*", s=110, zorder=3)
    if report.limit is not None:
        axes.axvline(report.limit, color="#404040", linewidth=0.8, linestyle="--", label=report.budget)


def _dots(axes: Axes, report: CompressReport, plans: Sequence[PlanResult], label: str, **style: object) -> None:
    points = [(each.cost, height) for each in plans if (height := _height(report, each)) is not None]
    if points:
        axes.scatter(*zip(*points, strict=True), label=label, **style)  # type: ignore[arg-type]


def _height(report: CompressReport, plan: PlanResult) -> float | None:
    """The metric if there is one, else the loss; None if it cannot be drawn: a logarithmic axis has no zero."""
    if report.before.metric is not None:
        return plan.metric
    return plan.loss or None
