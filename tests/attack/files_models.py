"""The base models of attacks on files: every structured operator, plain models, weights in a second file.

Every base model of a torch layer has a factory of the same name here, for commands with a SOURCE argument.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

import edgefc
from edgefc.catalogue import Called, Entry
from edgefc.testing import layer_model
from tests.support import native_ops, onnx_models
from tests.support.layer_entries import of_one_node

WIDTH = 12


@dataclass(frozen=True)
class Base:
    """A model on disk.

    files    the .onnx file, and its weights file if it has one
    source   SOURCE of the torch model, if it has one
    """

    name: str
    files: tuple[str, ...]
    source: str | None = None


def _key(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def layers() -> dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]]:
    """Layers by name with an example input: those of the catalogue, then the operators with kernels."""
    made: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {}
    for entry in of_one_node():
        made[_key(entry.name)] = partial(_layer, entry), partial(entry.example, WIDTH)
    for op in native_ops.OPS:
        made[f"native_{op}"] = partial(native_ops.layer, op, 33, 17, 1), partial(torch.randn, 2, 33)
    made["TiedProjection"] = _tied_projection, partial(torch.randn, 2, WIDTH)
    return made


def _layer(entry: Entry) -> nn.Module:
    made: nn.Module = entry.linear(WIDTH, 8) if entry.linear else Called(entry, entry.make(WIDTH))
    return made


def _tied_projection() -> nn.Module:
    """The value projection of a tied attention, for its operator."""
    return edgefc.TiedAttention(WIDTH, 2).v_proj


def plain() -> dict[str, Callable[[Path], Path]]:
    """Models without structured layers."""
    return {
        "matmul": onnx_models.matmul,
        "two_inputs": onnx_models.two_in_two_out,
        "embedding": onnx_models.embedding,
        "branches": branches,
        "recurrent": recurrent,
    }


def branches(path: Path) -> Path:
    """Weights in the branches of an If, in a Constant, and in a function."""
    then, other = (
        helper.make_graph(
            [helper.make_node("Add", ["x", f"w{k}"], [f"y{k}"])],
            f"branch{k}",
            [],
            [helper.make_tensor_value_info(f"y{k}", TensorProto.FLOAT, ["b", 4])],
            [numpy_helper.from_array(np.full(4, k, np.float32), f"w{k}")],
        )
        for k in (1, 2)
    )
    constant = numpy_helper.from_array(np.full(4, 3, np.float32))
    nodes = [
        helper.make_node("If", ["c"], ["a"], then_branch=then, else_branch=other),
        helper.make_node("Twice", ["a"], ["y"], domain="local"),
    ]
    inputs = {"x": (TensorProto.FLOAT, ["b", 4]), "c": (TensorProto.BOOL, [])}
    opsets = {"": 20, "local": 1}
    imports = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Constant", [], ["k"], value=constant), helper.make_node("Mul", ["p", "k"], ["q"])]
    functions = [helper.make_function("local", "Twice", ["p"], ["q"], body, imports)]
    outputs = {"y": (TensorProto.FLOAT, ["b", 4])}
    return onnx_models.write(path, nodes, inputs, outputs, {}, opsets=opsets, functions=functions)


def recurrent(path: Path) -> Path:
    """A GRU, 3 to 2."""
    draw = np.random.default_rng(0).standard_normal
    weights = {"w": draw((1, 6, 3)).astype(np.float32), "r": draw((1, 6, 2)).astype(np.float32)}
    node = helper.make_node("GRU", ["x", "w", "r"], ["y"], hidden_size=2)
    inputs = {"x": (TensorProto.FLOAT, ["t", "b", 3])}
    return onnx_models.write(path, [node], inputs, {"y": (TensorProto.FLOAT, ["t", 1, "b", 2])}, weights)


TWO_FILES = ("CirculantLinear", "PRPLinear_rademacher", "BilinearLinear", "branches", "matmul")


def write_all(folder: Path) -> None:
    """Write every base model as NAME.onnx, and as two_NAME.onnx with two_NAME.onnx.data."""
    for name, (make, example) in layers().items():
        (folder / f"{name}.onnx").write_bytes(_one_layer(name, make, example))
    for name, write in plain().items():
        write(folder / f"{name}.onnx")
    for name in TWO_FILES:
        model = onnx.load(folder / f"{name}.onnx")
        data = f"two_{name}.onnx.data"
        onnx.save(model, folder / f"two_{name}.onnx", save_as_external_data=True, location=data, size_threshold=0)


def _one_layer(name: str, make: Callable[[], nn.Module], example: Callable[[], Any]) -> bytes:
    torch.manual_seed(0)
    layer = make().eval()
    if name.startswith("native"):
        layer = layer.requires_grad_(False)
    return ir.to_proto(layer_model(layer, example())).SerializeToString()


def bases() -> tuple[Base, ...]:
    """All base models, in a fixed order."""
    single = [Base(name, (f"{name}.onnx",), f"{__name__}:{name}") for name in layers()]
    single += [Base(name, (f"{name}.onnx",)) for name in plain()]
    sources = {base.name: base.source for base in single}
    two = [Base(f"two_{n}", (f"two_{n}.onnx", f"two_{n}.onnx.data"), sources[n]) for n in TWO_FILES]
    return (*single, *two)


def __getattr__(name: str) -> Callable[[], tuple[nn.Module, Tensor]]:
    """The factory of a layer, with the weights of its file."""
    if name.startswith("_") or name not in layers():
        raise AttributeError(name)

    def factory() -> tuple[nn.Module, Tensor]:
        make, example = layers()[name]
        torch.manual_seed(0)
        layer = make().eval()
        return layer, example()

    return factory
