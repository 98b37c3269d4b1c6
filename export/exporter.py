"""export(): one torch model -> one .onnx file."""

import contextlib
import inspect
import io
import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edgefc.errors import ExportError, UsageError
from edgefc.export import passes
from edgefc.export.examples import (
    Args,
    at_least_two_rows,
    check_common_batch,
    example_inputs,
    said_by,
    tensors,
    with_rows,
)
from edgefc.export.options import Options
from edgefc.export.verifier import VerifyReport, compare
from edgefc.files import staged

OPSETS = range(18, 24)
EXTERNAL_FROM_BYTES = 32 << 20
"""Weights together at least this large go into a file of their own, which the runtime maps instead of reading."""

RESIDENT_LIMIT_BYTES = 64 << 20
"""prp="auto" lets the runtime hold the seeded matrices while together they are no larger than this."""

_FIX_BATCH = "If the model needs its batch size fixed, pass dynamic_batch=False (--fixed-batch)."


@dataclass(frozen=True)
class ExportReport:
    """What was written: sizes in bytes, names of the structured layers, the bodies chosen and why."""

    path: Path
    opset: int
    file_bytes: int
    data_bytes: int
    layers: tuple[str, ...]
    circulant: str | None
    prp: str | None
    prp_reason: str | None
    seconds: float
    verified: VerifyReport | None


def export(
    model: nn.Module,
    args: Args,
    path: str | Path,
    *,
    dynamic_batch: bool = True,
    opset: int = 20,
    circulant: Literal["matmul", "dft"] = "matmul",
    prp: Literal["auto", "resident", "streaming"] = "auto",
    flat: bool = False,
    verify: bool = True,
) -> ExportReport:
    """Write `model` as ONNX, its structured layers as edgefc:: nodes with portable bodies, and check the file.

    Args:
        model: any module that torch.export can trace; it is exported in eval mode and left as it was.
        args: example inputs: a tensor, a sequence of positional ones, or a mapping of keyword ones.
        path: the .onnx file; large weights go beside it, into path + ".data".
        dynamic_batch: the first axis of every input stays open; it must be the same for all of them.
        opset: 18 to 23.
        circulant: "matmul", the FFT as matrix products; "dft", the DFT operator, slower in onnxruntime.
        prp: "resident", matrices folded when the file is loaded, speed and memory of a dense layer; "streaming",
            a band at a time, little memory and slow; "auto", resident up to 64 MiB of matrices.
        flat: write functions out at each call, for tools that do not look into functions.
        verify: run the file against the model before it takes its place; a file that fails is not written.

    Raises:
        UsageError: an argument or a path that cannot be used.
        ExportError: a model that has no ONNX form.
        CheckFailed: the file was made and does not compute what the model computes.
    """
    started = time.perf_counter()
    _check_choices(opset, circulant, prp)
    _check_model(model)
    positional, keyword = example_inputs(args)
    with eval_mode(model), torch.no_grad():
        _check_runs(model, positional, keyword, dynamic_batch)
        with quiet():
            traced = _trace(model, positional, keyword, dynamic_batch, opset)
    body, reason = _choose_prp(traced, prp)
    passes.name_layers(traced)
    passes.name_outputs(traced)
    with quiet():
        passes.merge_equal_weights(traced)
    passes.prepare_nodes(traced)
    nodes = passes.structured_nodes(traced)
    layers, ops = tuple(node.name or "" for node in nodes), {node.op_type for node in nodes}
    passes.attach_functions(traced, opset, Options(circulant=circulant, prp=body))
    if flat:
        passes.inline(traced)
    passes.stamp(traced)
    with staged(path) as folder:
        file = folder / Path(path).name
        _save(traced, file)
        sizes = {item.name: item.stat().st_size for item in folder.iterdir()}
        report = None
        if verify:
            report = compare(file, model, positional, keyword, dynamic_batch=dynamic_batch)
            report.raise_if_failed(Path(path).name)
    return ExportReport(
        path=Path(path),
        opset=opset,
        file_bytes=sizes[file.name],
        data_bytes=sizes.get(f"{file.name}.data", 0),
        layers=layers,
        circulant=circulant if "CirculantLinear" in ops else None,
        prp=body if "PRPLinear" in ops else None,
        prp_reason=reason if "PRPLinear" in ops else None,
        seconds=time.perf_counter() - started,
        verified=report,
    )


def _check_choices(opset: int, circulant: str, prp: str) -> None:
    if opset not in OPSETS:
        raise UsageError(f"cannot export opset={opset!r}. Choose one from {OPSETS[0]} to {OPSETS[-1]}.")
    if circulant not in ("matmul", "dft"):
        raise UsageError(f"no circulant body {circulant!r}. Choose 'matmul' or 'dft'.")
    if prp not in ("auto", "resident", "streaming"):
        raise UsageError(f"no PRP body {prp!r}. Choose 'auto', 'resident' or 'streaming'.")


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise UsageError(f"cannot export a {type(model).__name__}. Give a torch.nn.Module.")
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


def _choose_prp(model: ir.Model, prp: str) -> tuple[Literal["resident", "streaming"], str]:
    nodes = [node for node in passes.structured_nodes(model) if node.op_type == "PRPLinear"]
    size = 4 * sum(node.attributes["in_features"].as_int() * node.attributes["out_features"].as_int() for node in nodes)
    held = f"{size / 2**20:.1f} MiB of matrices"
    if prp == "auto":
        if size <= RESIDENT_LIMIT_BYTES:
            return "resident", f"{held}, within {RESIDENT_LIMIT_BYTES >> 20} MiB: folded at load for speed"
        return "streaming", f"{held}, over {RESIDENT_LIMIT_BYTES >> 20} MiB: made a band at a time to save memory"
    return ("resident" if prp == "resident" else "streaming"), f"as asked; {held}"


def _save(model: ir.Model, file: Path) -> None:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    total = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if total >= EXTERNAL_FROM_BYTES:
        ir.save(model, file, external_data=f"{file.name}.data", size_threshold_bytes=1024, alignment=4096)
    else:
        ir.save(model, file)
    try:
        onnx.checker.check_model(str(file), full_check=total < 2**31)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"torch's graph is no valid ONNX: {said_by(error)}. Try another opset.") from error


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
