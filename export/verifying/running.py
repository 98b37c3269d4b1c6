"""Runs a model in torch and its file in onnxruntime on the same inputs."""

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
from edgefc.releases import check_release


def torch_outputs(given: Given, adapter: Adapter, inputs: Sequence[Tensor]) -> list[NDArray[Any]]:
    """Returns every output tensor of the model for these inputs, starting from the state in `given`.

    Raises:
        UsageError: the model raises an exception, or ends the process.
    """
    try:
        with given.run():
            return [to_numpy(tensor).copy() for tensor in adapter(*inputs).values()]
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
        raise UsageError(
            f"the torch model cannot run on inputs of shapes {shapes}: {describe_error(error)}. Pass the example "
            "inputs that the file was exported with."
        ) from error


def open_session(file: Path) -> Any:
    if not (exists(file) and file.is_file()):
        raise UsageError(f"no file {file}. Give the path of an existing .onnx file.")
    check_release(onnxruntime.__version__)
    admit(file)
    check_attributes(file, DOMAIN, DOMAIN_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:  # the fallback would load the file a second time and print a banner
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {file.name}: {reason(error, file)}.") from None


def feeds_of(session: Any, names: Sequence[str], tensors: Sequence[Tensor]) -> dict[str, NDArray[Any]]:
    """Returns the feeds of the file: by name if the names match those of the file, otherwise in order."""
    order = file_order(session, names)
    return {name: to_numpy(tensors[index]) for name, index in order.items()}


def file_order(session: Any, names: Sequence[str]) -> dict[str, int]:
    """Returns, for each input of the file, the index of the model's input.

    Raises:
        UsageError: the numbers of inputs differ.
    """
    own = [entry.name for entry in session.get_inputs()]
    if len(own) != len(names):
        raise UsageError(
            f"the file has {len(own)} inputs ({', '.join(own)}), got {len(names)} tensors. "
            "Pass one tensor for each input."
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
    if tensor.dtype == torch.bfloat16:  # not supported by numpy
        tensor = tensor.float()
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result
