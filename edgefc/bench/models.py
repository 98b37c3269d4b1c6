"""The competitors as .onnx files: a dense layer, the same quantised, two thin matrices, and the structured layers.

All quantised forms are onnxruntime's own and quantise their inputs to 8 bits in every run:

    int8 dynamic        quantize_dynamic, signed weights in the range of 7 bits (reduce_range). Processors without VNNI
                        add two products of 8-bit numbers in 16 bits, which saturates with weights of the full range
                        (normalised mean squared error 4e-2). Unsigned weights are right there too and have half the
                        error, and take up to 2.6 times as long with VNNI and up to 1.3 times as long without.
    int8 MatMulNBits    weights of 8 bits in blocks of 128, accuracy level 4
    int4 MatMulNBits    weights of 4 bits in blocks of 128, accuracy level 4
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from edgefc.catalogue import Called, Entry
from edgefc.errors import ModelError, UnknownOperator
from edgefc.export import export
from edgefc.layers.common.checkpoint import holds_weights
from edgefc.runtime import Model, Session
from edgefc.runtime.native import library_path

OPSET, IR_VERSION = 20, 10
BLOCK, ACCURACY = 128, 4

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class Competitor:
    """One layer in one form. weight_bytes are stored in the file; multiply_adds are of one row.

    bound is the largest error (check.py) with which it is timed, errors are those that were found, one for each batch.
    """

    layer: str
    kernel: str
    model: Model
    weight_bytes: int
    multiply_adds: int
    bound: float
    note: str = ""
    errors: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chain:
    """Matrices, each (inputs, outputs), applied one after the other, and a bias behind them."""

    weights: tuple[Matrix, ...]
    bias: Matrix


def dense(n: int, m: int, path: Path) -> Chain:
    """A dense layer as MatMul and Add: quantisers do not know Gemm."""
    linear = torch.nn.Linear(n, m)
    return _written(path, (linear,))


def low_rank(n: int, m: int, rank: int, path: Path) -> Chain:
    """n to rank to m: two matrices, no activation between."""
    return _written(path, (torch.nn.Linear(n, rank, bias=False), torch.nn.Linear(rank, m)))


def _written(path: Path, layers: Sequence[torch.nn.Linear]) -> Chain:
    weights = tuple(each.weight.detach().T.contiguous().numpy() for each in layers)
    chain = Chain(weights, layers[-1].bias.detach().numpy())
    _write(path, layers[0].in_features, layers[-1].out_features, weights, chain.bias)
    return chain


def _write(path: Path, n: int, m: int, weights: Sequence[Matrix], bias: Matrix) -> None:
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", size])
        for name, size in (("x", n), ("y", m))
    ]
    values = ["x", *(f"t{index}" for index in range(len(weights)))]
    nodes = [
        onnx.helper.make_node("MatMul", [values[index], f"w{index}"], [values[index + 1]])
        for index in range(len(weights))
    ]
    nodes.append(onnx.helper.make_node("Add", [values[-1], "b"], ["y"]))
    named = {f"w{index}": weight for index, weight in enumerate(weights)} | {"b": bias}
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in named.items()]
    graph = onnx.helper.make_graph(nodes, path.stem, ends[:1], ends[1:], stored)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION), path)


def quantise_int8(source: Path, path: Path) -> None:
    with _silent():
        quantize_dynamic(source, path, weight_type=QuantType.QInt8, reduce_range=True)


def quantise_blocks(source: Path, path: Path, *, bits: int) -> None:
    """MatMulNBits with weights of 4 or 8 bits."""
    with _silent():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            onnx.load(source), bits=bits, block_size=BLOCK, is_symmetric=True, accuracy_level=ACCURACY
        )
        quantizer.process()
    quantizer.model.save_model_to_file(str(path))


@contextmanager
def _silent() -> Iterator[None]:
    """Keep what the quantisers advise off stderr: it is not about the files that they write.

    They log through the root logger, and configure it when they are imported. That would also print the INFO records of
    other libraries.
    """
    root = logging.root
    disabled, level, handlers = root.manager.disable, root.level, [*root.handlers]
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.setLevel(level)
        root.handlers[:] = handlers


def write_layer(entry: Entry, layer: Any, n: int, path: Path) -> None:
    """A structured layer, or the dense one of an entry, as edgefc export writes it."""
    export(Called(entry, layer), torch.randn(2, n), path, verify=False)


def drawn(make: Callable[[], Any]) -> Any:
    """The layer that make() makes, with random numbers instead of its own initial ones.

    Initialising can take minutes (the QR of an orthogonal matrix), and no time here depends on the numbers. Matrices
    are drawn from N(0, 1 / length of the last axis) and vectors uniformly from -1 to 1, so that an error of the product
    is not hidden behind a bias. A layer that keeps something else than float numbers is made as it makes itself.
    """
    with torch.device("meta"):
        layer = make()
    tensors = _weights(layer)
    if not all(t.is_floating_point() for t in tensors) or len(tensors) != sum(map(holds_weights, layer.state_dict())):
        return make()
    layer = layer.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in _weights(layer):
            if tensor.ndim > 1:
                tensor.normal_(std=tensor.shape[-1] ** -0.5)
            else:
                tensor.uniform_(-1, 1)
    return layer


def _weights(layer: nn.Module) -> list[Tensor]:
    return [tensor for name, tensor in (*layer.named_parameters(), *layer.named_buffers()) if holds_weights(name)]


def missing_kernel(path: Path) -> str | None:
    """Why the native library cannot run all layers of a file, or None: it is loaded once more without its bodies."""
    if library_path() is None:
        return "this edgefc was installed without native kernels"
    model = onnx.load(path, load_external_data=False)
    ops = sorted({node.op_type for node in model.graph.node if node.domain == "edgefc"})
    del model.functions[:]
    bare = path.with_name(f"bare-{path.name}")
    bare.write_bytes(model.SerializeToString())
    try:
        Session(bare, native="on")
    except UnknownOperator:
        return f"the native library has no kernel for {', '.join(ops)}"
    except ModelError as error:
        return str(error)
    finally:
        bare.unlink()
    return None


def gains_by_int8(path: Path) -> bool:
    """Whether a file has a layer whose native kernel is made for inputs of 8 bits: PRPLinear with codes of 1 bit."""
    nodes = [node for node in onnx.load(path, load_external_data=False).graph.node if node.op_type == "PRPLinear"]
    return any(attribute.name == "bits" and attribute.i == 1 for node in nodes for attribute in node.attribute)


def weight_bytes(path: Path) -> int:
    """Of the weights that a file stores, in it or beside it."""
    graph = onnx.load(path, load_external_data=False).graph
    return sum(
        prod(weight.dims) * onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
        for weight in graph.initializer
    )
