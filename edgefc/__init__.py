"""Structured layers for small devices: build in torch, ship as ONNX, measure on the target."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Layers need torch; `import edgefc` must not. Each name is imported on first use.
_LAYERS = {
    "BilinearConv2d": "edgefc.layers.bilinear.conv",
    "BilinearEmbedding": "edgefc.layers.bilinear.embedding",
    "BilinearLSTM": "edgefc.layers.bilinear.lstm",
    "BilinearLinear": "edgefc.layers.bilinear.linear",
    "CirculantConv2d": "edgefc.layers.circulant.conv",
    "CirculantLSTM": "edgefc.layers.circulant.lstm",
    "CirculantLinear": "edgefc.layers.circulant.linear",
    "EUGenLinear": "edgefc.layers.eugen.linear",
    "PRPConv2d": "edgefc.layers.prp.conv",
    "PRPEmbedding": "edgefc.layers.prp.embedding",
    "PRPLinear": "edgefc.layers.prp.linear",
    "StructuredAttention": "edgefc.layers.attention.structured",
    "TiedAttention": "edgefc.layers.tied.attention",
    "TiedBottleneck": "edgefc.layers.tied.bottleneck",
    "TiedFFN": "edgefc.layers.tied.ffn",
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
    from edgefc.layers.attention.structured import StructuredAttention as StructuredAttention
    from edgefc.layers.bilinear.conv import BilinearConv2d as BilinearConv2d
    from edgefc.layers.bilinear.embedding import BilinearEmbedding as BilinearEmbedding
    from edgefc.layers.bilinear.linear import BilinearLinear as BilinearLinear
    from edgefc.layers.bilinear.lstm import BilinearLSTM as BilinearLSTM
    from edgefc.layers.circulant.conv import CirculantConv2d as CirculantConv2d
    from edgefc.layers.circulant.linear import CirculantLinear as CirculantLinear
    from edgefc.layers.circulant.lstm import CirculantLSTM as CirculantLSTM
    from edgefc.layers.eugen.linear import EUGenLinear as EUGenLinear
    from edgefc.layers.prp.conv import PRPConv2d as PRPConv2d
    from edgefc.layers.prp.embedding import PRPEmbedding as PRPEmbedding
    from edgefc.layers.prp.linear import PRPLinear as PRPLinear
    from edgefc.layers.tied.attention import TiedAttention as TiedAttention
    from edgefc.layers.tied.bottleneck import TiedBottleneck as TiedBottleneck
    from edgefc.layers.tied.ffn import TiedFFN as TiedFFN


def __getattr__(name: str) -> Any:
    if name not in _LAYERS:
        raise AttributeError(f"module 'edgefc' has no attribute {name!r}")
    from edgefc.errors import needs_extra

    with needs_extra("torch", f"edgefc.{name}"):
        return getattr(importlib.import_module(_LAYERS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
