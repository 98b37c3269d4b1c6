"""Converts dynamic_shapes=, in the format of torch.export, to a plan of axes.py."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.export import Dim, ShapesCollection
from torch.utils import _pytree as pytree

from edgefc.errors import UsageError, describe_error
from edgefc.export.tracing.adapter import Inputs
from edgefc.export.tracing.axes import Axis, Plan
from edgefc.export.tracing.examples import Args, arguments

_FORM = (
    'Write one entry per argument, such as {"input_ids": {0: "batch", 1: "tokens"}}, with a name, a torch.export.Dim, '
    "Dim.DYNAMIC or None for each axis"
)


def without_collection(dynamic_shapes: Any, model: nn.Module, args: Args) -> Any:
    """Converts a ShapesCollection, which identifies tensors by identity, to nested containers.

    Raises:
        UsageError: the collection contains a tensor that is not in `args`.
    """
    if not isinstance(dynamic_shapes, ShapesCollection):
        return dynamic_shapes
    positional, keyword = arguments(args)
    try:
        return dynamic_shapes.dynamic_shapes(model, positional, keyword)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise UsageError(
            f"the ShapesCollection in dynamic_shapes does not match args: {describe_error(error)} Use the same tensor "
            "objects as in args, not copies."
        ) from error


def plan_of(dynamic_shapes: Any, inputs: Inputs) -> Plan:
    """Returns one mapping of dynamic axes per input.

    The keys of `dynamic_shapes` are names of the file's inputs, names of forward's parameters, or positions. Entries
    are nested like the arguments.

    Raises:
        UsageError: an entry for an unknown argument, or an entry that torch.export does not accept.
    """
    by_name = _by_argument(inputs)
    given = _keyed(dynamic_shapes, list(by_name))
    dynamic: dict[str, Mapping[int, Axis]] = {}
    for name, spec in given.items():
        if name in inputs.names:
            dynamic[name] = _axes(name, inputs.tensors[inputs.names.index(name)], spec)
        elif name in by_name:
            value, labels = by_name[name]
            for label, (tensor, part) in zip(labels, _matched(name, value, spec), strict=True):
                dynamic[label] = _axes(label, tensor, part)
        elif spec is not None:
            known = sorted({*by_name, *inputs.names})
            near = difflib.get_close_matches(name, known, 1)
            raise UsageError(
                f"dynamic_shapes contains {name!r}, which is not an input of the model."
                f"{f' Did you mean {near[0]!r}?' if near else ''} Inputs: {', '.join(known)}."
            )
    return tuple(dynamic.get(name, {}) for name in inputs.names)


def _by_argument(inputs: Inputs) -> dict[str, tuple[Any, list[str]]]:
    """Returns, by parameter name, the value of each argument and the names of the inputs in it."""
    labels = iter(inputs.names)
    return {
        name: (value, [next(labels) for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)])
        for name, value in inputs.arguments
    }


def _keyed(dynamic_shapes: Any, arguments: list[str]) -> dict[str, Any]:
    if isinstance(dynamic_shapes, Mapping):
        given: dict[str, Any] = {}
        for name, spec in dynamic_shapes.items():  # torch nests the entries of **kwargs one level deeper
            if name not in arguments and isinstance(spec, Mapping) and set(spec) & set(arguments):
                given |= spec
            else:
                given[str(name)] = spec
        return given
    if isinstance(dynamic_shapes, list | tuple):
        if len(dynamic_shapes) != len(arguments):
            raise UsageError(
                f"dynamic_shapes has {len(dynamic_shapes)} entries, but args has {len(arguments)} "
                f"arguments ({', '.join(arguments)}). Give one entry per argument, or None if all its axes are fixed."
            )
        return dict(zip(arguments, dynamic_shapes, strict=True))
    raise UsageError(f"dynamic_shapes is {dynamic_shapes!r}. {_FORM}.")


def _matched(name: str, value: Any, spec: Any) -> list[tuple[Tensor, Any]]:
    """Returns each tensor of a nested argument with its part of the entry."""
    if isinstance(value, Tensor):
        return [(value, spec)]
    if spec is None:
        return [(leaf, None) for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]
    parts: list[tuple[Any, Any]]
    if isinstance(value, Mapping) and isinstance(spec, Mapping):
        parts = [(item, spec.get(key)) for key, item in value.items()]
    elif isinstance(value, tuple) and hasattr(value, "_fields") and isinstance(spec, Mapping):
        parts = [(item, spec.get(field)) for field, item in zip(value._fields, value, strict=True)]
    elif isinstance(value, list | tuple) and isinstance(spec, list | tuple) and len(spec) == len(value):
        parts = list(zip(value, spec, strict=True))
    elif pytree.tree_structure(value).is_leaf():
        return []
    else:
        raise UsageError(
            f"dynamic_shapes has {spec!r} for {name!r}, which is a {type(value).__name__}. "
            "Nest the entry like the argument."
        )
    return [pair for item, part in parts for pair in _matched(name, item, part)]


def _axes(name: str, tensor: Tensor, spec: Any) -> dict[int, Axis]:
    if spec is None:
        return {}
    if isinstance(spec, Mapping):
        items = list(spec.items())
    elif isinstance(spec, Sequence) and not isinstance(spec, str) and len(spec) == tensor.ndim:
        items = list(enumerate(spec))
    else:
        raise UsageError(f"dynamic_shapes has {spec!r} for {name!r} of shape {tuple(tensor.shape)}. {_FORM}.")
    result = {}
    for axis, given in items:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -tensor.ndim <= axis < tensor.ndim:
            raise UsageError(
                f"dynamic_shapes contains axis {axis!r} of {name!r}, whose shape is {tuple(tensor.shape)}. "
                f"Choose an axis from 0 to {tensor.ndim - 1}."
            )
        open_axis = _axis(name, axis % tensor.ndim, tensor, given)
        if open_axis is not None:
            result[axis % tensor.ndim] = open_axis
    return result


def _axis(name: str, axis: int, tensor: Tensor, given: Any) -> Axis | None:
    if given is None or given == Dim.STATIC:
        return None
    if isinstance(given, str) and given.isidentifier():
        return Axis(given, requested=True)
    if isinstance(given, int) and not isinstance(given, bool):
        if given != tensor.shape[axis]:
            raise UsageError(
                f"dynamic_shapes fixes axis {axis} of {name!r} at {given}, but its size in the example is "
                f"{tensor.shape[axis]}. Pass an example of size {given}."
            )
        return None
    if isinstance(given, Dim):
        return Axis(given.__name__, requested=True, low=given.min or None, high=_bound(given.max))  # 0 is the default
    if isinstance(given, type(Dim.AUTO)):
        return Axis(None, requested=given.type == Dim.DYNAMIC.type, low=given.min, high=_bound(given.max))
    raise UsageError(f"dynamic_shapes has {given!r} for axis {axis} of {name!r}. {_FORM}.")


def _bound(value: Any) -> int | None:
    """Returns the upper bound, or None for the infinity that torch uses."""
    return value if isinstance(value, int) else None
