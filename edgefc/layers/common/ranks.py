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
from edgefc.layers.common.seed_reading import tensor_of

_numbers = itertools.count()


class Agreement:
    """What one layer has done so far to agree with the other ranks. Copies and pickles of a layer start anew."""

    _is_sharded = False
    _key: str | None = None
    _seed: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def is_due(self, value: Tensor) -> bool:
        """Whether `value`, which became an attribute of the layer, comes from FSDP, and is the first one.

        A DTensor comes from FSDP2, a tensor that is no parameter from FSDP1.
        """
        from_fsdp = hasattr(value, "device_mesh") or not isinstance(value, nn.Parameter)
        return from_fsdp and not self._is_sharded and _several()

    def reach(self, value: Tensor, seed: int, is_drawn: bool) -> int:
        """The seed for the layer to use, given that is_due(value). Every rank of FSDP's group calls this."""
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


def _first(seed: int, mesh: Any) -> int:
    """The seed of the mesh's first rank. Every rank of the mesh calls this."""
    sent = tensor_of(seed, torch.device(mesh.device_type))
    for axis in range(mesh.ndim):
        dist.broadcast(sent, group=mesh.get_group(axis), group_src=0)
    return int(sent) % 2**64


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()
