"""The operators of the native library as data, for its fuzzer, its safety tests and the oldest onnxruntime.

A new operator is one entry of OPS: it joins them all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from onnx import ModelProto
from torch import nn

import edgefc
from edgefc import generator
from edgefc.layers.common.activations import ACTIVATIONS
from edgefc.testing import layer_model

LAYER = "encoder.fc1"
BOOKS, FUNCTIONS = list(generator.CODEBOOKS), list(ACTIVATIONS)


@dataclass(frozen=True)
class Op:
    """make(n, m, kind) is a layer of n inputs, kind any number.

    Attributes:
        nmse      what float32 may lose, against float64 or the body
        infinite  what says where infinity goes: "body", "matrix" (its row of NaN too), or None for nothing
    """

    make: Callable[[int, int, int], nn.Module]
    nmse: float = 1e-10
    infinite: str | None = None


def _circulant(n: int, m: int, kind: int) -> nn.Module:
    block = (None, 1 + kind % max(n, m), max(n, m))[kind % 3]
    return edgefc.CirculantLinear(n, m, block=block, seed=2**64 - 1 - kind)


def _eugen(n: int, m: int, kind: int) -> nn.Module:
    kinds = {"shared": kind % 2 == 0, "norm": kind % 3 > 0, "one": kind % 5 == 0}
    return edgefc.EUGenLinear(
        n, m, features=(64, 1, 7, 33)[kind % 4], order=1 + kind % 3, activation=FUNCTIONS[kind % len(FUNCTIONS)],
        distribution=BOOKS[kind % len(BOOKS)], seed=2**64 - 1 - kind, **kinds,
    )  # fmt: skip


OPS = {
    "PRPLinear": Op(
        lambda n, m, kind: edgefc.PRPLinear(n, m, distribution=BOOKS[kind % len(BOOKS)], seed=2**64 - 1 - kind),
        infinite="body",
    ),
    "CirculantLinear": Op(_circulant, infinite="matrix"),
    "EUGenLinear": Op(_eugen, nmse=1e-9),
    "TiedFFN": Op(lambda n, m, kind: edgefc.TiedFFN(n, m, activation=FUNCTIONS[kind % len(FUNCTIONS)])),
}


def layer(op: str, n: int, m: int, kind: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """With weights that are nowhere zero."""
    torch.manual_seed(n * 1000 + m)
    made = OPS[op].make(n, m, kind)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 + 0.01)
    return made.to(dtype).eval()


def model(op: str, n: int, m: int, kind: int = 0, *, body: bool, dtype: torch.dtype = torch.float32) -> ModelProto:
    """The model of such a layer, its one node named LAYER; without its body only the native library can run it."""
    made = layer_model(layer(op, n, m, kind, dtype), n)
    (node,) = made.graph
    assert node.op_type == op
    node.name = LAYER
    if not body:
        made.functions.clear()
    return ir.to_proto(made)
