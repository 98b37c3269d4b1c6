"""The graph of a torch model, as torch.onnx writes it; its failures told in one sentence."""

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.onnx import _flags
from torch.onnx._internal.exporter import _capture_strategies, _registration

from edgefc.errors import ExportError, UsageError, describe_error
from edgefc.export.model.state import Given
from edgefc.export.tracing import axes, graph_axes
from edgefc.export.tracing.adapter import Adapter
from edgefc.export.tracing.autocast import without_autocast_regions
from edgefc.export.tracing.axes import Plan
from edgefc.export.tracing.experts import gathered_experts
from edgefc.export.tracing.graph_axes import Specialised
from edgefc.export.tracing.guards import Guards
from edgefc.export.tracing.plain import plain_weights
from edgefc.export.tracing.preparing import Prepared


@dataclass(frozen=True)
class Traced:
    """The graph that torch made of a model, with structured layers as edgefc:: nodes that have no body yet.

    plan   the axes that are open, with the sizes that the graph is right for
    notes  what the user should know
    """

    graph: ir.Model
    plan: Plan
    notes: tuple[str, ...]


def trace(prepared: Prepared, given: Given, *, opset: int) -> Traced:
    """The graph of a model in the mode it is in. Axes that are open by default are fixed where torch needs that.

    Raises:
        ExportError: the model has no ONNX form, or computes on one size of an axis that was asked for.
    """
    plan, notes = prepared.plan, list[str]()
    while True:
        try:
            traced = _trace(prepared, given, plan, opset)
        except Specialised as error:
            default = {each.name for open_axes in plan for each in open_axes.values() if not each.asked}
            if not default:
                raise ExportError(str(error)) from error
            fixed = {error.size} & default or default
            notes.append(f"{', '.join(sorted(map(str, fixed)))} fixed as in the examples: {error.why}")
            plan = axes.without(plan, fixed)
        else:
            return Traced(traced.graph, traced.plan, (*traced.notes, *notes))


def check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"cannot export a {type(model).__name__}. Give a torch.nn.Module.")
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError("cannot export a TorchScript model. Give the torch.nn.Module that it was made from.")
    for name, module in model.named_modules():
        attends = isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward
        if attends and not isinstance(module.out_proj, nn.Linear):
            raise ExportError(
                f"{name or 'the model'} is a torch.nn.MultiheadAttention, and its out_proj a "
                f"{type(module.out_proj).__name__}: torch reads the weight of out_proj and does not call the layer. "
                "Use edgefc.StructuredAttention."
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dtype == torch.bfloat16:
            raise ExportError(
                f"{name} is bfloat16, which onnxruntime cannot compute on CPUs. Convert the model first: model.float()."
            )


def _keep_weights(traced: ir.Model, given: Given) -> None:
    """Copy the weights that hold other values once the model is put back: those that eval() merged, for one."""
    for value in traced.graph.initializers.values():
        constant = value.const_value
        tensor = getattr(constant, "raw", None)
        if isinstance(tensor, Tensor) and not given.will_stay(tensor):
            value.const_value = ir.tensor(tensor.detach().clone(), name=value.name)
        elif isinstance(constant, ir.Tensor) and isinstance(tensor, np.ndarray):  # may be a view of a weight
            value.const_value = ir.Tensor(tensor.copy(), dtype=constant.dtype, name=value.name)


def _trace(prepared: Prepared, given: Given, plan: Plan, opset: int) -> Traced:
    """The graph as torch.onnx writes it, with its inputs' open axes named.

    Raises:
        ExportError: with the first sentence of what torch says, which runs to pages.
    """
    adapter = prepared.adapter
    names, tensors = adapter.inputs.names, adapter.inputs.tensors
    examples = axes.at_least_two(plan, tensors, axes.sizes_of(plan, names, tensors))
    try:
        with (
            plain_weights(adapter.model), quiet(), without_autocast_regions(), gathered_experts(adapter.model) as said,
            _one_capture() as captured,
        ):  # fmt: skip
            program = torch.onnx.export(  # the last argument, a dict, holds the keyword ones
                adapter, (*examples, {}), dynamo=True, opset_version=opset, verbose=False,
                dynamic_shapes=axes.torch_shapes(plan),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _why(adapter, plan, error) from error
    assert program is not None
    graph = program.model
    kind, shapes = type(adapter.model).__name__, [example.shape for example in examples]
    graph_axes.check_open(kind, names, plan, graph)
    plan, notes = graph_axes.unified(names, plan, graph)
    guards = Guards(captured[0]._guards_code, names, plan, shapes)
    plan, more = graph_axes.limited(kind, names, plan, guards, axes.sizes_of(plan, names, examples))
    graph_axes.rename(graph, plan)
    _keep_weights(graph, given)
    return Traced(graph, plan, (*said, *notes, *more))


_parse_torchlib = _registration.ONNXRegistry.from_torchlib


@functools.cache
def _torchlib(opset_version: int) -> _registration.ONNXRegistry:
    """torch's translations to ONNX for one opset. torch.onnx.export parses them each time, half a second's work."""
    return _parse_torchlib(opset_version)


@contextlib.contextmanager
def _one_capture() -> Iterator[list[torch.export.ExportedProgram]]:
    """Within the block torch.onnx.export has only the way to capture a model that runs the model's own code.

    Yields a list that gets what was captured: its guards and ranges are gone from the program that torch.onnx returns.

    Where that fails it would go on to torch._dynamo, which takes torch.onnx.is_in_onnx_export() for false: structured
    layers would be written out as ordinary operators, seeded matrices as dense ones, without a word.
    """
    captured: list[torch.export.ExportedProgram] = []

    class Recording(_capture_strategies.TorchExportNonStrictStrategy):
        def _capture(self, *args: Any) -> torch.export.ExportedProgram:
            captured.append(super()._capture(*args))
            return captured[-1]

    with (
        mock.patch.object(_capture_strategies, "CAPTURE_STRATEGIES", (Recording,)),
        mock.patch.object(_registration.ONNXRegistry, "from_torchlib", staticmethod(_torchlib)),
        mock.patch.object(_flags, "PREFER_DEFERRED_RUNTIME_ASSERTS_OVER_GUARDS", False),  # or there are no guards
    ):
        yield captured


def _why(adapter: Adapter, plan: Plan, error: BaseException) -> ExportError:
    """One sentence from torch's pages: the innermost cause, and what to try."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    name = type(adapter.model).__name__
    text = f"cannot export {name}: torch says {describe_error(root)}."
    scripted = [name for name, module in adapter.model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        return ExportError(
            f"{text} Its submodule {scripted[0]} is compiled by torch.jit.script, which torch.export cannot trace. "
            "Put the Python module that it was made from in its place."
        )
    text += " torch.export.export(model, args) shows the full traceback."
    return graph_axes.violation(name, adapter.inputs.names, plan, str(error)) or ExportError(text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporter: its progress, warnings and printed graphs. Errors are still raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # torch.export prints whole graphs
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
