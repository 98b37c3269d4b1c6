"""Feeds to run a model with: drawn from its signature, or read from an .npz file.

Sizes. An open first axis is the batch, 1 by default. Any other open axis has OPEN elements. Axes of one name have one
size, and a name such as "past + tokens" is computed from the sizes of its parts. `shapes` sets the axes of an input.

Values, from a fixed seed:

    floats       standard normal
    integers     0 and 1, valid indices into almost any table
    booleans     both
    *mask*       ones, so that nothing is masked; False for a boolean *padding_mask*, as torch.nn means it
    *position*   0, 1, 2, ... along the last axis (integers)
    *token_type*, *segment*    zeros (integers): a model may have one type only

`ranges` sets the lowest and the highest value of an input, both included.
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
OPEN = 128  # elements of an open axis that is not the batch
MOST_BYTES = 1 << 40  # of one input: beyond it no machine has the memory
_ELSE = "Choose their sizes with --shape, their values with --range, or give arrays: --inputs FILE.npz"

Shapes = Mapping[str, Sequence[Optional[int]]]  # noqa: UP045  Python 3.9 evaluates it
Ranges = Mapping[str, Sequence[float]]

# What numpy and zipfile raise for bytes that are no archive, a cut one, or one that lies about its sizes.
BROKEN = (
    ValueError, TypeError, EOFError, KeyError, SyntaxError, MemoryError, OverflowError, AttributeError,
    NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, UnicodeError, tokenize.TokenError,
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What a model is to be fed with.

    batch    size of open first axes, 1 when None
    path     an .npz file with all inputs; then nothing is drawn
    shapes   by input name, one size per axis; None leaves an axis to the batch or the default
    ranges   by input name, the lowest and the highest drawn value
    """

    batch: Optional[int] = None  # noqa: UP045  these are evaluated (probes/plain.py), by Python 3.9 too
    path: Optional[str] = None  # noqa: UP045
    shapes: Optional[Shapes] = None  # noqa: UP045
    ranges: Optional[Ranges] = None  # noqa: UP045


def feeds_for(inputs: Sequence[TensorInfo], wanted: Wanted) -> tuple[dict[str, Array], int]:
    """Feeds that fit the inputs, and their batch size. Names in `shapes` and `ranges` that are no inputs are ignored.

    Raises:
        UsageError: the file, a shape or a range does not fit, or values of a type cannot be drawn.
    """
    if wanted.path is None:
        found = shapes_for(inputs, wanted)
        ranges = wanted.ranges or {}
        feeds = {port.name: _drawn(port, shape, ranges.get(port.name)) for port, shape in zip(inputs, found)}
    else:
        feeds = check_feeds(read_npz(wanted.path), inputs)
    return feeds, _batch_of(inputs, feeds)


def check_named(wanted: Wanted, inputs: Sequence[TensorInfo]) -> None:
    """Raise UsageError when `shapes` or `ranges` name what is no input, `inputs` being those of all models."""
    known = {port.name: port for port in inputs}
    for option, given in (("--shape", wanted.shapes), ("--range", wanted.ranges)):
        for name in given or {}:
            if name not in known:
                hint = f"{near(name, known)}. Inputs: {listed(known.values())}."
                raise UsageError(f"{option} names {name!r}, and there is no such input{hint}")


def shapes_for(inputs: Sequence[TensorInfo], wanted: Wanted) -> list[list[int]]:
    """The shape of each input, as the head of this module says.

    Raises:
        UsageError: a size does not fit a fixed axis, or two axes of one name have two sizes.
    """
    given = wanted.shapes or {}
    sizes: dict[str, int] = {}
    for port in inputs:
        if port.name in given:
            _bind(port, given[port.name], sizes)
    batch = _batch(inputs, given, sizes, wanted.batch)
    return [
        [_size(port, axis, given.get(port.name), sizes, batch) for axis in range(len(port.shape))] for port in inputs
    ]


def _bind(port: TensorInfo, shape: Sequence[int | None], sizes: dict[str, int]) -> None:
    """Note what a given shape says of named axes."""
    shown = "x".join("?" if size is None else str(size) for size in shape)
    if len(shape) != len(port.shape):
        raise UsageError(
            f"--shape {port.name}={shown} has {len(shape)} axes, and input {port} has {len(port.shape)}. "
            "Give one size per axis."
        )
    for axis, (size, own) in enumerate(zip(shape, port.shape)):
        if size is None or own == "?":
            continue
        if isinstance(own, int):
            if own != size:
                raise UsageError(
                    f"--shape {port.name}={shown} does not fit input {port}: axis {axis} is fixed. Give {own} there."
                )
        elif sizes.setdefault(own, size) != size:
            raise UsageError(
                f"--shape {port.name}={shown} gives the axis {own!r} {size} elements, and another axis of that name "
                f"was given {sizes[own]}. Give both the same size."
            )


def _batch(inputs: Sequence[TensorInfo], given: Shapes, sizes: dict[str, int], batch: int | None) -> int:
    """The size of open first axes, noted for those that have a name."""
    ranked = [port for port in inputs if port.shape]
    free = [port for port in ranked if isinstance(port.shape[0], str)]
    if batch is not None and not free and ranked and ranked[0].shape[0] != batch:
        raise UsageError(
            f"batch {batch} does not fit: the model's input is {ranked[0]}, with its first dimension fixed. "
            f"Leave the batch out or give {ranked[0].shape[0]}."
        )
    said = [size for port in free if (size := (given.get(port.name) or [None])[0]) is not None]
    if batch is not None and any(size != batch for size in said):
        raise UsageError(f"batch {batch} does not fit a shape that was given, with {said[0]} first. Leave one out.")
    chosen = batch if batch is not None else said[0] if said else 1
    for port in free:
        if _plain(port.shape[0]):
            sizes.setdefault(str(port.shape[0]), chosen)
    return chosen


