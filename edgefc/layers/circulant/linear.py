"""Circulant layer: seeded sign flips, then a circulant matrix, applied by FFT.

Source: Cheng et al., "An Exploration of Parameter Redundancy in Deep Networks with Circulant Projections",
ICCV 2015, https://arxiv.org/abs/1502.03436. Block form: Ding et al., "CirCNN", https://arxiv.org/abs/1708.08917.

From the paper, according to secondary sources that agree: y = R D x, R[i, j] = r[(i - j) mod d]. D = diag(+-1) is drawn
once and frozen. With fewer outputs than inputs, the first outputs are kept. r is trained, or random and frozen
("randomized circulant").

Letters used in this file and in export/ops/circulant.py:
    n   inputs          m   outputs
    b   block length    p   blocks down, ceil(m / b)    q   blocks across, ceil(n / b)
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from edgefc.fitting.circulant import CirculantFit, fit_circulant
from edgefc.layers.circulant import CLAIM, PAPER
from edgefc.layers.circulant.blocks import (
    check_block,
    empty,
    expand,
    fft_dtype,
    spectral_products,
    transform,
)
from edgefc.layers.common import seeded
from edgefc.layers.common.checkpoint import Seeded
from edgefc.layers.common.configuration import Configuration
from edgefc.layers.common.entry import linear
from edgefc.layers.common.fits import FromFit, arrays, filled, sized
from edgefc.layers.common.no_weight import no_weight
from edgefc.layers.common.onnx_node import check_width, layer_node, sizes, zero_bias
from edgefc.layers.common.seed_reading import is_fake
from edgefc.layers.common.trained import trained_linear


class CirculantLinear(FromFit, Seeded):
    """Multiplies the last axis by the first m rows and n columns of p x q circulant blocks, times seeded signs.

    block=None is the layer of the paper, one circulant of length max(n, m). Shorter blocks store more parameters: for
    n = m = 4096, one circulant stores 4,096, block=256 stores 65,536, and a dense layer stores 16,777,216.

    Shapes:
        kernel  (p, q, b)   kernel[i, j] is the first column of circulant (i, j)
        bias    (m,) or None
        x       (..., n)    y (..., m)

    frozen=True is the randomized circulant of the paper: the kernel is random and not trained. It is generated from
    the seed of the signs, with other rows: the signs use row 0, and block (i, j) uses row 1 + i q + j. The levels are
    those of "gaussian", scaled to variance 1/n. State dicts, copies and pickles do not contain the kernel. It is
    regenerated after a change of seed, dtype or device, so half() loses no precision permanently. After a start on the
    meta device, it is generated on the device to which the bias is loaded, or without a bias on the device of the
    first input. In an exported file it is an ordinary weight of p q b values.

    The state dict stores the seed, and load_state_dict() restores it (common/checkpoint.py). seed=None draws a seed
    from torch's generator. float16 and bfloat16 inputs are transformed in float32, because half-precision FFTs require
    powers of two.

    Raises:
        ShapeError: a size below 1, or a block longer than max(n, m).
        UsageError: a seed that is not an integer from 0 to 2**64 - 1; from load_state_dict(), a checkpoint with
            another configuration.
    """

    weight = property(no_weight)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        block: int | None = None,
        seed: int | None = None,
        frozen: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_features, out_features = sizes(type(self).__name__, in_features, out_features)
        self.in_features, self.out_features = in_features, out_features
        self.block = check_block("CirculantLinear", "features", in_features, out_features, block)
        self.frozen = bool(frozen)
        self._store_seed(seed, device)
        p, q = math.ceil(out_features / self.block), math.ceil(in_features / self.block)
        kernel = torch.empty(p, q, self.block, device=device, dtype=dtype)
        self.kernel: Tensor
        self._drawn_from: int | None = None
        if frozen:
            self.register_buffer("kernel", kernel, persistent=False)
            self._redraw(kernel)
        else:
            self.kernel = nn.Parameter(kernel)
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def configuration(self) -> Configuration:
        return {
            "layer": "CirculantLinear",
            "in_features": self.in_features,
            "out_features": self.out_features,
            "block": self.block,
            "frozen": self.frozen,
        }

    def reset_parameters(self) -> None:
        """Draws r from N(0, 1/n), so that unit-variance input gives unit-variance output. The bias is zero.

        Does not change a frozen kernel, which the seed determines.
        """
        if not self.frozen:
            nn.init.normal_(self.kernel, std=1 / math.sqrt(self.in_features))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        check_width(self, x, self.in_features)
        kernel = self._current_kernel(x)
        if torch.onnx.is_in_onnx_export():
            return self._symbolic(x, kernel)
        y = empty(x, kernel, self.out_features) if x.numel() == 0 else self._spectral(x, kernel)
        return y if self.bias is None else y + self.bias

    def _spectral(self, x: Tensor, kernel: Tensor) -> Tensor:
        """Multiplies by the blocks in the frequency domain, (..., n) -> (..., m)."""
        _, q, b = kernel.shape
        u = x.to(fft_dtype(x.dtype))
        u = u * seeded.signs(self.traceable_seed, self.in_features, dtype=u.dtype, device=u.device)
        u = nn.functional.pad(u, (0, q * b - self.in_features)).reshape(*x.shape[:-1], q, b)
        spectrum = torch.fft.rfft(kernel.to(u.dtype))  # (p, q, b // 2 + 1)
        product = torch.einsum("pqf,...qf->...pf", spectrum, torch.fft.rfft(u))
        y: Tensor = torch.fft.irfft(product, n=b).flatten(-2)[..., : self.out_features].to(x.dtype)
        return y

    @torch.no_grad()
    def dense(self) -> Tensor:
        """Returns the dense matrix (m, n) of the layer, computed independently of forward()."""
        matrix = expand(self._current_kernel(), self.in_features, self.out_features)
        return matrix * seeded.signs(self.seed, self.in_features, dtype=matrix.dtype, device=matrix.device)

    @classmethod
    @torch.no_grad()
    def from_linear(cls, linear: nn.Module, *, block: int | None = None, seed: int | None = None) -> "CirculantLinear":
        """Returns the circulant layer nearest to a trained linear layer in the Frobenius norm.

        `linear` is a torch.nn.Linear or a transformers Conv1D. Its bias, dtype, device, mode and requires_grad are
        kept.

        The signs are an orthogonal matrix. Therefore the nearest kernel is the mean of the sign-flipped weight along
        each wrapped diagonal, over the entries that the layer uses.
        """
        trained = trained_linear(cls, linear)
        layer = sized(cls, trained, trained.bias is not None, block=block, seed=seed)
        return filled(layer, fit_circulant(*arrays(trained), None, layer.block, layer.seed), trained)

    @staticmethod
    def _settings(fit: CirculantFit) -> dict[str, Any]:
        return {"block": fit.kernel.shape[-1], "seed": fit.seed}

    def multiply_adds(self) -> int:
        """Returns the multiply-adds per row: q transforms, p q products of spectra, p inverse transforms.

        A transform costs 1.25 b log2(b). A product costs 2 b - 1, or 2 b - 2 for even b. The count assumes that the
        spectra of the kernel are cached and that sign flips cost nothing.
        """
        p, q, b = self.kernel.shape
        return (p + q) * transform(b) + p * q * spectral_products(b)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"block={self.block}, seed={self.seed}{', frozen=True' if self.frozen else ''}"
        )

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        if self._is_drawn:  # an empty kernel keeps its dtype and device
            state["_buffers"] = {**self._buffers, "kernel": self.kernel.new_empty(0)}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._is_drawn:
            self._redraw(self.kernel)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Overrides nn.Module._apply: regenerates a frozen kernel in the new dtype instead of converting it."""
        super()._apply(fn, recurse)
        if self._is_drawn:
            self._redraw(self.kernel)
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        """Generates a frozen kernel if load_state_dict(assign=True) has moved the layer off the meta device."""
        super()._load_from_state_dict(*args)
        if self._is_drawn and self.bias is not None and self.kernel.is_meta:
            self._redraw(self.bias)

    def _current_kernel(self, x: Tensor | None = None) -> Tensor:
        """Returns the kernel (p, q, b). Regenerates a frozen kernel if the seed has changed, or if it has no memory.

        A traced program computes a frozen kernel from its seed input. An ONNX export stores it as a weight.
        """
        if not self._is_drawn or (is_fake(self.kernel) and torch.onnx.is_in_onnx_export()):
            return self.kernel
        seed = self.traceable_seed
        if isinstance(seed, Tensor):
            return self._draw(self.kernel, seed)
        if self.kernel.is_meta and x is not None and not x.is_meta:
            self._redraw(self.kernel.new_empty(0, device=x.device))
        elif seed != self._drawn_from:
            self._redraw(self.kernel)
        return self.kernel

    def refresh(self) -> None:
        """Regenerates a frozen kernel if the seed has changed. export() calls this, since it stores the kernel."""
        if self._is_drawn and not self.kernel.is_meta:
            self._current_kernel()

    def _redraw(self, like: Tensor) -> None:
        self._drawn_from = self.seed
        self.kernel = self._draw(like, self._drawn_from)

    @property
    def _is_drawn(self) -> bool:
        """Whether the kernel is generated from the seed. A parametrized kernel is not: torch stores its original."""
        return self.frozen and "kernel" in self._buffers

    @torch.no_grad()
    def _draw(self, like: Tensor, seed: int | Tensor) -> Tensor:
        """Returns the frozen kernel (p, q, b), in the dtype and on the device of `like`, rounded once."""
        p, q = math.ceil(self.out_features / self.block), math.ceil(self.in_features / self.block)
        exact = torch.promote_types(like.dtype, torch.float32)
        with torch.inference_mode(False):  # training may use the kernel later
            rows = seeded.matrix(seed, 1 + p * q, self.block, "gaussian", dtype=exact, device=like.device)
            kernel = rows[1:].div(math.sqrt(self.in_features))
            return kernel.to(like.dtype).reshape(p, q, self.block)

    def _symbolic(self, x: Tensor, kernel: Tensor) -> Tensor:
        bias = zero_bias(kernel, self.out_features) if self.bias is None else self.bias
        attributes = {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "block": self.block,
            "sign_seed": self.seed,
        }
        shape = (*x.shape[:-1], self.out_features)
        return layer_node(self, x, (kernel, bias), attributes, shape, op="CirculantLinear")


ENTRIES = (
    linear("CirculantLinear", PAPER, CLAIM, CirculantLinear, "circulant-mlp"),
    linear(
        "CirculantLinear, block 64",
        PAPER,
        "not in the paper: CirCNN's block form",
        lambda n, m: CirculantLinear(n, m, block=min(n, m, 64)),
    ),
    linear(
        "CirculantLinear, frozen",
        PAPER,
        "the paper's randomized circulant; no figure known",
        lambda n, m: CirculantLinear(n, m, frozen=True),
        "circulant-mlp",
    ),
)
