"""The torch layer that a node of an .onnx file belongs to. There are three sources, in this order:

edgefc.layer                   written by edgefc.export on every node: the innermost torch module, "" for the model
pkg.torch.onnx.name_scopes     written by torch.onnx.export(dynamo=True): names from the model down to the node
/encoder/layer.0/query/MatMul  the scopes in the name of a node, as torch's older exporter and others write them
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

LAYER_KEY = "edgefc.layer"
FLAT_KEY = "edgefc.flat"
"""Set on a model whose functions were inlined, so that its structured layers are no longer single nodes."""

_TORCH_KEY = "pkg.torch.onnx.name_scopes"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"  # torch's name for code outside of any module


def torch_scope(metadata: Mapping[str, str]) -> str | None:
    """The qualified name of the innermost torch module, "" for the model itself; None without torch's metadata."""
    try:
        names = ast.literal_eval(metadata.get(_TORCH_KEY, ""))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    inner: str = names[-2] if len(names) > 1 else ""
    return "" if inner == _NO_MODULE else inner


def layer_of(name: str, metadata: Mapping[str, str]) -> str | None:
    """The layer of a node with this name and metadata; None if neither names a layer."""
    if LAYER_KEY in metadata:
        return metadata[LAYER_KEY]
    scope = torch_scope(metadata)
    if scope is None:
        scope = name.rpartition("/")[0].strip("/")
    return scope or (None if _TORCH_KEY not in metadata else "")
