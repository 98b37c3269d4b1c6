"""Joins the statistics of several processes, each of which read its own share of the data (torchrun)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed

from edgefc.fitting.moments import Moments, TokenCounts


def merged(statistics: Moments | TokenCounts) -> Moments | TokenCounts:
    """Returns the statistics over all ranks. Every rank gets the same numbers. Without torch.distributed, its own."""
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return statistics
    if isinstance(statistics, TokenCounts):
        return TokenCounts(_sum(statistics.counts))
    total = _sum(np.array([float(statistics.count), *(statistics.count * statistics.mean)]))
    shift = total[1:] / max(total[0], 1.0)  # the mean over all ranks, so that no digits are lost
    return Moments.from_arrays({
        name: shift if name == "shift" else _sum(array) for name, array in statistics.arrays(shift).items()
    })  # fmt: skip


def _sum(array: Any) -> Any:
    where = torch.device("cuda", torch.cuda.current_device()) if distributed.get_backend() == "nccl" else "cpu"
    tensor: Tensor = torch.from_numpy(np.array(array)).to(where)
    distributed.all_reduce(tensor)
    distributed.broadcast(tensor, 0)  # the same bits everywhere
    return tensor.cpu().numpy()
