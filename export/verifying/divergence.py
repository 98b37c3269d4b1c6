"""Finds the first layer whose output differs between torch and onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc import temporary
from edgefc.export.building.body import DOMAIN
from edgefc.export.model.state import Given
from edgefc.export.passes import LAYER_KEY
from edgefc.export.tracing.adapter import Adapter
from edgefc.export.verifying.measures import NMSE_BOUND_HALF, nmse
from edgefc.export.verifying.running import feeds_of, open_session, run_session, to_numpy, torch_outputs


def first_layer_off(file: Path, given: Given, adapter: Adapter, inputs: Sequence[Tensor], bound: float) -> str | None:
    """Returns the first layer, in the order of the graph, whose output differs between torch and onnxruntime."""
    calls = _record_calls(given, adapter, inputs)
    probed = ir.load(file)
    leaves = {name for name, part in adapter.model.named_modules() if not [*part.children()]}
    probes = _probes(probed, calls, leaves)
    for value, _expected, _name in probes:
        if not value.is_graph_output():
            probed.graph.outputs.append(value)
    with temporary.folder("edgefc-verify-") as folder:
        ir.save(probed, folder / "probe.onnx", external_data="probe.data")
        session = open_session(folder / "probe.onnx")
        names = [output.name for output in session.get_outputs()]
        values = dict(
            zip(names, run_session(session, file, feeds_of(session, adapter.inputs.names, inputs)), strict=True)
        )
    for value, expected, name in probes:
        actual = values[value.name]
        if expected.shape == actual.shape and _is_off(actual, expected, bound):
            return name
    return None


def _is_off(actual: NDArray[Any], expected: NDArray[Any], bound: float) -> bool:
    """Whether the outputs differ as a whole, or in a column by over 100 times the rounding of the largest value."""
    if expected.dtype.kind != "f":
        return not np.array_equal(actual, expected)
    if nmse(actual, expected) > max(bound, NMSE_BOUND_HALF if expected.dtype == np.float16 else 0.0):
        return True
    if not expected.ndim or not expected.size:
        return False
    with np.errstate(invalid="ignore"):
        error = np.nan_to_num(np.abs(actual.astype(np.float64) - expected)).reshape(-1, expected.shape[-1]).max(0)
    values = np.where(np.isfinite(expected), np.abs(expected), 0).reshape(-1, expected.shape[-1]).max(0)
    noise = 100 * float(np.finfo(expected.dtype).eps) * float(values.max())
    return bool((error > np.maximum(bound**0.5 * values, noise)).any())


Calls = dict[str, list[NDArray[Any]]]


def _record_calls(given: Given, adapter: Adapter, inputs: Sequence[Tensor]) -> Calls:
    """Returns the results of each submodule, in the order of the calls. The names of a shared module share one list."""
    by_module: dict[int, list[NDArray[Any]]] = {}
    calls: Calls = {}
    hooks = []
    for name, module in adapter.model.named_modules(remove_duplicate=False):
        if id(module) not in by_module:
            by_module[id(module)] = []
            hooks.append(module.register_forward_hook(_recorder(by_module[id(module)])))
        calls[name] = by_module[id(module)]
    try:
        torch_outputs(given, adapter, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _recorder(calls: list[NDArray[Any]]) -> Any:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            calls.append(to_numpy(output).copy())  # a later in-place layer may change it

    return record


def _probes(model: ir.Model, calls: Calls, leaves: set[str]) -> list[tuple[ir.Value, NDArray[Any], str]]:
    """Returns the graph values that correspond to results of torch layers, in the order of the graph.

    These are the outputs of structured nodes, call by call, and the last node of each other layer that has no
    submodules and was called once.
    """
    taken: dict[int, int] = {}
    last = {node.metadata_props.get(LAYER_KEY): node for node in model.graph}
    probes = []
    for node in model.graph:
        name = node.metadata_props.get(LAYER_KEY, "")
        returned = calls.get(name, []) if name or node.domain == DOMAIN else []  # "": the model itself is the layer
        turn = taken.get(id(returned), 0)
        if node.domain == DOMAIN and turn < len(returned):
            taken[id(returned)] = turn + 1
            probes.append((node.outputs[0], returned[turn], node.name or name))
        elif node.domain != DOMAIN and name in leaves and len(returned) == 1 and last[name] is node:
            probes.append((node.outputs[0], returned[0], name))
    return probes
