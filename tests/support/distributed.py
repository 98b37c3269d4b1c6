"""One of two gloo processes: every layer of the catalogue under DDP and FSDP, against one process with the whole batch.

    python -m tests.support.distributed RANK STORE_FILE

prints nothing and ends with 0 when all gradients agree, and all ranks use the seeds of the first.
"""

import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from edgefc import CirculantLinear, EUGenLinear, PRPLinear
from edgefc.catalogue import Called, Entry, entries
from edgefc.errors import UsageError
from edgefc.layers.common.checkpoint import Seeded
from edgefc.testing import assert_close

WORLD, WIDTH = 2, 12
T = TypeVar("T")


def model(entry: Entry) -> nn.Module:
    """In eval mode, so that no statistic of a batch enters; gradients flow all the same."""
    torch.manual_seed(0)
    return Called(entry, entry.make(WIDTH)).eval()


def gradients(model: nn.Module, x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Of the mean of the squared outputs."""
    torch.autograd.backward(model(x).square().mean())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        gradient = parameter.grad
        yield name.replace("module.", "", 1), gradient.full_tensor() if isinstance(gradient, DTensor) else gradient


def compare(entry: Entry, rank: int) -> None:
    torch.manual_seed(1)
    x = torch.cat([entry.example(WIDTH), entry.example(WIDTH)])
    mine = x[2 * rank : 2 * rank + 2]
    alone = dict(gradients(model(entry), x))
    sharded = model(entry)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (WORLD,)))
    for kind, together in {"DDP": DistributedDataParallel(model(entry)), "FSDP2": sharded}.items():
        for name, gradient in gradients(together, mine):
            if alone[name].abs().max() > 1e-7:
                assert_close(gradient, alone[name], nmse=1e-9, what=f"{entry.name}, {kind}, {name}")
    y = FullyShardedDataParallel(model(entry), device_id=torch.device("cpu"), use_orig_params=True)(mine)
    assert_close(y, model(entry)(mine), nmse=1e-12, what=f"{entry.name}, FSDP1")
    torch.autograd.backward(y.sum())


def check_seeds(rank: int) -> None:
    """Ranks that drew other seeds use those of rank 0, or refuse to compute."""
    mesh, x = init_device_mesh("cpu", (WORLD,)), torch.ones(2, 8)
    drawn = gathered(seeds_of(by_rank(rank)))
    assert drawn[0] != drawn[1]
    sharded, from_meta = by_rank(rank), by_rank(rank).to("meta")
    for model in (sharded, from_meta):
        fully_shard(model, mesh=mesh)
    from_meta.to_empty(device="cpu")
    ddp = DistributedDataParallel(by_rank(rank))
    for name, model in {"FSDP2": sharded, "FSDP2, meta": from_meta, "DDP": ddp}.items():
        y = model(x)
        assert gathered(seeds_of(model)) == [drawn[0]] * WORLD, name
        assert name == "FSDP2, meta" or torch.equal(*gathered(y.detach())), name
    check_refused(FullyShardedDataParallel(by_rank(rank), device_id=torch.device("cpu")), x, rank)


def check_refused(model: nn.Module, x: Tensor, rank: int) -> None:
    """FSDP1 without sync_module_states, which torch has on GPUs only; rank 0 has the seed that counts."""
    if rank == 0:
        model(x)
    else:
        with pytest.raises(UsageError, match=r"on rank 1 and \d+ on rank 0\. Pass sync_module_states=True to FSDP"):
            model(x)


def by_rank(rank: int) -> nn.Sequential:
    """A model of drawn seeds, other ones on each rank."""
    torch.manual_seed(rank)
    return nn.Sequential(PRPLinear(8, 8), nn.GELU(), CirculantLinear(8, 8, frozen=True), EUGenLinear(8, 8))


def seeds_of(model: nn.Module) -> list[int]:
    return [part.seed for part in model.modules() if isinstance(part, Seeded)]


def gathered(value: T) -> list[T]:
    """Of every rank."""
    values: list[Any] = [None] * WORLD
    dist.all_gather_object(values, value)
    return values


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    try:
        check_seeds(rank)
        for entry in entries():
            if any(parameter.requires_grad for parameter in model(entry).parameters()):  # DDP refuses others
                compare(entry, rank)
        dist.barrier()  # who leaves first pulls the line from under the other
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
