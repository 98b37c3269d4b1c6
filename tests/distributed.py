"""One of two gloo processes: every layer of the catalogue under DDP and FSDP, against one process with the whole batch.

    python -m tests.distributed RANK STORE_FILE

prints nothing and ends with 0 when all gradients agree.
"""

import sys
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from edgefc.catalogue import Called, Entry, entries
from edgefc.testing import assert_close

WORLD, WIDTH = 2, 12


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


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    try:
        for entry in entries():
            compare(entry, rank)
        dist.barrier()  # who leaves first pulls the line from under the other
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
