"""Which lowering handles which op: the folder export/lowerings/ is the list.

A lowering is a module with NAME (the op), lower(opset, options) -> ir.Function, prepare(attributes) -> attributes that
the lowering adds to one node, and describe(attributes) -> Described, which says what one node stands for.
"""

import functools
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, Protocol, cast

import onnx_ir as ir

import edgefc.export.lowerings as folder
from edgefc.export.described import Described
from edgefc.export.options import Options


class Lowering(Protocol):
    NAME: str

    def lower(self, opset: int, options: Options) -> ir.Function: ...

    def prepare(self, attributes: Mapping[str, Any]) -> Mapping[str, int | list[int]]: ...

    def describe(self, attributes: Mapping[str, Any]) -> Described: ...


@functools.cache
def lowerings() -> dict[str, Lowering]:
    """Every lowering by op name.

    Raises:
        ValueError: two files claim one op.
    """
    found: dict[str, Lowering] = {}
    for module in pkgutil.iter_modules(folder.__path__, folder.__name__ + "."):
        lowering = cast(Lowering, importlib.import_module(module.name))
        if lowering.NAME in found:
            raise ValueError(f"{module.name} lowers {lowering.NAME}, which another file lowers already")
        found[lowering.NAME] = lowering
    return found
