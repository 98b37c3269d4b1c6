"""The operators of the native library as data, for its fuzzer, its safety tests and the oldest onnxruntime.

One file per operator, with OP = Op(...). The files are found, so a new operator is one new file here.
"""

import importlib
import pkgutil
from typing import Any

import onnx_ir as ir
import torch
from onnx import ModelProto

from edgefc.testing import layer_model
from tests.support.native_ops.op import BOOKS as BOOKS
from tests.support.native_ops.op import Op

LAYER = "encoder.fc1"


def _found() -> dict[str, Op]:
    names = [file.name for file in pkgutil.iter_modules(__path__, f"{__name__}.")]
    modules = [importlib.import_module(name) for name in names if not name.endswith(".op")]
    return {module.OP.name: module.OP for module in modules}


OPS = _found()


def layer(op: str, n: int, m: int, kind: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """A layer in which no weight is zero."""
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
