"""Models and feeds as the page fetches them: a model with its weights, and one file with all arrays of a batch."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgefc.devices.browser.server import Server
from edgefc.errors import DeviceError, UsageError
from edgefc.modelfile.weights import weights
from edgefc.runtime.inputs import Wanted, feeds_for, shapes_for
from edgefc.runtime.signature import Array, TensorInfo

LARGEST_MODEL = 1 << 30  # bytes; wasm has 4 GiB, and loading holds about three copies of the weights
LARGEST_FEEDS = 1 << 30


def offer_model(server: Server, path: str) -> dict[str, Any]:
    """The ids under which the page fetches a model and its weights.

    Raises:
        DeviceError: all together they are too large.
        ModelError: onnxruntime would not read its weights.
    """
    model = Path(path)
    found = weights(model)
    size = sum(file.stat().st_size for file in (model, *(each.file for each in found)))
    if size > LARGEST_MODEL:
        raise DeviceError(
            f"cannot load {path} in the browser: it has {size} bytes, and a browser takes up to {LARGEST_MODEL}."
        )
    beside = [{"path": each.location, "file": server.offer(each.file)} for each in found]
    return {"file": server.offer(model), "weights": beside}


def feeds(ports: Sequence[TensorInfo], wanted: Wanted, path: str) -> tuple[dict[str, Array], int]:
    """As inputs.feeds_for, for ports that a page has told of, so that their sizes may be anything."""
    try:
        if wanted.path is None:
            _check_size(shapes_for(ports, wanted), path)
        return feeds_for(ports, wanted)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def packed(arrays: Mapping[str, Array], path: str) -> tuple[list[dict[str, Any]], bytes]:
    """Where each array lies in the bytes, and all bytes."""
    index, parts, at = [], [], 0
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise UsageError(f"{path}: input {name!r} is no array of numbers, and a browser is fed nothing else.")
        part = np.ascontiguousarray(array).tobytes()
        shape = list(array.shape)
        index.append({"name": name, "dtype": array.dtype.name, "shape": shape, "offset": at, "length": len(part)})
        parts.append(part)
        at += len(part)
    return index, b"".join(parts)


def _check_size(sizes: list[list[int]], path: str) -> None:
    total = sum(math.prod(shape) for shape in sizes) * 8
    if total > LARGEST_FEEDS:
        raise DeviceError(f"cannot run {path} in the browser: its inputs are above {LARGEST_FEEDS} bytes.")
