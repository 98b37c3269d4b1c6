"""Bilinear LSTM: torch.nn.LSTM whose matrices are Kronecker products. Input and state are reshaped to matrices.

Source: Yu, Gao, Zhou, Zhang, "Parameter-Efficient Deep Neural Networks With Bilinear Projections", IEEE TNNLS 2021,
https://arxiv.org/abs/2011.01391, and the authors' code, https://github.com/yutao1008/Bi-DNNs.

From the authors' code: Z_g = L_g^T X R_g + U_g^T H V_g + B_g for every gate, X and H reshaped to matrices row by row;
hard sigmoids; glorot_uniform for the factors of the input, orthogonal matrices for the factors of the state, each drawn
as one matrix (d1, 4 u1) for the four gates; forget bias 1.

Our reconstructions: the gates of torch, several terms, padding, stacked layers, the fit to a trained LSTM.

Symbols: n inputs, d1 d2 >= n; h units, u1 u2 >= h; T terms; 4 gates, i, f, g, o.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.layers.bilinear import CLAIM, PAPER, kronecker
from edgefc.layers.bilinear.factors import check_terms, factors, glorot_uniform_
from edgefc.layers.common.entry import lstm
from edgefc.layers.common.onnx_node import Attribute, check_replaced, layer_nodes
from edgefc.layers.common.recurrent import _LSTM, Product, States, _fitted, _Layer

_FACTORS = ("left", "right", "left_recurrent", "right_recurrent")


class BilinearLSTM(_LSTM):
    """torch.nn.LSTM in which both matrices of every gate are sums of `terms` Kronecker products.

    For n = h = 256 = 16 x 16 and one term, a layer stores 4 (d1 u1 + d2 u2 + u1^2 + u2^2 + h) = 5,120 parameters and
    needs 65,536 multiply-adds per step; torch.nn.LSTM stores 526,336 and needs 524,288. factors.py splits the sizes by
    the authors' rule. A size without a good split is padded, and units beyond h are dropped.

    Arguments and results are those of torch.nn.LSTM: optional batch axis, packed sequences, initial states. Only one
    direction, and no projection. gates="keras" uses the hard sigmoid of the authors (common/recurrent.py).

    Shapes of layers[k], n the size of its input:
        left            (4, T, d1, u1)      right           (4, T, d2, u2)      bias    (4, h) or None
        left_recurrent  (4, T, u1, u1)      right_recurrent (4, T, u2, u2)

    Raises:
        ShapeError: a size, a number of layers or of terms below 1, an input or initial states of other shapes.
        UsageError: other gates, a dropout outside 0 to 1, bidirectional or proj_size.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        gates: str = "torch",
        terms: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, gates
        )
        self.terms = check_terms(type(self).__name__, terms)
        for n in [self.input_size, *[self.hidden_size] * (self.num_layers - 1)]:
            self.layers.append(
                _BilinearLayer(n, self.hidden_size, self.has_bias, gates, self.terms, device=device, dtype=dtype)
            )

    @classmethod
    def from_lstm(cls, lstm: nn.LSTM, *, terms: int = 1) -> "BilinearLSTM":
        """Returns an LSTM fitted to a trained one: each matrix of each gate in the Frobenius norm. Adds both biases.

        The fit is optimal if no size is padded or cut. Otherwise it is an approximation (kronecker.nearest).

        Raises:
            UsageError: a bidirectional LSTM, or one with a projection.
        """
        check_replaced(cls, lstm, nn.LSTM)
        return _fitted(cls, lstm, terms=terms)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, terms={self.terms}"


