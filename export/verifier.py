"""verify(): does an .onnx file compute what the torch model computes? If not, from which layer on?"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import CheckFailed, ModelError, UsageError
from edgefc.export.build import DOMAIN
from edgefc.export.examples import Args, check_common_batch, example_inputs, said_by, tensors, with_rows
from edgefc.export.passes import LAYER_KEY

NMSE_BOUND = 1e-9
"""Largest normalised mean squared error that passes: |onnx - torch|^2 / |torch|^2, a relative error of 3e-5."""

NMSE_BOUND_DFT = 1e-6
"""The same for files with a DFT operator, which onnxruntime computes less accurately off powers of two."""

NMSE_BOUND_HALF = 1e-4
"""The same for float16 outputs: a relative error of 1e-2."""


@dataclass(frozen=True)
class Comparison:
    """One output, or one layer, at one batch size."""

    name: str
    rows: int
    shape: tuple[int, ...]
    nmse: float
    largest_difference: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.nmse <= self.bound


@dataclass(frozen=True)
class VerifyReport:
    """Every comparison made; `parts_at` names the first layer whose output is off, when one is."""

    outputs: tuple[Comparison, ...]
    parts_at: str | None = None

    @property
    def holds(self) -> bool:
        return all(output.holds for output in self.outputs)

    @property
    def worst(self) -> Comparison:
        return max(self.outputs, key=lambda output: output.nmse / output.bound if output.bound else output.nmse)

    def sentence(self) -> str:
        """What was compared and how far apart it was, for people."""
        worst = self.worst
        rows = sorted({output.rows for output in self.outputs})
        return (
            f"torch and onnxruntime agree at {', '.join(map(str, rows))} rows: worst output {worst.name!r}, normalised "
            f"mean squared error {worst.nmse:.1e}, bound {worst.bound:.0e}"
        )

    def raise_if_failed(self, file: str) -> None:
        """CheckFailed, with the worst output and the layer where torch and onnxruntime part ways."""
        if self.holds:
            return
        worst = self.worst
        where = f"they part ways at layer {self.parts_at!r}" if self.parts_at else "no layer between could be compared"
        raise CheckFailed(
            f"{file} does not compute what the torch model computes: output {worst.name!r} has a normalised mean "
            f"squared error of {worst.nmse:.1e} at {worst.rows} rows, over the bound of {worst.bound:.0e}; {where}."
        )


def verify(path: str | Path, model: nn.Module, args: Args) -> VerifyReport:
    """Run the file and the model on the same inputs, and on other batch sizes where the file allows it.

    Raises:
        UsageError: no such file, or inputs that the file does not take.
        ModelError: a file that onnxruntime cannot load.
    """
    positional, keyword = example_inputs(args)
    return compare(Path(path), model, positional, keyword)


def compare(
    file: Path, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, dynamic_batch: bool | None = None
) -> VerifyReport:
    """verify() on arguments that are sorted already; dynamic_batch=None asks the file."""
    from edgefc.export.exporter import eval_mode

    session, bound = _session(file), _float_bound(file)
    if dynamic_batch is None:
        dynamic_batch = all(not isinstance(i.shape[0], int) for i in session.get_inputs() if i.shape)
    batches = [(args, kwargs)]
    if dynamic_batch:
        rows = check_common_batch(args, kwargs)
        batches += [with_rows(args, kwargs, other) for other in (1, 3) if other != rows]
    outputs: list[Comparison] = []
    with eval_mode(model), torch.no_grad():
        for some_args, some_kwargs in batches:
            expected = _torch_outputs(model, some_args, some_kwargs)
            feeds = _feeds(session, some_args, some_kwargs)
            actual = _run(session, file, feeds)
            names = [output.name for output in session.get_outputs()]
            if len(names) != len(expected):
                raise UsageError(f"{file.name} has {len(names)} outputs and the model {len(expected)}: not one model.")
            rows = next(iter(feeds.values())).shape[0] if next(iter(feeds.values())).ndim else 1
            outputs += [_measure(*triple, rows, bound) for triple in zip(names, actual, expected, strict=True)]
        report = VerifyReport(tuple(outputs))
        if report.holds:
            return report
        return VerifyReport(report.outputs, _first_layer_off(file, model, args, kwargs, bound))


def nmse(actual: NDArray[Any], expected: NDArray[Any]) -> float:
    """|actual - expected|^2 / |expected|^2 in float64; infinite where one is not finite and the other is.

    Equal arrays, empty ones and two that are all zero give 0.
    """
    if actual.shape != expected.shape:
        return float("inf")
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf")
    error, power = np.square(a[finite] - b[finite]).sum(), np.square(b[finite]).sum()
    if error == 0:
        return 0.0
    return float(error / power) if power else float("inf")


def _float_bound(file: Path) -> float:
    """The bound for float outputs: wider where the file has a DFT operator."""
    model = ir.load(file)
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    has_dft = any(node.op_type == "DFT" for graph in graphs for node in graph.all_nodes())
    return NMSE_BOUND_DFT if has_dft else NMSE_BOUND


def _measure(name: str, actual: NDArray[Any], expected: NDArray[Any], rows: int, float_bound: float) -> Comparison:
    bound = 0.0
    if expected.dtype == np.float16:
        bound = NMSE_BOUND_HALF
    elif np.issubdtype(expected.dtype, np.floating):
        bound = float_bound
    gap = 0.0
    if actual.shape == expected.shape and actual.size:
        with np.errstate(invalid="ignore"):
            gap = float(np.nanmax(np.abs(actual.astype(np.float64) - expected.astype(np.float64)), initial=0.0))
    return Comparison(name, rows, expected.shape, nmse(actual, expected), gap, bound)


def _first_layer_off(
    file: Path, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], bound: float
) -> str | None:
    """The first layer, in the order of the graph, whose output differs between torch and onnxruntime."""
    calls = _record_calls(model, args, kwargs)
    exposed = ir.load(file)
    probes = _probes(exposed, calls)
    for value, _expected, _name in probes:
        if not value.is_graph_output():
            exposed.graph.outputs.append(value)
    with tempfile.TemporaryDirectory() as folder:
        ir.save(exposed, Path(folder) / "probe.onnx", external_data="probe.data")
        session = _session(Path(folder) / "probe.onnx")
        names = [output.name for output in session.get_outputs()]
        values = dict(zip(names, _run(session, file, _feeds(session, args, kwargs)), strict=True))
    for value, expected, name in probes:
        actual = values[value.name]
        if expected.shape == actual.shape and not _measure(name, actual, expected, 0, bound).holds:
            return name
    return None


Calls = dict[str, list[NDArray[Any]]]


def _record_calls(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Calls:
    """What each submodule returned, call by call. Names of one shared module share one list."""
    by_module: dict[int, list[NDArray[Any]]] = {}
    calls: Calls = {}
    hooks = []
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) not in by_module:
            by_module[id(module)] = []
            hooks.append(module.register_forward_hook(_recorder(by_module[id(module)])))
        calls[name] = by_module[id(module)]
    try:
        model(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _recorder(calls: list[NDArray[Any]]) -> Any:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.append(_numpy(output))

    return record


def _probes(model: ir.Model, calls: Calls) -> list[tuple[ir.Value, NDArray[Any], str]]:
    """Values of the graph that torch's layers also returned, in order: structured nodes call by call, and the
    last node of any other layer that was called once."""
    taken: dict[int, int] = {}
    last = {node.metadata_props.get(LAYER_KEY): node for node in model.graph}
    probes = []
    for node in model.graph:
        name = node.metadata_props.get(LAYER_KEY, "")
        returned = calls.get(name, []) if name or node.domain == DOMAIN else []  # "": the model is the layer
        turn = taken.get(id(returned), 0)
        if node.domain == DOMAIN and turn < len(returned):
            taken[id(returned)] = turn + 1
            probes.append((node.outputs[0], returned[turn], node.name or name))
        elif node.domain != DOMAIN and len(returned) == 1 and last[name] is node:
            probes.append((node.outputs[0], returned[0], name))
    return probes


def _torch_outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[NDArray[Any]]:
    try:
        return [_numpy(tensor) for tensor in tensors(model(*args, **kwargs))]
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors((args, kwargs)))
        raise UsageError(
            f"the torch model cannot run on inputs of shapes {shapes}: {said_by(error)}. Give the example inputs that "
            "the file was exported with."
        ) from error


def _session(file: Path) -> Any:
    if not file.is_file():
        raise UsageError(f"no file {file}. Name an .onnx file that exists.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {file.name}: {_first_line(error)}.") from None


def _feeds(session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Keyword tensors by their names where the file has them, all others in order."""
    names = [entry.name for entry in session.get_inputs()]
    named = {name: _numpy(kwargs[name]) for name in names if isinstance(kwargs.get(name), Tensor)}
    others = [_numpy(t) for t in tensors((args, {k: v for k, v in kwargs.items() if k not in named}))]
    if len(names) != len(named) + len(others):
        raise UsageError(
            f"the file takes {len(names)} inputs ({', '.join(names)}) and {len(named) + len(others)} tensors were "
            "given. Give one for each."
        )
    return {**named, **dict(zip([name for name in names if name not in named], others, strict=True))}


def _run(session: Any, file: Path, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        result: list[NDArray[Any]] = session.run(None, feeds)
        return result
    except Exception as error:
        shapes = {name: array.shape for name, array in feeds.items()}
        raise ModelError(
            f"onnxruntime cannot run {file.name} on inputs of shapes {shapes}: {_first_line(error)}."
        ) from None


def _numpy(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:  # which numpy lacks
        tensor = tensor.float()
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
