"""Fits the scales of a PRP layer to a trained matrix, for tensors. edgefc.fitting.scales computes them."""

from torch import Tensor

from edgefc.fitting import scales
from edgefc.layers.common.fits import array, tensor
from edgefc.layers.common.onnx_node import check_finite


def nearest_scales(weight: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
    """Returns w (m,) and alpha (n,), float64, such that diag(w) P diag(alpha) approximates `weight` (m, n).

    w and alpha have the same norm, in each part of P that zeros separate from the others. The result is a stationary
    point, reached from the best rank-one approximations of weight * P. It is the optimum if all entries of P have the
    same magnitude. Otherwise it may not be.

    Raises:
        UsageError: NaN or infinite values.
    """
    check_finite(weight)
    out_scale, in_scale = scales.nearest_scales(array(weight), array(p))
    return tensor(out_scale, weight.device), tensor(in_scale, weight.device)
