"""export(): exports a torch model to an .onnx file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch import nn

from edgefc.errors import UsageError, shortened, superseded
from edgefc.export import passes
from edgefc.export.bodies import BodyChoice, check_bodies, choose_bodies
from edgefc.export.model.state import as_given
from edgefc.export.saving.write import publish, write
from edgefc.export.tracing.axes import fixed_axes
from edgefc.export.tracing.dynamic_shapes import without_collection
from edgefc.export.tracing.examples import Args, example_inputs
from edgefc.export.tracing.masks import mask_with_infinity
from edgefc.export.tracing.preparing import prepare, refresh
from edgefc.export.tracing.trace import check_model, quiet, trace
from edgefc.export.verifying.verifier import VerifyReport, compare
from edgefc.files import place_of, staging
from edgefc.progress import elapsed

OPSETS = range(18, 24)
EXTERNAL_FROM_BYTES = 32 << 20
"""Weights of at least this total size go to an external data file, which the runtime maps into memory."""


@dataclass(frozen=True)
class TensorInfo:
    """One input or output of a file: name, numpy name of the dtype, and shape. A dynamic axis is its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ExportReport:
    """The result of export().

    file_bytes, data_bytes  sizes of the .onnx file and of the external data file
    data                    the external data file, `<stem>-<hash>.onnx.data`; None if the graph contains all weights
    layers                  names of the structured layers
    inputs, outputs         their names, types and shapes; a dynamic axis has a name instead of a size
    fixed                   a sentence for each axis of an input whose size the file fixes
    notes                   further sentences for the user, for example about omitted state and bounds of dynamic axes
    bodies                  for each operator with several bodies: the body in the file, and the reason
    """

    path: Path
    opset: int
    file_bytes: int
    data_bytes: int
    data: Path | None
    layers: tuple[str, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    fixed: tuple[str, ...]
    notes: tuple[str, ...]
    bodies: Mapping[str, BodyChoice]
    seconds: float
    verified: VerifyReport | None

    @property
    def circulant(self) -> str | None:
        """Deprecated: use bodies["CirculantLinear"].name. The next release removes this name."""
        return self._old("circulant", "CirculantLinear", "name")

    @property
    def prp(self) -> str | None:
        """Deprecated: use bodies["PRPLinear"].name. The next release removes this name."""
        return self._old("prp", "PRPLinear", "name")

    @property
    def prp_reason(self) -> str | None:
        """Deprecated: use bodies["PRPLinear"].reason. The next release removes this name."""
        return self._old("prp_reason", "PRPLinear", "reason")

    def _old(self, old: str, op: str, field: str) -> str | None:
        superseded(f"ExportReport.{old}", f"ExportReport.bodies[{op!r}].{field}", stacklevel=4)
        choice = self.bodies.get(op)
        return None if choice is None else str(getattr(choice, field))


def export(
    model: nn.Module,
    args: Args,
    path: str | Path,
    *,
    dynamic_batch: bool | None = None,
    dynamic_shapes: Any = None,
    output_names: Sequence[str] | None = None,
    cache: bool = False,
    opset: int = 20,
    bodies: Mapping[str, str] | None = None,
    flat: bool = False,
    verify: bool = True,
    allow_nonfinite: bool = False,
    circulant: str | None = None,
    prp: str | None = None,
) -> ExportReport:
    """Exports `model` to ONNX, with structured layers as edgefc:: nodes with portable bodies, and verifies the file.

    Args:
        model: any module that torch.export can trace. It is run and exported in eval mode, and its mode is restored.
        args: example inputs: a tensor, a sequence of positional arguments, or a mapping of keyword arguments.
        path: the .onnx file. Large weights go to an external data file in the same folder, with a hash in its name.
            If the path is a symbolic link, its target is written.
        dynamic_batch: True makes these axes dynamic: the first axis of every input, which must have the same size in
            all inputs, and the token axes of inputs with names of transformers models (axes.KNOWN_AXES). False fixes
            them. By default they are dynamic unless dynamic_shapes is given.
        dynamic_shapes: the dynamic axes, in the format of torch.export: {"ids": {0: "batch", 1: "tokens"}}. Axes with
            the same name have the same size. With dynamic_batch=True they are added to the default axes.
        output_names: names for the outputs, in order. The default names are the fields of the model's result
            ("logits"), or "output", or output_0, output_1, ...
        cache: for decoders of the transformers package: past keys and values become inputs, and the extended ones
            become outputs; see edgefc/export/tracing/caches.py. By default such a model is exported without its cache.
        opset: 18 to 23.
        bodies: the body of an operator by its name, for operators with several bodies. The first is the default.
            "CirculantLinear": "matmul" computes the FFT as matrix products; "dft" uses the DFT operator, which is
            slower in onnxruntime. "PRPLinear": "auto" is "resident" for up to 64 MiB of matrices; "resident" folds
            the matrices when the file is loaded, with the speed and memory of a dense layer; "streaming" computes a
            band at a time, which needs little memory and is slow.
        flat: inline functions at each call, for tools that do not support functions.
        verify: compare the file with the model before it is written; a file that fails is not written.
        allow_nonfinite: let verify accept outputs of which most are NaN or infinite.
        circulant, prp: deprecated; use bodies={"CirculantLinear": ..., "PRPLinear": ...}. The next release removes
            them.

    Raises:
        UsageError: an invalid argument or path.
        ExportError: the model has no ONNX form.
        CheckFailed: the exported file does not compute what the model computes.
    """
    started = time.perf_counter()
    asked = _requested_bodies(bodies, {"CirculantLinear": ("circulant", circulant), "PRPLinear": ("prp", prp)})
    if opset not in OPSETS:
        raise UsageError(f"cannot export opset={opset!r}. Choose one from {OPSETS[0]} to {OPSETS[-1]}.")
    check_bodies(asked)
    if Path(path).suffix != ".onnx":
        raise UsageError(f"cannot write {path}: the name of a model must end in .onnx.")
    model = getattr(model, "_orig_mod", model)  # unwraps the result of torch.compile
    check_model(model)
    dynamic_shapes = without_collection(dynamic_shapes, model, args)
    positional, keyword = example_inputs(args)
    refresh(model)
    with elapsed(f"exporting {type(model).__name__}") as stage, as_given(model) as given:
        stage("running it")
        prepared = prepare(
            given, model, positional, keyword, dynamic_batch=dynamic_batch, dynamic_shapes=dynamic_shapes, cache=cache
        )
        named = _output_names(prepared.outputs, output_names, prepared.adapter.inputs.names)
        stage("tracing")
        result = trace(prepared, given, opset=opset)
    traced, subject = result.graph, prepared.adapter
    passes.name_layers(traced)
    passes.name_values(traced, subject.inputs.names, named)
    mask_with_infinity(traced)
    with quiet():
        passes.merge_equal_weights(traced)
    passes.prepare_nodes(traced)
    nodes = passes.structured_nodes(traced)
    layers, chosen = tuple(node.name or "" for node in nodes), choose_bodies(nodes, asked)
    passes.attach_functions(traced, opset, {op: choice.name for op, choice in chosen.items()})
    if flat:
        passes.inline(traced)
    passes.stamp(traced)
    place, report = place_of(path), None
    with staging(place) as folder:
        written = write(traced, folder, place, external_from_bytes=EXTERNAL_FROM_BYTES)
        sizes = [0 if file is None else file.stat().st_size for file in (written.graph, written.data)]
        if verify:
            with elapsed(f"verifying {Path(path).name}"), as_given(model) as given:
                report = compare(written.graph, given, subject, result.plan, allow_nonfinite=allow_nonfinite)
            report.raise_if_failed(Path(path).name)
        kept = publish(written, place)
    inputs = tuple(map(_tensor_info, traced.graph.inputs))
    return ExportReport(
        path=Path(path),
        opset=opset,
        file_bytes=sizes[0],
        data_bytes=sizes[1],
        data=None if written.data is None else place.folder / written.data.name,
        layers=layers,
        inputs=inputs,
        outputs=tuple(map(_tensor_info, traced.graph.outputs)),
        fixed=fixed_axes(subject.inputs.names, [info.shape for info in inputs]),
        notes=(*prepared.notes, *result.notes, *kept),
        bodies=chosen,
        seconds=time.perf_counter() - started,
        verified=report,
    )


def _requested_bodies(bodies: Mapping[str, str] | None, old: Mapping[str, tuple[str, str | None]]) -> dict[str, str]:
    """`bodies` with the values of the deprecated arguments."""
    if bodies is not None and not isinstance(bodies, Mapping):
        raise UsageError(
            "bodies must be a mapping of operators to bodies, such as {'PRPLinear': 'streaming'}, got "
            f"{shortened(repr(bodies), 80)}."
        )
    asked = dict(bodies or {})
    for op, (argument, body) in old.items():
        if body is not None:
            superseded(f"export({argument}={body!r})", f"export(bodies={{{op!r}: {body!r}}})", stacklevel=4)
            asked.setdefault(op, body)
    return asked


def _output_names(own: tuple[str, ...], given: Sequence[str] | None, inputs: Sequence[str]) -> tuple[str, ...]:
    if given is None:
        return tuple(f"{name}_out" if name in inputs else name for name in own)
    if isinstance(given, str) or not all(isinstance(name, str) and name for name in given):
        raise UsageError(f"output_names must be a list of names, got {shortened(repr(given))}.")
    if len(given) != len(own) or len({*given, *inputs}) != len(own) + len(inputs):
        raise UsageError(
            f"output_names has {shortened(', '.join(map(repr, given)))} for {len(own)} outputs: "
            f"{shortened(', '.join(own))}. "
            f"Give one name for each output, all different, and different from the inputs ({', '.join(inputs)})."
        )
    return tuple(given)


def _tensor_info(value: ir.Value) -> TensorInfo:
    assert value.name is not None
    dtype = "?" if value.dtype is None else value.dtype.numpy().name
    dims = () if value.shape is None else value.shape
    return TensorInfo(value.name, dtype, tuple(dim if isinstance(dim, int) else dim.value or "?" for dim in dims))
