"""Evaluates guards, the assumptions of torch.export about sizes, at other sizes of the dynamic axes.

If a guard does not hold, the graph is silently wrong. Guards are arbitrary expressions, such as
"L['tensors'][0].size()[1] == min(512, L['tensors'][0].size()[1])". Therefore they are evaluated at many sizes, and not
solved symbolically.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from edgefc.export.tracing.axes import Plan, Sizes, value_of

SIZE = re.compile(r"L\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\]")
_LEAST, _NEAR, _FAR = 2, 40, 2**31
_MODULES = {"min": min, "max": max, "abs": abs, "math": math, "Min": min, "Max": max}

Shape = Sequence[int]


class Guards:
    """The guards of one traced graph. `shapes` are the input shapes during tracing."""

    def __init__(self, texts: Sequence[str], names: Sequence[str], plan: Plan, shapes: Sequence[Shape]) -> None:
        self._texts, self._names, self._plan, self._shapes = texts, names, plan, shapes

    def bounds(self, name: str, sizes: Sizes) -> tuple[int, int | None]:
        """Returns the smallest and the largest valid size of `name`, with the other names as in `sizes`.

        A largest size of None means no limit. Sizes 0 and 1 are not tested, because torch treats them as special cases,
        mostly for broadcasting. The smallest result is therefore 2.

        Raises:
            ValueError: the guards allow only one size, or sizes with gaps. The message is the guard that fails.
        """
        here = sizes[name]

        def broken(size: int) -> str | None:
            return self.broken({**sizes, name: size})

        low = _edge(broken, here, max(here - _NEAR, _LEAST), _LEAST)
        high = _edge(broken, here, here + _NEAR, _FAR)
        near = {*range(_LEAST, _NEAR), *range(max(here - _NEAR, _LEAST), here + _NEAR)}
        gap = next((size for size in sorted(near) if not low <= size <= high and not broken(size)), None)
        if low == high:
            raise ValueError(broken(high + 1))
        if gap is not None:
            raise ValueError(broken(low - 1 if gap < low else high + 1))
        return low, high if high < _FAR else None

    def together(self, bounds: Mapping[str, tuple[int, int | None]], sizes: Sizes) -> Iterator[str]:
        """Yields a note for each pair of names whose bounds depend on each other. `bounds` are results of bounds()."""
        for one, other in itertools.combinations(bounds, 2):
            ends = [self._ends(*bounds[name], sizes[name]) for name in (one, other)]
            failures = (self.broken({**sizes, one: a, other: b}) for a, b in itertools.product(*ends))
            guard = next(filter(None, failures), None)
            if guard:
                yield f"{one} and {other} depend on each other: the file is correct only if {guard}"

    @staticmethod
    def _ends(low: int, high: int | None, here: int) -> tuple[int, int]:
        return low, here + _NEAR if high is None else high

    def broken(self, sizes: Sizes) -> str | None:
        """Returns the first guard that fails at these sizes, with the names of the model's inputs, or None."""
        shapes = [list(shape) for shape in self._shapes]
        for shape, open_axes in zip(shapes, self._plan, strict=True):
            for axis, each in open_axes.items():
                size = value_of(each.name or "", sizes)
                shape[axis] = shape[axis] if size is None else size
        for text in self._texts:
            if not _holds(text, shapes):
                return SIZE.sub(lambda match: f"{self._names[int(match[1])]}.shape[{match[2]}]", text)
        return None


def _holds(guard: str, shapes: Sequence[Shape]) -> bool:
    """Whether a guard holds. True if it does not depend on sizes, False if it cannot be evaluated."""
    if not SIZE.search(guard):
        return True
    text = SIZE.sub(lambda match: str(shapes[int(match[1])][int(match[2])]), guard)
    values: Mapping[str, Any] = {"__builtins__": {}, **_MODULES}
    try:
        return bool(eval(text, dict(values)))  # noqa: S307  the text comes from torch and contains only sizes
    except (NameError, SyntaxError, TypeError, AttributeError, ZeroDivisionError):
        return False


def _edge(broken: Callable[[int], str | None], here: int, near: int, far: int) -> int:
    """Returns the last size from `here` to `far` before a guard fails. Tests each size up to `near`, then bisects."""
    step = 1 if far > here else -1
    last = here
    for size in range(here + step, near + step, step):
        if broken(size):
            return last
        last = size
    if not broken(far):
        return far
    while abs(far - last) > 1:
        middle = (last + far) // 2
        last, far = (last, middle) if broken(middle) else (middle, far)
    return last
