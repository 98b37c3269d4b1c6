"""Prepares tracing: adapts the model to named tensors, and tests which axes accept other sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgefc.errors import ExportError, describe_error
from edgefc.export.model.state import Given, check_has_values, note_on_state
from edgefc.export.tracing import axes, caches
from edgefc.export.tracing.adapter import Adapter, left_out, named_inputs
from edgefc.export.tracing.autocast import entered_autocasts
from edgefc.export.tracing.axes import Plan
from edgefc.export.tracing.dynamic_shapes import plan_of
from edgefc.layers.common.checkpoint import Seeded

FIX_BATCH = "If the model requires a fixed batch size, pass dynamic_batch=False (--fixed-batch)."


@dataclass(frozen=True)
class Prepared:
    """A model that is ready for tracing. `outputs` are the names of its outputs."""

    adapter: Adapter
    plan: Plan
    outputs: tuple[str, ...]
    notes: tuple[str, ...]


def refresh(model: nn.Module) -> None:
    """Calls refresh() of all seeded layers, which regenerates cached tensors if a seed has changed."""
    for module in model.modules():
        if isinstance(module, Seeded):
            module.refresh()


def prepare(
    given: Given,
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    dynamic_batch: bool | None = None,
    dynamic_shapes: Any = None,
    cache: bool = False,
) -> Prepared:
    """Runs the model on its examples, and on larger inputs along each dynamic axis.

    Every run starts from the state in `given`.

    Raises:
        UsageError: unsupported inputs or dynamic_shapes.
        ExportError: the model cannot run on the examples, or on larger inputs along an axis that the caller requested.
    """
    adapter, result, notes = adapt(given, model, args, kwargs, cache=cache)
    notes += [f"argument {name} is fixed at {value!r}" for name, value in adapter.inputs.constants.items()]
    notes += left_out(result)
    outputs = tuple(adapter.named(result))
    plan = _plan(adapter, dynamic_batch, dynamic_shapes)
    sizes = axes.sizes_of(plan, adapter.inputs.names, adapter.inputs.tensors)
    plan, more = _possible(given, adapter, axes.named(plan, adapter.inputs.names), sizes)
    return Prepared(adapter, plan, outputs, (*notes, *more))


def adapt(
    given: Given, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, cache: bool = False
) -> tuple[Adapter, Any, list[str]]:
    """Returns the adapted model, its result for the examples, and notes for the user.

    If the model returns a key-value cache, it is run with use_cache=False, unless cache=True.
    """
    inputs = named_inputs(model, args, kwargs)
    adapter, notes = Adapter(model, inputs), []
    result, note = _first_run(given, adapter)
    if cache:
        with given.run():
            adapter = caches.with_cache(model, inputs)
        with given.run():
            result = adapter.call(*adapter.inputs.tensors)
    elif caches.returns_cache(result):
        why = caches.why_no_tensors(result)
        adapter, result = _without_cache(given, adapter)
        notes.append(
            f"{type(model).__name__} returns a cache, which the file does not contain. "
            + (
                "Pass cache=True (--cache) to export its keys and values as inputs and outputs, which text generation "
                "needs"
                if why is None
                else f"It cannot be exported: {why}"
            )
        )
    return adapter, result, [*notes, *([note] if note else [])]


def _without_cache(given: Given, adapter: Adapter) -> tuple[Adapter, Any]:
    if not caches.takes(adapter.model, "use_cache"):
        raise ExportError(
            f"{type(adapter.model).__name__} returns a cache, and its forward has no use_cache to disable it. "
            "Export a model that returns tensors."
        )
    without = Adapter(adapter.model, adapter.inputs, {"use_cache": False})
    with given.run():
        return without, without.call(*adapter.inputs.tensors)


def _first_run(given: Given, adapter: Adapter) -> tuple[Any, str | None]:
    """Runs the model on the examples. Returns the result, and a note if the model keeps state between runs.

    Raises:
        ExportError: the model cannot run on the examples. (The message of torch.export would have several pages.)
    """
    model, results = adapter.model, list[Any]()

    def run() -> Any:
        results.append(adapter.call(*adapter.inputs.tensors))
        return results[-1]

    try:
        with given.run() as before, entered_autocasts(model) as seen:
            note = note_on_state(before, run)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        check_has_values(model)
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in adapter.inputs.tensors)
        raise ExportError(
            f"{type(model).__name__} cannot run on inputs of shapes {shapes}: {describe_error(error)}. "
            "Pass example inputs that it accepts."
        ) from error
    if seen:
        raise ExportError(
            f"forward of {type(model).__name__} enters {min(seen)}, which a file cannot represent: it uses the "
            "precision of its weights. Remove autocast from forward, or pass it enabled=False for the export. For a "
            "float16 file use model.half()."
        )
    check_has_values(model)
    return results[0], note


def _plan(adapter: Adapter, dynamic_batch: bool | None, dynamic_shapes: Any) -> Plan:
    inputs = adapter.inputs
    default = dynamic_batch if dynamic_batch is not None else dynamic_shapes is None
    plan: Plan = tuple({} for _ in inputs.names)
    if default:
        plan = (
            adapter.plan()
            if isinstance(adapter, caches.CachedAdapter)
            else axes.default_plan(inputs.names, inputs.tensors)
        )
    if dynamic_shapes is not None:
        plan = axes.merged(plan, plan_of(dynamic_shapes, inputs))
    return plan


def _possible(given: Given, adapter: Adapter, plan: Plan, sizes: Mapping[str, int]) -> tuple[Plan, list[str]]:
    """Removes axes from the plan that the model cannot run at a larger size, and returns a note for each.

    Raises:
        ExportError: the caller requested such an axis.
    """
    if not sizes or _failure(given, adapter, plan, {name: size + 1 for name, size in sizes.items()}) is None:
        return plan, []
    notes = []
    for name, size in sizes.items():
        failure = _failure(given, adapter, plan, {**sizes, name: size + 1})
        if failure is None:
            continue
        text = f"{type(adapter.model).__name__} cannot run with {name} = {size + 1} instead of {size}: {failure}"
        if any(each.requested for open_axes in plan for each in open_axes.values() if each.name == name):
            hint = FIX_BATCH if name == axes.BATCH else "Omit this axis from dynamic_shapes (--dynamic)."
            raise ExportError(f"{text}. {hint}")
        notes.append(f"{text}, so this axis is fixed")
        plan = axes.without(plan, [name])
    return plan, notes


def _failure(given: Given, adapter: Adapter, plan: Plan, sizes: Mapping[str, int]) -> str | None:
    """Returns the error of the model on examples of these sizes, or None if it runs."""
    try:
        with given.run():
            adapter.call(*axes.resized(plan, adapter.inputs.tensors, sizes))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return describe_error(error)
    return None
