"""Finds the structured layers that can replace a dense weight, by the operator that uses it."""

from collections.abc import Collection, Sequence

from onnx import NodeProto

Layers = tuple[str, ...]

LINEAR: Layers = ("CirculantLinear", "PRPLinear", "EUGenLinear", "BilinearLinear")
CONVOLUTION: Layers = ("CirculantConv2d", "PRPConv2d", "BilinearConv2d")
EMBEDDING: Layers = ("PRPEmbedding", "BilinearEmbedding")
LSTM: Layers = ("CirculantLSTM", "BilinearLSTM")
ATTENTION: Layers = ("StructuredAttention", "TiedAttention")
PAIR = "TiedFFN"
"""Replaces two linear layers, where the second has the sizes of the first in reverse."""

_FITS: dict[str, Layers] = {
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat",
                     "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulNBits"), LINEAR),
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "QLinearConv"), CONVOLUTION),
    **dict.fromkeys(("Gather", "GatherBlockQuantized", "EmbedLayerNormalization"), EMBEDDING),
    "LSTM": LSTM, "DynamicQuantizeLSTM": LSTM, "Attention": ATTENTION, "QAttention": ATTENTION,
}  # fmt: skip


def fits(node: NodeProto, shape: Sequence[int], pairs: Collection[tuple[int, ...]]) -> Layers:
    """Returns the layers that can replace a weight of this shape. `pairs` are the shapes of all linear weights.

    Returns none for vectors, for convolutions with groups, and for convolutions that are not 2-D.
    """
    layers: Layers = _FITS.get(node.op_type, ())
    if len(shape) < 2 or min(shape[:2]) < 2:
        return ()
    if layers is CONVOLUTION and (len(shape) != 4 or _groups(node) != 1):
        return ()
    if layers is LINEAR and is_pair(shape) and tuple(reversed(shape)) in pairs:
        return (*layers, PAIR)
    return layers


def is_linear(node: NodeProto) -> bool:
    return _FITS.get(node.op_type) is LINEAR


def is_pair(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[0] != shape[1]


def _groups(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)
