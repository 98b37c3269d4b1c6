"""Feeds to profile a model with: drawn from its signature, or read from an .npz file.

Drawn values are standard normal floats from a fixed seed, integers 0 and 1 (valid indices into almost anything,
and no division by zero unless the model divides by what it is given), and fair booleans.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from edgefc.errors import UsageError
from edgefc.runtime.signature import Array, Port, check_feeds

SEED = 0

# What numpy and zipfile raise for bytes that are no archive, a cut one, or one that lies about its sizes.
BROKEN = (
    ValueError, TypeError, EOFError, KeyError, SyntaxError, MemoryError, OverflowError, AttributeError,
    NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error, UnicodeError,
)  # fmt: skip


def feeds_for(inputs: Sequence[Port], batch: int | None, path: str | None) -> tuple[dict[str, Array], int]:
    """Feeds that fit the inputs, and their batch size.

    Raises:
        UsageError: the file does not fit, or the signature leaves open what cannot be drawn.
    """
    if path is None:
        feeds = {port.name: _drawn(port, shape) for port, shape in zip(inputs, shapes(inputs, batch))}
    else:
        feeds = check_feeds(read_npz(path), inputs)
    return feeds, _batch_of(inputs, feeds)


def shapes(inputs: Sequence[Port], batch: int | None) -> list[list[int]]:
    """The shape of each input when open first dimensions are `batch` (1 when None).

    A size with the name of an open first dimension is that same size wherever it stands.
    """
    free = {port.shape[0] for port in inputs if port.shape and isinstance(port.shape[0], str)}
    fixed = [port for port in inputs if port.shape and isinstance(port.shape[0], int)]
    if batch is not None and not free and fixed and fixed[0].shape[0] != batch:
        raise UsageError(
            f"batch {batch} does not fit: the model's input is {fixed[0]}, with its first dimension fixed. "
            f"Leave the batch out or give {fixed[0].shape[0]}."
        )
    return [[_size(port, axis, free, batch or 1) for axis in range(len(port.shape))] for port in inputs]


def _size(port: Port, axis: int, free: set[str], batch: int) -> int:
    size = port.shape[axis]
    if isinstance(size, int):
        return size
    if axis == 0 or (size in free and size != "?"):
        return batch
    raise UsageError(f"dimension {axis} of input {port} is open. Give arrays of the sizes you mean: --inputs FILE.npz.")


def _drawn(port: Port, shape: list[int]) -> Array:
    rng = np.random.default_rng(SEED)
    if port.dtype in ("float32", "float64"):
        return rng.standard_normal(shape, np.dtype(port.dtype))
    if port.dtype == "float16":
        return rng.standard_normal(shape, np.float32).astype(np.float16)
    if port.dtype == "bool":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if "int" in port.dtype:
        return rng.integers(0, 2, shape, dtype=port.dtype)
    raise UsageError(f"there is no way to draw values for input {port}. Give them: --inputs FILE.npz.")


def _batch_of(inputs: Sequence[Port], feeds: Mapping[str, Array]) -> int:
    """The size of the first open first dimension, else of the first dimension there is, else 1."""
    ranked = [port for port in inputs if port.shape]
    ranked.sort(key=lambda port: isinstance(port.shape[0], int))
    return int(feeds[ranked[0].name].shape[0]) if ranked else 1


def read_npz(path: str) -> dict[str, Array]:
    """The arrays of an .npz file; pickled objects are refused."""
    try:
        with open(path, "rb") as file:  # numpy does not close what it opened when the archive is broken
            loaded = np.load(file, allow_pickle=False)
            arrays = {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or 'it is broken'}. Check the path.") from None
    except BROKEN:
        raise UsageError(f"cannot read {path}: it is no .npz of plain arrays. Write it with numpy.savez.") from None
    return arrays
