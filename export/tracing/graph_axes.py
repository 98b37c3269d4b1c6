"""The open axes of a traced graph: whether they are open, within what bounds, and their names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from edgefc.errors import ExportError
from edgefc.export.tracing.axes import Axis, Plan, Sizes
from edgefc.export.tracing.guards import SIZE, Guards
from edgefc.export.tracing.preparing import FIX_BATCH


class Specialised(ExportError):
    """The graph would be right for some sizes of an open axis only.

    why   the part of the sentence that says so
    size  the name that the plan has for that axis
    """

    def __init__(self, why: str, size: str | None, sentence: str) -> None:
        super().__init__(sentence)
        self.why, self.size = why, size


def unified(names: Sequence[str], plan: Plan, graph: ir.Model) -> tuple[Plan, list[str]]:
    """The plan with one name for axes whose sizes the model makes equal, and a sentence for each name that is gone."""
    first: dict[str, str] = {}
    renamed: dict[str, str] = {}
    for open_axes, value in zip(plan, graph.graph.inputs, strict=True):
        assert value.shape is not None
        for axis, each in open_axes.items():
            symbol = value.shape[axis]
            if each.name and isinstance(symbol, ir.SymbolicDim) and symbol.value:
                one = first.setdefault(symbol.value, each.name)
                if one != each.name:
                    renamed[each.name] = one
    notes = [f"{other} is called {one}: the model needs one size for both" for other, one in renamed.items()]
    return tuple(
        {axis: replace(each, name=renamed.get(each.name or "", each.name)) for axis, each in open_axes.items()}
        for open_axes in plan
    ), notes


def check_open(model: str, names: Sequence[str], plan: Plan, graph: ir.Model) -> None:
    """Refuse a graph with one size where the plan has an open axis.

    Raises:
        Specialised: with the input, the axis and the size.
    """
    for name, open_axes, value in zip(names, plan, graph.graph.inputs, strict=True):
        for axis in open_axes:
            assert value.shape is not None
            if isinstance(value.shape[axis], int):
                raise _one_size(
                    model, name, axis, open_axes[axis].name, f"it computes on size {value.shape[axis]} only"
                )


def violation(model: str, names: Sequence[str], plan: Plan, text: str) -> Specialised | None:
    """The error for what torch says of a size that the model fixes, or None where it says something else."""
    found = SIZE.search(text)
    if found is None or "onstraints violated" not in text:
        return None
    index, axis = int(found[1]), int(found[2])
    size = plan[index][axis].name if axis in plan[index] else None
    return _one_size(model, names[index], axis, size, "it computes on one size only")


def _one_size(model: str, name: str, axis: int, size: str | None, why: str) -> Specialised:
    hint = FIX_BATCH if axis == 0 else "Leave that axis out of dynamic_shapes (--dynamic)."
    return Specialised(why, size, f"cannot export {model} with axis {axis} of {name} open: {why}. {hint}")


def limited(model: str, names: Sequence[str], plan: Plan, guards: Guards, sizes: Sizes) -> tuple[Plan, list[str]]:
    """The plan with the bounds that the graph has for its open axes, and a sentence for each bound.

    Guards against a size of 0 or 1 are ignored: most are about broadcasting and speed, and verify tries these sizes.

    Raises:
        Specialised: the graph is right only where a size has some property, such as being divisible by 4.
        ExportError: the bounds are narrower than the caller's.
    """
    bounds = {name: _bounds(model, names, plan, guards, name, sizes) for name in sizes}
    notes = list(guards.together(bounds, sizes))
    for name, (low, high) in bounds.items():
        if low > 2:
            notes.append(f"{name} is at least {low}: the file is not right for less")
        if high is not None:
            notes.append(f"{name} is at most {high}")
    return tuple(
        {
            axis: _within(names[index], axis, each, *bounds.get(each.name or "", (0, None)))
            for axis, each in found.items()
        }
        for index, found in enumerate(plan)
    ), notes


def _bounds(
    model: str, names: Sequence[str], plan: Plan, guards: Guards, name: str, sizes: Sizes
) -> tuple[int, int | None]:
    try:
        return guards.bounds(name, sizes)
    except ValueError as error:
        index, axis = next(
            (i, axis)
            for i, found in enumerate(plan)
            for axis in found
            if name in re.split(r"\W+", found[axis].name or "")
        )
        raise _one_size(model, names[index], axis, name, f"the graph is right only where {error}") from None


def _within(label: str, axis: int, asked: Axis, low: int, high: int | None) -> Axis:
    below = asked.low is not None and low > max(asked.low, 2)
    above = asked.high is not None and high is not None and high < asked.high
    if below or above:
        raise ExportError(
            f"axis {axis} of {label} was to take sizes from {asked.low or 0} to {asked.high or 'any'}, and the model "
            f"computes this way only from {low} to {high or 'any'}. Give a Dim with these bounds."
        )
    return replace(asked, low=low if low > 2 else asked.low, high=high)


def rename(model: ir.Model, plan: Plan) -> None:
    """Give the axes their names, in the inputs and in every shape that is computed from them."""
    names: dict[str, str] = {}
    for value, open_axes in zip(model.graph.inputs, plan, strict=True):
        for axis, each in open_axes.items():
            assert value.shape is not None
            symbol = value.shape[axis]
            if isinstance(symbol, ir.SymbolicDim) and symbol.value and each.name:
                names.setdefault(symbol.value, each.name)
    plain = {symbol: name for symbol, name in names.items() if symbol.isidentifier()}
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    values = [value for graph in graphs for node in graph.all_nodes() for value in node.outputs]
    for value in (*model.graph.inputs, *values):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, names, plain) for dim in value.shape])


def _renamed(dim: int | ir.SymbolicDim, names: Mapping[str, str], plain: Mapping[str, str]) -> int | ir.SymbolicDim:
    if isinstance(dim, int) or not dim.value:
        return dim
    if dim.value in names:
        return ir.SymbolicDim(names[dim.value])
    text = re.sub(r"[A-Za-z_]\w*", lambda found: _part(plain.get(found[0], found[0])), dim.value)
    terms = text.split(" + ")
    return ir.SymbolicDim(" + ".join(sorted(terms)) if all(term.isidentifier() for term in terms) else text)


def _part(name: str) -> str:
    """The name of a size within a longer expression."""
    return name if name.isidentifier() else f"({name})"
