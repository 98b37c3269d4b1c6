"""One model run twice on the same inputs: by torch, and from its file by onnxruntime."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgefc.errors import ModelError, UsageError, describe_error, shortened
from edgefc.export.building.body import DOMAIN
from edgefc.export.model.state import Given
from edgefc.export.tracing.adapter import Adapter
from edgefc.files import exists
from edgefc.layers.common.facts import DOMAIN_VERSION
from edgefc.modelfile.admission import admit
from edgefc.modelfile.attributes import check_attributes
from edgefc.onnxruntime_text import reason


def torch_outputs(given: Given, adapter: Adapter, inputs: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Every tensor that the model returns for these inputs, when it starts from the state in `given`.

    Raises:
        UsageError: the model raises, or ends the process, on these inputs.
    """
    try:
        with given.run():
            return [to_numpy(tensor).copy() for tensor in adapter(*inputs).values()]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise UsageError(
            f"the torch model cannot run on inputs of shapes {shapes}: {describe_error(error)}. Give the "
            "example inputs that the file was exported with."
        ) from error


def open_session(file: Path) -> Any:
    if not (exists(file) and file.is_file()):
        raise UsageError(f"no file {file}. Name an .onnx file that exists.")
    admit(file)
    check_attributes(file, DOMAIN, DOMAIN_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:  # the fallback would load it a second time, and print a banner
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {file.name}: {reason(error, file)}.") from None


def feeds_of(session: Any, names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors for the file's inputs: by name where the names are the file's, otherwise in order."""
    order = file_order(session, names)
    return {name: to_numpy(tensors[index]) for name, index in order.items()}


def file_order(session: Any, names: Sequence[str]) -> dict[str, int]:
    """For each input of the file, which of the model's inputs it is.

    Raises:
        UsageError: there are more of one than of the other.
    """
    own = [entry.name for entry in session.get_inputs()]
    if len(own) != len(names):
        raise UsageError(
            f"the file takes {len(own)} inputs ({', '.join(own)}) and {len(names)} tensors were given. "
            "Give one for each."
        )
    if set(own) == set(names):
        return {name: list(names).index(name) for name in own}
    return {name: index for index, name in enumerate(own)}


def run_session(session: Any, file: Path, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        result: list[NDArray[Any]] = session.run(None, feeds)
        return result
    except Exception as error:
        shapes = {name: array.shape for name, array in feeds.items()}
        raise ModelError(
            f"onnxruntime cannot run {file.name} on inputs of shapes {shortened(shapes)}: {reason(error, file)}."
        ) from None


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:  # which numpy lacks
        tensor = tensor.float()
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result
