"""Cuts the calibration data of a torch model into batches."""

import inspect
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefc.errors import UsageError, shortened
from edgefc.npz import read_npz

_BATCH = 8
"""Samples in a batch."""


def read_batches(path: Path, model: nn.Module) -> list[dict[str, Tensor]]:
    """Returns batches of keyword arguments of the model. Each array has samples along its first axis.

    Padding that all samples of a batch share is cut off, if attention_mask says where it is and each array is
    (samples, positions).

    Raises:
        UsageError: the file cannot be read, an array is not an argument of the model, or the samples differ in number.
    """
    arrays = read_npz(path)
    known = _arguments(model)
    for name in arrays:
        if known is not None and name not in known:
            raise UsageError(
                f"{path} has the array {shortened(name, 80)!r}, which the model does not take. "
                f"It takes {', '.join(known)}."
            )
    counts = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    listed = ", ".join(f"{shortened(name, 80)} {count}" for name, count in counts.items())
    if not min(counts.values()):
        raise UsageError(f"{path} has an array without samples: {listed}. Save the samples along the first axis.")
    if len(set(counts.values())) != 1:
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


def _arguments(model: nn.Module) -> list[str] | None:
    """The names of the model's arguments; None if it takes any."""
    parameters = inspect.signature(model.forward).parameters.values()
    if any(each.kind is each.VAR_KEYWORD for each in parameters):
        return None
    return [each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
