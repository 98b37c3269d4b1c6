"""Keeps the statistics of each pass in a folder, so that an interrupted replace() goes on where it was.

    pass-0.npz, pass-1.npz, ...    the moments of one pass, how many batches they have, and a fingerprint

The fingerprint is a hash of the weights, the calibration data and the layers of the pass. A file with another
fingerprint is an error.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from edgefc.errors import UsageError, first_line
from edgefc.files import exists, staged, writing
from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.replacing.statistics import Batch, Group, Pass

_EVERY_S = 20.0


class Store:
    """The folder with the statistics of one model and its data."""

    def __init__(self, folder: Path, model: nn.Module, batches: Sequence[Batch]) -> None:
        self._folder, self._content = folder, hash_of([model.state_dict(), list(batches)])
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def run(self, index: int, groups: Sequence[Group], model: nn.Module, batches: Sequence[Batch]) -> Pass:
        """Runs a pass from the last saved batch on. Saves it every 20 seconds, and at its end.

        Raises:
            UsageError: a file is damaged, or belongs to another model or other data; or the folder cannot be written.
        """
        rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
        path = self._folder / (f"pass-{index}.npz" if not rank else f"pass-{index}-rank-{rank}.npz")
        mark = f"{self._content}-{hash_of([[each.name for each in group.members] for group in groups])}"
        current = _read(path, mark, groups) if exists(path) else Pass(list(groups))
        if current.done < len(batches):
            current.run(model, batches, _saving(path, mark, len(batches)))
        return current


def _saving(path: Path, mark: str, count: int) -> Callable[[Pass], None]:
    last = time.monotonic()

    def save(current: Pass) -> None:
        nonlocal last
        if current.done == count or time.monotonic() - last > _EVERY_S:
            _write(path, mark, current)
            last = time.monotonic()

    return save


def _write(path: Path, mark: str, current: Pass) -> None:
    arrays: dict[str, Any] = {"mark": np.array(mark), "done": np.array(current.done)}
    for index, each in enumerate(current.statistics):
        parts = {"counts": each.counts} if isinstance(each, TokenCounts) else each.arrays()
        arrays |= {f"{index}.{name}": array for name, array in parts.items()}
    arrays |= {f"{index}.waiting": np.concatenate(rows) for index, rows in current.waiting.items()}
    with staged(path) as file:
        np.savez(file, **arrays)


def _read(path: Path, mark: str, groups: Sequence[Group]) -> Pass:
    advice = "Give another folder for the statistics, or remove this one."
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["mark"]) != mark:
                raise UsageError(f"{path} has statistics of another model, plan or data. {advice}")
            statistics = [_one(file, index) for index in range(len(groups))]
            waiting = {index: [file[f"{index}.waiting"]] for index in range(len(groups)) if f"{index}.waiting" in file}
            return Pass(list(groups), int(file["done"]), statistics, waiting)
    except UsageError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise errors of many classes
        raise UsageError(f"cannot read {path}: {first_line(error)}. {advice}") from None


def _one(file: Any, index: int) -> Moments | TokenCounts:
    if f"{index}.counts" in file:
        return TokenCounts(file[f"{index}.counts"])
    return Moments.from_arrays({name: file[f"{index}.{name}"] for name in ("count", "shift", "total", "outer")})


def hash_of(content: Any) -> str:
    """Returns the SHA-256 of nested tensors, arrays and other values."""
    state = hashlib.sha256()
    _add(state, content)
    return state.hexdigest()


def _add(state: Any, value: Any) -> None:
    """Adds nested values. Tensors are added with their bytes."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        state.update(f"{value.dtype}{tuple(value.shape)}".encode())
        if not value.is_meta and value.layout == torch.strided:
            state.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    elif hasattr(value, "items"):
        for key, part in value.items():
            state.update(repr(key).encode())
            _add(state, part)
    elif isinstance(value, list | tuple):
        state.update(f"[{len(value)}".encode())
        for part in value:
            _add(state, part)
    else:
        state.update(repr(value).encode())
