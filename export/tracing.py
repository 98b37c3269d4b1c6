"""The graph of a torch model, as torch.onnx writes it; its failures told in one sentence."""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.onnx._internal.exporter import _capture_strategies

from edgefc.errors import ExportError, UsageError
from edgefc.export.examples import at_least_two_rows, check_common_batch, said_by, tensors, with_rows
from edgefc.export.plain import plain_weights

_FIX_BATCH = "If the model needs its batch size fixed, pass dynamic_batch=False (--fixed-batch)."


def trace(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, dynamic_batch: bool, opset: int
) -> ir.Model:
    """The model in eval mode, with structured layers as edgefc:: nodes that have no body yet.

    Raises:
        UsageError: no module, or inputs without a common batch.
        ExportError: the model cannot run on the examples, or has no ONNX form.
    """
    _check_model(model)
    with eval_mode(model), torch.no_grad():
        _check_runs(model, args, kwargs, dynamic_batch)
        with plain_weights(model), quiet():
            return _trace(model, args, kwargs, dynamic_batch, opset)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"cannot export a {type(model).__name__}. Give a torch.nn.Module.")
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError("cannot export a TorchScript model. Give the torch.nn.Module that it was made from.")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.dtype == torch.bfloat16:
            raise ExportError(
                f"{name} is bfloat16, which onnxruntime cannot compute on CPUs. Convert the model first: model.float()."
            )


def _check_runs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_batch: bool) -> None:
    """Run the model as it is on the examples, and on one row more: what torch.export says of a failure is pages.

    Raises:
        ExportError: it cannot run on them.
    """
    examples = [(args, kwargs)]
    if dynamic_batch:
        examples.append(with_rows(args, kwargs, check_common_batch(args, kwargs) + 1))
    for index, (some_args, some_kwargs) in enumerate(examples):
        try:
            model(*some_args, **some_kwargs)
        except Exception as error:
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors((some_args, some_kwargs)))
            hint = _FIX_BATCH if index else "Give example inputs that it can run on."
            raise ExportError(
                f"{type(model).__name__} cannot run on inputs of shapes {shapes}: {said_by(error)}. {hint}"
            ) from error


def _trace(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], dynamic_batch: bool, opset: int
) -> ir.Model:
    """The graph as torch.onnx writes it.

    Raises:
        ExportError: with the first sentence of what torch says, which runs to pages.
    """
    shapes = None
    if dynamic_batch:
        check_common_batch(args, kwargs)
        args, kwargs = at_least_two_rows(args, kwargs)
        shapes = _dynamic_shapes(model, args, kwargs)
    if not kwargs:
        args = (*args, {})  # torch takes a last argument that is a dict for the keyword ones
    try:
        with _one_capture():
            program = torch.onnx.export(
                model, args, kwargs=kwargs, dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False
            )
    except Exception as error:
        raise ExportError(_why(model, error, dynamic_batch)) from error
    assert program is not None
    if dynamic_batch and any(value.shape and isinstance(value.shape[0], int) for value in program.model.graph.inputs):
        raise ExportError(
            f"cannot export {type(model).__name__} with an open batch: it computes on one size. {_FIX_BATCH}"
        )
    return program.model


@contextlib.contextmanager
def _one_capture() -> Iterator[None]:
    """Within the block torch.onnx.export has only the way to capture a model that runs the model's own code.

    Where that fails it would go on to torch._dynamo, which takes torch.onnx.is_in_onnx_export() for false: structured
    layers would be written out as ordinary operators, seeded matrices as dense ones, without a word.
    """
    only = (_capture_strategies.TorchExportNonStrictStrategy,)
    with mock.patch.object(_capture_strategies, "CAPTURE_STRATEGIES", only):
        yield


def _dynamic_shapes(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    batch = torch.export.Dim("batch", min=1)
    given = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    return {name: _open(value, batch) for name, value in given.items()}


def _open(value: Any, batch: Any) -> Any:
    if isinstance(value, Tensor):
        return {0: batch} if value.ndim else None
    if isinstance(value, Mapping):
        return {key: _open(item, batch) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_open(item, batch) for item in value)
    return None


def _why(model: nn.Module, error: Exception, dynamic_batch: bool) -> str:
    """One sentence from torch's pages: the innermost cause, and what to try."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    text = f"cannot export {type(model).__name__}: torch says {said_by(root)}."
    if dynamic_batch and ("batch" in str(error) or "Constraints violated" in str(error)):
        return f"{text} {_FIX_BATCH}"
    return f"{text} torch.export.export(model, args) shows the whole story."


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode; after it each module is as it was."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's exporter from talking of its own affairs; what concerns the user is raised."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # torch.export prints whole graphs
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
