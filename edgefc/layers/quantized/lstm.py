"""LSTM with its matrices in codes of 2, 4 or 8 bits. The runtime expands them when it loads the file.

Symbols: n inputs, h units; 4 gates, i, f, g, o.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.fitting.quantized import fit_quantized
from edgefc.layers.common.entry import lstm
from edgefc.layers.common.onnx_node import Attribute, check_replaced, layer_nodes
from edgefc.layers.common.recurrent import _LSTM, Product, States, _fitted, _Layer
from edgefc.layers.common.stored import StoredWeights
from edgefc.layers.quantized import CLAIM, PAPER, packing


class QuantizedLSTM(_LSTM):
    """torch.nn.LSTM with its matrices in `bits` bits, one float16 scale for each `group` inputs of a row.

    This saves bytes of the file only. The runtime expands the matrices to float32 when it loads the file: in memory,
    and in time, it is a dense LSTM. The matrices are not trained.

    Arguments and results are those of torch.nn.LSTM: optional batch axis, packed sequences, initial states. Only one
    direction, and no projection. Both biases of torch.nn.LSTM are added to one.

    Shapes of layers[k], n the size of its input:
        codes               (4 h, G, group * bits / 8) uint8, packed as in packing.py, G groups of n inputs
        scales              (4 h, G) float16            bias    (4, h) or None
        codes_recurrent and scales_recurrent are the same for h inputs

    Raises:
        ShapeError: a size or a number of layers below 1, an input or initial states of other shapes.
        UsageError: bits other than 2, 4 or 8, a group other than 16, 32, 64, 128 or 256, a dropout outside 0 to 1,
            bidirectional or proj_size.
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
        bits: int = 8,
        group: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, "torch"
        )
        self.bits, self.group = packing.check_storage(type(self).__name__, bits, group)
        for n in [self.input_size, *[self.hidden_size] * (self.num_layers - 1)]:
            self.layers.append(
                _QuantizedLayer(n, self.hidden_size, self.has_bias, self.bits, self.group, device=device, dtype=dtype)
            )

    @classmethod
    def from_lstm(cls, lstm: nn.LSTM, *, bits: int = 8, group: int = 32) -> "QuantizedLSTM":
        """Returns an LSTM with each number of the matrices of `lstm` rounded to the nearest code. Adds both biases.

        Raises:
            UsageError: a bidirectional LSTM, one with a projection, or other bits or groups.
        """
        check_replaced(cls, lstm, nn.LSTM)
        return _fitted(cls, lstm, bits=bits, group=group)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}, group={self.group}"


class _QuantizedLayer(_Layer, StoredWeights):
    codes: Tensor
    scales: Tensor
    codes_recurrent: Tensor
    scales_recurrent: Tensor

    def __init__(self, n: int, h: int, bias: bool, bits: int, group: int, **where: Any) -> None:
        super().__init__(n, h, bias, "torch", **where)
        self.bits, self.group = bits, group
        own, recurrent = (
            packing.buffers((4 * h, -(-size // group)), bits, group, where.get("device")) for size in (n, h)
        )
        self._store(
            where.get("device"),
            where.get("dtype"),
            **own,
            **{f"{name}_recurrent": tensor for name, tensor in recurrent.items()},
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws uniform codes with the variance of torch.nn.LSTM's weights, and the bias as torch.nn.LSTM does."""
        bound = 1 / math.sqrt(self.hidden_size)
        packing.draw(self.codes, self.scales, self.bits, bound)
        packing.draw(self.codes_recurrent, self.scales_recurrent, self.bits, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def project(self, x: Tensor) -> Tensor:
        return torch.einsum("...n,ghn->...gh", x, self._matrix(x.dtype))

    def recurrent(self) -> Product:
        matrices: dict[torch.dtype, Tensor] = {}  # one for all steps

        def product(h: Tensor) -> Tensor:
            if h.dtype not in matrices:
                matrices[h.dtype] = self._recurrent_matrix(h.dtype)
            return torch.einsum("bk,ghk->bgh", h, matrices[h.dtype])

        return product

    def matrices(self) -> States:
        return self._matrix(self.like.dtype), self._recurrent_matrix(self.like.dtype)

    def fit(self, w: Tensor, r: Tensor) -> None:
        for matrix, codes, scales in (
            (w, self.codes, self.scales),
            (r, self.codes_recurrent, self.scales_recurrent),
        ):
            rows = matrix.reshape(4 * self.hidden_size, -1).double().cpu().numpy()
            fitted = fit_quantized(rows, None, None, self.bits, self.group, method="nearest")
            packing.load(codes, scales, fitted.codes, fitted.scales, self.bits, self.group)

    def biases(self) -> Tensor:
        return self.like.new_zeros(4, self.hidden_size) if self.bias is None else self.bias

    def node(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attributes: dict[str, Attribute] = {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "bits": self.bits,
            "group": self.group,
        }
        steps, batch, _ = x.shape
        stored = (self.codes, self.scales, self.codes_recurrent, self.scales_recurrent)
        shapes = ((steps, batch, self.hidden_size), *[(batch, self.hidden_size)] * 2)
        y, h, c = layer_nodes(self, x, (*stored, self.biases(), h0, c0), attributes, shapes, op="QuantizedLSTM")
        return y, h, c

    def multiply_adds(self) -> int:
        """Returns the multiply-adds of both products: 4 h (n + h)."""
        return 4 * self.hidden_size * (self.input_size + self.hidden_size)

    def stored_numbers(self) -> int:
        return packing.numbers(self.codes, self.scales, self.bits) + packing.numbers(
            self.codes_recurrent, self.scales_recurrent, self.bits
        )

    def _matrix(self, dtype: torch.dtype) -> Tensor:
        rows = packing.values(self.codes, self.scales, self.bits, dtype)[:, : self.input_size]
        return rows.reshape(4, self.hidden_size, self.input_size)

    def _recurrent_matrix(self, dtype: torch.dtype) -> Tensor:
        rows = packing.values(self.codes_recurrent, self.scales_recurrent, self.bits, dtype)[:, : self.hidden_size]
        return rows.reshape(4, self.hidden_size, self.hidden_size)


ENTRIES = (lstm("QuantizedLSTM", PAPER, CLAIM, lambda n: QuantizedLSTM(n, n, batch_first=True)),)
