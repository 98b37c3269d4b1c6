"""Bilinear layer: reshapes the input to a matrix and multiplies it from both sides by small matrices.

Source: Yu, Gao, Zhou, Zhang, "Parameter-Efficient Deep Neural Networks With Bilinear Projections", IEEE TNNLS 2021,
https://arxiv.org/abs/2011.01391, and the authors' code, https://github.com/yutao1008/Bi-DNNs.

From the authors' code: x and y reshaped to matrices row by row, Y = L^T X R + B, sizes split by the rule in factors.py,
glorot_uniform for each factor, zeros for the bias. Our additions: sums of several terms, padding of sizes without a
good split, the fit to a trained layer.

Symbols: n inputs, d1 d2 >= n; m outputs, u1 u2 >= m; T terms.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.fitting.kronecker import KroneckerFit, fit_kronecker
from edgefc.layers.bilinear import CLAIM, PAPER, kronecker
from edgefc.layers.bilinear.factors import Factored, check_terms, choose_factors
from edgefc.layers.common.entry import OURS, linear
from edgefc.layers.common.fits import FromFit, arrays, filled, sized
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import Attribute, check_width, layer_node, sizes, zero_bias
from edgefc.layers.common.trained import trained_linear


class BilinearLinear(FromFit, Factored):
    """Computes sum_t vec(L_t^T X R_t) + bias, where X is the input reshaped row by row to (d1, d2).

    For n = m = 4096 = 64 x 64 and one term, the factors have 8,192 parameters and need 524,288 multiply-adds per row; a
    dense layer has 16,777,216 of each. An input shorter than d1 d2 is zero-padded at the end. Outputs beyond m are
    dropped.

    Shapes:
        left    (T, d1, u1)     right   (T, d2, u2)     bias    (m,) or None
        x       (..., n)                                y       (..., m)

    in_factors and out_factors are (d1, d2) and (u1, u2). The default follows the rule in factors.py.

    Raises:
        ShapeError: a size or a number of terms below 1, or factors whose product is below the size.
    """

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        terms: int = 1,
        in_factors: Sequence[int] | None = None,
        out_factors: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.in_features, self.out_features = sizes(name, in_features, out_features)
        self.terms = check_terms(name, terms)
        self.in_factors = choose_factors(name, "in_factors", self.in_features, in_factors)
        self.out_factors = choose_factors(name, "out_factors", self.out_features, out_factors)
        self._make_factors(device=device, dtype=dtype)
        self.bias = nn.Parameter(torch.empty(self.out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        x = nn.functional.pad(x, (0, self.in_factors[0] * self.in_factors[1] - self.in_features))
        y = kronecker.apply(x, self.left, self.right)[..., : self.out_features]
        return y if self.bias is None else y + self.bias

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the dense matrix (m, n) of the layer: the sum of kron(L_t, R_t), truncated and transposed."""
        return kronecker.expand(self.left, self.right, self.in_features, self.out_features).T.contiguous()

    @classmethod
    @torch.no_grad()
    def from_linear(
        cls,
        linear: nn.Module,
        *,
        terms: int = 1,
        in_factors: Sequence[int] | None = None,
        out_factors: Sequence[int] | None = None,
    ) -> "BilinearLinear":
        """Returns a layer fitted to a trained linear layer in the Frobenius norm.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept.

        The fit is optimal if no size is padded or cut. Otherwise it is an approximation (kronecker.nearest).
        """
        trained = trained_linear(cls, linear)
        factors = {"in_factors": in_factors, "out_factors": out_factors}
        layer = sized(cls, trained, trained.bias is not None, terms=terms, **factors)
        given = arrays(trained)
        fit = fit_kronecker(*given, None, layer.terms, layer.in_factors, layer.out_factors)
        return filled(layer, fit, trained)

    @staticmethod
    def _settings(fit: KroneckerFit) -> dict[str, Any]:
        (terms, d1, u1), (_, d2, u2) = fit.left.shape, fit.right.shape
        return {"terms": terms, "in_factors": (d1, d2), "out_factors": (u1, u2)}

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"terms={self.terms}, in_factors={self.in_factors}, out_factors={self.out_factors}"
        )

    def _symbolic(self, x: Tensor) -> Tensor:
        bias = zero_bias(self.left, self.out_features) if self.bias is None else self.bias
        attributes: dict[str, Attribute] = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "in_factors": self.in_factors,
            "out_factors": self.out_factors,
            "terms": self.terms,
        }
        weights = (self.left, self.right, bias)
        return layer_node(self, x, weights, attributes, (*x.shape[:-1], self.out_features), op="BilinearLinear")


ENTRIES = (
    linear("BilinearLinear", PAPER, CLAIM, BilinearLinear, "mnist-mlp"),
    linear("BilinearLinear, 4 terms", PAPER, OURS, lambda n, m: BilinearLinear(n, m, terms=4)),
)
