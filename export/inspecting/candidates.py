"""Finds the structured layers that can replace a dense weight, by the operator that uses it."""

from collections.abc import Collection, Sequence

from onnx import NodeProto

from edgefc import declared

Layers = tuple[str, ...]

_STORAGE = "edgefc.layers.quantized."

LINEAR, CONVOLUTION, EMBEDDING, LSTM, ATTENTION = "linear", "convolution", "embedding", "lstm", "attention"
PAIR = "linear pair"
"""Stands in for two linear layers, the second of which has the sizes of the first the other way round."""

_KINDS = {
    **dict.fromkeys(("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat",
                     "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulNBits"), LINEAR),
    **dict.fromkeys(("Conv", "FusedConv", "ConvInteger", "QLinearConv"), CONVOLUTION),
    **dict.fromkeys(("Gather", "GatherBlockQuantized", "EmbedLayerNormalization"), EMBEDDING),
    "LSTM": LSTM, "DynamicQuantizeLSTM": LSTM, "Attention": ATTENTION, "QAttention": ATTENTION,
}  # fmt: skip
"""What the layers in whose place an operator stands replace, as their entries say (edgefc/layers/common/entry.py)."""


def layers_for(kind: str) -> Layers:
    """The structured layers that replace that kind, sorted by name. Layers of another storage fit everywhere."""
    found = (name for name, layer in declared.layers().items() if layer["replaces"] == kind)
    return tuple(name for name in found if not declared.layers()[name]["module"].startswith(_STORAGE))


def fits(node: NodeProto, shape: Sequence[int], pairs: Collection[tuple[int, ...]]) -> Layers:
    """Returns the layers that can replace a weight of this shape. `pairs` are the shapes of all linear weights.

    Returns none for vectors, for convolutions with groups, and for convolutions that are not 2-D.
    """
    kind = _KINDS.get(node.op_type)
    if kind is None or len(shape) < 2 or min(shape[:2]) < 2:
        return ()
    if kind == CONVOLUTION and (len(shape) != 4 or _groups(node) != 1):
        return ()
    if kind == LINEAR and is_pair(shape) and tuple(reversed(shape)) in pairs:
        return (*layers_for(LINEAR), *layers_for(PAIR))
    return layers_for(kind)


def is_linear(node: NodeProto) -> bool:
    return _KINDS.get(node.op_type) == LINEAR


def is_pair(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[0] != shape[1]


def _groups(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)
