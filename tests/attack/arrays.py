"""Unusual arrays for Session.run and profile(inputs=...): the result is the right values, or one sentence.

numpy computes the right values in float64 from the numbers in the file, independently of onnxruntime.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgefc import CirculantLinear, PRPLinear
from edgefc.runtime import Session, profile
from edgefc.testing import layer_model
from tests.attack.harness import Case
from tests.attack.outcome import Fault
from tests.support import layer_models, onnx_models

Array = NDArray[Any]
N, M = 12, 8
_TYPES = {
    "float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE,
    "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32, "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8, "uint32": TensorProto.UINT32, "uint64": TensorProto.UINT64, "bool": TensorProto.BOOL,
}  # fmt: skip
_STRUCTURED = ("circulant", "prp")
_MODELS = ("matmul", *_STRUCTURED, *_TYPES)
_NEVER_RIGHT = "it returned an answer, but such an array is not a valid input of this model"


def prepare(folder: Path) -> None:
    """matmul, two structured layers with their matrices beside them, and a copy of the input for each type."""
    weight = np.random.default_rng(1).standard_normal((N, M)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ports: tuple[onnx_models.Ports, onnx_models.Ports]
    ports = {"x": (TensorProto.FLOAT, ["b", N])}, {"y": (TensorProto.FLOAT, ["b", M])}
    onnx_models.write(folder / "matmul.onnx", [node], *ports, {"w": weight})
    np.savez(folder / "matmul.npz", matrix=weight.T.astype(np.float64), bias=np.zeros(M))
    torch.manual_seed(0)
    layers: dict[str, layer_models.Linear] = {
        "circulant": CirculantLinear(N, M, seed=3), "prp": PRPLinear(N, M, seed=3),
    }  # fmt: skip
    for name, layer in layers.items():
        layer_models.randomise(layer)
        (folder / f"{name}.onnx").write_bytes(ir.to_proto(layer_model(layer, N)).SerializeToString())
        bias = np.zeros(M) if layer.bias is None else layer.bias.detach().double().numpy()
        np.savez(folder / f"{name}.npz", matrix=layer_models.matrix(layer), bias=bias)
    for name, kind in _TYPES.items():
        copied = helper.make_node("Concat", ["x", "x"], ["y"], axis=1)
        ports = {"x": (kind, ["b", N])}, {"y": (kind, ["b", 2 * N])}
        onnx_models.write(folder / f"{name}.onnx", [copied], *ports, {})


def case(rng: random.Random, number: int, folder: Path) -> Case:
    model = _MODELS[number // len(_ARRAYS) % len(_MODELS)]
    name, make = _ARRAYS[number % len(_ARRAYS)]
    dtype = np.dtype(model if model in _TYPES else "float32")
    rows = rng.choice((1, 2, 3, 17))
    random_ = np.random.default_rng(rng.randrange(2**32))
    start = random_.standard_normal((rows, N)) * 3
    x = (start > 0 if dtype.kind == "b" else np.abs(start) if dtype.kind == "u" else start).astype(dtype)
    native = rng.choice(("auto", "off"))
    measured = number % 56 == number // 56 % 40

    def act(work: Path) -> None:
        value, path = make(x, random_), folder / f"{model}.onnx"
        if measured:
            profile(path, inputs={"x": value}, native=native, min_time_s=0.001, launches=1, processes=1, memory=False)
            y = None
        else:
            y = Session(path, native=native).run({"x": value})["y"]
        expected = _expected(folder, model, value, dtype)
        if expected is None:
            raise Fault("wrong value", _NEVER_RIGHT)
        if y is not None:
            _check(y, expected, exact=model in _TYPES)

    return Case(f"{model}: {name}, {rows} rows, native {native}{', profile' * measured}", act, limit_s=60)


def _expected(folder: Path, model: str, given: Any, dtype: np.dtype[Any]) -> Array | None:
    """The expected values. None for a value that is not an input of the model: another type, another shape.

    Masks are ignored, as in numpy. Python numbers have no dtype, so they may be converted to the model's. Torch tensors
    are used without their gradients.
    """
    given = given.detach() if isinstance(given, torch.Tensor) else given
    try:
        x = np.asarray(given, dtype if isinstance(given, (list, tuple)) else None)
    except Exception:
        return None
    if x.dtype.newbyteorder("=") != dtype or x.ndim != 2 or x.shape[1] != N:
        return None
    x = np.array(x.astype(dtype), order="C")
    if model in _TYPES:
        return np.concatenate([x, x], axis=1)
    with np.load(folder / f"{model}.npz") as stored, np.errstate(all="ignore"):
        y: Array = x.astype(np.float64) @ stored["matrix"].T + stored["bias"]
    return y


def _check(y: Array, expected: Array, *, exact: bool) -> None:
    if y.shape != expected.shape:
        raise Fault("wrong value", f"shape {y.shape}, expected {expected.shape}")
    if exact:
        if y.dtype != expected.dtype or not np.array_equal(y, expected, equal_nan=y.dtype.kind == "f"):
            raise Fault("wrong value", f"{y!r:.200}, expected {expected!r:.200}")
        return
    rows = np.isfinite(expected).all(axis=1) & (np.abs(expected) < 1e37).all(axis=1)
    a, b = y[rows].astype(np.float64), expected[rows]
    if not np.allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max(initial=1e-30)):
        raise Fault("wrong value", f"off by {np.abs(a - b).max()} of {np.abs(b).max()}")
    lost = ~rows & np.isfinite(y).all(axis=1) & (np.abs(y) < 1e37).all(axis=1)
    if lost.any():
        raise Fault("wrong value", f"rows {np.flatnonzero(lost)} are finite, although the input has infinity or NaN")


class _Lying:
    """An object that raises its own exception instead of returning an array."""

    def __array__(self, *_: Any, **__: Any) -> Array:
        raise RuntimeError("I am not an array")


class _Quiet(Exception):
    def __str__(self) -> str:
        raise ValueError


class _LyingQuietly:
    def __array__(self, *_: Any, **__: Any) -> Array:
        raise _Quiet


def _odd(value: float) -> Callable[[Array, np.random.Generator], Any]:
    def put(x: Array, random_: np.random.Generator) -> Any:
        changed = x.copy()
        if x.dtype.kind == "f":
            with np.errstate(all="ignore"):
                changed.flat[random_.integers(x.size)] = value
        return changed

    return put


def _strided(x: Array) -> Array:
    wide = np.zeros((x.shape[0] * 2, x.shape[1] * 3), x.dtype)
    wide[::2, ::3] = x
    return wide[::2, ::3]


def _unaligned(x: Array) -> Array:
    raw = np.zeros(x.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(x.dtype).reshape(x.shape)
    unaligned[:] = x
    return unaligned


def _read_only(x: Array) -> Array:
    frozen = x.copy()
    frozen.flags.writeable = False
    return frozen


def _mapped(x: Array) -> Array:
    mapped = np.memmap("x.raw", x.dtype, "w+", shape=x.shape)
    mapped[:] = x
    return mapped


def _ragged(x: Array) -> Any:
    return [list(x[0]), list(x[0][:-1])]


def _record(x: Array) -> Array:
    fields = np.zeros(x.shape, [("a", x.dtype), ("b", np.int8)])
    fields["a"] = x
    return fields["a"]


def _huge_view(x: Array) -> Array:
    return np.broadcast_to(x[:1], (1 << 40, x.shape[1]))


_Make = Callable[[Array, np.random.Generator], Any]
_ARRAYS: tuple[tuple[str, _Make], ...] = (
    ("plain", lambda x, _: x),
    ("Fortran order", lambda x, _: np.asfortranarray(x)),
    ("strides", lambda x, _: _strided(x)),
    ("negative strides", lambda x, _: np.ascontiguousarray(x[::-1, ::-1])[::-1, ::-1]),
    ("broadcast", lambda x, _: np.broadcast_to(x[:1], x.shape)),
    ("transposed", lambda x, _: np.ascontiguousarray(x.T).T),
    ("big endian", lambda x, _: x.astype(x.dtype.newbyteorder(">"))),
    ("little endian", lambda x, _: x.astype(x.dtype.newbyteorder("<"))),
    ("unaligned", lambda x, _: _unaligned(x)),
    ("read-only", lambda x, _: _read_only(x)),
    ("memmap", lambda x, _: _mapped(x)),
    ("matrix", lambda x, _: np.asmatrix(x)),
    ("masked", lambda x, _: np.ma.masked_array(x, mask=np.arange(x.size).reshape(x.shape) % 2)),
    ("field of records", lambda x, _: _record(x)),
    ("records", lambda x, _: np.zeros(x.shape, [("a", x.dtype)])),
    ("list", lambda x, _: x.tolist()),
    ("tuple of lists", lambda x, _: tuple(map(list, x))),
    ("torch tensor", lambda x, _: torch.tensor(x.tolist())),
    ("torch with gradients", lambda x, _: torch.tensor(x.tolist(), dtype=torch.float64).requires_grad_()),
    ("ragged", lambda x, _: _ragged(x)),
    ("NaN", _odd(np.nan)),
    ("infinity", _odd(np.inf)),
    ("minus infinity", _odd(-np.inf)),
    ("denormals", _odd(1e-40)),
    ("largest", _odd(3.4e38)),
    ("minus zero", _odd(-0.0)),
    ("all NaN", lambda x, _: np.full_like(x, np.nan) if x.dtype.kind == "f" else x),
    ("all denormals", lambda x, _: np.full_like(x, 1e-42) if x.dtype.kind == "f" else x),
    ("empty batch", lambda x, _: x[:0]),
    ("no features", lambda x, _: x[:, :0]),
    ("no axes", lambda x, _: x.dtype.type(1)),
    ("one axis", lambda x, _: x[0]),
    ("three axes", lambda x, _: x[None]),
    ("64 axes", lambda x, _: x.reshape(*[1] * 30, *x.shape)),
    ("one feature more", lambda x, _: np.concatenate([x, x[:, :1]], axis=1)),
    ("as float64", lambda x, _: x.astype(np.float64)),
    ("as float16", lambda x, _: x.astype(np.float16)),
    ("as int64", lambda x, _: np.ones(x.shape, np.int64)),
    ("as bool", lambda x, _: x > 0),
    ("as complex", lambda x, _: x.astype(np.complex64)),
    ("as long double", lambda x, _: x.astype(np.longdouble)),
    ("as text", lambda x, _: x.astype(str)),
    ("as bytes", lambda x, _: x.astype("S8")),
    ("as objects", lambda x, _: x.astype(object)),
    ("as dates", lambda x, _: np.zeros(x.shape, "datetime64[s]")),
    ("as void", lambda x, _: np.zeros(x.shape, "V4")),
    ("None", lambda x, _: None),
    ("a text", lambda x, _: "x\x1b[31m"),
    ("bytes", lambda x, _: b"\0" * 48),
    ("a mapping", lambda x, _: {"a": 1}),
    ("a generator", lambda x, _: (row for row in x)),
    ("an object that raises", lambda x, _: _Lying()),
    ("an object that raises without a text", lambda x, _: _LyingQuietly()),
    ("2^40 rows in a view", lambda x, _: _huge_view(x)),
    ("infinite recursion", lambda x, _: _recursive()),
    ("huge integers", lambda x, _: [[10**5000] * N]),
)


def _recursive() -> list[Any]:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    return cyclic


COUNT = len(_ARRAYS) * len(_MODELS)
