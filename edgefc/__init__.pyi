# Written by python -m edgefc.export.declarations.
from edgefc import plan as plan
from edgefc.compressing.compressing import compress as compress
from edgefc.layers.attention.structured import StructuredAttention as StructuredAttention
from edgefc.layers.bilinear.conv import BilinearConv2d as BilinearConv2d
from edgefc.layers.bilinear.embedding import BilinearEmbedding as BilinearEmbedding
from edgefc.layers.bilinear.linear import BilinearLinear as BilinearLinear
from edgefc.layers.bilinear.lstm import BilinearLSTM as BilinearLSTM
from edgefc.layers.circulant.conv import CirculantConv2d as CirculantConv2d
from edgefc.layers.circulant.linear import CirculantLinear as CirculantLinear
from edgefc.layers.circulant.lstm import CirculantLSTM as CirculantLSTM
from edgefc.layers.eugen.linear import EUGenLinear as EUGenLinear
from edgefc.layers.int3.linear import Int3Linear as Int3Linear
from edgefc.layers.lowrank.linear import LowRankLinear as LowRankLinear
from edgefc.layers.monarch.linear import MonarchLinear as MonarchLinear
from edgefc.layers.prp.conv import PRPConv2d as PRPConv2d
from edgefc.layers.prp.embedding import PRPEmbedding as PRPEmbedding
from edgefc.layers.prp.linear import PRPLinear as PRPLinear
from edgefc.layers.quantized.conv import QuantizedConv2d as QuantizedConv2d
from edgefc.layers.quantized.corrected import CorrectedLinear as CorrectedLinear
from edgefc.layers.quantized.embedding import QuantizedEmbedding as QuantizedEmbedding
from edgefc.layers.quantized.half import HalfLinear as HalfLinear
from edgefc.layers.quantized.half_conv import HalfConv2d as HalfConv2d
from edgefc.layers.quantized.half_embedding import HalfEmbedding as HalfEmbedding
from edgefc.layers.quantized.linear import QuantizedLinear as QuantizedLinear
from edgefc.layers.quantized.lstm import QuantizedLSTM as QuantizedLSTM
from edgefc.layers.quantized.rotation import HadamardRotation as HadamardRotation
from edgefc.layers.tied.attention import TiedAttention as TiedAttention
from edgefc.layers.tied.bottleneck import TiedBottleneck as TiedBottleneck
from edgefc.layers.tied.ffn import TiedFFN as TiedFFN
from edgefc.replacing.replacing import replace as replace
from edgefc.replacing.saving import load as load
from edgefc.replacing.saving import save as save
from edgefc.training.distilling import distil as distil

__version__: str
__all__ = [
    "BilinearConv2d",
    "BilinearEmbedding",
    "BilinearLSTM",
    "BilinearLinear",
    "CirculantConv2d",
    "CirculantLSTM",
    "CirculantLinear",
    "CorrectedLinear",
    "EUGenLinear",
    "HadamardRotation",
    "HalfConv2d",
    "HalfEmbedding",
    "HalfLinear",
    "Int3Linear",
    "LowRankLinear",
    "MonarchLinear",
    "PRPConv2d",
    "PRPEmbedding",
    "PRPLinear",
    "QuantizedConv2d",
    "QuantizedEmbedding",
    "QuantizedLSTM",
    "QuantizedLinear",
    "StructuredAttention",
    "TiedAttention",
    "TiedBottleneck",
    "TiedFFN",
    "__version__",
    "compress",
    "distil",
    "load",
    "plan",
    "replace",
    "save",
]
