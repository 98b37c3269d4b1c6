"""Structured layers for small devices: build in torch, ship as ONNX, measure on the target."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Layers need torch; `import edgefc` must not. Each name is imported on first use.
_LAYERS = {
    "BilinearConv2d": "edgefc.layers.bilinear_conv",
    "BilinearEmbedding": "edgefc.layers.bilinear_embedding",
    "BilinearLSTM": "edgefc.layers.bilinear_lstm",
    "BilinearLinear": "edgefc.layers.bilinear",
    "CirculantConv2d": "edgefc.layers.circulant_conv",
    "CirculantLSTM": "edgefc.layers.circulant_lstm",
    "CirculantLinear": "edgefc.layers.circulant",
    "EUGenLinear": "edgefc.layers.eugen",
    "PRPConv2d": "edgefc.layers.prp_conv",
    "PRPEmbedding": "edgefc.layers.prp_embedding",
    "PRPLinear": "edgefc.layers.prp",
    "StructuredAttention": "edgefc.layers.attention",
    "TiedAttention": "edgefc.layers.tied_attention",
    "TiedBottleneck": "edgefc.layers.tied_bottleneck",
    "TiedFFN": "edgefc.layers.tied_ffn",
}

__all__ = [
    "BilinearConv2d",
    "BilinearEmbedding",
    "BilinearLSTM",
    "BilinearLinear",
    "CirculantConv2d",
    "CirculantLSTM",
    "CirculantLinear",
    "EUGenLinear",
    "PRPConv2d",
    "PRPEmbedding",
    "PRPLinear",
    "StructuredAttention",
    "TiedAttention",
    "TiedBottleneck",
    "TiedFFN",
    "__version__",
]

if TYPE_CHECKING:
    from edgefc.layers.attention import StructuredAttention as StructuredAttention
    from edgefc.layers.bilinear import BilinearLinear as BilinearLinear
    from edgefc.layers.bilinear_conv import BilinearConv2d as BilinearConv2d
    from edgefc.layers.bilinear_embedding import BilinearEmbedding as BilinearEmbedding
    from edgefc.layers.bilinear_lstm import BilinearLSTM as BilinearLSTM
    from edgefc.layers.circulant import CirculantLinear as CirculantLinear
    from edgefc.layers.circulant_conv import CirculantConv2d as CirculantConv2d
    from edgefc.layers.circulant_lstm import CirculantLSTM as CirculantLSTM
    from edgefc.layers.eugen import EUGenLinear as EUGenLinear
    from edgefc.layers.prp import PRPLinear as PRPLinear
    from edgefc.layers.prp_conv import PRPConv2d as PRPConv2d
    from edgefc.layers.prp_embedding import PRPEmbedding as PRPEmbedding
    from edgefc.layers.tied_attention import TiedAttention as TiedAttention
    from edgefc.layers.tied_bottleneck import TiedBottleneck as TiedBottleneck
    from edgefc.layers.tied_ffn import TiedFFN as TiedFFN


def __getattr__(name: str) -> Any:
    if name not in _LAYERS:
        raise AttributeError(f"module 'edgefc' has no attribute {name!r}")
    from edgefc.errors import needs_extra

    with needs_extra("torch", f"edgefc.{name}"):
        return getattr(importlib.import_module(_LAYERS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
