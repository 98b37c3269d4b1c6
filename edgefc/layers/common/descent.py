"""Nonlinear conjugate gradients: how fits without a closed form find their factors.

Alternating least squares moves along the preconditioned gradient, and needs hundreds of sweeps where singular values
lie close together. Conjugate directions with an exact line search need some tens. The method is that of De Sterck and
Winlaw, "A nonlinearly preconditioned conjugate gradient algorithm for rank-R canonical tensor approximation", 2015.
"""

from collections.abc import Callable

from torch import Tensor

from edgefc.progress import steps


def descend(
    slopes: Callable[[], tuple[Tensor, Tensor]],
    move: Callable[[Tensor], None],
    settled: Callable[[float], bool],
    *,
    sweeps: int,
    text: str,
) -> None:
    """Move a point, which the three functions keep, downhill until it is settled, or for so many sweeps.

    Args:
        slopes: the negative gradient at the point, and the step of alternating least squares, which has a positive
            product with it; both one-dimensional.
        move: go along a direction, as far as the distance shrinks.
        settled: whether to stop, by the product of both slopes: about twice what a step would gain.
        text: the name of the progress bar.
    """
    along: Tensor | None = None
    before, power_before = None, 0.0
    for _ in steps(range(sweeps), text):
        slope, step = slopes()
        power = float(slope @ step)
        if settled(power):
            return
        if along is not None and before is not None:
            keep = max(0.0, float(slope @ (step - before)) / power_before)  # Polak and Ribiere; 0 starts anew
            along = step + keep * along
        if along is None or float(slope @ along) <= 0:
            along = step
        before, power_before = step, power
        move(along)
