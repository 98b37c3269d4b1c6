# Written by python -m edgefc.export.declarations.
from edgefc.layers.attention.structured import StructuredAttention as StructuredAttention
from edgefc.layers.bilinear.conv import BilinearConv2d as BilinearConv2d
from edgefc.layers.bilinear.embedding import BilinearEmbedding as BilinearEmbedding
from edgefc.layers.bilinear.linear import BilinearLinear as BilinearLinear
from edgefc.layers.bilinear.lstm import BilinearLSTM as BilinearLSTM
from edgefc.layers.circulant.conv import CirculantConv2d as CirculantConv2d
from edgefc.layers.circulant.linear import CirculantLinear as CirculantLinear
from edgefc.layers.circulant.lstm import CirculantLSTM as CirculantLSTM
from edgefc.layers.eugen.linear import EUGenLinear as EUGenLinear
from edgefc.layers.lowrank.linear import LowRankLinear as LowRankLinear
from edgefc.layers.monarch.linear import MonarchLinear as MonarchLinear
from edgefc.layers.prp.conv import PRPConv2d as PRPConv2d
from edgefc.layers.prp.embedding import PRPEmbedding as PRPEmbedding
from edgefc.layers.prp.linear import PRPLinear as PRPLinear
from edgefc.layers.tied.attention import TiedAttention as TiedAttention
from edgefc.layers.tied.bottleneck import TiedBottleneck as TiedBottleneck
from edgefc.layers.tied.ffn import TiedFFN as TiedFFN

__version__: str
__all__ = [
    "BilinearConv2d",
    "BilinearEmbedding",
    "BilinearLSTM",
    "BilinearLinear",
    "CirculantConv2d",
    "CirculantLSTM",
    "CirculantLinear",
    "EUGenLinear",
    "LowRankLinear",
    "MonarchLinear",
    "PRPConv2d",
    "PRPEmbedding",
    "PRPLinear",
    "StructuredAttention",
    "TiedAttention",
    "TiedBottleneck",
    "TiedFFN",
    "__version__",
]
