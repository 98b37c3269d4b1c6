"""Corrects attention masks so that fully masked rows give zeros, as in torch.

The exporter of torch masks with the lowest finite number, so a fully masked row becomes the mean of all values. The
exporter also adds an IsNaN after the Softmax to set such rows to zero. This requires a mask of minus infinity.
"""

import numpy as np
import onnx_ir as ir


def mask_with_infinity(model: ir.Model) -> None:
    """Replaces the lowest finite number by minus infinity in masks added before a Softmax that feeds an IsNaN."""
    for softmax in [node for node in model.graph.all_nodes() if node.op_type == "Softmax"]:
        added = softmax.inputs[0].producer() if softmax.inputs[0] is not None else None
        guarded = any(use.node.op_type == "IsNaN" for use in softmax.outputs[0].uses())
        if guarded and added is not None and added.op_type == "Add":
            for value in added.inputs:
                where = value.producer() if value is not None else None
                if where is not None and where.op_type == "Where":
                    _make_infinite(model.graph, where)


def _make_infinite(graph: ir.Graph, where: ir.Node) -> None:
    masked = where.inputs[2]
    array = None if masked is None or masked.const_value is None else masked.const_value.numpy()
    if masked is None or array is None or array.size != 1 or array.item() != np.finfo(array.dtype).min:
        return
    name = f"{masked.name}.infinite"
    if name not in graph.initializers:
        graph.initializers[name] = ir.val(
            name, masked.dtype, masked.shape, const_value=ir.tensor(np.full_like(array, -np.inf), name=name)
        )
    where.replace_input_with(2, graph.initializers[name])
