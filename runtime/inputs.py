"""Feeds for a model: random values that match its inputs, or the arrays of an .npz file.

Sizes. A dynamic first axis is the batch, 1 by default. Any other dynamic axis has OPEN elements. Axes with the same
name have the same size. A name such as "past + tokens" is computed from its parts. `shapes` sets the axes of an input.

Values, from a fixed seed:

    floats       standard normal
    integers     0 and 1, valid indices into almost any table
    booleans     both
    *mask*       ones, so that nothing is masked; False for a boolean *padding_mask*, as in torch.nn
    *position*   0, 1, 2, ... along the last axis (integers)
    *token_type*, *segment*    zeros (integers), since a model may have only one type

`ranges` sets the lowest and the highest value of an input, inclusive.
"""

from __future__ import annotations

import ast
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Optional

import numpy as np

from edgefc.errors import EdgefcError, UsageError, first_line, reason_of, shortened
from edgefc.runtime.signature import Array, TensorInfo, check_feeds, listed, near

SEED = 0
OPEN = 128  # elements of a dynamic axis that is not the batch
MOST_BYTES = 1 << 40  # the largest size of one input; no machine has more memory
_ELSE = "Choose their sizes with --shape, their values with --range, or give arrays: --inputs FILE.npz"

Shapes = Mapping[str, Sequence[Optional[int]]]  # noqa: UP045  Python 3.9 evaluates it
Ranges = Mapping[str, Sequence[float]]

