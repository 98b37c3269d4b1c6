"""The structured layers: one folder per family, and common/ for what several families use. Needs torch.

    circulant/   linear, conv, lstm: blocks of circulant matrices behind seeded sign flips
    prp/         linear, conv, embedding: a random matrix from a seed, scaled on both sides
    eugen/       linear: random features and one small matrix
    bilinear/    linear, conv, embedding, lstm: Kronecker products
    tied/        ffn, bottleneck, attention: one matrix used as W and as its transpose
    attention/   multi-head attention whose projections are structured layers
    registry.py  finds the layers: every file of a family that has ENTRIES
    common/      seeds, checks, state dicts, LSTM recurrence, the node that a layer is exported as

README.md describes how to add a layer. A family imports common/ and not another family. Only attention/ and
tied/attention.py work together. Layers do not import ONNX packages, export/ or runtime/.

The layers have their names here too, as in edgefc: edgefc.layers.CirculantLinear. They are imported on first use.
"""

from typing import Any

import edgefc


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if not name[:1].isupper():
        raise AttributeError(f"module 'edgefc.layers' has no attribute {name!r}")
    return getattr(edgefc, name)


def __dir__() -> list[str]:
    return [name for name in dir(edgefc) if name[:1].isupper()]
