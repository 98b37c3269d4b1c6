"""The competitors as .onnx files: a dense layer, its quantised forms, a low-rank layer, and the structured layers.

All quantised forms are onnxruntime's own. They quantise their inputs to 8 bits in every run:

    int8 dynamic        quantize_dynamic, signed weights in a 7-bit range (reduce_range). Processors without VNNI add
                        two 8-bit products in 16 bits, which saturates with full-range weights (normalised mean squared
                        error 4e-2). Unsigned weights are also correct on them and have half the error, but take up to
                        2.6 times as long with VNNI and up to 1.3 times as long without.
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
    """One layer in one form.

    weight_bytes    bytes of weights in the file
    multiply_adds   for one row of input
    bound           the largest accepted error (check.py)
    errors          the measured errors, one per batch size
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
    """Matrices, each of shape (inputs, outputs), applied in order, and a bias that is added last."""

    weights: tuple[Matrix, ...]
    bias: Matrix


def dense(n: int, m: int, path: Path) -> Chain:
    """Write a dense layer as MatMul and Add, because the quantisers do not support Gemm."""
    linear = torch.nn.Linear(n, m)
    return _written(path, (linear,))


def low_rank(n: int, m: int, rank: int, path: Path) -> Chain:
    """Write a low-rank layer: n to rank to m, two matrices without an activation between them."""
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
    """Quantise with quantize_dynamic."""
    with _silent():
        quantize_dynamic(source, path, weight_type=QuantType.QInt8, reduce_range=True)


def quantise_blocks(source: Path, path: Path, *, bits: int) -> None:
    """Quantise to MatMulNBits with 4-bit or 8-bit weights."""
    with _silent():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            onnx.load(source), bits=bits, block_size=BLOCK, is_symmetric=True, accuracy_level=ACCURACY
        )
        quantizer.process()
    quantizer.model.save_model_to_file(str(path))


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress log records of the quantisers, whose advice is not about the files that they write.

    The quantisers configure the root logger when they are imported. Without this, INFO records of other libraries would
    be printed too.
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
    """Export a structured layer, or the dense model of an entry."""
    export(Called(entry, layer), torch.randn(2, n), path, verify=False)


def drawn(make: Callable[[], Any]) -> Any:
    """Make a layer with random weights instead of its own initialisation.

    Initialisation can take minutes (the QR decomposition for an orthogonal matrix), and timings do not depend on the
    values. Matrices are drawn from N(0, 1 / size of the last axis) and vectors uniformly from -1 to 1, so that a large
    bias does not hide an error of the product. A layer with weights of another type is initialised normally.
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
    """Why the native library cannot run all layers of a file; None if it can. The file is loaded without its function
    bodies to find out."""
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
    """Whether a file has a layer whose native kernel is faster with 8-bit inputs: Int3Linear, PRPLinear with 1-bit
    codes."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    bits = {
        attribute.i
        for node in nodes
        if node.op_type == "PRPLinear"
        for attribute in node.attribute
        if attribute.name == "bits"
    }
    return 1 in bits or any(node.op_type == "Int3Linear" for node in nodes)


def rounds_inputs(path: Path) -> bool:
    """Whether a file has a layer that rounds its inputs to int8: QuantizedLinear."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return any((node.domain, node.op_type) == ("edgefc", "QuantizedLinear") for node in nodes)


def weight_bytes(path: Path) -> int:
    """Bytes of the weights that a model stores, in the .onnx file or in other files."""
    graph = onnx.load(path, load_external_data=False).graph
    return sum(
        prod(weight.dims) * onnx.helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
        for weight in graph.initializer
    )
