"""Gives a layer the same seed on all ranks of distributed training.

DistributedDataParallel copies the buffers of rank 0 to every rank. FSDP2 (fully_shard) copies no buffers, so this
module broadcasts the seed of the first rank of the mesh. FSDP1 copies buffers only with sync_module_states=True, and a
layer cannot access its process group, so this module raises an error if the seed differs from that of rank 0.

FSDP replaces the parameters of a layer by its own tensors, with setattr, in the same order on all ranks.
"""

import itertools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgefc.errors import UsageError
from edgefc.layers.common.seed_reading import seed_tensor

_numbers = itertools.count()


class Agreement:
    """Makes the ranks use the same seed for one layer. Copies and pickles of a layer exclude this state."""

    _is_sharded = False
    _key: str | None = None
    _seed: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def is_due(self, value: Tensor) -> bool:
        """Whether `value` is the first tensor that FSDP sets as an attribute of the layer.

        FSDP2 sets a DTensor. FSDP1 sets a tensor that is not a parameter.
        """
        from_fsdp = hasattr(value, "device_mesh") or not isinstance(value, nn.Parameter)
        return from_fsdp and not self._is_sharded and _several()

    def agreed_seed(self, value: Tensor, seed: int, is_drawn: bool) -> int:
        """Returns the seed that the layer must use. Call it if is_due(value), on every rank of the FSDP group."""
        self._is_sharded = True
        mesh = getattr(value, "device_mesh", None)
        if mesh is not None:
            return _first(seed, mesh)
        if is_drawn:
            self._key, self._seed = f"edgefc/seed/{next(_numbers)}", seed
            if dist.get_rank() == 0:
                _store().set(self._key, str(seed))
        return seed

    def compare(self, layer: str, seed: int) -> None:
        """Compares the seed with that of rank 0, once and without waiting: FSDP1 synchronises the ranks before the
        first forward. Does not compare a seed that was loaded from a checkpoint in the meantime.

        Raises:
            UsageError: rank 0 drew another seed.
        """
        key, self._key = self._key, None
        if key is None or seed != self._seed or not _store().check([key]):
            return
        first = int(_store().get(key))
        if first != seed:
            raise UsageError(
                f"{layer} has seed {seed} on rank {dist.get_rank()} and {first} on rank 0. Pass "
                "sync_module_states=True to FSDP, pass a seed to the layer, or call torch.manual_seed with the same "
                "number on all ranks."
            )


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _first(seed: int, mesh: Any) -> int:
    """Returns the seed of the first rank of the mesh. Call it on every rank of the mesh."""
    sent = seed_tensor(seed, torch.device(mesh.device_type))
    for axis in range(mesh.ndim):
        dist.broadcast(sent, group=mesh.get_group(axis), group_src=0)
    return int(sent) % 2**64


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
