"""Reads calibration data of a torch model from a .npz file."""

import inspect
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefc.errors import UsageError, first_line, reason_of, shortened

_BATCH = 8
"""Samples in a batch."""


def read_npz(path: Path, model: nn.Module) -> list[dict[str, Tensor]]:
    """Returns batches of keyword arguments of the model. Each array has samples along its first axis.

    Padding that all samples of a batch share is cut off, if attention_mask says where it is and each array is
    (samples, positions).

    Raises:
        UsageError: the file cannot be read, an array is not an argument of the model, or the samples differ in number.
    """
    arrays = _arrays(path)
    known = _arguments(model)
    for name in arrays:
        if known is not None and name not in known:
            raise UsageError(
                f"{path} has the array {shortened(name, 80)!r}, which the model does not take. "
                f"It takes {', '.join(known)}."
            )
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) != 1 or not min(counts.values()):
        listed = ", ".join(f"{shortened(name, 80)} {count}" for name, count in counts.items())
        raise UsageError(f"{path} has different numbers of samples: {listed}. Give each array the same first axis.")
    samples = min(counts.values())
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    starts = range(0, samples, _BATCH)
    return [_trimmed({name: each[at : at + _BATCH] for name, each in tensors.items()}) for at in starts]


def _trimmed(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch without the padding after the last position that a sample uses."""
    mask = batch.get("attention_mask")
    if mask is None or mask.ndim != 2 or any(each.shape != mask.shape for each in batch.values()):
        return batch
    used = mask.bool().any(0).nonzero()
    return {name: each[:, : int(used[-1]) + 1] for name, each in batch.items()} if len(used) else batch


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise UsageError(f"{path} is one array. Save one array for each input: np.savez(path, name=array).")
            arrays = {name: file[name] for name in file.files}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {reason_of(error)}. Check the path.") from None
    except UsageError:
        raise
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise UsageError(f"cannot read {path}: {first_line(error)}. Save arrays with np.savez().") from None
    if not arrays:
        raise UsageError(f"{path} has no arrays. Save one for each input: np.savez(path, name=array).")
    for name, array in arrays.items():
        if array.ndim == 0 or array.dtype.kind not in "fiub":
            raise UsageError(
                f"{path} has {shortened(name, 80)!r} of shape {array.shape} and type {array.dtype}. "
                "Save numbers, with samples along the first axis."
            )
    return {name: array.astype(array.dtype.newbyteorder("=")) for name, array in arrays.items()}


def _arguments(model: nn.Module) -> list[str] | None:
    """The names of the model's arguments; None if it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