def _size(port: TensorInfo, axis: int, given: Sequence[int | None] | None, sizes: Mapping[str, int], batch: int) -> int:
    own, said = port.shape[axis], None if given is None else given[axis]
    if isinstance(own, int):
        return own
    if not _plain(own):
        computed = _computed(own, sizes)
        if computed is not None:
            if said not in (None, computed):
                raise UsageError(
                    f"--shape gives axis {axis} of input {port} {said} elements, and its parts make {computed}. "
                    "Give the shapes of the inputs that the parts are axes of."
                )
            return computed
    if said is not None:
        return said
    return sizes.get(own, batch if axis == 0 else OPEN)


def _plain(name: int | str) -> bool:
    """A name that is one word, and no sum of others."""
    return isinstance(name, str) and name.isidentifier()


def _computed(name: str, sizes: Mapping[str, int]) -> int | None:
    """The size that "past + tokens" or "2*tokens - 1" stands for; None for a name that is no such expression."""
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
    raise ValueError("no sum, difference, product or quotient of sizes")


def _drawn(port: TensorInfo, shape: list[int], between: Sequence[float] | None) -> Array:
    if not _drawable(port):
        raise UsageError(f"there is no way to draw values for input {port}. Give them: --inputs FILE.npz.")
    dtype, called = np.dtype(port.dtype), f"input {shortened(port, 100)} of shape {shortened(shape, 100)}"
    if math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise UsageError(f"{called} takes more than {MOST_BYTES} bytes. Give a smaller shape.")
    try:
        return _values(port, shape, dtype, between)
    except MemoryError:
        raise UsageError(f"there is no memory for {called}. Give a smaller shape.") from None
    except UsageError:
        raise
    except ValueError as error:  # too many axes, or sizes whose product has no 64 bits beside an axis of 0
        raise UsageError(
            f"numpy makes no array for {called}: {first_line(error)}. Export it with fewer axes."
        ) from None


def _drawable(port: TensorInfo) -> bool:
    return port.dtype in ("float16", "float32", "float64", "bool") or port.dtype.startswith(("int", "uint"))


def _values(port: TensorInfo, shape: list[int], dtype: np.dtype[Any], between: Sequence[float] | None) -> Array:
    rng, name = np.random.default_rng(SEED), port.name.lower()
    if between is not None:
        return _between(rng, port, shape, dtype, between)
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
    rng: np.random.Generator, port: TensorInfo, shape: list[int], dtype: np.dtype[Any], between: Sequence[float]
) -> Array:
    low, high = between
    if dtype.kind == "f":
        limit = float(np.finfo(dtype).max)
        if max(abs(low), abs(high)) > limit:
            raise UsageError(f"--range {port.name}={low}:{high} is beyond {port.dtype}. Give values up to {limit:g}.")
        return rng.uniform(low, high, shape).astype(dtype)
    least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    if not (low == int(low) and high == int(high) and least <= low and high <= most):
        raise UsageError(
            f"--range {port.name}={low}:{high} does not fit input {port}. Give whole numbers from {least} to {most}."
        )
    if dtype.kind == "b":
        return rng.integers(int(low), int(high), shape, endpoint=True).astype(dtype)
    return rng.integers(int(low), int(high), shape, dtype=dtype.name, endpoint=True)


def run_error(error: EdgefcError, wanted: Wanted) -> EdgefcError:
    """A failed run: where the inputs were drawn, the sentence also says how to choose others."""
    return error if wanted.path is not None else error.retold(f"{error} The inputs were drawn. {_ELSE}.")


def dtype_name(value: Array) -> str:
    """As records name it."""
    return "str" if value.dtype.kind in "UO" else value.dtype.name


def _batch_of(inputs: Sequence[TensorInfo], feeds: Mapping[str, Array]) -> int:
    """The size of the first open first dimension, else of the first dimension there is, else 1."""
    ranked = [port for port in inputs if port.shape]
    ranked.sort(key=lambda port: isinstance(port.shape[0], int))
    return int(feeds[ranked[0].name].shape[0]) if ranked else 1


def read_npz(path: str) -> dict[str, Array]:
    """The arrays of an .npz file.

    Raises:
        UsageError: it cannot be read, is no .npz of plain arrays, has two arrays of one name, or is larger than memory.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would be waited for
            raise UsageError(f"cannot read {path}: it is not a regular file. Name an .npz file.")
        with open(path, "rb") as file:  # numpy does not close what it opened when the archive is broken
            _check_archive(path, file)
            loaded = np.load(file, allow_pickle=False)
            arrays = {name: loaded[name] for name in loaded.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):  # numpy gives the bytes of a member that is no .npy
                raise UsageError(f"cannot read {path}: its member {name!r} is no array. Write it with numpy.savez.")
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}. Check the path.") from None
    except BROKEN:
        raise UsageError(f"cannot read {path}: it is no .npz of plain arrays. Write it with numpy.savez.") from None
    return arrays


def _check_archive(path: str, file: BinaryIO) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    file.seek(0)
    names = [entry.filename.removesuffix(".npy") for entry in entries]
    double = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if double is not None:
        raise UsageError(f"cannot read {path}: it has two arrays of the name {double!r}. Write it with numpy.savez.")
    size, memory = sum(entry.file_size for entry in entries), _memory()
    if size > memory:
        raise UsageError(
            f"cannot read {path}: its arrays have {size} bytes, and this machine has {memory} of memory. "
            "Give smaller arrays."
        )


def _memory() -> int:
    """Bytes of this machine, MOST_BYTES where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return MOST_BYTES
