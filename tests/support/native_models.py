"""For tests of the native kernels: the library, one PRPLinear node with its float64 answer, layers without bodies."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from edgefc import generator
from edgefc.runtime import native
from edgefc.runtime.native import build
from edgefc.testing import layer_model

Array = NDArray[Any]
CPUS = ("portable", "avx2", "avx512")


def library(folders: pytest.TempPathFactory) -> str:
    """The installed one, or one compiled here where that is missing or older than its sources."""
    path = native.library_path()
    newest = max(file.stat().st_mtime for file in build.HERE.glob("*/*") if file.suffix in (".cc", ".h"))
    if path is not None and Path(path).stat().st_mtime >= newest:
        return path
    try:
        build.compiler()
    except build.NoLibrary as error:
        pytest.skip(f"NO NATIVE KERNELS ARE TESTED: {error}")
    return str(made_once(folders, native.NAME, build.build))  # a compiler that fails is a failure


def made_once(folders: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The file that make(path) writes, once for all modules and processes of a test run."""
    import fcntl

    base = folders.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"made-{name}"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / name).exists():
            make(folder / name)
    return folder / name


def choose_cpu(name: str, monkeypatch: pytest.MonkeyPatch, library: str) -> str:
    """The variant of that name from here on, where this processor runs it."""
    monkeypatch.setenv("EDGEFC_NATIVE_CPU", name)
    try:
        session(Prp(1, 1).model(), library)
    except Exception as error:
        if name == "portable" or "this processor supports" not in str(error):
            raise
        pytest.skip(f"NOT TESTED: {error}")  # a variant of a newer processor than this one
    return name


def check_threads(model: ModelProto, library: str, x: Array) -> None:
    """No bit is changed by onnxruntime's threads within a run, nor by several runs of one session at the same time."""
    expected = run(session(model, library), x)
    kernel, found = session(model, library, threads=3), []
    threads = [threading.Thread(target=lambda: found.append(run(kernel, x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 4
    assert all(np.array_equal(y, expected) for y in found)


def without_body(layer: nn.Module, n: int, **changed: Any) -> ModelProto:
    """A layer that only the native kernel can run, with attributes replaced, or left out where they are None."""
    model = layer_model(layer, n)
    model.functions.clear()
    (node,) = model.graph
    node.name = "encoder.fc1"
    for name, value in changed.items():
        if value is None:
            del node.attributes[name]
        else:
            node.attributes.add(ir.convenience.convert_attribute(name, value))
    return ir.to_proto(model)


class Prp:
    """A layer of n inputs and m outputs; `changed` replaces attributes, and leaves out those that are None."""

    def __init__(self, n: int, m: int, distribution: str = "rademacher", seed: int = 7, **changed: Any) -> None:
        random = np.random.default_rng(n * 31 + m)
        book = generator.codebook(distribution)
        self.n, self.m, self.distribution, self.seed = n, m, distribution, seed
        self.weights = {
            name: random.standard_normal(size).astype(np.float32)
            for name, size in (("in_scale", n), ("out_scale", m), ("bias", m))
        }
        signed = seed - 2**64 if seed >= 2**63 else seed
        self.attributes: dict[str, Any] = {
            "in_features": n, "out_features": m, "seed": signed, "distribution": distribution,
            "bits": book.bits, "codebook": [float(level) for level in book.levels], **changed,
        }  # fmt: skip

    def model(self) -> ModelProto:
        """Without a body: only the native kernel can run it."""
        kept = {name: value for name, value in self.attributes.items() if value is not None}
        node = helper.make_node("PRPLinear", ["x", *self.weights], ["y"], "encoder.fc1", domain="edgefc", **kept)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
        stored = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph([node], "g", ends[:1], ends[1:], stored)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("edgefc", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def rounded(self, x: Array) -> NDArray[np.float64]:
        """x after in_scale in 255 levels for each row, and what then goes into the same layer without in_scale."""
        u = x * self.weights["in_scale"].astype(np.float64)
        step = np.abs(u).max(axis=1, keepdims=True) / 127
        return np.round(u / step) * step / self.weights["in_scale"]

    def expected(self, x: Array) -> NDArray[np.float64]:
        p = generator.matrix(self.seed, self.m, self.n, self.distribution).astype(np.float64) / np.sqrt(self.n)
        scales = {name: value.astype(np.float64) for name, value in self.weights.items()}
        y: NDArray[np.float64] = (x * scales["in_scale"]) @ p.T * scales["out_scale"] + scales["bias"]
        return y


def session(model: ModelProto, library: str, threads: int = 1, activations: str | None = None) -> Any:
    options = ort.SessionOptions()
    if activations is not None:
        options.add_session_config_entry("edgefc.activations", activations)
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(library)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(session: Any, x: Array) -> Array:
    y: Array = session.run(None, {"x": x})[0]
    return y


def inputs(rows: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng(rows).standard_normal((rows, n)).astype(np.float32)
