"""The open axes of a traced graph: whether they are open, within what bounds, and their names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from edgefc.errors import ExportError
from edgefc.export.axes import Axis, Plan
from edgefc.export.preparing import FIX_BATCH

_SIZE = re.compile(r"L\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\]")
_RANGE = re.compile(r"(SIZE|\d+) (<|<=|>|>=|!=) (SIZE|\d+)|SIZE == SIZE")


class Specialised(ExportError):
    """The graph would be right for some sizes of an open axis only; `why` is the part of the sentence that says so."""

    def __init__(self, why: str, sentence: str) -> None:
        super().__init__(sentence)
        self.why = why


def check_open(model: str, names: Sequence[str], plan: Plan, graph: ir.Model) -> None:
    """Refuse a graph with one size where the plan has an open axis.

    Raises:
        Specialised: with the input, the axis and the size.
    """
    for name, open_axes, value in zip(names, plan, graph.graph.inputs, strict=True):
        for axis in open_axes:
            assert value.shape is not None
            if isinstance(value.shape[axis], int):
                raise _one_size(model, name, axis, f"it computes on size {value.shape[axis]} only")


def _one_size(model: str, name: str, axis: int, why: str) -> Specialised:
    hint = FIX_BATCH if axis == 0 else "Leave that axis out of dynamic_shapes (--dynamic)."
    return Specialised(why, f"cannot export {model} with axis {axis} of {name} open: {why}. {hint}")


def check_guards(model: str, names: Sequence[str], plan: Plan, guards: Sequence[str]) -> None:
    """Refuse a graph that is right only where an open axis has some property, such as being divisible by 4.

    Bounds and equal sizes pass here: limited() tells of bounds.

    Raises:
        Specialised: with what would have to hold.
    """
    for guard in guards:
        places = [(int(index), int(axis)) for index, axis in _SIZE.findall(guard)]
        if places and not _RANGE.fullmatch(_SIZE.sub("SIZE", guard).replace("(", "").replace(")", "")):
            text = _SIZE.sub(lambda found: f"{names[int(found[1])]}.shape[{found[2]}]", guard)
            index, axis = next((place for place in places if place[1] in plan[place[0]]), places[0])
            why = f"the graph is right only where {text}"
            raise _one_size(model, names[index], axis, why)


def limited(plan: Plan, names: Sequence[str], graph: ir.Model, ranges: Mapping[Any, Any]) -> tuple[Plan, list[str]]:
    """The plan with the bounds that the graph has for its open axes, and a sentence for each bound.

    Raises:
        ExportError: they are narrower than the caller's.
    """
    bounds = {str(symbol): (_whole(found.lower, 0), _whole(found.upper, None)) for symbol, found in ranges.items()}
    result, notes = [], dict[str, None]()
    for label, open_axes, value in zip(names, plan, graph.graph.inputs, strict=True):
        limited = {}
        for axis, each in open_axes.items():
            assert value.shape is not None
            low, high = bounds.get(str(getattr(value.shape[axis], "value", "")), (0, None))
            low = 0 if low <= 2 else low  # torch assumes 2 where the model sets no bound
            if _narrower(low, high, each):
                raise ExportError(
                    f"axis {axis} of {label} was to take sizes from {each.low or 0} to {each.high or 'any'}, and the "
                    f"model computes this way only from {low} to {high or 'any'}. Give a Dim with these bounds."
                )
            if low:
                notes[f"{each.name} is at least {low}: the file is not right for less"] = None
            if high is not None:
                notes[f"{each.name} is at most {high}"] = None
            limited[axis] = replace(each, low=low or each.low, high=high)
        result.append(limited)
    return tuple(result), list(notes)


def _narrower(low: int, high: int | None, asked: Axis) -> bool:
    below = asked.low is not None and low > max(asked.low, 2)
    above = asked.high is not None and high is not None and high < asked.high
    return below or above


def _whole(bound: Any, otherwise: int | None) -> int | None:
    """A bound of torch's, a sympy number, as an int; it writes none as infinity."""
    return int(bound) if getattr(bound, "is_Integer", isinstance(bound, int)) else otherwise


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