class _BilinearLayer(_Layer):
    def __init__(self, n: int, h: int, bias: bool, gates: str, terms: int, **where: Any) -> None:
        super().__init__(n, h, bias, gates, **where)
        self.in_factors, self.out_factors = factors(n), factors(h)
        (d1, d2), (u1, u2) = self.in_factors, self.out_factors
        for name, size in zip(_FACTORS, ((d1, u1), (d2, u2), (u1, u1), (u2, u2)), strict=True):
            self.register_parameter(name, nn.Parameter(torch.empty(4, terms, *size, **where)))
        self.terms = terms
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws each factor for the four gates as one matrix (., 4 u), scaled by the terms as in BilinearLinear."""
        for name in _FACTORS:
            factor = self.get_parameter(name)
            _, terms, d, u = factor.shape
            whole = torch.empty(terms, d, 4 * u, dtype=torch.float32, device=factor.device)
            if name.endswith("recurrent"):
                for term in whole:
                    nn.init.orthogonal_(term, gain=terms**-0.25)
            else:
                glorot_uniform_(whole, terms=terms)
            factor.copy_(whole.reshape(terms, d, 4, u).permute(2, 0, 1, 3))
        self.reset_bias()

    def project(self, x: Tensor) -> Tensor:
        return self._apply_factors(x, self.in_factors, *self._factors()[:2])

    def recurrent(self) -> Product:
        return lambda h: self._apply_factors(h, self.out_factors, *self._factors()[2:])

    def matrices(self) -> States:
        n, h, (left, right, left_recurrent, right_recurrent) = self.input_size, self.hidden_size, self._factors()
        w = [kronecker.expand(*pair, n, h).T for pair in zip(left, right, strict=True)]
        r = [kronecker.expand(*pair, h, h).T for pair in zip(left_recurrent, right_recurrent, strict=True)]
        return torch.stack(w), torch.stack(r)

    def fit(self, w: Tensor, r: Tensor) -> None:
        left, right, left_recurrent, right_recurrent = self._factors()
        for g in range(4):
            for matrix, taken, one, other in (
                (w[g], self.in_factors, left, right),
                (r[g], self.out_factors, left_recurrent, right_recurrent),
            ):
                fitted = kronecker.nearest(matrix.T, taken, self.out_factors, self.terms)
                one[g].copy_(fitted[0])
                other[g].copy_(fitted[1])

    def node(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attributes: dict[str, Attribute] = {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "in_factors": self.in_factors,
            "out_factors": self.out_factors,
            "terms": self.terms,
            "hard_sigmoid": int(self.gates == "keras"),
        }
        steps, batch, _ = x.shape
        weights = (*self._factors(), self.biases(), h0, c0)
        shapes = ((steps, batch, self.hidden_size), *[(batch, self.hidden_size)] * 2)
        y, h, c = layer_nodes(self, x, weights, attributes, shapes, op="BilinearLSTM")
        return y, h, c

    def multiply_adds(self) -> int:
        """Returns the multiply-adds with the left product first: 4 T u1 (d2 (d1 + u2) + u2 (u1 + u2))."""
        (d1, d2), (u1, u2) = self.in_factors, self.out_factors
        return 4 * self.terms * u1 * (d2 * (d1 + u2) + u2 * (u1 + u2))

    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        left, right, left_recurrent, right_recurrent = (getattr(self, name) for name in _FACTORS)
        return left, right, left_recurrent, right_recurrent

    def _apply_factors(self, x: Tensor, taken: Sequence[int], left: Tensor, right: Tensor) -> Tensor:
        """Returns sum_t L_gt^T X R_gt, x (..., n) -> (..., 4, h). The second product also sums the terms."""
        x = nn.functional.pad(x, (0, taken[0] * taken[1] - x.shape[-1]))
        x = x.reshape(*x.shape[:-1], *taken)
        y = torch.einsum("gtdu,...de->...gtue", left, x)
        y = torch.einsum("...gtue,gtev->...guv", y, right)
        return y.flatten(-2)[..., : self.hidden_size]


ENTRIES = (lstm("BilinearLSTM", PAPER, CLAIM, lambda n: BilinearLSTM(n, n, batch_first=True), "text-lstm"),)
