"""Attention masks: rows that attend to nothing give zeros, as in torch.

torch's exporter masks with the lowest finite number, and then a row without any key is the mean of all values. It also
writes IsNaN behind the Softmax, to put zeros into such rows, which takes a mask of minus infinity to work.
"""

import numpy as np
import onnx_ir as ir


def mask_with_infinity(model: ir.Model) -> None:
    """Turn the lowest number into minus infinity where a mask is added before a Softmax that IsNaN looks at."""
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
