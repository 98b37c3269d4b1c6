"""The structured layers. Each family has a folder, and common/ holds the code that several families use. Needs torch.

    circulant/   linear, conv, lstm: block-circulant matrices after seeded sign flips
    prp/         linear, conv, embedding: a random matrix from a seed, scaled on both sides
    eugen/       linear: random features followed by one small matrix
    bilinear/    linear, conv, embedding, lstm: Kronecker products
    lowrank/     linear: a product of two thin matrices
    monarch/     linear: two block-diagonal matrices with a permutation between them
    tied/        ffn, bottleneck, attention: one matrix used both as W and as W^T
    attention/   multi-head attention whose projections are structured layers
    registry.py  finds the layers: every file of a family that has ENTRIES
    common/      seeds, checks, state dicts, LSTM recurrence, the node that a layer is exported as

README.md describes how to add a layer. A family imports common/ and not another family. Only attention/ and
tied/attention.py work together. Layers do not import ONNX packages, export/ or runtime/. The layers have their names
here as in `edgefc`, which imports them on first use.
"""

from typing import TYPE_CHECKING, Any

import edgefc

if TYPE_CHECKING:
    from edgefc import *  # noqa: F403
else:

    def __getattr__(name: str) -> Any:
        """A layer by its name, which `edgefc` has too, or the list of their names."""
        if name == "__all__":
            return [each for each in edgefc.__all__ if each[0].isupper()]
        if name.startswith("_") or name not in __getattr__("__all__"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(edgefc, name)

    def __dir__() -> list[str]:
        return sorted(__getattr__("__all__"))
