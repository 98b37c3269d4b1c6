"""inspect(): what the structured layers of an .onnx file hold, against what dense layers would."""

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from edgefc.errors import ModelError, UsageError, first_line
from edgefc.export.build import DOMAIN
from edgefc.export.described import Described
from edgefc.export.passes import FLAT_KEY
from edgefc.export.registry import lowerings
from edgefc.files import exists


@dataclass(frozen=True)
class Layer:
    """One structured layer. stored counts the numbers in the file, shared ones at their first layer only."""

    name: str
    op: str
    shape: str
    detail: str
    stored: int
    stored_bytes: int
    dense: int
    dense_bytes: int


@dataclass(frozen=True)
class Inspection:
    """The structured layers of one file, and its sizes in bytes."""

    file: str
    file_bytes: int
    data_bytes: int
    opset: int
    flat: bool
    layers: tuple[Layer, ...]
    other_numbers: int

    @property
    def why_none(self) -> str:
        return " that can be told apart, since its functions were written out (--flat)" if self.flat else ""


def inspect(path: str | Path) -> Inspection:
    """Read a file's structured layers without running it.

    Raises:
        UsageError: no such file.
        ModelError: not an ONNX file, a broken one, or one with external data missing.
    """
    file = Path(path)
    if not (exists(file) and file.is_file()):
        raise UsageError(f"no file {file}. Name an .onnx file that exists.")
    model = _read(file)
    counted: set[str] = set()
    layers = tuple(_layer(node, counted) for node in model.graph if node.domain == DOMAIN)
    others = [v for name, v in model.graph.initializers.items() if name not in counted]
    data = {value.const_value.location for value in model.graph.initializers.values()
            if isinstance(value.const_value, ir.ExternalTensor)}  # fmt: skip
    flat = not layers and FLAT_KEY in model.metadata_props
    return Inspection(
        file=file.name,
        file_bytes=file.stat().st_size,
        data_bytes=sum((file.parent / name).stat().st_size for name in data),
        opset=model.graph.opset_imports.get("", 0),
        flat=flat,
        layers=layers,
        other_numbers=sum(_numbers(value) for value in others),
    )


def _read(file: Path) -> ir.Model:
    try:
        onnx.checker.check_model(str(file))
        return ir.load(file)
    except Exception as error:
        raise ModelError(f"{file} is not a whole ONNX model: {first_line(error)}. Export it again.") from None


def _layer(node: ir.Node, counted: set[str]) -> Layer:
    described = _described(node)
    weights = [value for value in node.inputs[1:] if value is not None and value.name not in counted]
    counted.update(value.name or "" for value in weights)
    width = max((int(v.dtype.itemsize) for v in node.inputs[1:] if v is not None and v.dtype is not None), default=4)
    stored = sum(_numbers(value) for value in weights)
    return Layer(
        name=node.name or "?",
        op=node.op_type,
        shape=described.shape,
        detail=described.detail,
        stored=stored,
        stored_bytes=stored * width,
        dense=described.dense,
        dense_bytes=described.dense * width,
    )


def _described(node: ir.Node) -> Described:
    told = f"node {node.name!r}, an edgefc::{node.op_type},"
    if node.op_type not in lowerings():
        raise ModelError(f"{told} is of no layer that this version knows. Known are: {', '.join(sorted(lowerings()))}.")
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    try:
        return lowerings()[node.op_type].describe(attributes)
    except KeyError as error:
        raise ModelError(f"{told} has no {error.args[0]}. Export the model again.") from None
    except (TypeError, ValueError):
        raise ModelError(f"{told} has attributes that no layer has: {attributes}. Export the model again.") from None


def _numbers(value: ir.Value) -> int:
    tensor = value.const_value
    return math.prod(tensor.shape.numpy()) if tensor is not None else 0
