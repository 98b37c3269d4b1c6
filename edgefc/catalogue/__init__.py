"""Every structured layer, the layer that it replaces, and the claim of its paper: one list for tables, docs and tests.

Claims are quoted from the papers as far as they are known to us. Layers that are not in a paper are marked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import edgefc

CIRCULANT = "circulant, arXiv 1502.03436"
PRP = "PRP, arXiv 2512.13480"
EUGEN = "EUGen, arXiv 2410.09771"
BILINEAR = "bilinear, arXiv 2011.01391"
TIED = "W and W-transpose, arXiv 2401.16438"

_OURS = "not in the paper: our extension"
_CIRCULANT_CLAIM = "CIFAR-10 error 16.71 % against 15.60 % dense, 4 times smaller (secondary source)"
_PRP_CLAIM = "accuracy comparable to dense with up to two orders of magnitude fewer parameters"
_EUGEN_CLAIM = "ViT-B with 6 MLPs replaced: about 30 % fewer parameters, accuracy about equal"
_BILINEAR_CLAIM = "higher accuracy than dense at a much smaller size after scaling up"
_TIED_CLAIM = "about half the parameters, minor degradation"


@dataclass(frozen=True)
class Entry:
    """One layer in one configuration.

    make      width -> the structured layer
    dense     width -> the torch layer that it replaces
    example   width -> an example input of two rows
    call      (layer, input) -> the output
    width     the size in the table of the docs
    size      that size in words
    recipe    the name of the recipe that trains it; empty if there is none
    claim     the claim of the paper
    linear    (n, m) -> the structured layer, if it replaces a torch.nn.Linear of any n inputs and m outputs; else None
    """

    name: str
    paper: str
    size: str
    width: int
    make: Callable[[int], Any]
    dense: Callable[[int], nn.Module]
    claim: str
    recipe: str = ""
    example: Callable[[int], Tensor] = lambda width: torch.randn(2, width)
    call: Callable[[nn.Module, Tensor], Tensor] = lambda layer, x: layer(x)
    linear: Callable[[int, int], Any] | None = None


class Called(nn.Module):
    """A layer of an entry as a model with one input and one output."""

    def __init__(self, entry: Entry, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self._call = layer, entry.call

    def forward(self, x: Tensor) -> Tensor:
        return self._call(self.layer, x)


def _linear(name: str, paper: str, claim: str, recipe: str, make: Callable[[int, int], Any]) -> Entry:
    return Entry(
        name, paper, "768 to 768", 768, lambda n: make(n, n), lambda n: nn.Linear(n, n), claim, recipe, linear=make
    )  # fmt: skip


def _conv(name: str, paper: str, claim: str, recipe: str, make: Callable[[int], Any]) -> Entry:
    return Entry(
        name, paper, "128 to 128 channels, 3 x 3", 128, make, lambda n: nn.Conv2d(n, n, 3, padding=1), claim, recipe,
        example=lambda n: torch.randn(2, n, 8, 8),
    )  # fmt: skip


def _embedding(name: str, paper: str, claim: str, recipe: str, make: Callable[[int], Any]) -> Entry:
    return Entry(
        name, paper, "12,288 x 768", 768, make, lambda n: nn.Embedding(16 * n, n), claim, recipe,
        example=lambda n: torch.arange(6).reshape(2, 3) * 7 % (16 * n),
    )  # fmt: skip


def _lstm(name: str, paper: str, claim: str, recipe: str, make: Callable[[int], Any]) -> Entry:
    return Entry(
        name, paper, "256 to 256", 256, make, lambda n: nn.LSTM(n, n, batch_first=True), claim, recipe,
        example=lambda n: torch.randn(2, 3, n), call=lambda layer, x: layer(x)[0],
    )  # fmt: skip


def _attention(name: str, paper: str, claim: str, make: Callable[[int], Any]) -> Entry:
    return Entry(
        name, paper, "width 768, 4 heads", 768, make, lambda n: nn.MultiheadAttention(n, 4, batch_first=True), claim,
        example=lambda n: torch.randn(2, 5, n), call=lambda layer, x: layer(x, x, x, need_weights=False)[0],
    )  # fmt: skip


def _ffn(n: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n, 4 * n), nn.GELU(), nn.Linear(4 * n, n))


def _prp(**options: Any) -> Callable[[int, int], Any]:
    return lambda n, m: edgefc.PRPLinear(n, m, **options)


def entries() -> tuple[Entry, ...]:
    """Every layer family by paper, in the configurations of the docs."""
    return (
        _linear(
            "CirculantLinear", CIRCULANT, _CIRCULANT_CLAIM, "circulant-mlp", lambda n, m: edgefc.CirculantLinear(n, m)
        ),
        _linear(
            "CirculantLinear, block 64",
            CIRCULANT,
            "not in the paper: CirCNN's block form",
            "",
            lambda n, m: edgefc.CirculantLinear(n, m, block=min(n, m, 64)),
        ),
        _linear(
            "CirculantLinear, frozen",
            CIRCULANT,
            "the paper's randomized circulant; no figure known",
            "circulant-mlp",
            lambda n, m: edgefc.CirculantLinear(n, m, frozen=True),
        ),
        _conv(
            "CirculantConv2d, block 16",
            CIRCULANT,
            _OURS,
            "",
            lambda n: edgefc.CirculantConv2d(n, n, 3, padding=1, block=min(n, 16)),
        ),
        _lstm("CirculantLSTM", CIRCULANT, _OURS, "", lambda n: edgefc.CirculantLSTM(n, n, batch_first=True)),
        _attention("StructuredAttention of circulants", CIRCULANT, _OURS, lambda n: _structured(n, "CirculantLinear")),
        _linear("PRPLinear, gaussian", PRP, _PRP_CLAIM, "prp-autoencoder", _prp()),
        _linear("PRPLinear, ternary", PRP, _PRP_CLAIM, "", _prp(distribution="ternary")),
        _linear("PRPLinear, orthogonal (stored)", PRP, _PRP_CLAIM, "", _prp(distribution="orthogonal")),
        _linear("PRPLinear, rademacher", PRP, _OURS, "prp-autoencoder", _prp(distribution="rademacher")),
        _linear(
            "PRPLinear, hadamard", PRP, "not in the paper: stands in for orthogonal", "", _prp(distribution="hadamard")
        ),
        _linear(
            "PRPLinear, rank 8 beside it",
            PRP,
            "not in the paper: in code that is probably the author's",
            "",
            _prp(rank=8),
        ),
        _conv(
            "PRPConv2d",
            PRP,
            "future work of the paper: our reconstruction",
            "",
            lambda n: edgefc.PRPConv2d(n, n, 3, padding=1),
        ),
        _embedding("PRPEmbedding", PRP, _OURS, "", lambda n: edgefc.PRPEmbedding(16 * n, n)),
        _attention(
            "StructuredAttention of PRP",
            PRP,
            "future work of the paper: our reconstruction",
            lambda n: _structured(n, "PRPLinear"),
        ),
        _linear("EUGenLinear, order 1", EUGEN, _EUGEN_CLAIM, "eugen-distill", lambda n, m: edgefc.EUGenLinear(n, m)),
        _linear("EUGenLinear, order 2", EUGEN, _EUGEN_CLAIM, "", lambda n, m: edgefc.EUGenLinear(n, m, order=2)),
        _linear(
            "EUGenLinear, trained projection",
            EUGEN,
            _EUGEN_CLAIM,
            "eugen-siren",
            lambda n, m: edgefc.EUGenLinear(n, m, projection="trained"),
        ),
        _linear("BilinearLinear", BILINEAR, _BILINEAR_CLAIM, "", lambda n, m: edgefc.BilinearLinear(n, m)),
        _linear("BilinearLinear, 4 terms", BILINEAR, _OURS, "", lambda n, m: edgefc.BilinearLinear(n, m, terms=4)),
        _conv(
            "BilinearConv2d",
            BILINEAR,
            _BILINEAR_CLAIM,
            "bilinear-cnn",
            lambda n: edgefc.BilinearConv2d(n, n, 3, padding=1),
        ),
        _embedding(
            "BilinearEmbedding",
            BILINEAR,
            _BILINEAR_CLAIM,
            "bilinear-embedding",
            lambda n: edgefc.BilinearEmbedding(16 * n, n),
        ),
        _lstm(
            "BilinearLSTM",
            BILINEAR,
            _BILINEAR_CLAIM,
            "bilinear-lstm",
            lambda n: edgefc.BilinearLSTM(n, n, batch_first=True),
        ),
        _attention("StructuredAttention of bilinears", BILINEAR, _OURS, lambda n: _structured(n, "BilinearLinear")),
        Entry(
            "TiedFFN",
            TIED,
            "768 to 3072 to 768",
            768,
            lambda n: edgefc.TiedFFN(n, 4 * n),
            _ffn,
            _TIED_CLAIM,
            "tied-vit",
        ),
        Entry(
            "TiedBottleneck",
            TIED,
            "256 channels, 64 inside",
            256,
            lambda n: edgefc.TiedBottleneck(n, max(n // 4, 1)),
            _bottleneck,
            _TIED_CLAIM,
            "tied-resnet",
            example=lambda n: torch.randn(2, n, 8, 8),
        ),
        _attention(
            "TiedAttention, value and output",
            TIED,
            "claimed, pattern unknown: our reconstruction R1",
            lambda n: edgefc.TiedAttention(n, 4, batch_first=True),
        ),
    )


def _structured(n: int, name: str) -> nn.Module:
    def projection(inputs: int, outputs: int, bias: bool, seed: int) -> nn.Module:
        seeded = {} if name == "BilinearLinear" else {"seed": seed}
        layer: nn.Module = getattr(edgefc, name)(inputs, outputs, bias, **seeded)
        return layer

    attention: nn.Module = edgefc.StructuredAttention(n, 4, projection, batch_first=True)
    return attention


def _bottleneck(n: int) -> nn.Module:
    w = max(n // 4, 1)
    return nn.Sequential(
        nn.Conv2d(n, w, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
        nn.Conv2d(w, n, 1, bias=False),
    )  # fmt: skip
