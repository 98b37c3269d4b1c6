"""Test helpers for authors of layers: a comparison, a one-node model from a layer, and two evaluators to run it.

model = layer_model(layer, 64)
assert_close(run_onnxruntime(model, x), expected, nmse=1e-12, what="onnxruntime")
"""

from collections.abc import Sequence
from typing import Any
from unittest import mock

from edgefc.errors import UsageError, needs_extra

with needs_extra("torch", "edgefc.testing"):
    import numpy as np
    import onnx_ir as ir
    import onnxruntime
    import torch
    from numpy.typing import NDArray
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.ops import op_loop
    from torch import Tensor, nn

    from edgefc.export import passes
    from edgefc.export.building.body import DOMAIN
    from edgefc.export.verifying import measures

__all__ = ["assert_close", "layer_model", "run_onnxruntime", "run_reference"]

_OPEN = 2
"""The size of named axes in the example input that layer_model() passes to the layer."""


def assert_close(actual: NDArray[Any] | Tensor, expected: NDArray[Any] | Tensor, *, nmse: float, what: str) -> None:
    """Assert that |actual - expected|^2 / |expected|^2 is at most `nmse`, independent of scale and size.

    1e-10 is about five correct digits. Shapes are compared first, then finiteness. Expected values that are empty or
    all zero fail, because such a comparison proves nothing.

    Raises:
        AssertionError: the values differ, or cannot be compared. The message starts with `what`.
    """
    a, b = _float64(actual), _float64(expected)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, expected {b.shape}"
    assert np.isfinite(b).all(), f"{what}: {(~np.isfinite(b)).sum()} of {b.size} expected values are not finite"
    assert np.isfinite(a).all(), f"{what}: {(~np.isfinite(a)).sum()} of {a.size} values are not finite"
    assert b.any(), f"{what}: the expected values are all zeros or empty, so the comparison proves nothing"
    measured = measures.nmse(a, b)
    gap = np.abs(a - b)
    where = tuple(int(i) for i in np.unravel_index(gap.argmax(), gap.shape))
    assert measured <= nmse, (
        f"{what}: nmse {measured:.2e} exceeds {nmse:.0e}; the largest difference, {gap.max():.2e}, is at {where}"
    )


def layer_model(
    layer: nn.Module,
    x: int | Tensor,
    *,
    opset: int = 20,
    body: str | None = None,
    leading: Sequence[str | int] = ("batch",),
) -> ir.Model:
    """Build the model of one layer: input x, one edgefc:: node with its function, and outputs y, y1, ...

    Args:
        x: the number of features, for an input of shape (*leading, features) and the dtype of the layer. Or an example
            input, for layers that take images, tokens or sequences: its first axis becomes the open axis "batch", and
            the other sizes and the dtype are kept.
        opset: the opset of standard ONNX.
        body: the body of the operator. Default: the first.
        leading: the axes before the features; a string makes an open axis of that name.

    Raises:
        UsageError: the layer creates no node or several nodes when it is exported, or the operator has no such body.
        ExportError: the operator of the node is not known.
    """
    example, shape = _example(layer, x, leading)
    name, weights, attributes, results = _node_of(layer, example)
    initializers = [_initializer(f"weight_{index}", weight) for index, weight in enumerate(weights)]
    graph_input = ir.Value(name="x", type=_element(example), shape=ir.Shape(shape))
    node = ir.node(
        name, [graph_input, *initializers], attributes=attributes, num_outputs=len(results), domain=DOMAIN,
        name=type(layer).__name__,
    )  # fmt: skip
    for index, (y, result) in enumerate(zip(node.outputs, results, strict=True)):
        y.name, y.type, y.shape = f"y{index or ''}", _element(result), _open_shape(result, x, leading)
    graph = ir.Graph([graph_input], node.outputs, nodes=[node], initializers=initializers, opset_imports={"": opset})
    model = ir.Model(graph, ir_version=passes.IR_VERSION)
    passes.prepare_nodes(model)
    passes.attach_functions(model, opset, {} if body is None else {name: body})
    passes.stamp(model)
    (function,) = model.functions.values()
    for value, parameter in zip(initializers, function.inputs[1:], strict=True):
        value.name = parameter.name
    return model


def run_reference(model: ir.Model, x: NDArray[Any]) -> Any:
    """Run a model with one input, x, in ONNX's reference evaluator, which is slow and independent of onnxruntime.

    Returns an array, or a list of arrays if the model has several outputs.
    """
    return _one_or_all(_Evaluator(ir.to_proto(model)).run(None, {"x": x}))


