"""The files that the page downloads: models with their weights, and one file with all input arrays of a batch."""

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgefc.devices.browser.onnxruntime_web import VERSION
from edgefc.devices.browser.server import Server
from edgefc.errors import DeviceError, UsageError
from edgefc.modelfile.weights import weights
from edgefc.runtime.inputs import Wanted, feeds_for, shapes_for
from edgefc.runtime.operators import has_operator
from edgefc.runtime.signature import Array, TensorInfo

LARGEST_MODEL = 1 << 30  # bytes; wasm has 4 GiB, and loading needs about three copies of the weights
LARGEST_FEEDS = 1 << 30


def offer_model(server: Server, path: str) -> dict[str, Any]:
    """The ids under which the page fetches a model and its weights. Warns if onnxruntime-web is slow for the model.

    Raises:
        DeviceError: the files together are too large.
        ModelError: onnxruntime cannot read its weights.
    """
    model = Path(path)
    external = weights(model)
    size = sum(file.stat().st_size for file in (model, *(each.file for each in external)))
    if size > LARGEST_MODEL:
        raise DeviceError(
            f"cannot load {path} in the browser: it has {size} bytes, and the limit is {LARGEST_MODEL}. "
            "Give a smaller model."
        )
    if has_operator(model, "com.microsoft", "MatMulNBits"):
        warnings.warn(
            f"{path} has MatMulNBits nodes, for which onnxruntime-web {VERSION} needs 100 to 200 times as long as for "
            "a dense layer of one row. For a browser, export with --body QuantizedLinear=dequantized, which needs the "
            "memory of a dense layer.",
            stacklevel=2,
        )
    weight_files = [{"path": each.location, "file": server.offer(each.file)} for each in external]
    return {"file": server.offer(model), "weights": weight_files}


def feeds(infos: Sequence[TensorInfo], wanted: Wanted, path: str) -> tuple[dict[str, Array], int]:
    """inputs.feeds_for() for the inputs that the page reported. It checks their sizes first, which are not trusted."""
    try:
        if wanted.path is None:
            _check_size(shapes_for(infos, wanted), path)
        return feeds_for(infos, wanted)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def packed(arrays: Mapping[str, Array], path: str) -> tuple[list[dict[str, Any]], bytes]:
    """The index of the arrays (name, dtype, shape, offset and length in bytes), and the bytes of all arrays."""
    index, parts, at = [], [], 0
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise UsageError(f"{path}: input {name!r} has dtype {array.dtype}, but a browser supports only numbers.")
        part = np.ascontiguousarray(array).tobytes()
        shape = list(array.shape)
        index.append({"name": name, "dtype": array.dtype.name, "shape": shape, "offset": at, "length": len(part)})
        parts.append(part)
        at += len(part)
    return index, b"".join(parts)


def _check_size(sizes: list[list[int]], path: str) -> None:
    total = sum(math.prod(shape) for shape in sizes) * 8
    if total > LARGEST_FEEDS:
        raise DeviceError(
            f"cannot run {path} in the browser: its inputs have more than {LARGEST_FEEDS} bytes. Give a smaller batch."
        )
