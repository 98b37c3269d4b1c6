"""edgefc::PRPStoredLinear in standard operators: scale, one product with the stored matrix, scale, shift.

Letters: n inputs, m outputs.
"""

import onnx_ir as ir

from edgefc.export.bodies.prp import finish
from edgefc.export.build import Body


def write(
    op: Body, x: ir.Value, projection: ir.Value, in_scale: ir.Value, out_scale: ir.Value, bias: ir.Value
) -> ir.Value:
    """x (..., n), projection (m, n), in_scale (n,), out_scale (m,), bias (m,) -> (..., m)."""
    u = op.Reshape(op.Mul(x, in_scale), op.shape(-1, op.attribute("in_features")))
    return finish(op, op.Gemm(u, projection, transB=1), x, out_scale, bias)
