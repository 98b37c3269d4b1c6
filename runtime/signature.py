"""What goes into a model and what comes out: names, dtypes and shapes, and the check of feeds against them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefc.errors import UsageError, first_line

Array = npt.NDArray[Any]

# onnxruntime's type names for tensors that numpy can hold.
_DTYPES = {
    "float16": "float16", "float": "float32", "double": "float64", "bool": "bool", "string": "str",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip

_PYTHON = (bool, int, float, list, tuple)
NUMBERS = frozenset(_DTYPES.values()) - {"str"}


@dataclass(frozen=True)
class TensorInfo:
    """One input or output. A size that the model leaves open is a string: its name, or "?" when it has none."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


def tensor_info_of(node: Any) -> TensorInfo:
    """From an onnxruntime NodeArg. A type that is no numpy tensor keeps onnxruntime's name, such as "seq(...)"."""
    kind = str(node.type)
    dtype = _DTYPES.get(kind[len("tensor(") : -1], kind) if kind.startswith("tensor(") else kind
    shape = tuple(size if isinstance(size, int) else size or "?" for size in node.shape or ())
    return TensorInfo(str(node.name), dtype, shape)


def check_feeds(feeds: Mapping[str, Any], inputs: Iterable[TensorInfo]) -> dict[str, Array]:
    """The feeds as arrays, when names, dtypes, ranks and sizes are the model's.

    Arrays of any byte order, memory layout or subclass are taken, tensors of torch, and what else numpy
    makes an array of. Lists and numbers of Python become the dtype of the model when it holds them.

    Raises:
        UsageError: one does not fit; the sentence names both sides and what would work.
    """
    if not isinstance(feeds, Mapping):
        raise UsageError(f"the feeds are a {type(feeds).__name__}. Give a dict of one array for each input, by name.")
    ports = {port.name: port for port in inputs}
    for name in feeds:
        if name not in ports:
            hint = f"{near(name, ports)}. Its inputs: {listed(ports.values())}."
            raise UsageError(f"the model has no input {name!r}{hint}")
    missing = [port for name, port in ports.items() if name not in feeds]
    if missing:
        raise UsageError(f"no value was given for input {missing[0].name!r}. Give all of: {listed(ports.values())}.")
    return {name: _checked(_given(feeds[name], port), port) for name, port in ports.items()}


def array_of(name: str, value: Any) -> Array:
    """What was given for an input as a plain array of this machine's byte order.

    Raises:
        UsageError: numpy makes no array of it, or parts of it are masked.
    """
    if type(value) is np.ndarray and value.dtype.isnative and value.flags.c_contiguous:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise UsageError(f"input {name!r} is a masked array, and a model has no masks. Fill it: {name}.filled(0).")
    try:
        array = np.asarray(_unwrapped(value))
        return np.asarray(array, array.dtype.newbyteorder("="), order="C")
    except Exception as error:  # of other code: __array__, torch
        raise UsageError(
            f"input {name!r} is a {type(value).__name__} of which numpy makes no array: {first_line(error)}. "
            "Give a numpy array."
        ) from None


def _unwrapped(value: Any) -> Any:
    """A tensor of torch as numpy takes it: on the CPU, without a gradient, its values written out."""
    if type(value).__module__.partition(".")[0] != "torch" and not hasattr(value, "resolve_neg"):
        return value
    return value.detach().cpu().resolve_conj().resolve_neg().numpy()


def _given(value: Any, port: TensorInfo) -> Array:
    array = array_of(port.name, value)
    if port.dtype == "str":
        return _strings(array, port)
    if isinstance(value, _PYTHON) and not isinstance(value, np.generic) and port.dtype in NUMBERS:
        if _is_rounded(value, array):
            return _of_large(value, array, np.dtype(port.dtype))
        return _of_python(array, np.dtype(port.dtype))
    return array


def _is_rounded(value: Any, array: Array) -> bool:
    """Whether numpy made floats of whole numbers that floats do not hold: those beyond one type of 64 bits."""
    if array.dtype.kind != "f":
        return False
    return any(isinstance(each, int) and int(float(each)) != each for each in np.array(value, dtype=object).flat)


def _of_large(value: Any, array: Array, dtype: np.dtype[Any]) -> Array:
    """Whole numbers of Python in an integer type that holds them; otherwise as they were, which is refused."""
    given = np.array(value, dtype=object)
    bounds = np.iinfo(dtype) if dtype.kind in "iu" else None
    if bounds is None or not all(isinstance(each, int) and bounds.min <= each <= bounds.max for each in given.flat):
        return array.astype(np.float64) if dtype != np.float64 else given
    return given.astype(dtype)


def _of_python(array: Array, dtype: np.dtype[Any]) -> Array:
    """Numbers of Python, which have no dtype of their own, in one that holds them; otherwise as they were.

    Whole numbers are kept exactly; fractions are rounded, and never to infinity.
    """
    if array.size and (array.dtype.kind not in "biuf" or (array.dtype.kind == "b") != (dtype.kind == "b")):
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
        if array.dtype.kind == "f":
            held = dtype.kind == "f" and bool((np.isfinite(cast) == np.isfinite(array)).all())
        else:
            held = bool((cast.astype(array.dtype) == array).all()) and bool(((cast < 0) == (array < 0)).all())
    return cast if held or not array.size else array


def _strings(array: Array, port: TensorInfo) -> Array:
    if array.dtype.kind == "T":  # numpy's strings of any length, which onnxruntime does not know
        return array.astype(object)
    if array.dtype.kind == "O":
        odd = [each for each in array.flat if not isinstance(each, str)]
        if odd:
            kind = type(odd[0]).__name__
            raise UsageError(f"input {port.name!r} holds an object of type {kind}; the model takes str. Give only str.")
    return array


def _checked(value: Array, port: TensorInfo) -> Array:
    if not _is(value.dtype, port):
        raise UsageError(_dtype_error(value, port))
    given = list(value.shape)
    if value.ndim != len(port.shape):
        raise UsageError(
            f"input {port.name!r} was given {value.ndim} dimensions, {given}; the model takes {len(port.shape)}. "
            f"Give an array of shape {list(port.shape)}."
        )
    if any(isinstance(want, int) and want != got for want, got in zip(port.shape, given)):
        raise UsageError(f"input {port.name!r} was given the shape {given}. Give an array of shape {list(port.shape)}.")
    return value


def _is(dtype: np.dtype[Any], port: TensorInfo) -> bool:
    return dtype.kind in "UO" if port.dtype == "str" else dtype.name == port.dtype


def _dtype_error(value: Array, port: TensorInfo) -> str:
    if port.dtype not in _DTYPES.values():
        return f"input {port.name!r} is a {port.dtype}, which has no numpy array. Use a model with tensor inputs."
    hint = f"Cast it: {port.name}.astype({port.dtype!r})" if _casts(value.dtype) else f"Give an array of {port.dtype}"
    return f"input {port.name!r} was given {value.dtype.name}; the model takes {port.dtype}. {hint}."


def _casts(dtype: np.dtype[Any]) -> bool:
    """Whether a cast keeps what the values say: not of complex numbers, dates, records and objects."""
    return dtype.kind in "biufSU" or dtype.name.startswith(("bfloat", "float"))


def near(name: str, known: Iterable[str]) -> str:
    """A did-you-mean in brackets when a known name is close, else nothing."""
    match = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def listed(ports: Iterable[TensorInfo]) -> str:
    return ", ".join(map(str, ports)) or "none"
