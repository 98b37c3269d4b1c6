"""What torch.export assumed of sizes while it traced a model: its guards, tried at other sizes of the open axes.

A graph is silently wrong where a guard does not hold. Guards are expressions of any form, such as
"L['tensors'][0].size()[1] == min(512, L['tensors'][0].size()[1])", so they are evaluated, not read.
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
    """The guards of one traced graph. `shapes` are those that its inputs were traced with."""

    def __init__(self, texts: Sequence[str], names: Sequence[str], plan: Plan, shapes: Sequence[Shape]) -> None:
        self._texts, self._names, self._plan, self._shapes = texts, names, plan, shapes

    def bounds(self, name: str, sizes: Sizes) -> tuple[int, int | None]:
        """The smallest and the largest valid size of that name, with other names as in `sizes`; None is no upper limit.

        Sizes of 0 and 1 are left out, because torch treats them as special cases, mostly of broadcasting. The least is
        therefore 2.

        Raises:
            ValueError: the guards allow one size, or sizes with gaps; the message is the guard that does it.
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
        """A sentence for each pair of names whose bounds, as those of bounds(), depend on each other."""
        for one, other in itertools.combinations(bounds, 2):
            ends = [self._ends(*bounds[name], sizes[name]) for name in (one, other)]
            found = (self.broken({**sizes, one: a, other: b}) for a, b in itertools.product(*ends))
            guard = next(filter(None, found), None)
            if guard:
                yield f"{one} and {other} depend on each other: the file is right only where {guard}"

    @staticmethod
    def _ends(low: int, high: int | None, here: int) -> tuple[int, int]:
        return low, here + _NEAR if high is None else high

    def broken(self, sizes: Sizes) -> str | None:
        """The first guard that does not hold at these sizes, in words of the model's inputs; None if all hold."""
        shapes = [list(shape) for shape in self._shapes]
        for shape, open_axes in zip(shapes, self._plan, strict=True):
            for axis, each in open_axes.items():
                size = value_of(each.name or "", sizes)
                shape[axis] = shape[axis] if size is None else size
        for text in self._texts:
            if not _holds(text, shapes):
                return SIZE.sub(lambda found: f"{self._names[int(found[1])]}.shape[{found[2]}]", text)
        return None


def _holds(guard: str, shapes: Sequence[Shape]) -> bool:
    """Whether a guard holds: True for one that does not mention sizes, False for one that cannot be evaluated."""
    if not SIZE.search(guard):
        return True
    text = SIZE.sub(lambda found: str(shapes[int(found[1])][int(found[2])]), guard)
    values: Mapping[str, Any] = {"__builtins__": {}, **_MODULES}
    try:
        return bool(eval(text, dict(values)))  # noqa: S307  torch wrote it, from sizes alone
    except (NameError, SyntaxError, TypeError, AttributeError, ZeroDivisionError):
        return False


def _edge(broken: Callable[[int], str | None], here: int, near: int, far: int) -> int:
    """The last size without a broken guard on the way from `here` to `far`: one by one to `near`, then by halves."""
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
