"""plot.png: the metric over the number of parameters, or, for recipes that make pictures, the pictures side by side."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from edgefc.files import staged
from edgefc.recipes.recipe import file_name
from edgefc.recipes.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOT = "plot.png"
_COLUMNS = 4


def keep(folder: Path, arm: str, picture: Tensor) -> None:
    """Write the picture of an arm, (h, w) or (h, w, 3). Values are clamped to 0..1."""
    from matplotlib.image import imsave

    with staged(_path(folder, arm)) as file:
        imsave(file, _colours(picture))


def plot(results: Results, folder: Path, original: Tensor | None = None) -> str:
    """Draw plot.png if matplotlib is installed: the pictures that keep() wrote, or a scatter plot if there are none.

    Returns a sentence that describes the plot.
    """
    try:
        imread = importlib.import_module("matplotlib.image").imread
    except ImportError:
        return f"No {PLOT}: matplotlib is not installed."
    files = [(arm, _path(folder / "trained", arm.name)) for arm in results.arms]
    shown = [
        (f"{arm.name}\n{_about(results, arm.runs[0].value)}", imread(path)) for arm, path in files if path.is_file()
    ]
    if original is not None:
        shown.insert(0, ("original", _colours(original)))
    figure = _side_by_side(shown) if shown else _scatter(results)
    with staged(folder / PLOT) as file:
        figure.savefig(file, dpi=120, metadata={"Software": None})
    what = "the pictures of seed 0" if shown else f"{results.metric.name} over parameters"
    return f"{folder / PLOT} shows {what}."


def _scatter(results: Results) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log")
    axes.set_xlabel("parameters")
    axes.set_ylabel(results.metric.heading)
    axes.set_title(f"{results.recipe}: mean and standard deviation, {results.seeds} seeds", fontsize="medium")
    for arm in results.arms:
        if arm.parameters:
            axes.errorbar(arm.parameters, arm.mean, yerr=arm.sd or 0.0, fmt="o", capsize=3, label=arm.name)
        else:
            axes.axhline(arm.mean, color="gray", linestyle="--", label=arm.name)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def _side_by_side(shown: list[tuple[str, Any]]) -> "Figure":
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3 * columns, 3.4 * rows), layout="constrained")
    for index, (title, picture) in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(title, fontsize="small")
        axes.set_axis_off()
    return figure


def _about(results: Results, value: float) -> str:
    return f"{results.metric.text(value)} {results.metric.unit}".strip()


def _colours(picture: Tensor) -> Any:
    """The picture as an array (h, w, 3) in 0..1."""
    array = picture.detach().float().clamp(0, 1).cpu().numpy()
    return np.repeat(array[..., None], 3, axis=-1) if array.ndim == 2 else array


def _path(folder: Path, arm: str) -> Path:
    return folder / f"{file_name(arm)}.png"
