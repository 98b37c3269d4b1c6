"""One model run twice on the same inputs: by torch, and from its file by onnxruntime."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefc.errors import ModelError, UsageError
from edgefc.export.examples import said_by, tensors
from edgefc.files import exists


def torch_outputs(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[NDArray[Any]]:
    """Every tensor that the model returns. Buffers that the run changes get their values back.

    Raises:
        UsageError: the model raises, or ends the process, on these inputs.
    """
    try:
        with _buffers_kept(model):
            return [to_numpy(tensor).copy() for tensor in tensors(model(*args, **kwargs))]
    except (Exception, SystemExit) as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors((args, kwargs)))
        raise UsageError(
            f"the torch model cannot run on inputs of shapes {shapes}: {said_by(error)}. Give the example inputs that "
            "the file was exported with."
        ) from error


@contextlib.contextmanager
def _buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put buffers back as they were, so that each run starts from the same state."""
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    before = [(module, dict(module._buffers)) for module in modules]
    values = [(buffer, _version(buffer), buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, buffers in before:
            module._buffers.update(buffers)
        with torch.no_grad():
            for buffer, version, value in values:
                if version is None or _version(buffer) != version:
                    buffer.copy_(value)


def _version(tensor: Tensor) -> int | None:
    """How often the tensor was changed in place; None where torch does not count."""
    return None if tensor.is_inference() else tensor._version


def open_session(file: Path) -> Any:
    if not (exists(file) and file.is_file()):
        raise UsageError(f"no file {file}. Name an .onnx file that exists.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"onnxruntime cannot load {file.name}: {_first_line(error)}.") from None


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
            f"onnxruntime cannot run {file.name} on inputs of shapes {shapes}: {_first_line(error)}."
        ) from None


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    if tensor.dtype == torch.bfloat16:  # which numpy lacks
        tensor = tensor.float()
    result: NDArray[Any] = tensor.detach().cpu().numpy()
    return result


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
