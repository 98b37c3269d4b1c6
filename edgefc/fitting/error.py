"""The error of a fit, and the bias that corrects its mean."""

import numpy as np
from numpy.typing import ArrayLike

from edgefc.errors import ShapeError, UsageError
from edgefc.fitting.fitted import Array
from edgefc.fitting.moments import Moments


def output_error(weight: ArrayLike, fitted: ArrayLike, covariance: ArrayLike | None = None) -> float:
    """Returns sqrt(tr(D C D^T) / tr(W C W^T)), D = W - W': the error of the outputs over their spread.

    0 if both are zero; infinite if only the spread is.

    Shapes:
        weight W (m, n), fitted W' (m, n), covariance C (n, n), or None for the identity
    """
    w, q = np.asarray(weight, np.float64), np.asarray(fitted, np.float64)
    c = None if covariance is None else np.asarray(covariance, np.float64)
    error, spread = float(row_errors(w - q, c).sum()), float(row_errors(w, c).sum())
    if spread == 0:
        return 0.0 if error == 0 else float("inf")
    return float(np.sqrt(error / spread))


def cost_matrix(bias: Array | None, moments: Moments | None) -> Array | None:
    """Returns C of tr(D C D^T): the covariance of the inputs if a bias can correct the mean of the outputs, and
    E[x x^T] if the layer has none. None, for the identity, without moments.
    """
    if moments is None:
        return None
    return moments.second if bias is None else moments.covariance


def row_errors(difference: Array, covariance: Array | None) -> Array:
    """Returns d C d^T for each row d of a difference (m, n): (m,), at least 0."""
    product = difference if covariance is None else difference @ covariance
    errors: Array = np.einsum("ij,ij->i", product, difference)
    return np.maximum(errors, 0.0)


def corrected_bias(weight: Array, fitted: Array, bias: Array | None, moments: Moments | None) -> Array | None:
    """Returns bias + (W - W') mean, so that the mean of the outputs stays. None for a layer without a bias."""
    if bias is None or moments is None:
        return bias
    return bias + (weight - fitted) @ moments.mean


def checked(weight: ArrayLike, bias: ArrayLike | None, moments: Moments | None) -> tuple[Array, Array | None]:
    """Returns weight and bias in float64.

    Raises:
        ShapeError: the shapes do not go together.
        UsageError: a value is NaN or infinite, or the moments have no samples.
    """
    w = np.array(weight, np.float64)
    b = None if bias is None else np.array(bias, np.float64)
    if w.ndim != 2 or 0 in w.shape:
        raise ShapeError(f"a weight must be (outputs, inputs), each at least 1, got the shape {w.shape}.")
    if b is not None and b.shape != w.shape[:1]:
        raise ShapeError(f"a weight {w.shape} needs a bias {w.shape[:1]}, got {b.shape}.")
    if not np.isfinite(w).all() or (b is not None and not np.isfinite(b).all()):
        raise UsageError(f"the weights of a layer {w.shape} have values that are NaN or infinite. Check the model.")
    if moments is not None and len(moments.mean) != w.shape[1]:
        raise ShapeError(f"a weight {w.shape} needs moments of {w.shape[1]} inputs, got {len(moments.mean)}.")
    if moments is not None and moments.count == 0:
        raise UsageError("the moments have no samples. Pass None to fit the weights alone.")
    return w, b
