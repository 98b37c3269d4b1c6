"""Checks the dynamic axes of a traced graph, finds their bounds and names them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from edgefc.errors import ExportError
from edgefc.export.tracing.axes import Axis, Plan, Sizes
from edgefc.export.tracing.guards import SIZE, Guards
from edgefc.export.tracing.preparing import FIX_BATCH


class Specialised(ExportError):
    """The graph would be correct only for some sizes of a dynamic axis.

    why   the reason, a part of the message
    size  the name of the axis in the plan
    """

    def __init__(self, why: str, size: str | None, sentence: str) -> None:
        super().__init__(sentence)
        self.why, self.size = why, size


def unified(names: Sequence[str], plan: Plan, graph: ir.Model) -> tuple[Plan, list[str]]:
    """Gives the same name to axes whose sizes the model requires to be equal. Returns a note for each replaced name."""
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
    notes = [f"{other} is renamed {one}: the model requires the same size for both" for other, one in renamed.items()]
    return tuple(
        {axis: replace(each, name=renamed.get(each.name or "", each.name)) for axis, each in open_axes.items()}
        for open_axes in plan
    ), notes


def check_open(model: str, names: Sequence[str], plan: Plan, graph: ir.Model) -> None:
    """Checks that all dynamic axes of the plan are dynamic in the graph.

    Raises:
        Specialised: an axis has a fixed size in the graph.
    """
    for name, open_axes, value in zip(names, plan, graph.graph.inputs, strict=True):
        for axis in open_axes:
            assert value.shape is not None
            if isinstance(value.shape[axis], int):
                raise _one_size(
                    model, name, axis, open_axes[axis].name, f"the model supports only size {value.shape[axis]}"
                )


def violation(model: str, names: Sequence[str], plan: Plan, text: str) -> Specialised | None:
    """Converts torch's message `text` about a size that the model fixes to an error. None for any other message."""
    match = SIZE.search(text)
    if match is None or "onstraints violated" not in text:
        return None
    index, axis = int(match[1]), int(match[2])
    size = plan[index][axis].name if axis in plan[index] else None
    return _one_size(model, names[index], axis, size, "the model supports only one size")


def _one_size(model: str, name: str, axis: int, size: str | None, why: str) -> Specialised:
    hint = FIX_BATCH if axis == 0 else "Omit this axis from dynamic_shapes (--dynamic)."
    return Specialised(why, size, f"cannot export {model} with a dynamic axis {axis} of {name}: {why}. {hint}")


def limited(model: str, names: Sequence[str], plan: Plan, guards: Guards, sizes: Sizes) -> tuple[Plan, list[str]]:
    """Returns the plan with the bounds of the dynamic axes in the graph, and a note for each bound.

    Ignores guards against sizes 0 and 1: most concern broadcasting and speed, and verify() tests these sizes.

    Raises:
        Specialised: the graph is correct only for sizes with some property, such as being divisible by 4.
        ExportError: the bounds are narrower than those that the caller requires.
    """
    bounds = {name: _bounds(model, names, plan, guards, name, sizes) for name in sizes}
    notes = list(guards.together(bounds, sizes))
    for name, (low, high) in bounds.items():
        if low > 2:
            notes.append(f"{name} is at least {low}: the file is incorrect for smaller sizes")
        if high is not None:
            notes.append(f"{name} is at most {high}")
    return tuple(
        {
            axis: _within(names[index], axis, each, *bounds.get(each.name or "", (0, None)))
            for axis, each in open_axes.items()
        }
        for index, open_axes in enumerate(plan)
    ), notes


def _bounds(
    model: str, names: Sequence[str], plan: Plan, guards: Guards, name: str, sizes: Sizes
) -> tuple[int, int | None]:
    try:
        return guards.bounds(name, sizes)
    except ValueError as error:
        index, axis = next(
            (i, axis)
            for i, open_axes in enumerate(plan)
            for axis in open_axes
            if name in re.split(r"\W+", open_axes[axis].name or "")
        )
        raise _one_size(model, names[index], axis, name, f"the graph is correct only if {error}") from None


def _within(label: str, axis: int, requested: Axis, low: int, high: int | None) -> Axis:
    below = requested.low is not None and low > max(requested.low, 2)
    above = requested.high is not None and high is not None and high < requested.high
    if below or above:
        raise ExportError(
            f"axis {axis} of {label} should accept sizes from {requested.low or 0} to {requested.high or 'any'}, "
            f"but the graph is correct only from {low} to {high or 'any'}. Use a Dim with these bounds."
        )
    return replace(requested, low=low if low > 2 else requested.low, high=high)


def rename(model: ir.Model, plan: Plan) -> None:
    """Names the axes of the plan, in the inputs and in every shape computed from them."""
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
    text = re.sub(r"[A-Za-z_]\w*", lambda match: _part(plain.get(match[0], match[0])), dim.value)
    terms = text.split(" + ")
    return ir.SymbolicDim(" + ".join(sorted(terms)) if all(term.isidentifier() for term in terms) else text)


def _part(name: str) -> str:
    """Formats the name of a size for use in a longer expression."""
    return name if name.isidentifier() else f"({name})"
