"""edgefc::CirculantLinear with the DFT operator: short, and slow in onnxruntime.

    signs > blocks > DFT > product with the spectrum of the kernel > inverse DFT > bias

onnxruntime's DFT takes n^2 steps at lengths that are not powers of two, with errors a hundred times larger, and at
ordinary sizes it loses to the dense product. The one-sided spectrum is made whole again before the inverse, because
older onnxruntime refuses a one-sided inverse.

Letters: n inputs, m outputs, b block, p x q blocks, f = b // 2 + 1 frequencies.
"""

import onnx_ir as ir

from edgefc.export.build import Body
from edgefc.export.seeded import ceil_div, count, signs


def write(op: Body, x: ir.Value, kernel: ir.Value, bias: ir.Value) -> ir.Value:
    """x (..., n), kernel (p, q, b), bias (m,) -> (..., m)."""
    n, m, b = (op.attribute(name) for name in ("in_features", "out_features", "block"))
    q, p = ceil_div(op, n, b), ceil_div(op, m, b)
    u = op.Mul(x, op.CastLike(signs(op, op.attribute("sign_seed"), n), kernel))
    u = op.Reshape(u, op.shape(-1, n))
    u = op.Reshape(op.pad(u, op.Sub(op.Mul(q, b), n)), op.shape(-1, q, b))  # (B, q, b)
    u_re, u_im = (op.Unsqueeze(part, op.const([1])) for part in _spectrum(op, u))  # (B, 1, q, f)
    k_re, k_im = _spectrum(op, kernel)  # (p, q, f)
    y_re = op.Sub(op.Mul(u_re, k_re), op.Mul(u_im, k_im))
    y_im = op.Add(op.Mul(u_re, k_im), op.Mul(u_im, k_re))
    y_re, y_im = (op.ReduceSum(part, op.const([2]), keepdims=0) for part in (y_re, y_im))  # (B, p, f)
    y = op.first(op.Reshape(_inverse(op, y_re, y_im, b), op.shape(-1, op.Mul(p, b))), m)
    y = op.Reshape(y, op.Concat(op.Shape(x, end=-1), op.shape(m), axis=0))
    return op.Add(y, bias)


def _spectrum(op: Body, values: ir.Value) -> tuple[ir.Value, ir.Value]:
    """One-sided DFT along the last of three axes, (., ., b) -> real and imaginary (., ., f)."""
    complex_values = op.dft(op.Unsqueeze(values, op.const([3])), onesided=1)
    return op.Gather(complex_values, op.const(0), axis=-1), op.Gather(complex_values, op.const(1), axis=-1)


def _inverse(op: Body, re: ir.Value, im: ir.Value, b: ir.Value) -> ir.Value:
    """The real signal of a one-sided spectrum, (B, p, f) -> (B, p, b)."""
    above = op.Div(op.Sub(b, op.const(1)), op.const(2))  # frequencies past b / 2 mirror those from 1 to here
    mirrored = op.Sub(above, count(op, above))  # above ... 1
    re = op.Concat(re, op.Gather(re, mirrored, axis=2), axis=2)
    im = op.Concat(im, op.Neg(op.Gather(im, mirrored, axis=2)), axis=2)
    whole = op.Concat(op.Unsqueeze(re, op.const([3])), op.Unsqueeze(im, op.const([3])), axis=3)
    return op.Gather(op.dft(whole, inverse=1), op.const(0), axis=-1)
