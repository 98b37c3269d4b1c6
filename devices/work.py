"""What one run of a model computes and moves, step by step: counted by running it once here, with its bodies.

onnxruntime's own profiler tells every executed node with the shapes of its inputs and outputs, after functions were
written out, constants folded and nodes fused; so the counts are of what a device would run as well. Weights that
onnxruntime packed at load are missing from a node's inputs and are counted from its shapes.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgefc.runtime import child, failures
from edgefc.runtime.external import nodes_of, weight_files

Kind = Literal["product", "element", "function", "move", "view"]
Array = tuple[str, list[int]]  # type and shape
Product = tuple[int, int, int, int, int]  # count, rows, columns, inner, bytes of weights that were packed away

_PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "Conv", "FusedConv", "ConvTranspose"}
_CONVOLUTIONS = {"Conv", "FusedConv", "ConvTranspose"}
_VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Constant"}
_MOVES = {"Transpose", "Concat", "Slice", "Gather", "Split", "Expand", "Pad", "Tile", "Cast", "ScatterND", "GatherND",
          "ReorderInput", "ReorderOutput", "GatherElements", "Where"}  # fmt: skip
_FUNCTIONS = {"Exp", "Log", "Erf", "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Tanh", "Sigmoid", "Softmax", "Sin",
              "Cos", "Sqrt", "Pow", "Softplus", "Elu", "Selu", "LayerNormalization", "Div", "Mod"}  # fmt: skip
_CONTROL = {"Loop", "If", "Scan"}  # their inner nodes are told one by one
_ITEM = {"double": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2, "bool": 1,
         "int8": 1, "uint8": 1}  # fmt: skip
_INLINED = re.compile(r"_inlfunc_(?P<op>[A-Za-z0-9]+?)(?:_token_(?P<token>\d+))?_")


@dataclass(frozen=True)
class Step:
    """One node of a run. A product is `count` times rows x inner by inner x columns; bytes count each array once."""

    layer: str
    op: str
    kind: Kind
    count: int
    rows: int
    columns: int
    inner: int
    activation_bytes: int
    written_bytes: int
    weight_bytes: int

    @property
    def flop(self) -> int:
        return 2 * self.count * self.rows * self.columns * self.inner


@dataclass(frozen=True)
class Work:
    """One run at one batch size. file_bytes counts the .onnx file and the weights beside it."""

    file: str
    file_bytes: int
    batch: int
    steps: tuple[Step, ...]

    @property
    def weight_bytes(self) -> int:
        return sum(step.weight_bytes for step in self.steps)

    @property
    def activation_bytes(self) -> int:
        """The most that one step reads and writes beside weights."""
        return max((step.activation_bytes for step in self.steps), default=0)


def work_of(path: str | Path, batch: int | None = None, inputs: str | None = None) -> Work:
    """Run a model once, in a child process, and count.

    Raises:
        UsageError: no such file, or inputs that do not fit.
        ModelError: onnxruntime does not load or run it, or ends with it.
    """
    file = Path(path)
    failures.check_file(file)
    question = {"model": {"path": str(file)}, "inputs": inputs, "batch": batch}
    found = child.ask("probe_work", question, about=str(file))
    layers = _layers([node[0] for node in found["nodes"]], nodes_of(file, "edgefc"))
    steps = (_step(layer, *node[1:]) for layer, node in zip(layers, found["nodes"], strict=True))
    total = file.stat().st_size + sum(each.stat().st_size for each in weight_files(file))
    return Work(file.name, total, found["batch"], tuple(step for step in steps if step is not None))


def _layers(names: Sequence[str], nodes: Sequence[tuple[str, str]]) -> list[str]:
    """The layer of each executed node; "" outside of all. The nodes of an If written out follow those before it."""
    instances: dict[str, set[int]] = {}
    for name in names:
        if found := _INLINED.match(name):
            instances.setdefault(found["op"], set()).add(_token(found))
    called: dict[tuple[str, int], str] = {}
    for op, tokens in instances.items():
        given = [name for each, name in nodes if each == op]
        for index, token in enumerate(sorted(tokens)):
            called[op, token] = given[index] if len(given) == len(tokens) else f"{op} {index + 1}"
    result: list[str] = []
    for name in names:
        if found := _INLINED.match(name):
            result.append(called[found["op"], _token(found)])
        else:
            inside = "_if_" in name or "_else_branch" in name
            result.append(result[-1] if inside and result else "")
    return result


def _token(found: re.Match[str]) -> int:
    return -1 if found["token"] is None else int(found["token"])


def _step(layer: str, op: str, weights: int, inputs: Any, outputs: Any) -> Step | None:
    if op in _CONTROL:
        return None
    read, written = _arrays(inputs), _arrays(outputs)
    count, rows, columns, inner, packed = 0, 0, 0, 0, 0
    if op in _PRODUCTS and read and written:
        shape = _convolution if op in _CONVOLUTIONS else _product
        count, rows, columns, inner, packed = shape(read, written)
    total = sum(map(_size, read))
    return Step(
        layer=layer, op=op, kind=_kind(op), count=count, rows=rows, columns=columns, inner=inner,
        activation_bytes=max(total - weights, 0) + sum(map(_size, written)), written_bytes=sum(map(_size, written)),
        weight_bytes=weights + packed,
    )  # fmt: skip


def _kind(op: str) -> Kind:
    if op in _PRODUCTS:
        return "product"
    if op in _VIEWS:
        return "view"
    if op in _MOVES:
        return "move"
    return "function" if op in _FUNCTIONS else "element"


def _product(read: list[Array], written: list[Array]) -> Product:
    """A matrix product, stacked ones and those with a transposed first input too."""
    (dtype, left), (_, out) = read[0], written[0]
    columns, rows = (out or [1])[-1], out[-2] if len(out) > 1 else 1
    seen = [shape for _, shape in read[1:] if len(shape) > 1]
    inner = (left or [1])[-1]
    if seen and inner not in seen[0][-2:] and len(left) > 1:
        inner = left[-2]  # transposed
    packed = 0 if seen else inner * columns * _ITEM.get(dtype, 4)
    if not seen and rows:  # one weight for all rows: a single product
        rows = math.prod(out[:-1])
        if len(left) == 2 and math.prod(left) != rows * inner:
            inner = math.prod(left) // rows
            packed = inner * columns * _ITEM.get(dtype, 4)
    return math.prod(out) // max(rows * columns, 1), rows, columns, inner, packed


def _convolution(read: list[Array], written: list[Array]) -> Product:
    """A convolution as the product of its windows with its kernel."""
    (dtype, image), (_, out) = read[0], written[0]
    kernels = [shape for _, shape in read[1:] if len(shape) > 2]
    channels = out[1] if len(out) > 1 else 1
    inner = math.prod(kernels[0][1:]) if kernels else image[1] if len(image) > 1 else 1
    packed = 0 if kernels else inner * channels * _ITEM.get(dtype, 4)
    return 1, math.prod(out) // max(channels, 1), channels, inner, packed


def _arrays(told: Any) -> list[Array]:
    return [(dtype, list(shape)) for each in told or () for dtype, shape in each.items()]


def _size(array: Array) -> int:
    return math.prod(array[1]) * _ITEM.get(array[0], 4)
