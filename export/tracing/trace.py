"""Traces a torch model with torch.onnx, and reports failures in one sentence."""

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
    """The traced graph of a model, with structured layers as edgefc:: nodes without a body.

    plan   the dynamic axes, with the sizes for which the graph is correct
    notes  notes for the user
    """

    graph: ir.Model
    plan: Plan
    notes: tuple[str, ...]


def trace(prepared: Prepared, given: Given, *, opset: int) -> Traced:
    """Returns the graph of a model in its current mode. Fixes axes that are dynamic only by default if torch needs it.

    Raises:
        ExportError: the model has no ONNX form, or an axis that the caller requested supports only one size.
    """
    plan, notes = prepared.plan, list[str]()
    while True:
        try:
            traced = _trace(prepared, given, plan, opset)
        except Specialised as error:
            default = {each.name for open_axes in plan for each in open_axes.values() if not each.requested}
            if not default:
                raise ExportError(str(error)) from error
            fixed = {error.size} & default or default
            notes.append(f"{', '.join(sorted(map(str, fixed)))} fixed as in the examples: {error.why}")
            plan = axes.without(plan, fixed)
        else:
            return Traced(traced.graph, traced.plan, (*traced.notes, *notes))


def check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError("cannot export a TorchScript model. Pass the torch.nn.Module that it was made from.")
    for name, module in model.named_modules():
        attends = isinstance(module, nn.MultiheadAttention) and type(module).forward is nn.MultiheadAttention.forward
        if attends and not isinstance(module.out_proj, nn.Linear):
            raise ExportError(
                f"{name or 'the model'} is a torch.nn.MultiheadAttention whose out_proj is a "
                f"{type(module.out_proj).__name__}. torch reads the weight of out_proj and does not call the layer. "
                "Use edgefc.StructuredAttention."
            )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dtype == torch.bfloat16:
            raise ExportError(
                f"{name} is bfloat16, which onnxruntime does not support on CPUs. Convert the model: model.float()."
            )


def _keep_weights(traced: ir.Model, given: Given) -> None:
    """Copies weights that will change when the model is restored, such as weights that eval() merged."""
    for value in traced.graph.initializers.values():
        constant = value.const_value
        tensor = getattr(constant, "raw", None)
        if isinstance(tensor, Tensor) and not given.will_stay(tensor):
            value.const_value = ir.tensor(tensor.detach().clone(), name=value.name)
        elif isinstance(constant, ir.Tensor) and isinstance(tensor, np.ndarray):  # may be a view of a weight
            value.const_value = ir.Tensor(tensor.copy(), dtype=constant.dtype, name=value.name)


def _trace(prepared: Prepared, given: Given, plan: Plan, opset: int) -> Traced:
    """Returns the graph of torch.onnx, with names for the dynamic axes of its inputs.

    Raises:
        ExportError: tracing failed. The message contains the first sentence of torch's message.
    """
    adapter = prepared.adapter
    names, tensors = adapter.inputs.names, adapter.inputs.tensors
    examples = axes.at_least_two(plan, tensors, axes.sizes_of(plan, names, tensors))
    try:
        with (
            plain_weights(adapter.model), quiet(), without_autocast_regions(),
            gathered_experts(adapter.model) as routing, _one_capture() as captured,
        ):  # fmt: skip
            program = torch.onnx.export(  # the last argument is the dict of keyword arguments
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
    return Traced(graph, plan, (*routing, *notes, *more))


_parse_torchlib = _registration.ONNXRegistry.from_torchlib


@functools.cache
def _torchlib(opset_version: int) -> _registration.ONNXRegistry:
    """Caches torch's ONNX translations for one opset. torch.onnx.export parses them each time, which takes 0.5 s."""
    return _parse_torchlib(opset_version)


@contextlib.contextmanager
def _one_capture() -> Iterator[list[torch.export.ExportedProgram]]:
    """Restricts torch.onnx.export within the block to the capture strategy that runs the model's own code.

    Without the restriction, torch.onnx.export would fall back to torch._dynamo, in which torch.onnx.is_in_onnx_export()
    is False. Structured layers would then silently become standard operators, and seeded matrices dense ones.

    Yields a list that receives the captured program. Its guards and ranges are not part of the program that torch.onnx
    returns.
    """
    captured: list[torch.export.ExportedProgram] = []

    class Recording(_capture_strategies.TorchExportNonStrictStrategy):
        def _capture(self, *args: Any) -> torch.export.ExportedProgram:
            captured.append(super()._capture(*args))
            return captured[-1]

    with (
        mock.patch.object(_capture_strategies, "CAPTURE_STRATEGIES", (Recording,)),
        mock.patch.object(_registration.ONNXRegistry, "from_torchlib", staticmethod(_torchlib)),
        mock.patch.object(
            _flags, "PREFER_DEFERRED_RUNTIME_ASSERTS_OVER_GUARDS", False
        ),  # otherwise there are no guards
    ):
        yield captured


def _why(adapter: Adapter, plan: Plan, error: BaseException) -> ExportError:
    """Reduces a long message of torch to one sentence: the innermost cause, and what to try."""
    root = error
    while root.__cause__ is not None:
        root = root.__cause__
    name = type(adapter.model).__name__
    text = f"cannot export {name}: torch reports {describe_error(root)}."
    scripted = [name for name, module in adapter.model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        return ExportError(
            f"{text} Its submodule {scripted[0]} is compiled by torch.jit.script, which torch.export cannot trace. "
            "Replace it by the Python module that it was made from."
        )
    text += " torch.export.export(model, args) shows the full traceback."
    return graph_axes.violation(name, adapter.inputs.names, plan, str(error)) or ExportError(text)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses the progress, warnings and printed graphs of torch's exporter. Errors are still raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # torch.export prints whole graphs
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
