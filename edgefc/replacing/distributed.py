"""Joins the statistics of several processes, each of which read its own share of the data (torchrun)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from edgefc.fitting.moments import Moments, TokenCounts
from edgefc.fitting.sequential import PairedMoments


def merged(statistics: Moments | TokenCounts) -> Moments | TokenCounts:
    """Returns the statistics over all ranks. Every rank gets the same numbers. Without torch.distributed, its own."""
    if not several():
        return statistics
    if isinstance(statistics, TokenCounts):
        return TokenCounts(summed(statistics.counts))
    total = summed(np.array([float(statistics.count), *(statistics.count * statistics.mean)]))
    shift = total[1:] / max(total[0], 1.0)  # the mean over all ranks, so that no digits are lost
    return Moments.from_arrays({
        name: shift if name == "shift" else summed(array) for name, array in statistics.arrays(shift).items()
    })  # fmt: skip


def merged_pairs(paired: PairedMoments) -> PairedMoments:
    """Returns the paired moments over all ranks, as merged()."""
    if not several():
        return paired
    count = paired.moments.count
    total = summed(np.array([float(count), *(count * paired.mean), *(count * paired.moments.mean)]))
    mean, other = np.split(total[1:] / max(total[0], 1.0), 2)
    both = PairedMoments(len(mean))
    offset = count * np.outer(paired.mean - mean, paired.moments.mean - other)
    joined = merged(paired.moments)
    assert isinstance(joined, Moments)
    both.mean, both.scatter, both.moments = mean, summed(paired.scatter + offset), joined
    return both


def total(number: float) -> float:
    """Returns the sum of the numbers of all ranks. Without torch.distributed, its own."""
    return float(summed(np.array(number))) if several() else number


def several() -> bool:
    """Whether there are several ranks."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def summed(array: Any) -> Any:
    """Returns the sum of an array over all ranks, with the same bits on each."""
    where = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    tensor: Tensor = torch.from_numpy(np.array(array)).to(where)
    distributed.all_reduce(tensor)
    distributed.broadcast(tensor, 0)  # the same bits everywhere
    return tensor.cpu().numpy()
