"""Nonlinear conjugate gradients, for fits without a closed form.

Alternating least squares moves along the preconditioned gradient. It needs hundreds of sweeps if singular values lie
close together, while conjugate directions with an exact line search need tens. The method is from De Sterck and
Winlaw, "A nonlinearly preconditioned conjugate gradient algorithm for rank-R canonical tensor approximation", 2015.
"""

from collections.abc import Callable

from edgefc.fitting.fitted import Array
from edgefc.progress import steps


def descend(
    slopes: Callable[[], tuple[Array, Array]],
    move: Callable[[Array], None],
    settled: Callable[[float], bool],
    *,
    sweeps: int,
    text: str,
) -> None:
    """Minimises a function until settled() returns True, for at most `sweeps` steps. The callables hold the point.

    Args:
        slopes: returns the negative gradient at the point, and the step of alternating least squares. The two have a
            positive inner product. Both are one-dimensional.
        move: moves the point along a direction to the minimum on that line.
        settled: returns whether to stop, given the inner product of both slopes, about twice the gain of one step.
        text: the label of the progress bar.
    """
    along: Array | None = None
    before, power_before = None, 0.0
    for _ in steps(range(sweeps), text):
        slope, step = slopes()
        power = float(slope @ step)
        if settled(power):
            return
        if along is not None and before is not None:
            keep = max(0.0, float(slope @ (step - before)) / power_before)  # Polak and Ribiere; 0 restarts
            along = step + keep * along
        if along is None or float(slope @ along) <= 0:
            along = step
        before, power_before = step, power
        move(along)
