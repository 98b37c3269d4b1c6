"""Circulant LSTM: torch.nn.LSTM with block-circulant matrices, times seeded signs.

Source: an LSTM with block-circulant matrices is known as C-LSTM, after Ding et al., "CirCNN",
https://arxiv.org/abs/1708.08917: y_i = sum_j circ(w_ij) x_j. Only this formula was available, from secondary sources.
The cell of C-LSTM was not available, so the cell here is that of torch.nn.LSTM. The signs come from Cheng et al., "An
Exploration of Parameter Redundancy in Deep Networks with Circulant Projections", https://arxiv.org/abs/1502.03436,
which has no recurrent layer.

Our reconstructions: the combination of the two; one row of signs for the concatenated input and state, with seed
`seed + k` for layer k; the initialisation, as in CirculantLinear; forget bias 1.

Symbols: n inputs, h units, b block length, p = ceil(h / b) blocks down, q = ceil(n / b) blocks across the input's
matrices; 4 gates, i, f, g, o.
"""

import math
import operator
from typing import Any

import torch
from torch import Tensor, nn

from edgefc.errors import ShapeError
from edgefc.generator import check_seed
from edgefc.layers.circulant import PAPER
from edgefc.layers.circulant.blocks import diagonal_means, empty, expand, fft_dtype, spectral_products, transform
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.entry import OURS, lstm
from edgefc.layers.common.onnx_node import Attribute, check_replaced, is_size, layer_nodes
from edgefc.layers.common.recurrent import _LSTM, Product, States, _fitted, _Layer
from edgefc.layers.common.seed_reading import draw_seed


