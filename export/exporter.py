"""export(): one torch model -> one .onnx file."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx
import onnx_ir as ir
from torch import nn

from edgefc.errors import ExportError, UsageError
from edgefc.export import passes
from edgefc.export.examples import Args, example_inputs, said_by
from edgefc.export.lowerings.prp import numbers_held
from edgefc.export.options import Options
from edgefc.export.tracing import quiet, trace
from edgefc.export.verifier import VerifyReport, compare
from edgefc.files import staged

OPSETS = range(18, 24)
EXTERNAL_FROM_BYTES = 32 << 20
"""Weights together at least this large go into a file of their own, which the runtime maps instead of reading."""

RESIDENT_LIMIT_BYTES = 64 << 20
"""prp="auto" lets the runtime hold the seeded matrices while together they are no larger than this."""

_REGENERATED = ("PRPLinear", "PRPConv2d")
"""Ops whose matrix the runtime can hold; what the second one holds counts, and stays, whatever body the first gets."""


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
        model: any module that torch.export can trace; it is run and exported in eval mode, and put back into its mode.
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
    if Path(path).suffix != ".onnx":
        raise UsageError(f"cannot write {path}: the name of a model ends in .onnx. Choose one that does.")
    model = getattr(model, "_orig_mod", model)  # what torch.compile wraps
    positional, keyword = example_inputs(args)
    traced = trace(model, positional, keyword, dynamic_batch=dynamic_batch, opset=opset)
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


def _choose_prp(model: ir.Model, prp: str) -> tuple[Literal["resident", "streaming"], str]:
    nodes = [node for node in passes.structured_nodes(model) if node.op_type in _REGENERATED]
    size = sum(_held_bytes(node) for node in nodes)
    held = f"{size / 2**20:.1f} MiB of matrices"
    if prp == "auto":
        if size <= RESIDENT_LIMIT_BYTES:
            return "resident", f"{held}, within {RESIDENT_LIMIT_BYTES >> 20} MiB: folded at load for speed"
        return "streaming", f"{held}, over {RESIDENT_LIMIT_BYTES >> 20} MiB: made a band at a time to save memory"
    return ("resident" if prp == "resident" else "streaming"), f"as asked; {held}"


def _held_bytes(node: ir.Node) -> int:
    scale = node.inputs[1]
    dtype = ir.DataType.FLOAT if scale is None or scale.dtype is None else scale.dtype
    return numbers_held({name: attribute.value for name, attribute in node.attributes.items()}) * int(dtype.itemsize)


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
