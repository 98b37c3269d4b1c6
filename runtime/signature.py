"""What goes into a model and what comes out: names, dtypes and shapes, and the check of feeds against them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgefc.errors import UsageError

Array = npt.NDArray[Any]

# onnxruntime's type names for tensors that numpy can hold.
_DTYPES = {
    "float16": "float16", "float": "float32", "double": "float64", "bool": "bool", "string": "str",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """One input or output. A size that the model leaves open is a string: its name, or "?" when it has none."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


def port_of(node: Any) -> Port:
    """The Port of an onnxruntime NodeArg. A type that is no numpy tensor keeps onnxruntime's name, "seq(...)" say."""
    kind = str(node.type)
    dtype = _DTYPES.get(kind[len("tensor(") : -1], kind) if kind.startswith("tensor(") else kind
    shape = tuple(size if isinstance(size, int) else size or "?" for size in node.shape or ())
    return Port(str(node.name), dtype, shape)


def check_feeds(feeds: Mapping[str, Any], inputs: Iterable[Port]) -> dict[str, Array]:
    """The feeds as arrays, when names, dtypes, ranks and sizes are the model's.

    Raises:
        UsageError: one is not; the sentence names both sides and what would work.
    """
    ports = {port.name: port for port in inputs}
    for name in feeds:
        if name not in ports:
            hint = f"{near(name, ports)}. Its inputs: {listed(ports.values())}."
            raise UsageError(f"the model has no input {name!r}{hint}")
    missing = [port for name, port in ports.items() if name not in feeds]
    if missing:
        raise UsageError(f"no value was given for input {missing[0].name!r}. Give all of: {listed(ports.values())}.")
    return {name: _checked(np.asarray(feeds[name]), port) for name, port in ports.items()}


def _checked(value: Array, port: Port) -> Array:
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


def _is(dtype: np.dtype[Any], port: Port) -> bool:
    return dtype.kind in "UO" if port.dtype == "str" else dtype.name == port.dtype and dtype.isnative


def _dtype_error(value: Array, port: Port) -> str:
    if port.dtype not in _DTYPES.values():
        return f"input {port.name!r} is a {port.dtype}, which has no numpy array. Use a model with tensor inputs."
    return (
        f"input {port.name!r} was given {value.dtype.name}; the model takes {port.dtype}. "
        f"Cast it: {port.name}.astype({port.dtype!r})."
    )


def near(name: str, known: Iterable[str]) -> str:
    """A did-you-mean in brackets when a known name is close, else nothing."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def listed(ports: Iterable[Port]) -> str:
    return ", ".join(map(str, ports)) or "none"