class CirculantLSTM(_LSTM):
    """torch.nn.LSTM in which both matrices of every gate consist of b x b circulant blocks.

    block=None is b = h, one circulant for each square of h x h. For n = h = 256 a layer stores 3,072 parameters, with
    block=16 it stores 33,792, and torch.nn.LSTM stores 526,336. In ONNX, block lengths b with divisors near sqrt(b) are
    fast. A prime b costs as much as a dense LSTM.

    Arguments and results are those of torch.nn.LSTM: optional batch axis, packed sequences, initial states. Only one
    direction, and no projection. gates="keras" uses the hard sigmoid of Keras (common/recurrent.py). The state dict
    stores the seed of the signs of each layer, and load_state_dict() restores it (common/checkpoint.py). seed=None
    draws a seed from torch's generator.

    Shapes of layers[k], n the size of its input:
        kernel              (4, p, q, b)    kernel[g, i, j] is the first column of circulant (i, j) of gate g
        recurrent_kernel    (4, p, p, b)    bias    (4, h) or None

    Raises:
        ShapeError: a size or a number of layers below 1, a block longer than h, an input or states of other shapes.
        UsageError: a seed outside 0 to 2**64 - 1, other gates, a dropout outside 0 to 1, bidirectional or
            proj_size; from load_state_dict(), a checkpoint with another configuration.
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
        block: int | None = None,
        seed: int | None = None,
        gates: str = "torch",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, gates
        )
        if block is not None and not (is_size(block) and block <= self.hidden_size):
            raise ShapeError(
                f"{type(self).__name__} does not support block={block!r} for hidden_size={hidden_size}. "
                f"Choose a block from 1 to {hidden_size}, or None for the largest."
            )
        self.block = self.hidden_size if block is None else operator.index(block)
        first = draw_seed() if seed is None else check_seed(seed)
        for k, n in enumerate([self.input_size, *[self.hidden_size] * (self.num_layers - 1)]):
            sign_seed = (first + k) % 2**64
            layer = _CirculantLayer(
                n, self.hidden_size, self.has_bias, gates, self.block, sign_seed, device=device, dtype=dtype
            )
            layer.seed_is_drawn = seed is None
            self.layers.append(layer)

    @property
    def seed(self) -> int:
        """The seed of the signs of the first layer."""
        seed: int = self.layers[0].seed
        return seed

    @classmethod
    def from_lstm(cls, lstm: nn.LSTM, *, block: int | None = None, seed: int | None = None) -> "CirculantLSTM":
        """Returns the LSTM nearest to a trained one: each matrix of each gate in the Frobenius norm. Adds both biases.

        Raises:
            UsageError: a bidirectional LSTM, or one with a projection.
        """
        check_replaced(cls, lstm, nn.LSTM)
        return _fitted(cls, lstm, block=block, seed=seed)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, block={self.block}, seed={self.seed}"


class _CirculantLayer(_Layer, Seeded):
    def __init__(self, n: int, h: int, bias: bool, gates: str, block: int, sign_seed: int, **where: Any) -> None:
        super().__init__(n, h, bias, gates, **where)
        self.block = block
        self._store_seed(sign_seed, where.get("device"))
        p, q = math.ceil(h / block), math.ceil(n / block)
        self.kernel = nn.Parameter(torch.empty(4, p, q, block, **where))
        self.recurrent_kernel = nn.Parameter(torch.empty(4, p, p, block, **where))
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "CirculantLSTM",
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "block": self.block,
            "gates": self.gates,
        }

    def reset_parameters(self) -> None:
        """Draws the kernels from N(0, 1/n) and N(0, 1/h), as in CirculantLinear."""
        nn.init.normal_(self.kernel, std=1 / math.sqrt(self.input_size))
        nn.init.normal_(self.recurrent_kernel, std=1 / math.sqrt(self.hidden_size))
        self.reset_bias()

    def project(self, x: Tensor) -> Tensor:
        return self._product(self.kernel, self._signs(self.kernel)[0])(x)

    def recurrent(self) -> Product:
        return self._product(self.recurrent_kernel, self._signs(self.kernel)[1])

    def matrices(self) -> States:
        into, back = self._signs(self.kernel)
        h = self.hidden_size
        w = torch.stack([expand(kernel, self.input_size, h) for kernel in self.kernel])
        r = torch.stack([expand(kernel, h, h) for kernel in self.recurrent_kernel])
        return w * into, r * back

    def fit(self, w: Tensor, r: Tensor) -> None:
        into, back = self._signs(w)
        for g in range(4):
            self.kernel[g].copy_(diagonal_means(w[g] * into, self.block))
            self.recurrent_kernel[g].copy_(diagonal_means(r[g] * back, self.block))

    def node(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attributes: dict[str, Attribute] = {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "block": self.block,
            "sign_seed": self.seed,
            "hard_sigmoid": int(self.gates == "keras"),
        }
        steps, batch, _ = x.shape
        weights = (self.kernel, self.recurrent_kernel, self.biases(), h0, c0)
        shapes = ((steps, batch, self.hidden_size), *[(batch, self.hidden_size)] * 2)
        y, h, c = layer_nodes(self, x, weights, attributes, shapes, op="CirculantLSTM")
        return y, h, c

    def multiply_adds(self) -> int:
        """Returns the multiply-adds of q + p transforms, 4 p (q + p) products of spectra, 8 p inverse transforms.

        The cost of each is that of CirculantLinear.
        """
        _, p, q, b = self.kernel.shape
        return (q + 9 * p) * transform(b) + 4 * p * (q + p) * spectral_products(b)

    def _signs(self, like: Tensor) -> States:
        """Returns the signs of the input (n,) and of the hidden state (h,)."""
        count = self.input_size + self.hidden_size
        both = seeded.signs(self.traceable_seed, count, dtype=like.dtype, device=like.device)
        return both[: self.input_size], both[self.input_size :]

    def _product(self, kernel: Tensor, signs: Tensor) -> Product:
        """Returns the function x (..., at most q b) -> (..., 4, h). Computes the spectra of the kernel once."""
        wide = fft_dtype(kernel.dtype)
        spectra = torch.fft.rfft(kernel.to(wide))  # (4, p, q, b // 2 + 1)
        _, _, q, b = kernel.shape

        def product(x: Tensor) -> Tensor:
            if x.numel() == 0:
                return empty(x, kernel, 4, self.hidden_size)
            u = x.to(wide) * signs.to(wide)
            u = nn.functional.pad(u, (0, q * b - x.shape[-1])).reshape(*x.shape[:-1], q, b)
            y = torch.einsum("gpqf,...qf->...gpf", spectra, torch.fft.rfft(u))
            z: Tensor = torch.fft.irfft(y, n=b).flatten(-2)[..., : self.hidden_size].to(x.dtype)
            return z

        return product


ENTRIES = (lstm("CirculantLSTM", PAPER, OURS, lambda n: CirculantLSTM(n, n, batch_first=True), "text-lstm"),)