def run_onnxruntime(model: ir.Model, x: NDArray[Any], *, threads: int = 1, optimise: bool = True) -> Any:
    """As run_reference(), in onnxruntime on the CPU. optimise=False disables graph optimisations."""
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, so they need no log
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return _one_or_all(session.run(None, {"x": x}))


def _one_or_all(results: Any) -> Any:
    return results[0] if len(results) == 1 else list(results)


def _example(layer: nn.Module, x: int | Tensor, leading: Sequence[str | int]) -> tuple[Tensor, list[str | int]]:
    """An example input for the layer, and its shape with names for open axes."""
    if isinstance(x, Tensor):
        return torch.cat([x[:1]] * _OPEN), ["batch", *x.shape[1:]]
    dtype = next((p.dtype for p in layer.parameters() if p.is_floating_point()), torch.float32)
    sizes = [_OPEN if isinstance(size, str) else size for size in leading]
    return torch.zeros(*sizes, x, dtype=dtype), [*leading, x]


def _open_shape(result: Tensor, x: int | Tensor, leading: Sequence[str | int]) -> ir.Shape | None:
    """The leading axes and the features. For an example input only the rank is known, not which axis is the batch."""
    return ir.Shape([None] * result.ndim) if isinstance(x, Tensor) else ir.Shape([*leading, result.shape[-1]])


def _element(tensor: Tensor) -> ir.TensorType:
    return ir.TensorType(ir.tensor(tensor.detach().numpy()).dtype)


def _node_of(layer: nn.Module, x: Tensor) -> tuple[str, list[Tensor], dict[str, Any], list[Tensor]]:
    """The op, weights, attributes and outputs of the one node that `layer` creates when it is exported."""
    calls: list[tuple[str, list[Tensor], dict[str, Any], list[Tensor]]] = []

    def several(op: str, inputs: Any, /, attrs: Any = None, *, dtypes: Any, shapes: Any, **_: Any) -> list[Tensor]:
        results = [
            torch.zeros([int(n) for n in shape], dtype=dtype) for shape, dtype in zip(shapes, dtypes, strict=True)
        ]
        calls.append((op.rpartition("::")[2], list(inputs[1:]), dict(attrs or {}), results))
        return results

    def one(op: str, inputs: Any, /, attrs: Any = None, *, dtype: Any, shape: Any, **_: Any) -> Tensor:
        return several(op, inputs, attrs, dtypes=[dtype], shapes=[shape])[0]

    with (
        mock.patch.object(torch.onnx, "is_in_onnx_export", return_value=True),
        mock.patch.object(torch.onnx.ops, "symbolic", one),
        mock.patch.object(torch.onnx.ops, "symbolic_multi_out", several),
        torch.no_grad(),
    ):
        layer(x)
    if len(calls) != 1:
        raise UsageError(
            f"{type(layer).__name__} creates {len(calls)} nodes when it is exported, and layer_model() needs exactly "
            "one. Give a layer whose forward returns one layer_node(...) of edgefc.layers.common.onnx_node."
        )
    return calls[0]


def _initializer(name: str, weight: Tensor) -> ir.Value:
    tensor = ir.tensor(weight.detach().cpu().contiguous().clone().numpy(), name=name)
    return ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(weight.shape))


class Loop(op_loop.Loop):
    """Works around onnx 1.23, which concatenates scan outputs along the first axis. The specification stacks them along
    a new axis."""

    op_domain = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)  # type: ignore[no-untyped-call]
        run_body: Any = self._run_body  # type: ignore[has-type]

        def unsqueezed(*args: Any, **kwargs: Any) -> list[Any]:
            outputs = list(run_body(*args, **kwargs))
            carried = len(outputs) - self.K
            return outputs[:carried] + [np.expand_dims(output, 0) for output in outputs[carried:]]

        self._run_body = unsqueezed


class _Evaluator(ReferenceEvaluator):
    """onnx's evaluator with the corrected Loop, also within functions."""

    def __init__(self, proto: Any, **options: Any) -> None:
        super().__init__(proto, **{**options, "new_ops": [Loop]})


def _float64(values: NDArray[Any] | Tensor) -> NDArray[np.float64]:
    array = values.detach().cpu().double().numpy() if isinstance(values, Tensor) else values
    return array.astype(np.float64)
