"""One model run twice on the same inputs: by torch, and from its file by onnxruntime."""

from pathlib import Path
from typing import Any

import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import ModelError, UsageError, first_line
from edgefc.export.examples import said_by, tensors
from edgefc.files import exists


def torch_outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[NDArray[Any]]:
    try:
        return [to_numpy(tensor) for tensor in tensors(model(*args, **kwargs))]
    except Exception as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors((args, kwargs)))
        raise UsageError(
            f"the torch model cannot run on inputs of shapes {shapes}: {said_by(error)}. Give the example inputs that "
            "the file was exported with."
        ) from error


def open_session(file: Path) -> Any:
    if not (exists(file) and file.is_file()):
        raise UsageError(f"no file {file}. Name an .onnx file that exists.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {file.name}: {first_line(error)}.") from None


def feeds_of(session: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Keyword tensors by their names where the file has them, all others in order."""
    names = [entry.name for entry in session.get_inputs()]
    named = {name: to_numpy(kwargs[name]) for name in names if isinstance(kwargs.get(name), Tensor)}
    others = [to_numpy(t) for t in tensors((args, {k: v for k, v in kwargs.items() if k not in named}))]
    if len(names) != len(named) + len(others):
        raise UsageError(
            f"the file takes {len(names)} inputs ({', '.join(names)}) and {len(named) + len(others)} tensors were "
            "given. Give one for each."
        )
    return {**named, **dict(zip([name for name in names if name not in named], others, strict=True))}


def run_session(session: Any, file: Path, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        result: list[NDArray[Any]] = session.run(None, feeds)
        return result
    except Exception as error:
        shapes = {name: array.shape for name, array in feeds.items()}
        raise ModelError(
            f"onnxruntime cannot run {file.name} on inputs of shapes {shapes}: {first_line(error)}."
        ) from None


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:  # which numpy lacks
        tensor = tensor.float()
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result