# Exceptions of numpy and zipfile for bytes that are not an archive, and for truncated or inconsistent archives.
BROKEN = (
    ValueError, TypeError, EOFError, KeyError, SyntaxError, MemoryError, OverflowError, AttributeError,
    NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, UnicodeError, tokenize.TokenError,
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """The requested feeds of a model.

    batch    size of dynamic first axes; None is 1
    path     an .npz file with all inputs; without it, inputs are random
    shapes   by input name, one size per axis; None uses the batch size or the default
    ranges   by input name, the lowest and the highest random value
    """

    batch: Optional[int] = None  # noqa: UP045  these are evaluated (probes/plain.py), by Python 3.9 too
    path: Optional[str] = None  # noqa: UP045
    shapes: Optional[Shapes] = None  # noqa: UP045
    ranges: Optional[Ranges] = None  # noqa: UP045


def feeds_for(inputs: Sequence[TensorInfo], wanted: Wanted) -> tuple[dict[str, Array], int]:
    """Returns feeds for the inputs, and their batch size. Ignores unknown names in `shapes` and `ranges`.

    Raises:
        UsageError: the file, a shape or a range does not match, or there are no random values of an input's type.
    """
    if wanted.path is None:
        shapes = shapes_for(inputs, wanted)
        ranges = wanted.ranges or {}
        feeds = {info.name: _drawn(info, shape, ranges.get(info.name)) for info, shape in zip(inputs, shapes)}
    else:
        feeds = check_feeds(read_npz(wanted.path), inputs)
    return feeds, _batch_of(inputs, feeds)


def check_named(wanted: Wanted, inputs: Sequence[TensorInfo]) -> None:
    """Raises a UsageError if `shapes` or `ranges` contain a name that is not in `inputs`, the inputs of all models."""
    known = {info.name: info for info in inputs}
    for option, given in (("--shape", wanted.shapes), ("--range", wanted.ranges)):
        for name in given or {}:
            if name not in known:
                hint = f"{near(name, known)}. Inputs: {listed(known.values())}."
                raise UsageError(f"{option} names {name!r}, but there is no such input{hint}")


def shapes_for(inputs: Sequence[TensorInfo], wanted: Wanted) -> list[list[int]]:
    """Returns the shape of each input, by the rules in the docstring of this module.

    Raises:
        UsageError: a size differs from a fixed axis, or axes with the same name have different sizes.
    """
    given = wanted.shapes or {}
    sizes: dict[str, int] = {}
    for info in inputs:
        if info.name in given:
            _bind(info, given[info.name], sizes)
    batch = _batch(inputs, given, sizes, wanted.batch)
    return [
        [_size(info, axis, given.get(info.name), sizes, batch) for axis in range(len(info.shape))] for info in inputs
    ]


def _bind(info: TensorInfo, shape: Sequence[int | None], sizes: dict[str, int]) -> None:
    """Records the sizes of named axes in a given shape."""
    shown = "x".join("?" if size is None else str(size) for size in shape)
    if len(shape) != len(info.shape):
        raise UsageError(
            f"--shape {info.name}={shown} has {len(shape)} axes, but input {info} has {len(info.shape)}. "
            "Give one size per axis."
        )
    for axis, (size, own) in enumerate(zip(shape, info.shape)):
        if size is None or own == "?":
            continue
        if isinstance(own, int):
            if own != size:
                raise UsageError(
                    f"--shape {info.name}={shown} does not match input {info}: axis {axis} is fixed. Use {own} there."
                )
        elif sizes.setdefault(own, size) != size:
            raise UsageError(
                f"--shape {info.name}={shown} gives the axis {own!r} {size} elements, but another axis with this name "
                f"has {sizes[own]}. Give both the same size."
            )


def _batch(inputs: Sequence[TensorInfo], given: Shapes, sizes: dict[str, int], batch: int | None) -> int:
    """Returns the size of dynamic first axes, and records it for those with a name."""
    ranked = [info for info in inputs if info.shape]
    free = [info for info in ranked if isinstance(info.shape[0], str)]
    if batch is not None and not free and ranked and ranked[0].shape[0] != batch:
        raise UsageError(
            f"batch {batch} does not match input {ranked[0]}, whose first dimension is fixed. "
            f"Omit the batch or use {ranked[0].shape[0]}."
        )
    first_sizes = [size for info in free if (size := (given.get(info.name) or [None])[0]) is not None]
    if batch is not None and any(size != batch for size in first_sizes):
        raise UsageError(
            f"batch {batch} does not match a given shape, whose first size is {first_sizes[0]}. Omit one of them."
        )
    chosen = batch if batch is not None else first_sizes[0] if first_sizes else 1
    for info in free:
        if _plain(info.shape[0]):
            sizes.setdefault(str(info.shape[0]), chosen)
    return chosen


def _size(info: TensorInfo, axis: int, given: Sequence[int | None] | None, sizes: Mapping[str, int], batch: int) -> int:
    own, requested = info.shape[axis], None if given is None else given[axis]
    if isinstance(own, int):
        return own
    if not _plain(own):
        computed = _computed(own, sizes)
        if computed is not None:
            if requested not in (None, computed):
                raise UsageError(
                    f"--shape gives axis {axis} of input {info} {requested} elements, but its parts add up to "
                    f"{computed}. Give the shapes of the inputs that have the parts as axes."
                )
            return computed
    if requested is not None:
        return requested
    return sizes.get(own, batch if axis == 0 else OPEN)


def _plain(name: int | str) -> bool:
    """Whether a name is a single identifier, and not an expression."""
    return isinstance(name, str) and name.isidentifier()


def _computed(name: str, sizes: Mapping[str, int]) -> int | None:
    """Evaluates an expression such as "past + tokens" or "2*tokens - 1". Returns None for other names."""
    try:
        size = _evaluated(ast.parse(name.strip(), mode="eval").body, sizes)
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        return None
    return size if 0 <= size < MOST_BYTES else None


def _evaluated(node: ast.AST, sizes: Mapping[str, int]) -> int:
    if isinstance(node, ast.Name):
        return sizes.get(node.id, OPEN)
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.BinOp):
        left, right = _evaluated(node.left, sizes), _evaluated(node.right, sizes)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.FloorDiv):
            return left // right
    raise ValueError("not a sum, difference, product or quotient of sizes")


def _drawn(info: TensorInfo, shape: list[int], between: Sequence[float] | None) -> Array:
    if not _drawable(info):
        raise UsageError(f"cannot generate values for input {info}. Give the values: --inputs FILE.npz.")
    dtype, called = np.dtype(info.dtype), f"input {shortened(info, 100)} of shape {shortened(shape, 100)}"
    if math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise UsageError(f"{called} takes more than {MOST_BYTES} bytes. Give a smaller shape.")
    try:
        return _values(info, shape, dtype, between)
    except MemoryError:
        raise UsageError(f"not enough memory for {called}. Give a smaller shape.") from None
    except UsageError:
        raise
    except ValueError as error:  # too many axes, or an axis of 0 and a product of the others beyond 64 bits
        raise UsageError(
            f"numpy cannot create an array for {called}: {first_line(error)}. Export the model with fewer axes."
        ) from None


