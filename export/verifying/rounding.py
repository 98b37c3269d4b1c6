"""Measures the effect of rounding errors on a torch model, by running it with magnified rounding errors.

Two correct runtimes round differently: they add in different orders and evaluate functions by different polynomials.
The effect on an output depends on the computation inside the model. For example, a column that is nearly zero because
two large numbers cancel has an error proportional to the large numbers, which the output does not show.
`magnified_rounding` changes the result of every floating-point operation of a torch model by a random error. Its size
is the rounding error of the operation in its own precision, times `MAGNIFY`. The resulting change of the outputs
measures the effect of rounding.

Operations that only move or select values are exact and are not changed. Integral results of less than half the
precision, such as positions, masks and counts, are not changed either; nor are operations that a layer marks as exact
(edgefc/layers/common/exact.py).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from edgefc.layers.common.exact import is_exact

MAGNIFY = {torch.float16: 4.0, torch.bfloat16: 4.0, torch.float32: 32.0, torch.float64: 32.0}
"""Magnification of the rounding errors.

With 32, the changes are about 15 times as large as the differences between torch and onnxruntime, on MLPs,
convolutions, encoders, recurrent and structured layers. Among 50,000 single entries, the largest difference was as
large as the change of that entry. Both compute half precision in float32 and round at the end of each operation, so its
errors hardly accumulate.
"""

_TERMS_PER_SUM = 64
"""The error of a sum grows with the terms per accumulator. Runtimes use about this many accumulators in parallel."""

_SUMS = {
    "mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot", "linear", "mkldnn_linear",
    "convolution", "_convolution", "mkldnn_convolution", "convolution_overrideable", "mkldnn_rnn_layer",
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention", "_scaled_dot_product_fused_attention_overrideable",
    "_native_multi_head_attention", "_transformer_encoder_layer_fwd", "_fft_r2c", "_fft_c2r", "_fft_c2c",
    "sum", "mean", "var", "std", "var_mean", "std_mean", "prod", "cumsum", "cumprod", "logsumexp", "logcumsumexp",
    "norm", "linalg_vector_norm", "native_layer_norm", "native_group_norm", "native_batch_norm",
    "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "_fused_rms_norm", "_weight_norm_interface",
    "_softmax", "_log_softmax", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d", "_cdist_forward", "_trilinear", "_embedding_bag_forward_only", "scatter_add",
    "scatter_reduce", "index_add", "grid_sampler_2d", "grid_sampler_3d", "upsample_bilinear2d", "upsample_bicubic2d",
    "upsample_linear1d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
    "linalg_inv_ex", "linalg_solve_ex", "_linalg_solve_ex", "linalg_lu_factor_ex",
}  # fmt: skip
"""Operators that sum products. Their first operand is changed as well, to model the errors of partial sums."""

_SECOND = {"addmm", "baddbmm", "addbmm", "addmv"}
"""Operators whose first argument is the addend."""

_FUNCTIONS = {
    "sigmoid", "tanh", "erf", "erfc", "erfinv", "expm1", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
    "elu", "softplus", "log_sigmoid_forward",
}  # fmt: skip
"""Functions that runtimes evaluate with an error relative to 1, not relative to their result."""

_GATES = {"gelu", "silu", "mish"}
"""Functions of the form x times such a function. Their error is relative to x."""

_ROUNDED = {
    "add", "sub", "rsub", "mul", "div", "exp", "exp2", "log", "log2", "log10", "sqrt", "rsqrt", "reciprocal", "pow",
    "square", "sinh", "cosh", "lerp", "addcmul", "addcdiv", "native_dropout",
}  # fmt: skip
"""Operations with one rounding, relative to their result."""


@contextlib.contextmanager
def magnified_rounding(seed: int, factor: float = 1.0) -> Iterator[None]:
    """Adds errors of MAGNIFY * factor times the rounding error, drawn from seed, to torch's operations in the block."""
    with _Rounding(torch.Generator().manual_seed(seed), factor):
        yield


class _Rounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, generator: torch.Generator, factor: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generator = generator
        self._factor = factor

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if is_exact():
            return func(*args, **kwargs)
        name = func._schema.name.partition("::")[2].rstrip("_")
        if name in _SUMS:
            return self._sum(func, name, args, kwargs)
        result = func(*args, **kwargs)
        if name in _ROUNDED:
            return self._changed(result, lambda y: self._relative(y, keep_whole=True), func)
        if name in _FUNCTIONS:
            return self._changed(result, lambda y: self._absolute(y, torch.ones_like(y)), func)
        if name in _GATES:
            return self._changed(result, lambda y: self._absolute(y, args[0].to(y.dtype)), func)
        return result

    def _sum(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        at = 1 if name in _SECOND else 0
        operand = args[at] if len(args) > at and isinstance(args[at], Tensor) else None
        others = [other for other in args[at + 1 : at + 2] if isinstance(other, Tensor)]
        if operand is None or all(_is_whole(t) for t in (operand, *others)):
            return func(*args, **kwargs)
        if not func._schema.is_mutable and _is_float(operand):
            terms = (operand.shape[-1] if operand.ndim else 1) / _TERMS_PER_SUM
            operand = self._relative(operand, keep_whole=False, by=(1 + terms) ** 0.5)
            args = (*args[:at], operand, *args[at + 1 :])
        return self._changed(func(*args, **kwargs), lambda y: self._relative(y, keep_whole=False), func)

    def _changed(self, result: Any, change: Any, func: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return type(result)(self._changed(item, change, func) for item in result)
        if not isinstance(result, Tensor) or not _is_float(result):
            return result
        changed = change(torch.view_as_real(result) if result.is_complex() else result)
        changed = torch.view_as_complex(changed.contiguous()) if result.is_complex() else changed
        return result.copy_(changed) if func._schema.is_mutable else changed

    def _relative(self, y: Tensor, *, keep_whole: bool, by: float = 1.0) -> Tensor:
        if y.is_complex():
            return torch.view_as_complex(self._relative(torch.view_as_real(y), keep_whole=False, by=by).contiguous())
        changed = _finite(y + y * self._draw(y, by), y)
        return torch.where(_exact(y), y, changed) if keep_whole else changed

    def _absolute(self, y: Tensor, scale: Tensor) -> Tensor:
        return torch.where(y == 0, y, _finite(y + scale * self._draw(y, 1.0), y))

    def _draw(self, like: Tensor, by: float) -> Tensor:
        unit = torch.finfo(like.dtype).eps / 2 * MAGNIFY.get(like.dtype, 1.0) * self._factor * by
        drawn = torch.rand(like.shape, generator=self._generator, dtype=torch.float32).to(like.device)
        return ((2 * drawn - 1) * unit).to(like.dtype)


def _is_float(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() or tensor.is_complex()) and tensor.layout == torch.strided


def _is_whole(tensor: Tensor) -> bool:
    return not tensor.is_complex() and (not tensor.is_floating_point() or bool(_exact(tensor).all()))


def _exact(y: Tensor) -> Tensor:
    """Whether values are exact: integers of less than half the precision, or values that are not finite."""
    exact: Tensor = ((y == y.round()) & (y.abs() < torch.finfo(y.dtype).eps ** -0.5)) | ~y.isfinite()
    return exact


def _finite(changed: Tensor, y: Tensor) -> Tensor:
    """Keeps values that are not finite, or whose change is not: masks use the largest finite numbers for infinity."""
    return torch.where(changed.isfinite(), changed, y)
