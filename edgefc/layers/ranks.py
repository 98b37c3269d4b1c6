"""One seed on all ranks of a distributed training.

DistributedDataParallel copies the buffers of rank 0 to every rank. FSDP2 (fully_shard) copies nothing: here the seed of
its mesh's first rank is shared. FSDP1 copies buffers with sync_module_states=True and shows a layer no process group:
here a seed that differs from that of rank 0 is refused.

FSDP puts tensors of its own in the place of a layer's parameters, with setattr, on all ranks in the same order.
"""

import itertools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgefc.errors import UsageError

_numbers = itertools.count()


class Agreement:
    """What one layer has done so far to agree with the other ranks. Copies and pickles of a layer start anew."""

    _is_sharded = False
    _key: str | None = None
    _seed: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def see(self, value: Tensor, seed: Tensor, is_drawn: bool) -> None:
        """`value` became an attribute of the layer: share the seed where FSDP put it there, or show it to the others.

        A DTensor comes from FSDP2, a tensor that is no parameter from FSDP1.
        """
        mesh = getattr(value, "device_mesh", None)
        if self._is_sharded or not _several() or (mesh is None and isinstance(value, nn.Parameter)):
            return
        self._is_sharded = True
        if mesh is not None:
            _share(seed, mesh)
        elif is_drawn:
            self._key, self._seed = f"edgefc/seed/{next(_numbers)}", int(seed) % 2**64
            if dist.get_rank() == 0:
                _store().set(self._key, str(self._seed))

    def compare(self, layer: str, seed: int) -> None:
        """Compare with rank 0, once and without waiting: in the first forward FSDP1 has brought the ranks together.

        A seed that was loaded since is that of a checkpoint, and not compared.

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
                "sync_module_states=True to FSDP, give the layer a seed, or call torch.manual_seed with one number "
                "on all ranks."
            )


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def _share(seed: Tensor, mesh: Any) -> None:
    """Write the seed of the mesh's first rank into `seed`, on every rank."""
    sent = seed.to(mesh.device_type, copy=True)
    for axis in range(mesh.ndim):
        dist.broadcast(sent, group=mesh.get_group(axis), group_src=0)
    seed.copy_(sent)


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
