"""The inputs and outputs of a model: names, dtypes and shapes. Checks feeds against them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefc.errors import UsageError, first_line

Array = npt.NDArray[Any]

# Names of onnxruntime's tensor types, and the numpy dtypes for them.
_DTYPES = {
    "float16": "float16", "float": "float32", "double": "float64", "bool": "bool", "string": "str",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip

_PYTHON = (bool, int, float, list, tuple)
NUMBERS = frozenset(_DTYPES.values()) - {"str"}


@dataclass(frozen=True)
class TensorInfo:
    """One input or output. The size of a dynamic axis is a string: its name, or "?" if it has none."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


def tensor_info_of(node: Any) -> TensorInfo:
    """Converts an onnxruntime NodeArg. A type that numpy lacks keeps onnxruntime's name, such as "seq(...)"."""
    kind = str(node.type)
    dtype = _DTYPES.get(kind[len("tensor(") : -1], kind) if kind.startswith("tensor(") else kind
    shape = tuple(size if isinstance(size, int) else size or "?" for size in node.shape or ())
    return TensorInfo(str(node.name), dtype, shape)


def check_feeds(feeds: Mapping[str, Any], inputs: Iterable[TensorInfo]) -> dict[str, Array]:
    """Returns the feeds as arrays, after checking names, dtypes, ranks and sizes.

    Accepts arrays of any byte order, memory layout or subclass, torch tensors, and other objects that numpy converts to
    arrays. Python lists and numbers are converted to the dtype of the model if it can represent them.

    Raises:
        UsageError: a feed does not match. The message names the expected and the given value, and what would work.
    """
    if not isinstance(feeds, Mapping):
        raise UsageError(f"feeds must be a dict with one array for each input name, got {type(feeds).__name__}.")
    infos = {info.name: info for info in inputs}
    for name in feeds:
        if name not in infos:
            hint = f"{near(name, infos)}. Its inputs: {listed(infos.values())}."
            raise UsageError(f"the model has no input {name!r}{hint}")
    missing = [info for name, info in infos.items() if name not in feeds]
    if missing:
        raise UsageError(f"missing input {missing[0].name!r}. Pass all of: {listed(infos.values())}.")
    return {name: _checked(_given(feeds[name], info), info) for name, info in infos.items()}


def array_of(name: str, value: Any) -> Array:
    """Converts the value for an input to a contiguous array in native byte order.

    Raises:
        UsageError: numpy cannot convert it to an array, or it is a masked array.
    """
    if type(value) is np.ndarray and value.dtype.isnative and value.flags.c_contiguous:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise UsageError(f"input {name!r} is a masked array, which is not supported. Fill it: {name}.filled(0).")
    try:
        array = np.asarray(_unwrapped(value))
        return np.asarray(array, array.dtype.newbyteorder("="), order="C")
    except Exception as error:  # __array__ and torch may raise anything
        raise UsageError(
            f"input {name!r} is a {type(value).__name__}, which numpy cannot convert to an array: {first_line(error)}. "
            "Pass a numpy array."
        ) from None


def _unwrapped(value: Any) -> Any:
    """Converts a torch tensor to numpy: on the CPU, without a gradient, without lazy conjugation or negation."""
    if type(value).__module__.partition(".")[0] != "torch" and not hasattr(value, "resolve_neg"):
        return value
    return value.detach().cpu().resolve_conj().resolve_neg().numpy()


def _given(value: Any, info: TensorInfo) -> Array:
    array = array_of(info.name, value)
    if info.dtype == "str":
        return _strings(array, info)
    if isinstance(value, _PYTHON) and not isinstance(value, np.generic) and info.dtype in NUMBERS:
        if _is_rounded(value, array):
            return _of_large(value, array, np.dtype(info.dtype))
        return _of_python(array, np.dtype(info.dtype))
    return array


def _is_rounded(value: Any, array: Array) -> bool:
    """Whether numpy converted integers to floats that cannot represent them, which happens beyond 64 bits."""
    if array.dtype.kind != "f":
        return False
    return any(isinstance(each, int) and int(float(each)) != each for each in np.array(value, dtype=object).flat)


def _of_large(value: Any, array: Array, dtype: np.dtype[Any]) -> Array:
    """Converts Python integers to an integer type that can represent them. Otherwise keeps them, for an error later."""
    given = np.array(value, dtype=object)
    bounds = np.iinfo(dtype) if dtype.kind in "iu" else None
    if bounds is None or not all(isinstance(each, int) and bounds.min <= each <= bounds.max for each in given.flat):
        return array.astype(np.float64) if dtype != np.float64 else given
    return given.astype(dtype)


def _of_python(array: Array, dtype: np.dtype[Any]) -> Array:
    """Converts Python numbers to a dtype that can represent them. Otherwise returns the array unchanged.

    Integers must be represented exactly. Fractions are rounded, but never to infinity.
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


def _strings(array: Array, info: TensorInfo) -> Array:
    if array.dtype.kind == "T":  # numpy's variable-length strings, which onnxruntime does not support
        return array.astype(object)
    if array.dtype.kind == "O":
        odd = [each for each in array.flat if not isinstance(each, str)]
        if odd:
            kind = type(odd[0]).__name__
            raise UsageError(f"input {info.name!r} must contain only str, got an object of type {kind}.")
    return array


def _checked(value: Array, info: TensorInfo) -> Array:
    if not _is(value.dtype, info):
        raise UsageError(_dtype_error(value, info))
    given = list(value.shape)
    if value.ndim != len(info.shape):
        raise UsageError(
            f"input {info.name!r} must have {len(info.shape)} dimensions, shape {list(info.shape)}, got "
            f"{value.ndim} dimensions, shape {given}."
        )
    if any(isinstance(expected, int) and expected != actual for expected, actual in zip(info.shape, given)):
        raise UsageError(f"input {info.name!r} must have shape {list(info.shape)}, got {given}.")
    return value


def _is(dtype: np.dtype[Any], info: TensorInfo) -> bool:
    return dtype.kind in "UO" if info.dtype == "str" else dtype.name == info.dtype


def _dtype_error(value: Array, info: TensorInfo) -> str:
    if info.dtype not in _DTYPES.values():
        return f"input {info.name!r} is a {info.dtype}, which is not supported. Use a model with tensor inputs."
    hint = f"Cast it: {info.name}.astype({info.dtype!r})" if _casts(value.dtype) else f"Pass an array of {info.dtype}"
    return f"input {info.name!r} must have dtype {info.dtype}, got {value.dtype.name}. {hint}."


def _casts(dtype: np.dtype[Any]) -> bool:
    """Whether a cast is meaningful. It is not for complex numbers, dates, records and objects."""
    return dtype.kind in "biufSU" or dtype.name.startswith(("bfloat", "float"))


def near(name: str, known: Iterable[str]) -> str:
    """Returns a suggestion in parentheses if a known name is similar, otherwise ""."""
    match = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def listed(infos: Iterable[TensorInfo]) -> str:
    return ", ".join(map(str, infos)) or "none"