def _drawable(info: TensorInfo) -> bool:
    return info.dtype in ("float16", "float32", "float64", "bool") or info.dtype.startswith(("int", "uint"))


def _values(info: TensorInfo, shape: list[int], dtype: np.dtype[Any], between: Sequence[float] | None) -> Array:
    rng, name = np.random.default_rng(SEED), info.name.lower()
    if between is not None:
        return _between(rng, info, shape, dtype, between)
    if "mask" in name:
        return np.full(shape, not (dtype.kind == "b" and "padding_mask" in name), dtype)
    if dtype.kind == "f":
        wide = dtype if dtype.itemsize > 2 else np.dtype(np.float32)
        return rng.standard_normal(shape, wide).astype(dtype, copy=False)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if "position" in name and shape:
        return np.broadcast_to(np.arange(shape[-1]), shape).astype(dtype)
    if "token_type" in name or "segment" in name:
        return np.zeros(shape, dtype)
    return rng.integers(0, 2, shape, dtype=dtype.name)


def _between(
    rng: np.random.Generator, info: TensorInfo, shape: list[int], dtype: np.dtype[Any], between: Sequence[float]
) -> Array:
    low, high = between
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        if max(abs(low), abs(high)) > limit:
            raise UsageError(
                f"--range {info.name}={low}:{high} exceeds the range of {info.dtype}. Use values up to {limit:g}."
            )
        return rng.uniform(low, high, shape).astype(dtype)
    least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not (low == int(low) and high == int(high) and least <= low and high <= most):
        raise UsageError(
            f"--range {info.name}={low}:{high} does not match input {info}. Use integers from {least} to {most}."
        )
    if dtype.kind == "b":
        return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
    return rng.integers(int(low), int(high), shape, dtype=dtype.name, endpoint=True)


def run_error(error: EdgefcError, wanted: Wanted) -> EdgefcError:
    """The error of a failed run. If the inputs were random, the message also describes how to choose others."""
    return error if wanted.path is not None else error.reworded(f"{error} The inputs were random. {_ELSE}.")


def dtype_name(value: Array) -> str:
    """The name of the dtype in records."""
    return "str" if value.dtype.kind in "UO" else value.dtype.name


def _batch_of(inputs: Sequence[TensorInfo], feeds: Mapping[str, Array]) -> int:
    """Returns the size of the first dynamic first dimension, or else of the first dimension of any input, or else 1."""
    ranked = [info for info in inputs if info.shape]
    ranked.sort(key=lambda info: isinstance(info.shape[0], int))
    return int(feeds[ranked[0].name].shape[0]) if ranked else 1


def read_npz(path: str) -> dict[str, Array]:
    """Reads the arrays of an .npz file.

    Raises:
        UsageError: the file cannot be read, is not an .npz of plain arrays, has two arrays with the same name, or is
            larger than memory.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # reading a pipe would block
            raise UsageError(f"cannot read {path}: it is not a regular file. Give an .npz file.")
        with open(path, "rb") as file:  # numpy does not close a broken archive that it opened itself
            _check_archive(path, file)
            loaded = np.load(file, allow_pickle=False)
            arrays = {name: loaded[name] for name in loaded.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):  # numpy returns bytes for a member that is not an .npy file
                raise UsageError(f"cannot read {path}: its member {name!r} is not an array. Write it with numpy.savez.")
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}. Check the path.") from None
    except BROKEN:
        raise UsageError(
            f"cannot read {path}: it is not an .npz file of plain arrays. Write it with numpy.savez."
        ) from None
    return arrays


def _check_archive(path: str, file: BinaryIO) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    file.seek(0)
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise UsageError(f"cannot read {path}: it has two arrays named {double!r}. Write it with numpy.savez.")
    size, memory = sum(entry.file_size for entry in entries), _memory()
    if size > memory:
        raise UsageError(
            f"cannot read {path}: its arrays have {size} bytes, but this machine has {memory} bytes of memory. "
            "Use smaller arrays."
        )


def _memory() -> int:
    """Returns the memory of this machine in bytes, or MOST_BYTES if it is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return MOST_BYTES
