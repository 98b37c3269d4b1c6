"""edgefc::TiedFFN in standard operators: two Gemm on the same weight, which is stored and held once.

    rows > Gemm with W^T > activation > Gemm with W > rows back in their place

Gemm multiplies by W or by its transpose as an attribute says, so that no Transpose stands in the graph, which a
runtime would fold into a second copy. Other copies are the runtime's own: onnxruntime packs the weight once for each of
the two products unless its session is told not to (preset "memory").

Letters: d d_model, h d_hidden.
"""

import onnx_ir as ir

from edgefc.export.activations import activate
from edgefc.export.build import Body


def write(op: Body, x: ir.Value, weight: ir.Value, bias_in: ir.Value, bias_out: ir.Value) -> ir.Value:
    """x (..., d), weight (h, d), bias_in (h,), bias_out (d,) -> (..., d)."""
    d = op.attribute("d_model")
    rows = op.Reshape(x, op.shape(-1, d))  # (B, d)
    hidden = op.Gemm(rows, weight, bias_in, transB=1)  # (B, h)
    y = op.Gemm(activate(op, op.attribute("activation"), hidden), weight, bias_out)  # (B, d)
    return op.Reshape(y, op.Shape(x), allowzero=1)  # a batch of 0 is no "as it was"
