"""Feed-forward block that uses one matrix twice: up by W, down by W transposed.

Source: Koyun, Toreyin, "Do deep neural networks utilize the weight space efficiently?", arXiv 2401.16438,
https://arxiv.org/abs/2401.16438.

From the paper, according to secondary sources that agree: y = W^T f(W x + b1) + b2 with separate biases, about half of
the parameters of the pair, and the same multiply-adds.

Our reconstruction: the initialisation, because that of the paper was not available. It is the initialisation of the
first layer. With h = 4 d, the variance of the second product is four times that of a separate layer.

Symbols: d d_model, h d_hidden, f the activation.
"""

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.layers.common.activations import activation as function_of
from edgefc.layers.common.activations import code
from edgefc.layers.common.entry import Entry
from edgefc.layers.common.onnx_node import check_dropout, check_width, is_size, layer_node, zero_bias
from edgefc.layers.common.trained import trained_linear
from edgefc.layers.tied import CLAIM, PAPER


class TiedFFN(nn.Module):
    """Computes y = W^T f(W x + b1) + b2 on the last axis: nn.Linear, activation, nn.Linear with half of the parameters.

    The layer stores d h + d + h parameters: 16,787,456 for 2048 to 8192; the pair of linear layers stores 33,564,672.

    In nn.TransformerEncoderLayer it replaces both linear layers and everything between them. Build the encoder layer
    with activation=nn.Identity(). This disables torch's fast path, which reads the weights of both layers. Then set

        layer.linear1, layer.dropout, layer.linear2 = TiedFFN(d, h), nn.Identity(), nn.Identity()

    Shapes:
        weight      (h, d)
        bias_in     (h,) or None    bias_out    (d,) or None
        x           (..., d)        y           (..., d)

    dropout is applied to the hidden values, only in training.

    Raises:
        ShapeError: a size below 1.
        UsageError: an unknown activation (edgefc.layers.common.activations lists them), a dropout outside 0 to 1.
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int,
        activation: str = "gelu",
        bias: bool = True,
        *,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not (is_size(d_model) and is_size(d_hidden)):
            raise ShapeError(
                f"TiedFFN does not support d_model={d_model!r}, d_hidden={d_hidden!r}. "
                "Choose integers from 1 to 2**31 - 1."
            )
        function_of(activation)
        self.d_model, self.d_hidden = int(d_model), int(d_hidden)
        self.activation, self.dropout = activation, check_dropout("TiedFFN", dropout)
        self.weight = nn.Parameter(torch.empty(self.d_hidden, self.d_model, device=device, dtype=dtype))
        self.bias_in = nn.Parameter(torch.empty(self.d_hidden, device=device, dtype=dtype)) if bias else None
        self.bias_out = nn.Parameter(torch.empty(self.d_model, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws W and b1 as nn.Linear(d, h) does, uniform in +-1/sqrt(d), and b2 as nn.Linear(h, d), in +-1/sqrt(h)."""
        inner, outer = self.d_model**-0.5, self.d_hidden**-0.5
        nn.init.uniform_(self.weight, -inner, inner)
        if self.bias_in is not None and self.bias_out is not None:
            nn.init.uniform_(self.bias_in, -inner, inner)
            nn.init.uniform_(self.bias_out, -outer, outer)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.d_model)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x)
        hidden = function_of(self.activation)(nn.functional.linear(x, self.weight, self.bias_in))
        hidden = nn.functional.dropout(hidden, self.dropout, self.training)
        return nn.functional.linear(hidden, self.weight.t(), self.bias_out)

    @torch.no_grad()
    def dense(self) -> nn.Sequential:
        """Returns the equivalent nn.Sequential with two separate linear layers, which store W and W^T."""
        first, second = (
            nn.Linear(n, m, self.bias_in is not None, device=self.weight.device, dtype=self.weight.dtype)
            for n, m in ((self.d_model, self.d_hidden), (self.d_hidden, self.d_model))
        )
        first.weight.copy_(self.weight)
        second.weight.copy_(self.weight.t())
        if self.bias_in is not None and self.bias_out is not None:
            first.bias.copy_(self.bias_in)
            second.bias.copy_(self.bias_out)
        return nn.Sequential(first, _Activation(self.activation), nn.Dropout(self.dropout), second).train(self.training)

    @classmethod
    @torch.no_grad()
    def from_linears(
        cls, first: nn.Module, second: nn.Module, activation: str = "gelu", *, dropout: float = 0.0
    ) -> "TiedFFN":
        """Returns the block nearest to a trained pair in the Frobenius norm. Keeps the biases.

        |W - W1|^2 + |W - W2^T|^2 is minimal where its gradient 2 (W - W1) + 2 (W - W2^T) is zero: at the mean of W1 and
        W2^T. The two matrices may differ strongly, so the result is a starting point for training, not an equivalent
        block.

        Each layer is a torch.nn.Linear or a transformers Conv1D. dtype, device, mode and requires_grad are those of the
        first layer.

        Raises:
            ShapeError: the second layer does not map back to the inputs of the first.
        """
        up, down = trained_linear(cls, first), trained_linear(cls, second)
        h, d = up.weight.shape
        if tuple(down.weight.shape) != (d, h):
            raise ShapeError(
                f"TiedFFN cannot share one matrix between layers with {d} to {h} and {down.in_features} to "
                f"{down.out_features} features. Use a second layer with {h} to {d} features."
            )
        biases = up.bias, down.bias
        layer = cls(
            d,
            h,
            activation,
            any(bias is not None for bias in biases),
            dropout=dropout,
            device=up.weight.device,
            dtype=up.weight.dtype,
        )
        layer.weight.copy_((up.weight.double() + down.weight.double().t().to(up.weight.device)) / 2)
        for mine, given in zip((layer.bias_in, layer.bias_out), biases, strict=True):
            if mine is not None:
                mine.zero_() if given is None else mine.copy_(given)
        return up.copy_flags_to(layer)

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row: 2 d h, for both products."""
        return 2 * self.d_model * self.d_hidden

    def extra_repr(self) -> str:
        return (
            f"d_model={self.d_model}, d_hidden={self.d_hidden}, activation={self.activation!r}, "
            f"bias={self.bias_in is not None}, dropout={self.dropout}"
        )

    def _symbolic(self, x: Tensor) -> Tensor:
        bias_in = zero_bias(self.weight, self.d_hidden) if self.bias_in is None else self.bias_in
        bias_out = zero_bias(self.weight, self.d_model) if self.bias_out is None else self.bias_out
        attributes = {"d_model": self.d_model, "d_hidden": self.d_hidden, "activation": code(self.activation)}
        return layer_node(self, x, (self.weight, bias_in, bias_out), attributes, x.shape, op="TiedFFN")


class _Activation(nn.Module):
    """An activation function, by name, as a module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return function_of(self.name)(x)

    def extra_repr(self) -> str:
        return self.name


def _dense(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))


ENTRIES = (
    Entry(
        "TiedFFN",
        PAPER,
        "768 to 3072 to 768",
        768,
        lambda n: TiedFFN(n, 4 * n),
        _dense,
        CLAIM,
        "tied-vit",
        replaces="linear pair",
    ),
)
