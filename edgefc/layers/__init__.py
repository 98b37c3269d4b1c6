"""The structured layers: one folder per family, and common/ for what several families use. Needs torch.

    circulant/   linear, conv, lstm: blocks of circulant matrices behind seeded sign flips
    prp/         linear, conv, embedding: a random matrix from a seed, scaled on both sides
    eugen/       linear: random features and one small matrix
    bilinear/    linear, conv, embedding, lstm: Kronecker products
    tied/        ffn, bottleneck, attention: one matrix used as W and as its transpose
    attention/   multi-head attention whose projections are structured layers
    registry.py  finds the layers: every file of a family that has ENTRIES
    common/      seeds, checks, state dicts, LSTM recurrence, the node that a layer is exported as

A family imports common/ and not another family. Only attention/ and tied/attention.py work together.
Layers do not import ONNX packages, export/ or runtime/. The names below are imported on first use.
"""

from typing import TYPE_CHECKING

from edgefc.lazy import lazy

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

_NAMES = {
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
]

if not TYPE_CHECKING:  # type checkers know the names above only
    __getattr__, __dir__ = lazy(__name__, _NAMES, "torch")
